package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"callchain/engine/bus"
	"callchain/engine/bus/local"

	"github.com/IBM/sarama"
)

// Inbox is a bus.Inbox on two topics, one a lane. Messages that were read, and ephemeral ones, wait in queues of this process.
type Inbox struct {
	options *Options
	waiting *local.Inbox
	writers [bus.Lanes]*laneWriter
	readers [bus.Lanes]*reader
	health  *health
	limits  [bus.Lanes]int // bytes of a message
	counts  counts
	lost    atomic.Pointer[bus.LostError]
	closing sync.Once
	closed  atomic.Bool
	err     error
}

var (
	_ bus.Inbox  = (*Inbox)(nil)
	_ bus.Peeker = (*Inbox)(nil)
)

func openInbox(ctx context.Context, o *Options, limits [bus.Lanes]int) (_ *Inbox, err error) {
	in := &Inbox{options: o, waiting: local.New(o.Most), limits: limits}
	defer func() {
		if err != nil {
			err = errors.Join(err, in.disconnect())
		}
	}()
	for lane := range in.writers {
		if in.writers[lane], err = openLaneWriter(ctx, in, bus.Lane(lane)); err != nil {
			return nil, fmt.Errorf("writing to %s: %w", o.Prefix+laneTopics[lane], err)
		}
		if in.readers[lane], err = openReader(in, bus.Lane(lane)); err != nil {
			return nil, fmt.Errorf("reading %s: %w", o.Prefix+laneTopics[lane], err)
		}
	}
	if in.health, err = watchHealth(in); err != nil {
		return nil, err
	}
	return in, nil
}

// waitUntilReady waits until the topics can be written and read: the metadata of a new one takes a moment to reach all brokers.
func (in *Inbox) waitUntilReady(ctx context.Context) error {
	return retryTemporary(ctx, func() error {
		_, err := in.health.ids()
		return err
	})
}

// Put implements bus.Inbox.
func (in *Inbox) Put(m bus.Message) error {
	switch {
	case in.closed.Load():
		return bus.ErrClosed
	case m.Ephemeral:
		return in.waiting.Put(m)
	}
	return in.writers[m.Lane].put(m)
}

// Ready implements bus.Inbox.
func (in *Inbox) Ready() <-chan struct{} { return in.waiting.Ready() }

// Take implements bus.Inbox.
func (in *Inbox) Take(lane bus.Lane, most int, into []bus.Message) []bus.Message {
	was := len(into)
	into = in.waiting.Take(lane, most, into)
	if len(into) > was {
		in.counts.taken[lane].Add(int64(len(into) - was))
		in.readers[lane].signalRoom()
	}
	return into
}

// Len implements bus.Inbox.
func (in *Inbox) Len(lane bus.Lane) int { return in.waiting.Len(lane) }

// First implements bus.Peeker: of what was read and not taken.
func (in *Inbox) First(lane bus.Lane) (bus.Message, bool) { return in.waiting.First(lane) }

// Durable implements bus.Inbox.
func (in *Inbox) Durable() bool { return true }

// Begin implements bus.Inbox.
func (in *Inbox) Begin(ctx context.Context, from []bus.From) error {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	ids, err := in.health.ids()
	if err != nil {
		return fmt.Errorf("asking for the topics of the inbox: %w", err)
	}
	var starts [bus.Lanes][]partitionReader
	for lane, r := range in.readers { // nothing begins unless all of it can
		if starts[lane], err = r.findStarts(ctx, ids.lanes[lane], from); err != nil {
			return err
		}
	}
	if err := in.checkEvents(from); err != nil {
		return err
	}
	var began []int32
	for lane, r := range in.readers {
		fresh, err := r.begin(ctx, ids.lanes[lane], from, starts[lane])
		began = append(began, fresh...)
		if err != nil {
			in.undo(began)
			return err
		}
	}
	in.health.began(ids)
	return nil
}

