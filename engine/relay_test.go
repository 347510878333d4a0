package engine_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"callchain/engine/bus"
)

// choosy topics refuse, miss or keep each record by itself, as Kafka's do.
type choosy struct {
	*topics
	refuses, misses func(bus.Topic, bus.Record) bool
	hangs           bus.Topic // publishing to it never ends
	sent            map[string]int
	choice          sync.Mutex
}

// change changes what the topics do.
func (c *choosy) change(to func()) {
	c.choice.Lock()
	defer c.choice.Unlock()
	to()
}

func (c *choosy) isHanging(topic bus.Topic) bool {
	c.choice.Lock()
	defer c.choice.Unlock()
	return topic == c.hangs
}

func never(bus.Topic, bus.Record) bool { return false }

func (c *choosy) Publish(ctx context.Context, topic bus.Topic, records []bus.Record) error {
	if c.isHanging(topic) {
		<-ctx.Done()
		return ctx.Err()
	}
	c.choice.Lock()
	defer c.choice.Unlock()
	partly := &bus.PartlyError{Topic: topic, Err: errors.New("not all were published")}
	stuck := map[int32]bool{}
	var accepted []bus.Record
	for i, r := range records {
		stuck[r.Partition] = stuck[r.Partition] || c.misses(topic, r)
		switch {
		case stuck[r.Partition]:
			partly.Missed = append(partly.Missed, i)
		case c.refuses(topic, r):
			partly.Refused = append(partly.Refused, i)
		default:
			accepted = append(accepted, r)
			c.sent[fmt.Sprintf("%s %d %s", topic, r.Partition, r.Headers["seq"])]++
		}
	}
	if err := c.topics.Publish(ctx, topic, accepted); err != nil {
		return err
	}
	if len(partly.Refused)+len(partly.Missed) > 0 {
		return partly
	}
	return nil
}

// choosyRig is a rig that publishes to choosy topics.
func choosyRig(t *testing.T, test func(*rig, *choosy)) {
	inDurableBubble(t, func(r *rig, in *durable) {
		r.mustStop()
		c := &choosy{topics: &topics{}, refuses: never, misses: never, sent: map[string]int{}}
		r.topics, r.inbox = c, in.Open()
		r.start()
		test(r, c)
	})
}

// unpublished is how many records were left out of a topic.
func (r *rig) unpublished(topic bus.Topic, reason string) int {
	r.t.Helper()
	return int(series(r.t, r.measured)["unpublished_total "+reason+" "+string(topic)])
}

// ask makes a call and answers it.
func (r *rig) ask(name string, d *device, answer string) {
	r.t.Helper()
	c := r.call(name, nil)
	d.reply(d.one(), answer)
	c.want("succeeded  " + answer)
}

// TestEventThatFitsNoTopic: an event that the topic of events never takes is left out, counted, and holds nothing up: neither those that follow in its
// partition nor the others; and no good record is sent again for it.
func TestEventThatFitsNoTopic(t *testing.T) {
	choosyRig(t, func(r *rig, c *choosy) {
		c.change(func() {
			c.refuses = func(_ bus.Topic, rec bus.Record) bool { return strings.Contains(string(rec.Value), "too large") }
		})
		d, other := r.connect("d1", "A"), r.connect("d2", "B")
		r.ask("d1", d, `1`)
		r.ask("d1", d, `"too large"`)
		r.ask("d1", d, `2`)
		r.ask("d2", other, `3`)
		pass(5 * time.Second)
		checkpoints, err := r.store.Open().Checkpoints(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		refused := r.unpublished(bus.Events, "refused")
		if refused == 0 {
			t.Error("what was left out is not counted")
		}
		total := 0
		for _, cp := range checkpoints {
			total += int(cp.Seq)
			if cp.Seq > 0 && cp.Relayed == 0 {
				t.Errorf("partition %d: the cursor stands", cp.Partition)
			}
		}
		if len(c.sent) != total-refused {
			t.Errorf("%d of %d events are on the topic, %d were left out", len(c.sent), total, refused)
		}
		for what, times := range c.sent {
			if times != 1 {
				t.Errorf("%s was sent %d times", what, times)
			}
		}
	})
}

// TestPartitionOfTheTopicAway: while one partition of the topic cannot be written, the others are, each record once.
func TestPartitionOfTheTopicAway(t *testing.T) {
	choosyRig(t, func(r *rig, c *choosy) {
		d, other := r.connect("d1", "A"), r.connect("d3", "B")
		away, here := int32(d.id[15])%partitions, int32(other.id[15])%partitions
		if away == here {
			t.Fatal("the devices share a partition: take other names")
		}
		c.change(func() { c.misses = func(_ bus.Topic, rec bus.Record) bool { return rec.Partition == away } })
		before := c.published(t)[away]
		r.ask("d1", d, `1`)
		r.ask("d3", other, `2`)
		pass(5 * time.Second)
		if got := c.published(t); got[away] != before || got[here] == 0 {
			t.Errorf("published are %v, partition %d is away", got, away)
		}
		c.change(func() { c.misses = never })
		pass(2 * time.Second)
		r.allPublished(c.topics)
		for what, times := range c.sent {
			if times != 1 {
				t.Errorf("%s was sent %d times", what, times)
			}
		}
	})
}

// TestDeadLettersDoNotDelayEvents: events go out while the topic of dead letters takes none or does not answer. A bounded number of dead letters waits for it;
// a refused one is left out.
func TestDeadLettersDoNotDelayEvents(t *testing.T) {
	choosyRig(t, func(r *rig, c *choosy) {
		putMalformed := func(text string) { r.inbox.(*durable).Keep(bus.RPC, 1, []byte(text)) }
		deadLetters := func() (n int) { synctest.Wait(); return len(c.got[bus.DeadLetters]) }
		c.change(func() { c.misses = func(topic bus.Topic, _ bus.Record) bool { return topic == bus.DeadLetters } })
		putMalformed("nonsense 1")
		d := r.connect("d1", "A")
		r.ask("d1", d, `1`)
		pass(2 * time.Second)
		r.allPublished(c.topics)
		if n := deadLetters(); n != 0 {
			t.Errorf("%d dead letters were published", n)
		}
		c.change(func() { c.misses = never })
		first := true
		c.change(func() {
			c.refuses = func(topic bus.Topic, _ bus.Record) bool {
				if topic != bus.DeadLetters || !first {
					return false
				}
				first = false
				return true
			}
		})
		putMalformed("nonsense 2")
		pass(2 * time.Second)
		if n := deadLetters(); n != 1 || r.unpublished(bus.DeadLetters, "refused") != 1 {
			t.Errorf("%d dead letters were published, %d are counted as left out, want 1 and 1", n, r.unpublished(bus.DeadLetters, "refused"))
		}
		c.change(func() { c.refuses, c.hangs = never, bus.DeadLetters })
		for n := range 1_200 {
			putMalformed(fmt.Sprint("nonsense ", n))
		}
		pass(5 * time.Second)
		r.ask("d1", d, `2`)
		pass(2 * time.Second)
		r.allPublished(c.topics)
		if n := r.unpublished(bus.DeadLetters, "no_room"); n < 150 || n > 200 {
			t.Errorf("%d dead letters found no room, of 1200 a thousand may wait", n)
		}
	})
}
