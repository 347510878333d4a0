package observe

import (
	"time"

	"callchain/engine/owner"
	"callchain/engine/step"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// deliveriesMost bounds the deliveries whose spans are open; those beyond have a span of no length.
const deliveriesMost = 20_000

// delivery is a command on its way, and then the parent of the device's answer.
type delivery struct {
	key   wireKey
	span  trace.Span
	ended bool // the span
}

// wireKey identifies a call within a session.
type wireKey struct {
	session uuid.UUID
	wire    int32
}

func (d *delivery) end(at time.Time) {
	if !d.ended {
		d.ended = true
		d.span.End(trace.WithTimestamp(at))
	}
}

// Delivery begins the span of a delivery and returns the traceparent for the command.
func (t *Tracer) Delivery(do *step.Deliver, transport string, from *step.TraceContext) string {
	switch {
	case from == nil:
		return ""
	case t == nil || !from.Span.Sampled:
		return step.Traceparent(from.Trace, from.Span)
	}
	_, span := t.tracer.Start(contextOf(*from), spanDelivery, trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(
		AttrCall.String(do.Call.ID.String()), AttrDevice.String(do.Device.String()), AttrTransport.String(transport), AttrAttempt.Int(int(do.Call.Attempt)),
	))
	t.mu.Lock()
	defer t.mu.Unlock()
	if was := t.deliveries[do.Call.ID]; was != nil {
		t.forget(do.Call.ID, was, "sent again")
	}
	if len(t.deliveries) >= deliveriesMost {
		span.End()
	} else {
		one := &delivery{key: wireKey{do.Session.ID, do.Call.Wire}, span: span}
		t.deliveries[do.Call.ID], t.wires[one.key] = one, do.Call.ID
	}
	at := placeOf(span.SpanContext())
	return step.Traceparent(at.Trace, at.Span)
}

// forget drops a delivery. One without evidence ends with the reason.
func (t *Tracer) forget(call uuid.UUID, d *delivery, reason string) {
	if !d.ended {
		d.span.SetStatus(codes.Error, reason)
		d.end(time.Now())
	}
	delete(t.deliveries, call)
	delete(t.wires, d.key)
}

// with applies a function to a call's delivery, if it is recorded.
func (t *Tracer) with(call uuid.UUID, do func(*delivery)) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if d := t.deliveries[call]; d != nil {
		do(d)
	}
}

// Written notes that a command left for the device; the delivery stays open if the protocol will acknowledge it.
func (t *Tracer) Written(call uuid.UUID, at time.Time, ack bool) {
	t.with(call, func(d *delivery) {
		if d.ended {
			return
		}
		d.span.AddEvent("written", trace.WithTimestamp(at))
		if !ack {
			d.end(at)
		}
	})
}

// Acknowledged ends a delivery with its evidence.
func (t *Tracer) Acknowledged(call uuid.UUID, evidence string, at time.Time) {
	t.with(call, func(d *delivery) {
		d.span.SetAttributes(AttrEvidence.String(evidence))
		d.end(at)
	})
}

// Failed ends a delivery that could not be made.
func (t *Tracer) Failed(call uuid.UUID, reason string) {
	t.with(call, func(d *delivery) { t.forget(call, d, reason) })
}

// Ended forgets the deliveries of calls that have ended.
func (t *Tracer) Ended(r *owner.Release) {
	if t == nil {
		return
	}
	r.Endings(func(e *owner.Ending) {
		if e.Traced {
			t.with(e.Call, func(d *delivery) { t.forget(e.Call, d, "the call ended: "+e.Phase.String()) })
		}
	})
}

// Reply is the delivery that a device's answer belongs to; the answer proves that the command was delivered.
func (t *Tracer) Reply(session uuid.UUID, wire int32) (at step.TraceContext) {
	if t == nil {
		return at
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if call, ok := t.wires[wireKey{session, wire}]; ok {
		d := t.deliveries[call]
		d.end(time.Now())
		at = placeOf(d.span.SpanContext())
	}
	return at
}