// End implements bus.Inbox.
func (in *Inbox) End(partitions []int32) []bus.Message {
	for _, r := range in.readers {
		r.end(partitions)
	}
	out := in.waiting.End(partitions)
	for _, r := range in.readers {
		r.signalRoom()
	}
	return slices.DeleteFunc(out, func(m bus.Message) bool { return !m.Ephemeral })
}

// undo ends partitions that were begun on one lane only.
func (in *Inbox) undo(began []int32) {
	for _, m := range in.End(began) {
		if err := in.waiting.Put(m); err != nil && m.Done != nil { // it was in the same queue a moment ago
			m.Done(err)
		}
	}
}

// checkEvents checks that the topic of events is the one on which events were published. The store has no offset of it; but a topic that never had a
// record is another one.
func (in *Inbox) checkEvents(from []bus.From) error {
	topic := in.options.Prefix + string(bus.Events)
	var published int64
	for _, f := range from {
		if f.Published == 0 {
			continue
		}
		newest, err := in.health.client.GetOffset(topic, f.Partition, sarama.OffsetNewest)
		if err != nil { // the inbox can begin: events wait in the store
			in.options.Log.Warn("could not check whether the topic of events is still the same", "topic", topic, "partition", f.Partition, "error", err)
			return nil
		}
		if newest > 0 {
			return nil
		}
		published += f.Published
	}
	if published == 0 {
		return nil
	}
	detail := fmt.Sprintf("the topic was made anew: %d events were published, and it never had one", published)
	if in.options.Resume != ResumeOldest {
		return &bus.LostError{Topic: topic, Detail: detail + "; bus.kafka.resume=oldest continues with what is there"}
	}
	in.options.Log.Warn("published events were lost; continuing with those that follow", "topic", topic, "detail", detail)
	return nil
}

// CatchingUp implements bus.Inbox.
func (in *Inbox) CatchingUp() bool {
	return in.health.away() != nil || in.readers[bus.RPC].catchingUp()
}

// Err implements bus.Inbox.
func (in *Inbox) Err() error {
	if lost := in.lost.Load(); lost != nil {
		return lost
	}
	return in.health.away()
}

// overdueWrite is an error while a batch waits too long for its acknowledgement. The batch is retried meanwhile.
func (in *Inbox) overdueWrite(now time.Time) error {
	for _, w := range in.writers {
		switch age, err := w.oldestBatch(now); {
		case age > writeLate && err != nil:
			return fmt.Errorf("a write to %s is not acknowledged for %s: %w", w.topic, age.Round(100*time.Millisecond), err)
		case age > writeLate:
			return fmt.Errorf("a write to %s is not acknowledged for %s", w.topic, age.Round(100*time.Millisecond))
		}
	}
	return nil
}

// reportLoss makes the inbox refuse messages and deliver none, until an operator decides.
func (in *Inbox) reportLoss(e *bus.LostError) {
	if in.lost.CompareAndSwap(nil, e) {
		in.options.Log.Error("topic lost messages; this node stops until an operator decides", "topic", e.Topic, "partition", e.Partition, "detail", e.Detail)
	}
}

// Close implements bus.Inbox.
func (in *Inbox) Close() {
	in.closed.Store(true)
	for _, w := range in.writers {
		if w != nil {
			w.refuse()
		}
	}
	in.waiting.Close()
}

// disconnect closes the connections.
func (in *Inbox) disconnect() error {
	in.closing.Do(func() {
		in.Close()
		var errs []error
		if in.health != nil {
			errs = append(errs, in.health.close())
		}
		for lane := range in.writers {
			if w := in.writers[lane]; w != nil {
				errs = append(errs, w.close())
			}
			if r := in.readers[lane]; r != nil {
				errs = append(errs, r.close())
			}
		}
		in.err = errors.Join(errs...)
	})
	return in.err
}

// closedAlready drops the error of a client that was closed before.
func closedAlready(err error) error {
	if errors.Is(err, sarama.ErrClosedClient) {
		return nil
	}
	return err
}
