package rpc

import (
	"cmp"
	"math"
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
		return d.withRequested(f, e)
	case Queued:
		if !f.Again {
			d.NextWire = wireAfter(f.Wire)
		}
	}
	q, was := &d.Open, d.Open.find(e.Call)
	if was == nil {
		q, was = &d.Asked, d.Asked.find(e.Call)
	}
	if was == nil {
		return d // a fact after the end of a call
	}
	is := EvolveCall(*was, e, d.Settings)
	if f, ok := e.Fact.(Sent); ok {
		d.sent(f, was, &is)
	}
	switch {
	case is.Phase.Terminal():
		*q = q.without(was)
	case was.Phase == PhaseRequested && is.Phase == PhaseQueued: // calls are sent in the order in which they were dispatched
		is.Place = d.nextPlace()
		*q = q.replaced(was, &is)
	default:
		*q = q.replaced(was, &is)
	}
	return d.issued()
}

// nextPlace is behind all calls of the device.
func (d *Device) nextPlace() int64 {
	d.place++
	return d.place
}

func (d Device) withRequested(f Requested, e Event) Device {
	q := &d.Open
	if f.Direction == FromDevice {
		q = &d.Asked
	}
	c := EvolveCall(Call{ID: e.Call}, e, d.Settings)
	if was := q.find(e.Call); was != nil {
		*q = q.without(was)
	}
	c.Place = d.nextPlace()
	*q = q.with(&c)
	return d
}

// sent keeps the session that the call was issued to last: the attempt may have left over an earlier one, which cannot
// acknowledge it any more. While no session is known, the one that it left over may live: the owner has just changed.
func (d *Device) sent(f Sent, was, is *Call) {
	switch {
	case d.Session.ID == uuid.Nil:
	case f.Session != d.Session.ID:
		is.AckDue, is.Session = 0, was.Session
	case was.Session != uuid.Nil:
		is.Session = was.Session
	}
}

// Restore adds the open calls of a device, each folded from its stream, when the device is built up after a takeover. If the session that
// a call was sent to still lives, it resumes its subscription, and then owes the acknowledgement as before.
func Restore(d Device, calls []Call) Device {
	calls = slices.Clone(calls)
	slices.SortFunc(calls, dispatched)
	for i := range calls {
		c := &calls[i]
		c.Place = d.nextPlace()
		if c.Direction == FromDevice {
			d.Asked = d.Asked.with(c)
		} else {
			d.Open = d.Open.with(c)
		}
	}
	return d
}

// dispatched sorts calls in the order of their dispatch; those that are not dispatched yet are last. Wire ids, which may wrap, give the
// order of calls that were dispatched in one microsecond.
func dispatched(a, b Call) int {
	switch {
	case a.QueuedAt == 0 && b.QueuedAt == 0:
		return cmp.Or(cmp.Compare(a.Created, b.Created), byID(&a, &b))
	case a.QueuedAt == 0:
		return 1
	case b.QueuedAt == 0:
		return -1
	case a.QueuedAt != b.QueuedAt:
		return cmp.Compare(a.QueuedAt, b.QueuedAt)
	case a.Wire == b.Wire:
		return byID(&a, &b)
	case (a.Wire-b.Wire)&math.MaxInt32 < 1<<30:
		return 1
	}
	return -1
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
			d.Open = d.Open.mapped(func(c *Call) *Call { return c.reissued(f) })
			return d.issued()
		}
	case Unsubscribed:
		if d.Session.ID == f.Session {
			d.Session.Subscribed = false
		}
	case SessionClosed:
		if d.Session.ID == f.Session {
			d.Session = Session{}
		}
	}
	return d
}

// reissued is a call as a subscription finds it: each begins new deliveries, also on the same connection. A resumed one keeps
// what was issued to its session.
func (c *Call) reissued(f Subscribed) *Call {
	if c.Session == uuid.Nil || f.Resumed && c.Session == f.Session {
		return c
	}
	again := *c
	again.Session, again.AckDue = uuid.Nil, 0
	return &again
}

// issued begins the deliveries that may begin now. What was issued shows in Session and Attempt of the call; Outstanding
// reads it there.
func (d Device) issued() Device {
	for d.Session.takesCalls() {
		c := d.Open.calls.next(&ahead{settings: &d.Settings})
		if c == nil {
			return d
		}
		is := *c
		is.Session, is.AckDue, is.Attempt = d.Session.ID, 0, c.Attempt+1
		d.Open = d.Open.replaced(c, &is)
		d.Session.Spent = d.Session.Once
	}
	return d
}

// ahead summarizes the calls of a queue before those in question.
type ahead struct {
	settings    *Settings
	undelivered bool
	open        bool
}

// mayIssue applies the submit order (ThingsBoard's RpcSubmitStrategy): burst sends everything again at a new subscription, also
// what was delivered and waits for its answer; the sequential orders send only what is undelivered and whose turn it is.
func (a *ahead) mayIssue(s *summary) bool {
	for order, n := range s.waiting {
		switch a.settings.order(Order(order)) {
		case OrderOnAck:
			if n[0] > 0 && !a.undelivered {
				return true
			}
		case OrderOnResponse:
			if n[0] > 0 && !a.open {
				return true
			}
		default:
			if n[0]+n[1] > 0 {
				return true
			}
		}
	}
	return false
}

func (a *ahead) pass(s *summary) {
	a.undelivered = a.undelivered || s.undelivered > 0
	a.open = a.open || s.queued > 0
}

// next is the first call that may be issued, nil if there is none.
func (b *branch) next(a *ahead) *Call {
	if b == nil {
		return nil
	}
	if !a.mayIssue(&b.sum) {
		a.pass(&b.sum)
		return nil
	}
	if c := b.left.next(a); c != nil {
		return c
	}
	own := summaryOf(b.call)
	if a.mayIssue(&own) {
		return b.call
	}
	a.pass(&own)
	return b.right.next(a)
}

// CatchUp brings the wire counter of a device up to date with a fact that its stored row has not seen.
func CatchUp(next int32, f Fact) int32 {
	if q, ok := f.(Queued); ok && !q.Again {
		return wireAfter(q.Wire)
	}
	return next
}
