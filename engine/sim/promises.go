package sim

import (
	"fmt"

	"callchain/engine/rpc"
	"callchain/engine/step"

	"github.com/google/uuid"
)

// promises holds a world against what must always be true. It knows the store, and what was told to the outside.
type promises struct {
	w          *world
	shadow     folded // of everything that is committed
	seen       int64
	persistent map[uuid.UUID]bool      // calls whose id was returned
	ended      map[uuid.UUID]rpc.Phase // ends that were told
}

// committed checks after each append: one end a call, and the live state is what the stored events say.
func (p *promises) committed() {
	if err := p.shadow.readOn(p.w.owner.store, p.seen); err != nil {
		p.w.fail("reading what was stored: %w", err)
		return
	}
	p.seen = p.w.owner.cp.Seq
	open := 0
	for id, c := range p.shadow.calls {
		if n := p.shadow.ends[id]; n > 1 {
			p.w.fail("call %s has %d ends", id, n)
		}
		if c.Phase.Terminal() {
			continue
		}
		open++
		d := p.w.owner.state.Devices[p.shadow.devices[id]]
		if live := d.Find(id); live == nil {
			p.w.fail("call %s is open in the store and not in the memory", id)
		} else if a, b := lasting(*live), lasting(c); a != b {
			p.w.fail("the live call differs from its fold:\n%+v\n%+v", a, b)
		}
	}
	live := 0
	for _, d := range p.w.owner.state.Devices {
		live += d.Open.Len() + d.Asked.Len()
	}
	if live != open || len(p.w.owner.state.Runs) != len(p.shadow.state.Runs) {
		p.w.fail("in the memory %d calls are open and %d runs parked, in the store %d and %d", live, len(p.w.owner.state.Runs), open, len(p.shadow.state.Runs))
	}
}

// lasting is a call without what is derived from the device's session.
func lasting(c rpc.Call) rpc.Call {
	c.Session, c.Attempt, c.AckDue, c.Place = uuid.Nil, 0, 0, 0
	return c
}

// delivered checks promise P1 at the device, and that a call keeps its wire id.
func (p *promises) delivered(o rpc.Delivery) {
	p.w.report.Delivered++
	c, stored := p.shadow.calls[o.Call.ID]
	switch {
	case !stored || c.QueuedAt == 0:
		p.w.fail("call %s reached its device before its Queued was committed", o.Call.ID)
	case c.Wire != o.Call.Wire:
		p.w.fail("call %s reached its device with wire id %d, stored is %d", o.Call.ID, o.Call.Wire, c.Wire)
	}
}

// told checks what a caller is told against the store: it must be there, and it must be this call's own.
func (p *promises) told(e step.Settle) {
	p.w.report.Told++
	p.w.tell("  told: %.8s %s %s", e.Call, e.Phase, e.Code)
	c, stored := p.shadow.calls[e.Call]
	before, again := p.ended[e.Call]
	switch {
	case !stored:
		p.w.fail("a caller is told %s of call %s before anything of it was committed", e.Phase, e.Call)
	case e.Phase == rpc.PhaseQueued:
		p.persistent[e.Call] = true
	case c.Phase != e.Phase:
		p.w.fail("a caller is told %s of call %s; stored is %s", e.Phase, e.Call, c.Phase)
	case again && before != e.Phase:
		p.w.fail("a caller is told %s of call %s, and was told %s", e.Phase, e.Call, before)
	case e.Phase == rpc.PhaseSucceeded && len(e.Response.Bytes) > 0 && string(e.Response.Bytes) != e.Call.String():
		p.w.fail("call %s is completed by the answer to %s", e.Call, e.Response.Bytes)
	default:
		p.ended[e.Call] = e.Phase
	}
}

// atTheEnd: everything has ended by its last deadline, and nothing that was promised is lost.
func (p *promises) atTheEnd() {
	final, err := fold(p.w.owner.store)
	if err != nil {
		p.w.fail("folding everything: %w", err)
		return
	}
	for _, id := range sortedIDs(final.calls) {
		if c := final.calls[id]; !c.Phase.Terminal() {
			p.w.fail("call %s is still %s", id, c.Phase)
		}
	}
	for id := range final.state.Runs {
		p.w.fail("run %s is still parked", id)
	}
	for id := range p.persistent {
		if _, ok := final.calls[id]; !ok {
			p.w.fail("the id of call %s was returned, and nothing of it is stored", id)
		}
	}
	for id, phase := range p.ended {
		if got := final.calls[id].Phase; got != phase {
			p.w.fail("a caller was told %s of call %s; in the end it is %s", phase, id, got)
		}
	}
}

// String counts what happened.
func (r Report) String() string {
	return fmt.Sprintf("%d commands, %d events, %d calls, %d crashes, %d failed and %d torn appends, %d deliveries, %d answers",
		r.Commands, r.Events, r.Calls, r.Crashes, r.FailedAppends, r.TornAppends, r.Delivered, r.Told)
}
