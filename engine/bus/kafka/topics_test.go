package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"callchain/engine/bus"

	"github.com/IBM/sarama"
)

// follower collects what is published.
type follower struct {
	records chan bus.Record
	ended   chan error
	stop    context.CancelFunc
}

func follow(t *testing.T, topics bus.Topics, topic bus.Topic) *follower {
	ctx, cancel := context.WithCancel(t.Context())
	f := &follower{records: make(chan bus.Record, 10_000), ended: make(chan error, 1), stop: cancel}
	go func() { f.ended <- topics.Follow(ctx, topic, nil, func(r bus.Record) { f.records <- r }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-f.ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Follow ended with %v", err)
		}
	})
	return f
}

// next is the next record, nil if none comes for a while.
func (f *follower) next(wait time.Duration) *bus.Record {
	select {
	case r := <-f.records:
		return &r
	case <-time.After(wait):
		return nil
	}
}

// following publishes until the follower hears: it begins at some moment.
func following(t *testing.T, topics bus.Topics, topic bus.Topic, f *follower) {
	t.Helper()
	for range 100 {
		err := topics.Publish(t.Context(), topic, []bus.Record{{Key: "probe"}})
		if err != nil && !errors.Is(err, sarama.ErrUnknownTopicOrPartition) { // a node's topic comes with its follower
			t.Fatal(err)
		}
		if f.next(50*time.Millisecond) != nil {
			for f.next(200*time.Millisecond) != nil {
			}
			return
		}
	}
	t.Fatal("the follower heard nothing")
}

func publish(t *testing.T, topics bus.Topics, topic bus.Topic, records ...bus.Record) {
	t.Helper()
	if err := topics.Publish(t.Context(), topic, records); err != nil {
		t.Fatal(err)
	}
}

// A follower hears everything that is published while it follows, in order, with headers and key, also across a restart of the broker.
func TestFollow(t *testing.T) {
	s := newSite(t)
	b, _ := s.open(t, s.options(t))
	topics := b.Topics()
	node := bus.NodeTopic("n")
	if known, err := s.admin.ListTopics(); err != nil {
		t.Fatal(err)
	} else if _, there := known[s.prefix+string(node)]; there {
		t.Errorf("%s was made, and nobody follows it", node)
	}
	for _, topic := range []bus.Topic{bus.Registry, node, bus.DeadLetters} {
		t.Run(string(topic), func(t *testing.T) {
			f := follow(t, topics, topic)
			following(t, topics, topic, f)
			for n := range 20 {
				publish(t, topics, topic, bus.Record{Key: "k", Headers: map[string]string{"n": fmt.Sprint(n)}, Value: []byte{byte(n), 0xff}})
			}
			for n := range 20 {
				r := f.next(10 * time.Second)
				if r == nil || r.Key != "k" || r.Headers["n"] != fmt.Sprint(n) || string(r.Value) != string([]byte{byte(n), 0xff}) || len(r.Headers) != 1 {
					t.Fatalf("record %d came as %+v", n, r)
				}
			}
		})
	}
}

// While the broker is away, Publish fails within the time of its context or sooner, and a follower waits. What is published afterwards, even at once,
// the follower hears.
func TestTopicsAcrossAnOutage(t *testing.T) {
	s := newSite(t)
	if os.Getenv("CALLCHAIN_TEST_KAFKA_CTL") == "" {
		t.Skip("CALLCHAIN_TEST_KAFKA_CTL names no script that kills the broker")
	}
	b, _ := s.open(t, s.options(t))
	topics := b.Topics()
	f := follow(t, topics, bus.Registry)
	following(t, topics, bus.Registry, f)
	up := down(t)
	for _, topic := range []bus.Topic{bus.Registry, bus.Events} {
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		if err := topics.Publish(ctx, topic, []bus.Record{{Key: "lost"}}); err == nil {
			t.Errorf("publishing to %s succeeded without a broker", topic)
		}
		cancel()
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("publishing to %s took %s without a broker", topic, took)
		}
	}
	late := follow(t, topics, bus.DeadLetters) // begins while the broker is away
	up()
	began := time.Now()
	for n := 0; ; n++ {
		if err := topics.Publish(t.Context(), bus.Registry, []bus.Record{{Key: "back"}}); err == nil {
			break
		} else if time.Since(began) > 10*time.Second {
			t.Fatalf("publishing still fails: %v", err)
		}
	}
	t.Logf("published %s after the broker came back", time.Since(began).Round(time.Millisecond))
	for r := f.next(10 * time.Second); r == nil || r.Key != "back"; r = f.next(10 * time.Second) {
		if r == nil {
			t.Fatal("the follower did not hear what was published after the outage")
		}
	}
	following(t, topics, bus.DeadLetters, late)
}

// A batch of events is written whole, each to its partition, in order.
func TestPublishEvents(t *testing.T) {
	s := newSite(t)
	b, _ := s.open(t, s.options(t))
	const count = 400
	var records []bus.Record
	for n := range count {
		records = append(records, bus.Record{
			Partition: int32(n % partitions), Key: fmt.Sprintf("key-%d", n%7), Headers: map[string]string{"type": "Queued", "seq": fmt.Sprint(n)}, Value: fmt.Append(nil, n),
		})
	}
	publish(t, b.Topics(), bus.Events, records...)
	client, err := sarama.NewConsumer(s.brokers, sarama.NewConfig())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	for partition := range int32(partitions) {
		from, err := client.ConsumePartition(s.prefix+string(bus.Events), partition, sarama.OffsetOldest)
		if err != nil {
			t.Fatal(err)
		}
		for n := int(partition); n < count; n += partitions {
			select {
			case m := <-from.Messages():
				wantEvent(t, m, n)
			case <-time.After(10 * time.Second):
				t.Fatalf("event %d did not come", n)
			}
		}
		if err := from.Close(); err != nil {
			t.Error(err)
		}
	}
}

// wantEvent: any client finds value, key and headers; Watermill's finds the id that it wants.
func wantEvent(t *testing.T, m *sarama.ConsumerMessage, n int) {
	t.Helper()
	headers := map[string]string{}
	for _, h := range m.Headers {
		headers[string(h.Key)] = string(h.Value)
	}
	if string(m.Value) != fmt.Sprint(n) || string(m.Key) != fmt.Sprintf("key-%d", n%7) || headers["type"] != "Queued" || headers["seq"] != fmt.Sprint(n) {
		t.Fatalf("event %d came as %s = %s with %v", n, m.Key, m.Value, headers)
	}
	for name := range headers {
		if strings.HasPrefix(name, "callchain-") {
			t.Errorf("the header %s is of no use to others", name)
		}
	}
	if len(headers["_watermill_message_uuid"]) != 36 {
		t.Errorf("the headers %v have no id for Watermill", headers)
	}
}
