package coap

import (
	"time"

	"github.com/google/uuid"
	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"

	"callchain/transports"
)

// Reasons of Inbound.Failed that CoAP has besides those of all transports.
const (
	failedReset  = "coap_reset"  // the device answered the notification with a RST
	failedSilent = "coap_no_ack" // no ACK came for the last retransmission
)

// outgoing is a notification on its way to the device.
type outgoing struct {
	payload []byte

	command  bool // else an attribute update
	call     uuid.UUID
	wire     int32
	attempt  int
	deadline time.Time
	epoch    int64

	exchange *exchange // its confirmable message, once written
	arrived  bool      // acknowledged, or there is nothing to wait for
	fetching bool      // the device fetches the rest of it in blocks
}

func (m *outgoing) size() int { return len(m.payload) + 64 }

// abandon stops sending the message again.
func (m *outgoing) abandon() {
	if m.exchange != nil {
		m.exchange.abandon()
	}
}

// outbound is what waits for the device. One notification is on its way at a time (NSTART, RFC 7252, section 4.7): a newer one would
// replace an older one that was not acknowledged (RFC 7641, section 4.5.2), and each is a call of its own. The session's mu guards it.
type outbound struct {
	queue    []*outgoing
	bytes    int
	inflight *outgoing
	epoch    int64
	events   []func() // reports to the engine, in order
	working  bool
	finished bool
}

// takeAll empties the queue.
func (q *outbound) takeAll() []*outgoing {
	all := q.queue
	q.queue, q.bytes = nil, 0
	return all
}

// enqueue takes m for the device or refuses it.
func (o *session) enqueue(m *outgoing) {
	o.mu.Lock()
	defer o.mu.Unlock()
	why := o.unfit(m, time.Now())
	if full := len(o.out.queue) >= o.srv.cfg.QueueMessages ||
		len(o.out.queue) > 0 && o.out.bytes+m.size() > o.srv.cfg.QueueBytes; why == "" && full {
		why = transports.FailedQueueFull
	}
	if why != "" {
		o.post(func() { o.drop(m, why) })
		return
	}
	o.out.queue = append(o.out.queue, m)
	o.out.bytes += m.size()
	if in := o.out.inflight; m.command && in != nil && in.command && in.call == m.call {
		in.abandon() // the engine sends the call again: the new attempt takes the place of the old one
		o.out.inflight = nil
	}
	o.kick()
}

// unfit says why m must not leave, or nothing; mu is held.
func (o *session) unfit(m *outgoing, now time.Time) string {
	switch {
	case o.ended, m.command && o.rpc == nil, !m.command && o.attrs == nil:
		return transports.FailedGone
	case !m.command:
		return ""
	case m.epoch < o.out.epoch:
		return transports.FailedStale
	case !m.deadline.IsZero() && !now.Before(m.deadline):
		return transports.FailedExpired
	}
	o.out.epoch = m.epoch
	return ""
}

// drop reports what does not leave.
func (o *session) drop(m *outgoing, why string) {
	if !m.command {
		o.srv.count.messagesDropped.Add(1)
		return
	}
	o.srv.count.commandsRefused.Add(1)
	o.srv.in.Failed(o.id, m.call, why)
}

// post queues a report to the engine; mu is held. After the end of the session it runs in a goroutine of its own.
func (o *session) post(do func()) {
	if o.out.finished {
		go do()
		return
	}
	o.out.events = append(o.out.events, do)
	o.kick()
}

// kick starts the session's goroutine if it is not running; mu is held.
func (o *session) kick() {
	if o.out.working || o.out.finished {
		return
	}
	o.out.working = true
	go func() {
		for do := o.nextWork(); do != nil; do = o.nextWork() {
			do()
		}
	}()
}

// nextWork is what is to be done next, nil if there is nothing, and then the goroutine ends.
func (o *session) nextWork() func() {
	o.mu.Lock()
	defer o.mu.Unlock()
	q := &o.out
	if len(q.events) > 0 {
		do := q.events[0]
		q.events = q.events[1:]
		return do
	}
	if o.ended && !q.finished {
		q.finished = true
		return o.finish
	}
	for i := 0; !o.ended && q.inflight == nil && i < len(q.queue); i++ {
		m := q.queue[i]
		ob := o.observer(m)
		if ob != nil && !ob.ready {
			continue // its observation was not answered yet; those of the other one may go
		}
		q.queue = append(q.queue[:i:i], q.queue[i+1:]...)
		q.bytes -= m.size()
		if why := o.unfit(m, time.Now()); why != "" {
			return func() { o.drop(m, why) }
		}
		q.inflight = m
		ob.seq = (ob.seq + 1) & 0xffffff
		seq := ob.seq
		return func() { o.transmit(m, ob, seq) }
	}
	q.working = false
	return nil
}

