package engine

import (
	"callchain/engine/rpc"
	"callchain/engine/step"

	"github.com/google/uuid"
)

// inTrace gives a command that concerns a traced call the call's place in its trace, so that every event of the call names it. A command
// that has a place of its own keeps it.
func (o *owner) inTrace(cmd step.Command) step.Command {
	if len(o.traces) == 0 || cmd.Trace != [16]byte{} {
		return cmd
	}
	if at, ok := o.traces[o.callOf(cmd)]; ok {
		cmd.Trace, cmd.Span = at.trace, at.span
	}
	return cmd
}

// callOf is the open call that a command concerns, uuid.Nil if there is none.
func (o *owner) callOf(cmd step.Command) uuid.UUID {
	if w, ok := cmd.Do.(step.Wake); ok {
		return o.state.Runs[w.Run].Server
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
		d := o.state.Devices[cmd.Device]
		if c := d.ByWire(do.Wire); c != nil {
			return c.ID
		}
	}
	return uuid.Nil
}

// traceCall notes where a call stands in its trace when it begins, and forgets it when it ends.
func (o *owner) traceCall(c *rpc.Call, events []step.Event) {
	switch {
	case c.Phase.Terminal():
		if at, ok := o.traces[c.ID]; ok {
			delete(o.traces, c.ID)
			if at.span.Sampled {
				o.batch.ended = append(o.batch.ended, *c)
			}
		}
	case !o.current.none() && begins(c.ID, events):
		o.traces[c.ID] = o.current
	}
}

// parentOf is where an effect stands in its trace; nil if it is in none.
func (o *owner) parentOf(do step.Effect) *lineage {
	switch do := do.(type) {
	case step.Deliver: // whatever led to it, it belongs to its call
		if at, ok := o.traces[do.Call.ID]; ok {
			return new(at)
		}
	case step.Settle, step.Respond:
		if !o.current.none() {
			return new(o.current)
		}
	}
	return nil
}
