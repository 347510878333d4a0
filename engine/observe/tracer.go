package observe

import (
	"context"
	"sync"
	"time"

	"callchain/engine/bus"
	"callchain/engine/owner"
	"callchain/engine/step"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// Tracing configures OpenTelemetry.
type Tracing struct {
	Provider trace.TracerProvider
	// Sampled reports whether a trace is recorded by its id alone, for calls that were loaded after a restart.
	Sampled func(trace.TraceID) bool
}

// The attributes of spans.
const (
	AttrCall      = attribute.Key("callchain.rpc.id")
	AttrDevice    = attribute.Key("callchain.device.id")
	AttrTenant    = attribute.Key("callchain.tenant.id")
	AttrPartition = attribute.Key("callchain.partition")
	AttrMethod    = attribute.Key("callchain.rpc.method")
	AttrTransport = attribute.Key("callchain.transport")
	AttrAttempt   = attribute.Key("callchain.delivery.attempt")
	AttrEvidence  = attribute.Key("callchain.delivery.evidence")
	AttrPhase     = attribute.Key("callchain.rpc.phase")
	AttrReason    = attribute.Key("callchain.rpc.reason")
)

// The names of spans.
const (
	spanInbox     = "inbox write"
	spanStep      = "step " // and the name of the command
	spanDelivery  = "deliver"
	SpanAnswer    = "device answer"
	SpanCall      = "device call"
	SpanResult    = "answer to caller"
	SpanResponded = "answer to device"
)

// Tracer makes the engine's spans. The spans of a call are linked by ids alone, so that any process can add to them: the trace id is in the call's events, and the span
// id of its first step derives from the call's id. A nil Tracer makes none, and passes the trace contexts of callers on unchanged.
type Tracer struct {
	tracer  trace.Tracer
	sampled func(trace.TraceID) bool

	mu         sync.Mutex
	deliveries map[uuid.UUID]*delivery // by open call: its last delivery
	wires      map[wireKey]uuid.UUID   // their calls
}

// NewTracer makes a tracer.
func NewTracer(t Tracing) *Tracer {
	return &Tracer{tracer: t.Provider.Tracer("callchain/engine"), sampled: t.Sampled, deliveries: map[uuid.UUID]*delivery{}, wires: map[wireKey]uuid.UUID{}}
}

// Sampled is owner.Config.Sampled; nil if no spans are made.
func (t *Tracer) Sampled() func([16]byte) bool {
	if t == nil {
		return nil
	}
	return func(id [16]byte) bool { return t.sampled(id) }
}

// contextOf is the context of a remote span.
func contextOf(at step.TraceContext) context.Context {
	c := trace.SpanContextConfig{TraceID: at.Trace, SpanID: at.Span.ID, Remote: true}
	if at.Span.Sampled {
		c.TraceFlags = trace.FlagsSampled
	}
	return trace.ContextWithSpanContext(context.Background(), trace.NewSpanContext(c))
}

func placeOf(c trace.SpanContext) step.TraceContext {
	return step.TraceContext{Trace: c.TraceID(), Span: step.Span{ID: c.SpanID(), Sampled: c.IsSampled()}}
}

// FromContext is the trace context of a request: the span of ctx, else the caller's.
func FromContext(ctx context.Context, caller step.TraceContext) step.TraceContext {
	c := trace.SpanContextFromContext(ctx)
	if !c.IsValid() || !c.IsSampled() && caller.None() {
		return caller // a trace that is neither requested nor recorded is left out
	}
	return placeOf(c)
}

// spanIDKey is the context key of the id for the next span.
type spanIDKey struct{}

// SpanID is the id for the next span; false: any.
func SpanID(ctx context.Context) (trace.SpanID, bool) {
	id, ok := ctx.Value(spanIDKey{}).(trace.SpanID)
	return id, ok
}

// Steps makes the spans of the steps of a stored batch, which end now.
func (t *Tracer) Steps(r *owner.Release, now time.Time) {
	if t == nil {
		return
	}
	r.Spans(func(s *owner.Span) {
		attrs := append(make([]attribute.KeyValue, 0, 5), AttrDevice.String(s.Device.String()), AttrTenant.String(s.Tenant.String()), AttrPartition.Int(int(s.Partition)))
		if s.Call != uuid.Nil {
			attrs = append(attrs, AttrCall.String(s.Call.String()), AttrMethod.String(s.Method))
		}
		ctx := context.WithValue(contextOf(s.Parent), spanIDKey{}, trace.SpanID(s.ID))
		_, span := t.tracer.Start(ctx, spanStep+s.Name, trace.WithSpanKind(trace.SpanKindConsumer), trace.WithTimestamp(s.Began.Time()), trace.WithAttributes(attrs...))
		span.End(trace.WithTimestamp(now))
	})
}

// InboxWrite begins the span of a command's write to the inbox; the returned function takes the result of Put. The command becomes a child of the span.
// durable: the inbox is durable, and calls m.Done.
func (t *Tracer) InboxWrite(cmd *step.Command, m *bus.Message, durable bool) func(error) {
	if t == nil || !cmd.Span.Sampled {
		return noSpan
	}
	_, span := t.tracer.Start(
		contextOf(step.TraceContext{Trace: cmd.Trace, Span: cmd.Span}), spanInbox, trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(AttrDevice.String(cmd.Device.String()), AttrPartition.Int(int(m.Partition))),
	)
	cmd.Span = placeOf(span.SpanContext()).Span
	if !durable {
		return func(err error) { endSpan(span, err) }
	}
	done := m.Done
	m.Done = func(err error) {
		endSpan(span, err)
		if done != nil {
			done(err)
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

// Received begins the span of a device's message about a call; done must be called when the message is durable. A message without a trace begins one if
// fresh is true.
func (t *Tracer) Received(name string, from step.TraceContext, fresh bool, device uuid.UUID, done func(error), attrs ...attribute.KeyValue) (step.TraceContext, func(error)) {
	if t == nil || from.None() && !fresh || !from.None() && !from.Span.Sampled {
		return from, done
	}
	ctx := context.Background()
	if !from.None() {
		ctx = contextOf(from)
	}
	_, span := t.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(append(attrs, AttrDevice.String(device.String()))...))
	if !span.IsRecording() {
		return from, done
	}
	return placeOf(span.SpanContext()), func(err error) {
		endSpan(span, err)
		if done != nil {
			done(err)
		}
	}
}

// Answered makes the span of an answer from its commit to its caller. from is nil without a trace.
func (t *Tracer) Answered(name string, from *step.TraceContext, began time.Time, attrs ...attribute.KeyValue) {
	if t == nil || from == nil || !from.Span.Sampled {
		return
	}
	_, span := t.tracer.Start(contextOf(*from), name, trace.WithTimestamp(began), trace.WithAttributes(attrs...))
	span.End()
}
