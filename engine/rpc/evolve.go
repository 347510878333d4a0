package rpc

import (
	"slices"

	"github.com/google/uuid"
)

// Evolve applies a fact to a device. It cannot fail and never changes what d refers to.
func Evolve(d Device, e Event) Device {
	if e.Call == uuid.Nil {
		return d.withSession(e)
	}
	switch f := e.Fact.(type) {
	case Requested:
		c := EvolveCall(Call{ID: e.Call}, e, d.Settings)
		if f.Direction == FromDevice {
			d.Asked = appended(d.Asked, &c)
		} else {
			d.Open = appended(d.Open, &c)
		}
		return d
	case Queued:
		if !f.Again {
			d.NextWire = wireAfter(f.Wire)
		}
	}
	list, i := d.place(e.Call)
	if i < 0 {
		return d // a fact beside the end of a call that is no longer open
	}
	c := EvolveCall(*(*list)[i], e, d.Settings)
	if f, ok := e.Fact.(Sent); ok {
		if f.Session != d.Session.ID {
			c.AckDue = 0 // that session cannot acknowledge any more
		}
		if issued := (*list)[i].Session; issued != uuid.Nil {
			c.Session = issued // maybe to another session since
		}
	}
	switch {
	case c.Phase.Terminal():
		*list = without(*list, i)
	case c.Phase == PhaseQueued && c.QueuedAt == e.At && (*list)[i].Phase == PhaseRequested:
		*list = appended(without(*list, i), &c) // calls are sent in the order in which they were dispatched
	default:
		*list = replaced(*list, i, &c)
	}
	return d.issued()
}

// Restore adds an open call, folded from its stream, to a device that is built up after a takeover.
func Restore(d Device, c Call) Device {
	if c.Direction == FromDevice {
		d.Asked = inOrder(appended(d.Asked, &c))
		return d
	}
	c.AckDue = 0 // the session that could have acknowledged is gone, or is told of with a resumed subscription
	d.Open = inOrder(appended(d.Open, &c))
	return d
}

func inOrder(calls []*Call) []*Call {
	slices.SortStableFunc(calls, func(a, b *Call) int {
		switch {
		case a.QueuedAt != b.QueuedAt && a.QueuedAt != 0 && b.QueuedAt != 0:
			return int(a.QueuedAt - b.QueuedAt)
		case (a.QueuedAt == 0) != (b.QueuedAt == 0): // not dispatched yet: behind
			return int(b.QueuedAt - a.QueuedAt)
		case a.QueuedAt == 0:
			return int(a.Created - b.Created)
		}
		return int(a.Wire) - int(b.Wire)
	})
	return calls
}

func (d Device) withSession(e Event) Device {
	switch f := e.Fact.(type) {
	case SessionOpened:
		d.Session = Session{ID: f.Session, Since: e.Occurred}
		if f.Since != 0 {
			d.Session.Since = f.Since
		}
	case Subscribed:
		if d.Session.ID == f.Session {
			d.Session = Session{ID: f.Session, Since: d.Session.Since, Subscribed: true, Once: f.Once}
			if !f.Resumed {
				d.Open = unissued(d.Open)
			}
			return d.issued()
		}
	case Unsubscribed:
		if d.Session.ID == f.Session {
			d.Session.Subscribed = false
		}
	case SessionClosed:
		if d.Session.ID == f.Session {
			d.Session = Session{}
			d.Open = unawaited(d.Open)
		}
	}
	return d
}

// unissued are the calls as none of them was issued to a session: each subscription begins new deliveries, also on the same connection.
func unissued(calls []*Call) []*Call {
	out := slices.Clone(calls)
	for i, c := range out {
		again := *c
		again.Session = uuid.Nil
		out[i] = &again
	}
	return out
}

// unawaited are the calls without the acknowledgements that are due: no attempt has failed when its connection ended first, the
// call is sent again at the next subscription (MqttTransportHandler forgets what awaits its PUBACK when the channel closes).
func unawaited(calls []*Call) []*Call {
	out := slices.Clone(calls)
	for i, c := range out {
		if c.AckDue != 0 {
			quiet := *c
			quiet.AckDue = 0
			out[i] = &quiet
		}
	}
	return out
}

// issued begins the deliveries that may begin now. What was issued shows in Session and Attempt of the call; Outstanding
// reads it there.
func (d Device) issued() Device {
	if !d.Session.takesCalls() {
		return d
	}
	copied, undelivered, open := false, false, false
	for i, c := range d.Open {
		if c.Phase < PhaseQueued {
			continue
		}
		if c.Session != d.Session.ID && c.RetryAt == 0 && d.mayIssue(c, undelivered, open) {
			if !copied {
				d.Open, copied = slices.Clone(d.Open), true
			}
			next := *c
			next.Session = d.Session.ID
			next.AckDue = 0
			next.Attempt++
			d.Open[i] = &next
			if d.Session.Once {
				d.Session.Spent = true
				return d
			}
		}
		undelivered = undelivered || c.Phase < PhaseDelivered
		open = true
	}
	return d
}

// mayIssue applies the submit order (ThingsBoard's RpcSubmitStrategy): burst sends everything again at a new subscription, also
// what was delivered and waits for its answer; the sequential orders send only what is undelivered and whose turn it is.
func (d *Device) mayIssue(c *Call, undelivered, open bool) bool {
	switch d.order(c) {
	case OrderOnAck:
		return !undelivered && c.Phase < PhaseDelivered
	case OrderOnResponse:
		return !open && c.Phase < PhaseDelivered
	default:
		return true
	}
}

func (d *Device) place(call uuid.UUID) (*[]*Call, int) {
	at := func(list []*Call) int { return slices.IndexFunc(list, func(c *Call) bool { return c.ID == call }) }
	if i := at(d.Open); i >= 0 {
		return &d.Open, i
	}
	return &d.Asked, at(d.Asked)
}

func appended(list []*Call, c *Call) []*Call { return append(list[:len(list):len(list)], c) }

func replaced(list []*Call, i int, c *Call) []*Call {
	list = slices.Clone(list)
	list[i] = c
	return list
}

func without(list []*Call, i int) []*Call {
	out := make([]*Call, 0, len(list)-1)
	return append(append(out, list[:i]...), list[i+1:]...)
}

// CatchUp brings the wire counter of a device up to date with a Queued that its stored row has not seen.
func CatchUp(d Device, e Event) Device {
	if f, ok := e.Fact.(Queued); ok && !f.Again {
		d.NextWire = wireAfter(f.Wire)
	}
	return d
}
