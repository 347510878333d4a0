package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"callchain/engine/bus"

	"github.com/IBM/sarama"
)

// What a node sends another comes in the order in which it was published, over many calls, and one that goes to nobody holds up no other.
func TestTalkOfNodes(t *testing.T) {
	s := newSite(t)
	b, _ := s.open(t, s.options(t))
	topics := b.Topics()
	to := bus.NodeTopic("n")
	f := heard(t, topics, to)
	const calls, each = 50, 64
	var nobody sync.WaitGroup
	nobody.Go(func() {
		for range 5 {
			began := time.Now()
			err := topics.Publish(t.Context(), bus.NodeTopic("nobody"), []bus.Record{{Key: "k"}})
			if took := time.Since(began); !errors.Is(err, sarama.ErrUnknownTopicOrPartition) || took > 2*time.Second {
				t.Errorf("publishing to nobody: %v, after %s", err, took)
			}
		}
	})
	slowest := time.Duration(0)
	for call := range calls {
		records := make([]bus.Record, each)
		for i := range records {
			records[i] = bus.Record{Key: fmt.Sprint(i % 3), Value: fmt.Append(nil, call*each+i)}
		}
		began := time.Now()
		publish(t, topics, to, records...)
		slowest = max(slowest, time.Since(began))
	}
	for n := range calls * each {
		if r := f.next(10 * time.Second); r == nil || string(r.Value) != fmt.Sprint(n) {
			t.Fatalf("record %d came as %+v", n, r)
		}
	}
	nobody.Wait()
	t.Logf("the slowest call took %s", slowest)
	if known, err := s.admin.ListTopics(); err != nil {
		t.Error(err)
	} else if _, made := known[s.prefix+string(bus.NodeTopic("nobody"))]; made {
		t.Error("a topic was made for nobody")
	}
}

// ready is called once, and what is published from then on comes.
func TestFollowIsReady(t *testing.T) {
	s := newSite(t)
	b, _ := s.open(t, s.options(t))
	for range 10 {
		f := heard(t, b.Topics(), bus.Nodes)
		publish(t, b.Topics(), bus.Nodes, bus.Record{Key: "first"})
		if r := f.next(10 * time.Second); r == nil || r.Key != "first" {
			t.Fatalf("%+v came", r)
		}
		f.stop()
	}
}

// heard follows a topic, and waits until it is ready.
func heard(t testing.TB, topics bus.Topics, topic bus.Topic) *follower {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	f := &follower{records: make(chan bus.Record, 100_000), ended: make(chan error, 1), stop: cancel}
	ready := make(chan struct{})
	go func() {
		f.ended <- topics.Follow(ctx, topic, func() { close(ready) }, func(r bus.Record) { f.records <- r })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-f.ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Follow ended with %v", err)
		}
	})
	select {
	case <-ready:
	case <-time.After(20 * time.Second):
		t.Fatal("Follow is not ready")
	}
	return f
}

// BenchmarkTalk measures from Publish to handle, of records as nodes send them to each other.
func BenchmarkTalk(b *testing.B) {
	for _, each := range []int{1, 64} {
		for _, callers := range []int{1, 8} {
			b.Run(fmt.Sprintf("records=%d/callers=%d", each, callers), func(b *testing.B) { benchmarkTalk(b, each, callers) })
		}
	}
}

func benchmarkTalk(b *testing.B, each, callers int) {
	s := newSite(b)
	k, _ := s.open(b, s.options(b))
	f := heard(b, k.Topics(), bus.NodeTopic("n"))
	value := make([]byte, 300)
	records := make([]bus.Record, each)
	for i := range records {
		records[i] = bus.Record{Key: "0123456789abcdef", Headers: map[string]string{"kind": "answer"}, Value: value}
	}
	var mu sync.Mutex
	var took []time.Duration
	var publishing sync.WaitGroup
	b.ResetTimer()
	began := time.Now()
	for range callers {
		publishing.Go(func() {
			for range (b.N + callers - 1) / callers {
				at := time.Now()
				if err := k.Topics().Publish(context.Background(), bus.NodeTopic("n"), records); err != nil {
					b.Error(err)
					return
				}
				for range each { // somebody's: each call waits for as many as it sent
					<-f.records
				}
				mu.Lock()
				took = append(took, time.Since(at))
				mu.Unlock()
			}
		})
	}
	publishing.Wait()
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(len(took)*each)/time.Since(began).Seconds(), "records/s")
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
}
