// Package relay publishes committed events and dead letters on their topics.
//
// Events go out in the order of each partition, at least once: they are read from the store after a restart. Dead letters go out from memory only, at most once:
// their rows are authoritative.
package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"callchain/engine/bus"
	"callchain/engine/observe"
	"callchain/engine/retry"
	"callchain/eventstore"
)

// The bounds of the relay: what it holds in memory, and what it publishes at once.
const (
	heldMost   = 20_000 // events; those beyond are read from the store again
	heldBytes  = 64 << 20
	batchMost  = 1_000
	batchBytes = 4 << 20
	againAfter = 100 * time.Millisecond // first wait after a failure; it doubles up to
	againMost  = time.Second
)

// Relay publishes committed events. Its position goes into the checkpoint with the next append, and a restart continues there. It is safe for
// concurrent use.
type Relay struct {
	topics  bus.Topics
	store   eventstore.Store
	metrics *observe.Metrics
	log     *slog.Logger
	first   int // the partition that is served first

	mu    sync.Mutex
	parts []progress
	held  int
	bytes int
	wake  chan struct{}

	deadLetters outbox
}

// progress is the position of a partition, and its next events.
type progress struct {
	upTo    int64 // published
	stored  int64 // committed
	pending []eventstore.Event
}

// New makes a relay for a number of partitions.
func New(partitions int32, t bus.Topics, store eventstore.Store, metrics *observe.Metrics, log *slog.Logger) *Relay {
	return &Relay{
		topics: t, store: store, metrics: metrics, log: log, parts: make([]progress, partitions), wake: make(chan struct{}, 1),
		deadLetters: outbox{wake: make(chan struct{}, 1)},
	}
}

func signal(wake chan<- struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}

// Begin sets the positions from checkpoints; it may be called again after a takeover.
func (r *Relay) Begin(checkpoints []eventstore.Checkpoint) {
	r.mu.Lock()
	for i := range checkpoints {
		cp, p := &checkpoints[i], &r.parts[checkpoints[i].Partition]
		p.upTo, p.stored = max(p.upTo, cp.Relayed), max(p.stored, cp.Seq)
	}
	r.mu.Unlock()
	signal(r.wake)
}

// Drop stops publishing partitions; their next owner continues at the checkpoint.
func (r *Relay) Drop(partitions []int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range partitions {
		p := &r.parts[n]
		r.release(p, len(p.pending))
		p.stored = p.upTo
	}
}

// release removes the first pending events of a partition; mu is held.
func (r *Relay) release(p *progress, n int) {
	for i := range n {
		r.bytes -= len(p.pending[i].Data)
	}
	r.held -= n
	if p.pending = p.pending[n:]; len(p.pending) == 0 {
		p.pending = nil
	}
}

// Committed takes the events of a stored append.
func (r *Relay) Committed(batch []eventstore.PartitionBatch) {
	r.mu.Lock()
	for i := range batch {
		pb := &batch[i]
		if len(pb.Events) == 0 {
			continue
		}
		p := &r.parts[pb.Next.Partition]
		if p.stored+1 == pb.Events[0].Seq && r.held < heldMost && r.bytes < heldBytes && len(p.pending) == int(p.stored-p.upTo) {
			p.pending = append(p.pending, pb.Events...)
			r.held += len(pb.Events)
			for j := range pb.Events {
				r.bytes += len(pb.Events[j].Data)
			}
		}
		p.stored = max(p.stored, pb.Next.Seq)
	}
	r.mu.Unlock()
	signal(r.wake)
}

// UpTo is the seq of the last published event of a partition.
func (r *Relay) UpTo(partition int32) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.parts[partition].upTo
}

// Lag is the number of committed events that are not published yet.
func (r *Relay) Lag() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	var n int64
	for i := range r.parts {
		n += r.parts[i].stored - r.parts[i].upTo
	}
	return n
}

// Run publishes until ctx ends, and then the rest for at most two seconds.
func (r *Relay) Run(ctx context.Context) {
	const grace = 2 * time.Second
	var running sync.WaitGroup
	running.Go(func() {
		publishAlways(ctx, r.wake, r.publish, func(err error, wait time.Duration) {
			r.log.Warn("committed events not published; they wait in the store", "waiting", r.Lag(), "again", wait, "error", err)
		})
	})
	running.Go(func() {
		publishAlways(ctx, r.deadLetters.wake, r.publishDeadLetters, func(err error, wait time.Duration) {
			r.log.Warn("dead letters not published", "waiting", r.deadLetters.len(), "again", wait, "error", err)
		})
	})
	running.Wait()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	running.Go(func() { publishRest(last, r.publishDeadLetters) })
	publishRest(last, r.publish)
	running.Wait()
}

// publisher publishes a part; more reports whether there is more.
type publisher func(context.Context) (more bool, err error)

// publishAlways publishes until ctx ends.
func publishAlways(ctx context.Context, wake <-chan struct{}, publish publisher, failed func(error, time.Duration)) {
	for {
		more := false
		retry.Until(ctx, retry.Waits{First: againAfter, Longest: againMost}, func(ctx context.Context) (err error) {
			more, err = publish(ctx)
			return err
		}, failed)
		if more && ctx.Err() == nil {
			continue
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return
		}
	}
}

// publishRest publishes the rest until ctx ends.
func publishRest(ctx context.Context, publish publisher) {
	for {
		more, err := publish(ctx)
		if err != nil || !more {
			return
		}
	}
}

// publish sends one batch of every partition.
func (r *Relay) publish(ctx context.Context) (more bool, err error) {
	b, more, err := r.gather(ctx)
	if err != nil || len(b.events) == 0 {
		return err != nil, err
	}
	if len(b.records) > 0 {
		err = r.topics.Publish(ctx, bus.Events, b.records)
	}
	partly := &bus.PartlyError{}
	if err != nil && !errors.As(err, &partly) {
		return true, err
	}
	if r.acknowledge(&b, partly) {
		return true, err
	}
	return more, nil
}

// gather collects the next batch.
func (r *Relay) gather(ctx context.Context) (b batch, more bool, err error) {
	r.first++ // so that no partition is always served last
	for i := range len(r.parts) {
		p := int32((r.first + i) % len(r.parts))
		count, bytes := batchMost-len(b.events), batchBytes-b.bytes
		if count <= 0 || bytes <= 0 {
			return b, true, nil
		}
		events, left, err := r.next(ctx, p, count, bytes)
		if err != nil {
			return b, true, err
		}
		more = more || left
		for j := range events {
			if b.bytes >= batchBytes {
				more = true
				break
			}
			b.add(&events[j])
		}
	}
	return b, more, nil
}

// next are the next events of a partition, from memory, or from the store if memory does not reach back.
func (r *Relay) next(ctx context.Context, partition int32, most, bytes int) (events []eventstore.Event, left bool, err error) {
	r.mu.Lock()
	p := &r.parts[partition]
	upTo, stored := p.upTo, p.stored
	events = p.pending[:min(most, len(p.pending))]
	r.mu.Unlock()
	if upTo >= stored {
		return nil, false, nil
	}
	if len(events) > 0 && events[0].Seq == upTo+1 {
		return events, stored > events[len(events)-1].Seq, nil
	}
	events, err = r.store.Page(ctx, partition, upTo, most, bytes)
	if err != nil {
		return nil, false, fmt.Errorf("reading partition %d for the topic of events: %w", partition, err)
	}
	return events, len(events) > 0 && stored > events[len(events)-1].Seq, nil
}
