package relay

import (
	"context"
	"errors"
	"slices"
	"sync"

	"callchain/engine/bus"
	"callchain/engine/observe"
)

// outbox holds the dead letters that wait to be published.
type outbox struct {
	mu      sync.Mutex
	waiting []bus.Record
	bytes   int
	wake    chan struct{}
}

// The bounds of the outbox.
const (
	outboxMost  = 1_000
	outboxBytes = 16 << 20 // except a single larger one
)

// DeadLetters publishes dead letters. Beyond the bounds they are only counted.
func (r *Relay) DeadLetters(records []bus.Record) {
	b, dropped := &r.deadLetters, 0
	b.mu.Lock()
	for _, rec := range records {
		if len(b.waiting) >= outboxMost || b.bytes+len(rec.Value) > outboxBytes && b.bytes > 0 {
			dropped++
			continue
		}
		b.waiting = append(b.waiting, rec)
		b.bytes += len(rec.Value)
	}
	b.mu.Unlock()
	if dropped > 0 {
		r.metrics.Unpublished.WithLabelValues(string(bus.DeadLetters), observe.ReasonNoRoom).Add(float64(dropped))
	}
	signal(b.wake)
}

func (b *outbox) len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.waiting)
}

// publishDeadLetters sends the dead letters that wait; more reports whether others came meanwhile.
func (r *Relay) publishDeadLetters(ctx context.Context) (more bool, err error) {
	b := &r.deadLetters
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
		r.metrics.Unpublished.WithLabelValues(string(bus.DeadLetters), observe.ReasonRefused).Inc()
		r.log.Error("dead letter not published; its row stays, if it has one",
			"topic", bus.DeadLetters, "name", batch[i].Key, "bytes", len(batch[i].Value), "error", partly.Err)
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
