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
		if s.Order == OrderOnResponse && c.Order == OrderDefault || c.Order == OrderOnResponse {
			c.AnswerDue = e.At.Add(s.ResponseTimeout)
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
		c.Session = [16]byte{} // to be issued anew
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
	order := c.Order
	if order == OrderDefault {
		order = s.Order
	}
	if order == OrderOnAck || order == OrderOnResponse {
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

// NextDeadline is when the call is to be ticked, 0 if never.
func NextDeadline(c *Call) Instant {
	next := c.Expires
	for _, at := range [...]Instant{c.AckDue, c.AnswerDue, c.RetryAt} {
		if at != 0 && at < next {
			next = at
		}
	}
	return next
}

// Delivery is a command that the world is owed: attempt Attempt of the call, through the device's live session.
type Delivery struct {
	Call    *Call
	Session Session
}

// Outstanding lists what the device is still owed: the deliveries that were issued to its live session and have not left.
func Outstanding(d Device) []Delivery {
	var out []Delivery
	if !d.Session.Subscribed {
		return nil
	}
	for _, c := range d.Open {
		if c.Phase >= PhaseQueued && c.Session == d.Session.ID && max(c.Written, c.Lost) < c.Attempt && c.RetryAt == 0 {
			out = append(out, Delivery{Call: c, Session: d.Session})
		}
	}
	return out
}

// Deliveries lists what a command added to what is outstanding: before and after are the device's states around it.
func Deliveries(before, after Device) []Delivery {
	var out []Delivery
	for _, o := range Outstanding(after) {
		if was := before.Find(o.Call.ID); was == nil || was.Attempt < o.Call.Attempt {
			out = append(out, o)
		}
	}
	return out
}
