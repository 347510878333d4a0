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

// enterTrace gives a command that concerns a traced call the call's place in its trace, so that every event of the call names it. A command that has
// a place of its own keeps it.
func (o *Owner) enterTrace(cmd *step.Command, d *device) {
	if cmd.Trace == [16]byte{} {
		if c := o.tables.calls[o.aboutCall(cmd, d)]; c != nil {
			cmd.Trace, cmd.Span = c.from.Trace, c.from.Span
		}
	}
	o.current.trace = step.TraceContext{Trace: cmd.Trace, Span: cmd.Span}
}

// aboutCall is the open call that a command is about, uuid.Nil if there is none.
func (o *Owner) aboutCall(cmd *step.Command, d *device) uuid.UUID {
	if w, ok := cmd.Do.(step.Wake); ok {
		run, _ := o.parked(w.Run)
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

// beginSpan makes a span of a command's step, if its trace is recorded. What follows from the step is a child of it.
func (o *Owner) beginSpan(cmd *step.Command, d *device) {
	if o.config.Sampled == nil || !cmd.Span.Sampled {
		return
	}
	s := Span{
		Partition: d.partition, Name: step.NameOf(cmd.Do), Parent: o.current.trace, Began: o.now, Tenant: d.tenant, Device: d.id,
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
		s.ID = SpanOf(o.config.NewID())
	}
	o.current.trace.Span = step.Span{ID: s.ID, Sampled: true}
	o.gathering.spans = append(o.gathering.spans, s)
}

// contextOf is where an effect stands in its trace; nil if it is in none. Whatever led to a delivery, it belongs to its call.
func (o *Owner) contextOf(do step.Effect) *step.TraceContext {
	switch do := do.(type) {
	case step.Deliver:
		if c := o.tables.calls[do.Call.ID]; c != nil && !c.from.None() {
			at := c.from
			return &at
		}
	case step.NotifyCallers, step.Respond:
		if !o.current.trace.None() {
			at := o.current.trace
			return &at
		}
	}
	return nil
}

// recalled is where a call stands in its trace that was found in the store.
func (o *Owner) recalled(call uuid.UUID, trace [16]byte) step.TraceContext {
	at := step.TraceContext{Trace: trace}
	if trace != [16]byte{} && o.config.Sampled != nil {
		at.Span = step.Span{ID: SpanOf(call), Sampled: o.config.Sampled(trace)}
	}
	return at
}
