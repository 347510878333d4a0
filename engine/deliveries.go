package engine

import (
	"time"

	"callchain/engine/rpc"
	"callchain/engine/step"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// deliveriesMost bounds the deliveries whose spans are open; those beyond have a span of no length.
const deliveriesMost = 20_000

// delivery is a command on its way, and after that what the device's answer is a child of.
type delivery struct {
	as   sentAs
	span trace.Span
	over bool // the span is ended
}

// sentAs is how a session knows a call.
type sentAs struct {
	session uuid.UUID
	wire    int32
}

func (d *delivery) end(at time.Time) {
	if !d.over {
		d.over = true
		d.span.End(trace.WithTimestamp(at))
	}
}

// delivering begins the span of a delivery and answers the traceparent that goes with the command.
func (s *spans) delivering(do *step.Deliver, transport string, from *lineage) string {
	switch {
	case from == nil:
		return ""
	case s == nil || !from.span.Sampled:
		return from.traceparent()
	}
	_, span := s.tracer.Start(from.context(), spanDeliver, trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(
		attrCall.String(do.Call.ID.String()), attrDevice.String(do.Device.String()), attrTransport.String(transport), attrAttempt.Int(int(do.Call.Attempt)),
	))
	s.mu.Lock()
	defer s.mu.Unlock()
	if was := s.deliveries[do.Call.ID]; was != nil {
		s.forget(do.Call.ID, was, "sent again")
	}
	if len(s.deliveries) >= deliveriesMost {
		span.End()
	} else {
		one := &delivery{as: sentAs{do.Session.ID, do.Call.Wire}, span: span}
		s.deliveries[do.Call.ID], s.wires[one.as] = one, do.Call.ID
	}
	return lineageOf(span.SpanContext()).traceparent()
}

// forget drops a delivery. One that nobody has acknowledged ends with the reason.
func (s *spans) forget(call uuid.UUID, d *delivery, why string) {
	if !d.over {
		d.span.SetStatus(codes.Error, why)
		d.end(time.Now())
	}
	delete(s.deliveries, call)
	delete(s.wires, d.as)
}

// with does something to a call's delivery, if that is recorded.
func (s *spans) with(call uuid.UUID, do func(*delivery)) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.deliveries[call]; d != nil {
		do(d)
	}
}

// left notes that a command left for the device; the delivery goes on if the protocol will acknowledge it.
func (s *spans) left(call uuid.UUID, at time.Time, ack bool) {
	s.with(call, func(d *delivery) {
		if d.over {
			return
		}
		d.span.AddEvent("written", trace.WithTimestamp(at))
		if !ack {
			d.end(at)
		}
	})
}

// proved ends a delivery with its evidence.
func (s *spans) proved(call uuid.UUID, evidence string, at time.Time) {
	s.with(call, func(d *delivery) {
		d.span.SetAttributes(attrEvidence.String(evidence))
		d.end(at)
	})
}

// broke ends a delivery that could not be made.
func (s *spans) broke(call uuid.UUID, why string) {
	s.with(call, func(d *delivery) { s.forget(call, d, why) })
}

// ended forgets what was delivered of a call that has ended.
func (s *spans) ended(call uuid.UUID, phase rpc.Phase) {
	s.with(call, func(d *delivery) { s.forget(call, d, "the call ended: "+phase.String()) })
}

// answered is the delivery that an answer belongs to; an answer proves that the command was delivered.
func (s *spans) answered(session uuid.UUID, wire int32) (out lineage) {
	if s == nil {
		return out
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if call, ok := s.wires[sentAs{session, wire}]; ok {
		d := s.deliveries[call]
		d.end(time.Now())
		out = lineageOf(d.span.SpanContext())
	}
	return out
}
