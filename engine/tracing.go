package engine

import (
	"context"
	"sync"
	"time"

	"callchain/engine/bus"
	"callchain/engine/rpc"
	"callchain/engine/step"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// Tracing is how the spans of OpenTelemetry are made.
type Tracing struct {
	Provider trace.TracerProvider
	// Sampled tells whether a trace is recorded of which nothing but the id is known: its call was found in the store after a restart.
	Sampled func(trace.TraceID) bool
}

// TraceTo lets spans out. It is called before Run; without it no span is made, and trace contexts of callers are passed on as they came.
func (e *Engine) TraceTo(t Tracing) {
	e.spans = &spans{tracer: t.Provider.Tracer("callchain/engine"), sampled: t.Sampled, deliveries: map[uuid.UUID]*delivery{}, wires: map[sentAs]uuid.UUID{}}
}

// The attributes of spans.
const (
	attrCall      = attribute.Key("callchain.rpc.id")
	attrDevice    = attribute.Key("callchain.device.id")
	attrTenant    = attribute.Key("callchain.tenant.id")
	attrPartition = attribute.Key("callchain.partition")
	attrMethod    = attribute.Key("callchain.rpc.method")
	attrTransport = attribute.Key("callchain.transport")
	attrAttempt   = attribute.Key("callchain.delivery.attempt")
	attrEvidence  = attribute.Key("callchain.delivery.evidence")
	attrPhase     = attribute.Key("callchain.rpc.phase")
	attrReason    = attribute.Key("callchain.rpc.reason")
)

// The names of spans.
const (
	spanInbox   = "inbox write"
	spanStep    = "step " // and what was stepped
	spanDeliver = "deliver"
	spanAnswer  = "device answer"
	spanAsked   = "device call"
	spanTold    = "answer to caller"
	spanRespond = "answer to device"
)

// lineage is where something stands in a trace: what follows from it is a child of its span.
type lineage struct {
	trace [16]byte
	span  step.Span
}

func (l lineage) none() bool { return l.trace == [16]byte{} }

func (l lineage) traceparent() string { return step.Traceparent(l.trace, l.span) }

// context holds the span as one that somebody else made.
func (l lineage) context() context.Context {
	c := trace.SpanContextConfig{TraceID: l.trace, SpanID: l.span.ID, Remote: true}
	if l.span.Sampled {
		c.TraceFlags = trace.FlagsSampled
	}
	return trace.ContextWithSpanContext(context.Background(), trace.NewSpanContext(c))
}

func lineageOf(c trace.SpanContext) lineage {
	return lineage{c.TraceID(), step.Span{ID: c.SpanID(), Sampled: c.IsSampled()}}
}

// lineageIn is where a request stands: in the span of its context, else where the caller says.
func lineageIn(ctx context.Context, r *CallRequest) lineage {
	c := trace.SpanContextFromContext(ctx)
	if !c.IsValid() || !c.IsSampled() && r.Trace == [16]byte{} {
		return lineage{r.Trace, r.Span} // a trace that nobody asked for and nobody records leaves no mark
	}
	return lineageOf(c)
}

// spans makes the engine's spans. Those of a call hang together by ids alone, so that any process can add to them: the trace id is in the
// call's events, and the step that began it has a span id that is made of the call's.
type spans struct {
	tracer  trace.Tracer
	sampled func(trace.TraceID) bool

	mu         sync.Mutex
	deliveries map[uuid.UUID]*delivery // by call: the last of each that has not ended
	wires      map[sentAs]uuid.UUID    // their calls
}

// spanIDKey is where a span id waits in a context until the span is made.
type spanIDKey struct{}

// SpanID is the id that the span about to be made is to have; false: any.
func SpanID(ctx context.Context) (trace.SpanID, bool) {
	id, ok := ctx.Value(spanIDKey{}).(trace.SpanID)
	return id, ok
}

// spanOf is the id of the span of the step that began a call.
func spanOf(call uuid.UUID) (id trace.SpanID) {
	copy(id[:], call[8:])
	return id
}

// recalled is where a call stands that was found in the store.
func (s *spans) recalled(call uuid.UUID, traceID [16]byte) lineage {
	if s == nil {
		return lineage{trace: traceID} // nobody has made a span of it
	}
	return lineage{traceID, step.Span{ID: spanOf(call), Sampled: s.sampled(traceID)}}
}

// writing begins the span of a command on its way into the inbox; the function returned is called with what Put said. The command goes on
// as a child of it.
func (s *spans) writing(cmd *step.Command, m *bus.Message, remembers bool) func(error) {
	if s == nil || !cmd.Span.Sampled {
		return noSpan
	}
	_, span := s.tracer.Start(
		lineage{cmd.Trace, cmd.Span}.context(), spanInbox, trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(attrDevice.String(cmd.Device.String()), attrPartition.Int(int(m.Partition))),
	)
	cmd.Span = lineageOf(span.SpanContext()).span
	if !remembers || m.Fleeting {
		return func(err error) { endSpan(span, err) }
	}
	kept := m.Done
	m.Done = func(err error) {
		endSpan(span, err)
		if kept != nil {
			kept(err)
		}
	}
	return func(err error) {
		if err != nil {
			endSpan(span, err)
		}
	}
}

func noSpan(error) {}

func endSpan(span trace.Span, err error) {
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
}

// step begins the span of a command's step and its commit; nil if it is not recorded.
func (s *spans) step(cmd *step.Command, d *Device) trace.Span {
	if s == nil || !cmd.Span.Sampled {
		return nil
	}
	ctx := lineage{cmd.Trace, cmd.Span}.context()
	attrs := append(make([]attribute.KeyValue, 0, 5), attrDevice.String(cmd.Device.String()), attrTenant.String(d.Tenant.String()), attrPartition.Int(int(d.Partition)))
	switch a := cmd.Do.(type) {
	case step.Call:
		ctx, attrs = context.WithValue(ctx, spanIDKey{}, spanOf(a.ID)), append(attrs, attrCall.String(a.ID.String()), attrMethod.String(a.Method))
	case step.DeviceCall:
		ctx, attrs = context.WithValue(ctx, spanIDKey{}, spanOf(a.ID)), append(attrs, attrCall.String(a.ID.String()), attrMethod.String(a.Method))
	case step.RPC:
		switch a.Do.(type) {
		case rpc.Written, rpc.Acknowledged:
			return nil // they show in the span of their delivery
		}
	}
	_, span := s.tracer.Start(ctx, spanStep+kindOf(cmd.Do), trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(attrs...))
	return span
}

// received begins the span of a message of a device that belongs to a call; done is to be called when the message is durable. A message
// without a trace begins one if fresh is true.
func (s *spans) received(name string, from lineage, fresh bool, device uuid.UUID, done func(error), attrs ...attribute.KeyValue) (lineage, func(error)) {
	if s == nil || from.none() && !fresh || !from.none() && !from.span.Sampled {
		return from, done
	}
	ctx := context.Background()
	if !from.none() {
		ctx = from.context()
	}
	_, span := s.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(append(attrs, attrDevice.String(device.String()))...))
	if !span.IsRecording() {
		return from, done
	}
	return lineageOf(span.SpanContext()), func(err error) {
		endSpan(span, err)
		if done != nil {
			done(err)
		}
	}
}

// told makes the span of an answer's way from its commit to who waited for it.
func (s *spans) told(name string, from *lineage, began time.Time, attrs ...attribute.KeyValue) {
	if s == nil || from == nil || !from.span.Sampled {
		return
	}
	_, span := s.tracer.Start(from.context(), name, trace.WithTimestamp(began), trace.WithAttributes(attrs...))
	span.End()
}
