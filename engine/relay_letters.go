package engine

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"callchain/engine/bus"
)

// outbox holds the dead letters that wait to be published, beside the events and not before them. The rows are what counts.
type outbox struct {
	mu      sync.Mutex
	waiting []bus.Record
	bytes   int
	wake    chan struct{}
}

// The bounds of the letters that wait.
const (
	letterMost  = 1_000
	letterBytes = 16 << 20 // but for one that is larger alone
)

// deadLetters publishes dead letters. Those beyond the bounds are not.
func (r *relay) deadLetters(records []bus.Record) {
	b, dropped := &r.letters, 0
	b.mu.Lock()
	for _, rec := range records {
		if len(b.waiting) >= letterMost || b.bytes+len(rec.Value) > letterBytes && b.bytes > 0 {
			dropped++
			continue
		}
		b.waiting = append(b.waiting, rec)
		b.bytes += len(rec.Value)
	}
	b.mu.Unlock()
	if dropped > 0 {
		r.e.metrics.unpublished.WithLabelValues(string(bus.DeadLetters), reasonNoRoom).Add(float64(dropped))
	}
	signal(b.wake)
}

// runLetters publishes dead letters until ctx ends.
func (r *relay) runLetters(ctx context.Context) {
	insist(ctx, r.letters.wake, r.publishLetters, func(again time.Duration, err error) {
		r.e.log.Warn("dead letters cannot be published now", "waiting", r.letters.len(), "again", again, "error", err)
	})
}

func (b *outbox) len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.waiting)
}

// publishLetters sends the letters that wait; more tells that others came meanwhile.
func (r *relay) publishLetters(ctx context.Context) (more bool, err error) {
	b := &r.letters
	b.mu.Lock()
	batch := slices.Clone(b.waiting)
	b.mu.Unlock()
	if len(batch) == 0 {
		return false, nil
	}
	err = r.topics.Publish(ctx, bus.DeadLetters, batch)
	partly := &bus.PartlyError{}
	if err != nil && !errors.As(err, &partly) {
		return true, err
	}
	for _, i := range partly.Refused {
		r.e.metrics.unpublished.WithLabelValues(string(bus.DeadLetters), reasonRefused).Inc()
		r.e.log.Error("a dead letter cannot be published; its row stays, if it has one", "topic", bus.DeadLetters, "name", batch[i].Key, "bytes", len(batch[i].Value), "error", partly.Err)
	}
	done := len(batch)
	if len(partly.Missed) > 0 {
		done = partly.Missed[0]
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, rec := range batch[:done] {
		b.bytes -= len(rec.Value)
	}
	b.waiting = slices.Clone(b.waiting[done:])
	if len(partly.Missed) > 0 {
		return true, err
	}
	return len(b.waiting) > 0, nil
}
