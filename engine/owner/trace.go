package owner

import (
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/transports"

	"github.com/google/uuid"
)

const (
	evidenceAnswer  = transports.EvidenceAnswer
	evidenceWritten = transports.EvidenceWritten
)

// enterTrace gives a command of a traced call the call's trace context, so that every event of the call names it. A command with its own context
// keeps it.
func (dec *decision) enterTrace(cmd *step.Command, d *device) {
	if cmd.Trace == [16]byte{} {
		if c := dec.tables.calls[dec.aboutCall(cmd, d)]; c != nil {
			cmd.Trace, cmd.Span = c.trace.Trace, c.trace.Span
		}
	}
	dec.trace = step.TraceContext{Trace: cmd.Trace, Span: cmd.Span}
}

// aboutCall is the open call that a command is about, uuid.Nil if there is none.
func (dec *decision) aboutCall(cmd *step.Command, d *device) uuid.UUID {
	if w, ok := cmd.Do.(step.Wake); ok {
		run, _ := dec.parked(w.Run)
		return run.Server
	}
	life, _ := cmd.Do.(step.RPC)
	switch do := life.Do.(type) {
	case rpc.Written:
		return do.Call
	case rpc.Acknowledged:
		return do.Call
	case rpc.SendFailed:
		return do.Call
	case rpc.Tick:
		return do.Call
	case rpc.Cancel:
		return do.Call
	case rpc.Remove:
		return do.Call
	case rpc.Reply:
		if c := d.state.ByWire(do.Wire); c != nil {
			return c.ID
		}
	}
	return uuid.Nil
}

// beginSpan makes a span for a command's step, if its trace is recorded. The step's effects are children of it.
func (dec *decision) beginSpan(cmd *step.Command, d *device) {
	if dec.config.Sampled == nil || !cmd.Span.Sampled {
		return
	}
	s := Span{
		Partition: d.partition, Name: step.NameOf(cmd.Do), Parent: dec.trace, Began: dec.now, Tenant: d.tenant, Device: d.id,
	}
	switch a := cmd.Do.(type) {
	case step.Call:
		s.Call, s.Method = a.ID, a.Method
	case step.DeviceCall:
		s.Call, s.Method = a.ID, a.Method
	case step.RPC:
		switch a.Do.(type) {
		case rpc.Written, rpc.Acknowledged:
			return // they show in the span of their delivery
		}
	}
	if s.ID = SpanOf(s.Call); s.Call == uuid.Nil {
		s.ID = SpanOf(dec.config.NewID())
	}
	dec.trace.Span = step.Span{ID: s.ID, Sampled: true}
	dec.batch.spans = append(dec.batch.spans, s)
}

// contextOf is the trace context of an effect; nil without a trace. A delivery always belongs to its call's trace.
func (rec *recorder) contextOf(do step.Effect) *step.TraceContext {
	switch do := do.(type) {
	case step.Deliver:
		if c := rec.tables.calls[do.Call.ID]; c != nil && !c.trace.None() {
			at := c.trace
			return &at
		}
	case step.NotifyCallers, step.Respond:
		if !rec.trace.None() {
			at := rec.trace
			return &at
		}
	}
	return nil
}

// restoreTrace is the trace context of a call that was loaded from the store.
func (mem *memory) restoreTrace(call uuid.UUID, trace [16]byte) step.TraceContext {
	at := step.TraceContext{Trace: trace}
	if trace != [16]byte{} && mem.config.Sampled != nil {
		at.Span = step.Span{ID: SpanOf(call), Sampled: mem.config.Sampled(trace)}
	}
	return at
}
