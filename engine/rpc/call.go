package rpc

// EvolveCall applies a fact to the state of its call. It cannot fail. Settings decide only when things are due.
func EvolveCall(c Call, e Event, s Settings) Call {
	if st, ok := shown(e.Fact); ok && !(c.Status == StatusDelivered && st == StatusSent) {
		c.Status = st
	}
	switch f := e.Fact.(type) {
	case Requested:
		return requested(c, f, e.At)
	case Queued:
		c.queued(f, e.At)
	case Sent:
		c.sent(f, e, s)
	case Delivered:
		c.Phase, c.AckDue, c.RetryAt = PhaseDelivered, 0, 0
		if s.order(c.Order) == OrderOnResponse {
			c.AnswerDue = e.Occurred.Add(s.ResponseTimeout)
		}
	case DeliveryFailed:
		c.deliveryFailed(f, s)
	case CancelRequested:
		c.CancelAsked = true
	case AnsweredLate:
		c.Late++
	case Removed:
		c.Removed = true
	case Succeeded:
		c.end(PhaseSucceeded, "")
	case Failed:
		c.end(PhaseFailed, f.Code)
	case Expired:
		c.end(PhaseExpired, CodeTimeout)
		if f.Offline {
			c.Reason = CodeOffline
		}
	case Cancelled:
		c.end(PhaseCancelled, CodeCancelled)
	case Rejected:
		c.end(PhaseRejected, f.Code)
	}
	return c
}

func requested(c Call, f Requested, at Instant) Call {
	c.Phase, c.Direction, c.Created, c.Expires = PhaseRequested, f.Direction, at, f.Expires
	c.Oneway, c.Persistent, c.Waiting, c.Order = f.Oneway, f.Persistent, f.Waiting, f.Order
	c.Retries = -1
	if f.Retries != nil {
		c.Retries = int16(max(0, min(*f.Retries, 1000)))
	}
	copy(c.Content[:], f.Content)
	if f.Direction == FromDevice {
		c.Session, c.Wire = f.Session, f.Request
	}
	return c
}

func (c *Call) queued(f Queued, at Instant) {
	c.Wire, c.Run, c.RetryAt = f.Wire, f.Run, 0
	if f.Again {
		c.Session = [16]byte{} // to be issued again
	}
	if c.Phase < PhaseQueued {
		c.Phase, c.QueuedAt = PhaseQueued, at
	}
}

func (c *Call) sent(f Sent, e Event, s Settings) {
	c.Written, c.Attempt, c.Session = f.Attempt, max(c.Attempt, f.Attempt), f.Session
	if c.Phase >= PhaseDelivered {
		return // sent once more while the answer is awaited
	}
	c.Phase = PhaseSent
	if f.Ack {
		c.AckDue = min(e.Occurred.Add(s.AckTimeout), c.Expires)
	}
}

func (c *Call) deliveryFailed(f DeliveryFailed, s Settings) {
	c.Phase, c.AckDue, c.RetryAt = PhaseQueued, 0, f.RetryAt
	c.Failures++
	c.Lost = f.Attempt
	if f.Requeue {
		c.Failures = 0
	}
	if s.order(c.Order) != OrderBurst {
		c.Session = [16]byte{} // sequential orders try again at once, burst at the next subscription
	}
}

func (c *Call) end(p Phase, reason Code) {
	c.Phase, c.Reason = p, reason
	c.AckDue, c.AnswerDue, c.RetryAt = 0, 0, 0
}

// FoldCall is the state of a call after the events of its stream.
func FoldCall(events []Event, s Settings) Call {
	var c Call
	for _, e := range events {
		c.ID = e.Call
		c = EvolveCall(c, e, s)
	}
	return c
}

// NextDeadline is when an open call of the device is to be ticked, 0 if never.
func (d *Device) NextDeadline(c *Call) Instant {
	next := c.Expires
	for _, at := range [...]Instant{d.ackDue(c), c.AnswerDue, c.RetryAt} {
		if at != 0 && at < next {
			next = at
		}
	}
	return next
}

// ackDue is when the last attempt fails without its acknowledgement. No attempt has failed when its connection ended first: the
// call is sent again at the next subscription (MqttTransportHandler forgets what awaits its PUBACK when the channel closes).
func (d *Device) ackDue(c *Call) Instant {
	if c.Session != d.Session.ID {
		return 0
	}
	return c.AckDue
}

// Delivery is a command that the world is owed: attempt Attempt of the call, through the device's live session.
type Delivery struct {
	Call    *Call
	Session Session
}

// Outstanding lists what the device is still owed: the deliveries that were issued to its live session and have not left.
func Outstanding(d Device) []Delivery { return Deliveries(Device{}, d) }

// Deliveries lists what a command added to what is outstanding: before and after are the device's states around it.
func Deliveries(before, after Device) []Delivery {
	if !after.Session.Subscribed {
		return nil
	}
	var out []Delivery
	after.Open.calls.issuedSince(before.Open.calls, func(c *Call) {
		if c.Session == after.Session.ID {
			out = append(out, Delivery{Call: c, Session: after.Session})
		}
	})
	return out
}

// unwritten reports whether an attempt was issued that has neither left nor failed.
func (c *Call) unwritten() bool { return max(c.Written, c.Lost) < c.Attempt }

// issuedSince gives the outstanding calls whose attempt is later than in before, an earlier state of the queue. Branches that both
// share are passed over.
func (b *branch) issuedSince(before *branch, each func(*Call)) {
	if b == nil || b.sum.outstanding == 0 {
		return
	}
	was := before.at(b.call)
	if was == b {
		return
	}
	b.left.issuedSince(before, each)
	if own := summaryOf(b.call); own.outstanding > 0 && (was == nil || was.call.Attempt < b.call.Attempt) {
		each(b.call)
	}
	b.right.issuedSince(before, each)
}
