package projection

import (
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/eventstore"
)

// DecodeCall reads a stored event of a call or of a device. Errors: the stream's name holds no id, or rpc.DecodeFact's.
func DecodeCall(e *eventstore.Event) (rpc.Event, error) {
	ev := rpc.Event{Meta: rpc.Meta{
		At: rpc.Instant(e.At), Occurred: rpc.Instant(e.Occurred), Actor: e.Actor, Cause: e.Cause, Hops: e.Hops, Trace: e.Trace, Chain: e.ChainVersion,
	}}
	var err error
	if ev.Call, err = callOf(e.Stream); err == nil {
		ev.Fact, err = rpc.DecodeFact(e.Type, e.TypeVersion, e.Data)
	}
	return ev, err
}

// Fold brings a call forward by the next event of its stream. Of the zero Call it begins at the first event. The settings are those of the device;
// they affect only deadlines, which are not in a row.
func (c *Call) Fold(e *eventstore.Event, s rpc.Settings) error {
	fact, err := DecodeCall(e)
	if err != nil {
		return err
	}
	c.Apply(e, fact, s)
	return nil
}

// Apply is Fold for a decoded event.
func (c *Call) Apply(e *eventstore.Event, fact rpc.Event, s rpc.Settings) {
	c.Head, c.Tenant, c.Device, c.Partition, c.State.ID = HeadAfter(e), e.Tenant, e.Device, e.Partition, fact.Call
	c.State = rpc.EvolveCall(c.State, fact, s)
	c.Body = rpc.EvolveBody(c.Body, fact.Fact)
	if c.Ended == 0 && c.State.Phase.Terminal() {
		c.Ended = fact.At
	}
}

// HasRow reports whether a call has a row of Calls: a persistent one from its first event on, a light one from its end on.
func (c *Call) HasRow() bool { return c.State.Persistent || c.State.Phase.Terminal() }

// FoldRun brings a run forward by the next event of its stream. Of the zero Run it begins at the first event. Errors: the stream's name holds no id,
// or step.DecodeRunFact's.
func FoldRun(r step.Run, e *eventstore.Event) (step.Run, error) {
	fact, err := step.DecodeRunFact(e.Type, e.TypeVersion, e.Data)
	if err != nil {
		return r, err
	}
	id, err := RunOf(e.Stream)
	if err != nil {
		return r, err
	}
	r = step.EvolveRun(r, fact)
	r.ID, r.Tenant, r.Device = id, e.Tenant, e.Device
	return r, nil
}
