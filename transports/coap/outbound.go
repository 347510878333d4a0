package coap

import (
	"slices"
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
	// The device took the first block of a long notification and did not fetch the others.
	failedUnfetched = "coap_not_fetched"
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

	first    response  // what is sent: all of it, or its first block
	exchange *exchange // its confirmable message, once written
	arrived  bool      // acknowledged, or there is nothing to wait for
	blocks   bool      // it does not fit into one packet
	fetching bool      // the device fetches the rest of it in blocks
	replaced bool      // a newer attempt of the call took its place
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

// takeSome takes the calls out of the queue, or the attribute updates, and leaves the others.
func (q *outbound) takeSome(commands bool) (taken []*outgoing) {
	q.queue = slices.DeleteFunc(q.queue, func(m *outgoing) bool {
		if m.command == commands {
			taken = append(taken, m)
			q.bytes -= m.size()
		}
		return m.command == commands
	})
	return taken
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
		in.replaced = true
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
		if why == transports.FailedQueueFull { // else nobody observes
			o.srv.count.messagesDropped.Add(1)
		}
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
		q.queue = slices.Delete(q.queue, i, i+1)
		q.bytes -= m.size()
		if why := o.unfit(m, time.Now()); why != "" {
			return func() { o.drop(m, why) }
		}
		q.inflight = m
		return func() { o.transmit(m, ob) }
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
func (o *session) transmit(m *outgoing, ob *observation) {
	o.order.Lock()
	defer o.order.Unlock()
	ep := ob.ep
	a := response{payload: m.payload, format: ob.format, code: codes.Content}
	rest := ep.split(&a, ob.key, ob.szx, func(whole bool) { o.fetched(m, whole) })
	if a.code != codes.Content { // there is no memory for the rest
		o.refuse(m, transports.FailedQueueFull)
		return
	}
	confirmable := ob.confirmable || ep.quiet(o.srv.cfg.ProbeAfter)
	mid := ep.nextMID()
	over := func(how outcome, at time.Time) {
		o.mu.Lock()
		o.post(func() { o.settled(m, ob, how, at) })
		o.mu.Unlock()
	}
	o.mu.Lock()
	gone := o.out.inflight != m
	m.blocks, m.fetching, m.arrived = rest != nil, rest != nil, !confirmable
	m.first = a
	packet := ob.notification(m, mid, confirmable)
	if confirmable {
		m.exchange = &exchange{ep: ep, mid: mid, packet: packet, from: ob.from, deadline: m.deadline, rest: rest, over: over}
	}
	o.mu.Unlock()
	if gone {
		o.refuse(m, transports.FailedGone)
		return
	}
	at := time.Now()
	if confirmable {
		if !m.exchange.begin() {
			o.refuse(m, transports.FailedQueueFull)
			return
		}
	} else if err := ep.sendLoose(ob.from, mid, packet, over); err != nil {
		o.refuse(m, transports.FailedGone)
		return
	}
	if m.command {
		o.srv.count.commandsWritten.Add(1)
		o.srv.in.Written(o.id, m.call, m.attempt, at, confirmable || rest != nil)
	}
	o.release(m)
}

// notification encodes m, or the first block of it, with the next number of the observation. The session's mu is held.
func (ob *observation) notification(m *outgoing, mid uint16, confirmable bool) []byte {
	ob.seq = (ob.seq + 1) & 0xffffff
	a, kind := m.first, message.NonConfirmable
	a.observe = int64(ob.seq)
	if confirmable {
		kind = message.Confirmable
	}
	return encode(kind, mid, ob.token, &a)
}

// refuse reports a message that was not written and makes way for the next. Nobody waits for one that a newer attempt has replaced; else,
// if it is no longer under way, its observation has ended meanwhile.
func (o *session) refuse(m *outgoing, why string) {
	o.mu.Lock()
	replaced := m.replaced
	if o.out.inflight == m {
		o.out.inflight = nil
	} else {
		why = transports.FailedGone
	}
	o.mu.Unlock()
	if !replaced {
		o.drop(m, why)
	}
}

// settled handles the end of a notification's exchange.
func (o *session) settled(m *outgoing, ob *observation, how outcome, at time.Time) {
	if how != acked {
		o.mu.Lock()
		m.arrived, m.fetching = true, false // it makes way, also if its observation was replaced and there is nothing to lose
		o.mu.Unlock()
	}
	switch how {
	case acked:
		o.mu.Lock()
		m.arrived = true
		ob.silent = time.Time{}
		whole := !m.fetching
		o.mu.Unlock()
		if whole {
			o.proved(m, at)
		}
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

// proved reports what is known of m: the ACK of a packet proves that the device has it. Of blocks it has asked for the last one, and
// whether that has come is not known.
func (o *session) proved(m *outgoing, at time.Time) {
	if !m.command {
		return
	}
	evidence := transports.EvidenceCoAPAck
	if m.blocks {
		evidence = transports.EvidenceWritten
	}
	o.srv.in.Acknowledged(o.id, m.call, evidence, at)
}

// fetched: the device was sent all blocks of m (whole), or has given it up. An ACK tells only that the first block came.
func (o *session) fetched(m *outgoing, whole bool) {
	at := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.post(func() {
		o.mu.Lock()
		waited, acked := o.out.inflight == m && m.fetching, m.arrived
		m.fetching = false
		if waited && !whole {
			m.abandon()
			m.arrived = true
		}
		o.mu.Unlock()
		switch {
		case waited && whole && acked:
			o.proved(m, at)
		case waited && !whole && m.command:
			o.srv.in.Failed(o.id, m.call, failedUnfetched)
		}
		o.release(m)
	})
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
		if o.rpc != nil {
			o.rpc.silent = time.Time{}
		}
		o.kick()
	}
	o.mu.Unlock()
	o.srv.in.Reply(o.id, wire, payload, done)
}
