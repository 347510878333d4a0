package engine

import (
	"context"
	"fmt"
	"time"

	"callchain/engine/bus"
	"callchain/engine/rpc"
	"callchain/engine/step"

	"github.com/google/uuid"
)

// repeatMargin is how far the clock of a sender may be ahead of its owner's, or behind.
const repeatMargin = 10 * time.Second

// repeated answers a call whose id belongs to a call already, but to none that is open on this device: one that has ended, or
// one of another device. The same wish gets the same answer; nothing is added to the stream of the other.
func (o *owner) repeated(ctx context.Context, m bus.Message, cmd step.Command, d Device) bool {
	call, ok := cmd.Do.(step.Call)
	if !ok {
		return false
	}
	device := o.state.Devices[cmd.Device]
	if device.Find(call.ID) != nil {
		return false // the step judges it
	}
	past, ended := o.pastOf(call.ID)
	_, open := o.calls[call.ID]
	if !ended && !open && call.Chosen && cmd.Occurred < o.parts[d.Partition].since.Add(repeatMargin) {
		if o.past(ctx, d.Tenant, cmd.Device, call.ID) { // it ended under the owner before, after its sender had looked
			past, ended = o.pastOf(call.ID)
		}
	}
	switch {
	case ended && past.call.Content == call.Content:
		o.answerAgain(ctx, m, &cmd, d, past.call)
	case ended || open:
		err := &rpc.Refusal{Code: rpc.CodeKnown, Detail: fmt.Sprintf("the id %s belongs to another call", call.ID)}
		o.refuse(m, cmd, o.refusal(err))
	default:
		return false
	}
	return true
}

// answerAgain tells the end of a call to one more who asks for it.
func (o *owner) answerAgain(ctx context.Context, m bus.Message, cmd *step.Command, d Device, c rpc.Call) {
	out := o.ending(ctx, d.Tenant, m.Key, &c)
	o.tell(m, nil)
	o.batch.effects = append(o.batch.effects, effect{
		partition: d.Partition, epoch: o.parts[d.Partition].cp.Epoch, do: out, from: o.parentOf(out), to: o.senderOf(cmd),
	})
}

// ending is what a caller is told of a call that has ended, or that is stored and persistent.
func (o *owner) ending(ctx context.Context, tenant, device uuid.UUID, c *rpc.Call) step.Settle {
	if c.Persistent {
		return step.Settle{Call: c.ID, Phase: rpc.PhaseQueued}
	}
	body, ok := o.e.bodies.get(c.ID)
	if !ok {
		body = o.readBody(ctx, tenant, device, c.ID)
	}
	return step.Settle{Call: c.ID, Phase: c.Phase, Code: c.Reason, Detail: body.Error, Response: body.Response}
}