// observer is who gets m; mu is held.
func (o *session) observer(m *outgoing) *observation {
	if m.command {
		return o.rpc
	}
	return o.attrs
}

// transmit writes a notification and reports it.
func (o *session) transmit(m *outgoing, ob *observation, seq uint32) {
	ep := ob.ep
	a := response{payload: m.payload, format: ob.format, observe: int64(seq), code: codes.Content}
	rest := ep.split(&a, ob.key, ob.szx, func() { o.fetched(m) })
	if a.code != codes.Content { // there is no memory for the rest
		o.refuse(m, transports.FailedQueueFull)
		return
	}
	mid := ep.nextMID()
	over := func(how outcome, at time.Time) {
		o.mu.Lock()
		o.post(func() { o.settled(m, ob, how, at) })
		o.mu.Unlock()
	}
	confirmable := ob.confirmable || ep.quiet(o.srv.cfg.ProbeAfter)
	o.mu.Lock()
	m.fetching, m.arrived = rest, !confirmable
	if confirmable {
		m.exchange = &exchange{ep: ep, mid: mid, packet: encode(message.Confirmable, mid, ob.token, &a), from: ob.from, deadline: m.deadline, over: over}
	}
	gone := o.out.inflight != m // a newer attempt is there already
	o.mu.Unlock()
	if gone {
		return
	}
	o.order.Lock()
	defer o.order.Unlock()
	at := time.Now()
	if confirmable {
		m.exchange.begin()
	} else if err := ep.sendLoose(ob.from, mid, encode(message.NonConfirmable, mid, ob.token, &a), over); err != nil {
		o.refuse(m, transports.FailedGone)
		return
	}
	if m.command {
		o.srv.count.commandsWritten.Add(1)
		o.srv.in.Written(o.id, m.call, m.attempt, at, confirmable)
	}
	o.release(m)
}

// refuse reports a message that could not be written and makes way for the next.
func (o *session) refuse(m *outgoing, why string) {
	o.mu.Lock()
	if o.out.inflight == m {
		o.out.inflight = nil
	}
	o.mu.Unlock()
	o.drop(m, why)
}

// settled handles the end of a notification's exchange.
func (o *session) settled(m *outgoing, ob *observation, how outcome, at time.Time) {
	switch how {
	case acked:
		if m.command {
			o.srv.in.Acknowledged(o.id, m.call, transports.EvidenceCoAPAck, at)
		}
		o.mu.Lock()
		m.arrived = true
		ob.silent = time.Time{}
		o.mu.Unlock()
	case reset:
		if m.command {
			o.srv.in.Failed(o.id, m.call, failedReset)
		}
		o.lose(ob, "the device cancelled its observation")
	case silent:
		if m.command {
			o.srv.in.Failed(o.id, m.call, failedSilent)
		}
		o.lose(ob, "the device does not answer")
	case late: // the engine knows the deadline, too
		o.mu.Lock()
		m.arrived, m.fetching = true, false
		if ob.silent.IsZero() {
			ob.silent = at
		}
		lost := at.Sub(ob.silent) > o.srv.cfg.patience()
		o.mu.Unlock()
		if lost {
			o.lose(ob, "the device does not answer")
		}
	}
	o.release(m)
}

// patience is how long a confirmable message without a deadline is tried: MAX_TRANSMIT_WAIT without the random factor (RFC 7252,
// section 4.8.2).
func (c Config) patience() time.Duration { return c.AckTimeout * (1<<(c.MaxRetransmit+1) - 1) }

// fetched: the device has the rest of m, or has given it up.
func (o *session) fetched(m *outgoing) {
	o.mu.Lock()
	m.fetching = false
	o.mu.Unlock()
	o.release(m)
}

// release makes way for the next message when m has arrived.
func (o *session) release(m *outgoing) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.out.inflight == m && m.arrived && !m.fetching {
		o.out.inflight = nil
		o.kick()
	}
}

// reply hands on the device's answer to a call. It is not told before the command is reported as written, and it ends the wait for
// the acknowledgement: who answers a command has it.
func (o *session) reply(wire int32, payload []byte, done func(error)) {
	o.order.Lock()
	defer o.order.Unlock()
	o.mu.Lock()
	if m := o.out.inflight; m != nil && m.command && m.wire == wire {
		m.abandon()
		m.arrived, m.fetching = true, false
		o.out.inflight = nil
		o.kick()
	}
	o.mu.Unlock()
	o.srv.in.Reply(o.id, wire, payload, done)
}
