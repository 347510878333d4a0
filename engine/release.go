package engine

import (
	"time"

	"callchain/engine/owner"
	"callchain/eventstore"
)

// release releases a stored batch: results for senders first, then effects, then the followers.
func (e *Engine) release(r *owner.Release) {
	e.tracer.Steps(r, time.Now())
	r.Completions(e.sender.Complete)
	r.Effects(e.delivery.Dispatch)
	e.Metrics.Calls.Measure(r, time.Now())
	for _, name := range r.Commands() {
		e.Metrics.Commands.Inc(name)
	}
	for _, code := range r.Refusals() {
		e.Metrics.Refusals.Inc(string(code))
	}
	e.tracer.Ended(r)
	stored := r.Stored()
	moved := make([]eventstore.Checkpoint, 0, len(stored))
	for i := range stored {
		p := &stored[i]
		for j := range p.Events {
			e.Metrics.Events.Inc(p.Events[j].Type)
		}
		if len(p.Events) > 0 {
			moved = append(moved, p.Next)
		}
	}
	if e.relay != nil {
		e.relay.DeadLetters(r.DeadLetters())
		e.relay.Committed(stored)
	}
	if len(moved) > 0 {
		e.feed.committed(moved)
	}
}
