package coap

import (
	"bytes"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
	coapnet "github.com/plgd-dev/go-coap/v3/net"

	"callchain/transports"
)

// observation is a peer that observes calls or attributes (RFC 7641). The session's mu guards what changes.
type observation struct {
	ep          *endpoint
	token       []byte
	from        *coapnet.ControlMessage
	confirmable bool // notifications ask for an ACK, as the request did (ThingsBoard)
	format      message.MediaType
	szx         uint8
	key         string // of block-wise transfers

	seq     uint32 // of the last notification
	ready   bool   // the request was answered: notifications may follow
	probing bool
	owed    []*outgoing // attribute updates, while the observation is between two sessions
	silent  time.Time   // since when messages with a deadline were not acknowledged; zero: they were
}

func newObservation(r *request) *observation {
	r.ep.hold(1)
	return &observation{
		ep: r.ep, token: r.token, from: r.from, confirmable: r.confirmable, format: r.format, szx: r.options.size(), key: r.key,
	}
}

// hold keeps the endpoint while somebody observes there.
func (ep *endpoint) hold(n int) {
	ep.mu.Lock()
	ep.held += n
	ep.mu.Unlock()
	ep.srv.count.observers.Add(int64(n))
}

// quiet says whether the peer was silent for so long that it has to give a sign of life.
func (ep *endpoint) quiet(most time.Duration) bool {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	return time.Since(ep.heard) > most
}

func (ob *observation) is(r *request) bool {
	return ob != nil && ob.ep == r.ep && bytes.Equal(ob.token, r.token)
}

// farewell tells a peer that it is an observer no longer; nil is allowed.
func (ob *observation) farewell(code codes.Code) {
	if ob == nil {
		return
	}
	ob.ep.hold(-1)
	if ob.ready { // else its request is answered with the reason
		ob.lastWord(code)
	}
}

// lastWord is a notification that ends the observation.
func (ob *observation) lastWord(code codes.Code) {
	a := reply(code)
	mid := ob.ep.nextMID()
	if !ob.confirmable || code == codes.ServiceUnavailable {
		_ = ob.ep.send(ob.from, encode(message.NonConfirmable, mid, ob.token, &a)) // non-confirmable: it may be lost
		return
	}
	x := &exchange{ep: ob.ep, mid: mid, packet: encode(message.Confirmable, mid, ob.token, &a), from: ob.from, over: func(outcome, time.Time) {}}
	_ = x.begin() // who leaves so many messages unanswered does not miss this one
}

// observeCalls makes the peer the one that gets the device's calls. The same observation asked for again goes on; another one is a
// session of its own, so that the engine sends what is unanswered once more, and the older one ends.
func (s *Server) observeCalls(r *request, id transports.Identity) {
	cur, valid := s.current(id)
	if !valid {
		r.answer(reply(codes.Unauthorized))
		return
	}
	if cur != nil && cur.refresh(r) {
		return
	}
	ob := newObservation(r)
	if cur != nil && cur.adopt(ob, nil) {
		s.in.Subscribe(cur.id, cur.subscribed(r, ob))
		return
	}
	attrs := cur.yield()
	_, err := s.open(id, r.ep.key, false, func(o *session, err error) {
		if err != nil || !o.adopt(ob, attrs) {
			cur.receive(attrs)
			ob.farewell(0)
			r.answer(failure(err))
			return
		}
		s.in.Subscribe(o.id, o.subscribed(r, ob))
	})
	if err != nil {
		cur.receive(attrs)
		ob.farewell(0)
		r.answer(failure(err))
	}
}

// subscribed answers who registered for calls when the engine has judged that. Meanwhile the observation may have ended.
func (o *session) subscribed(r *request, ob *observation) func(error) {
	return func(err error) {
		o.greeting.Lock()
		defer o.greeting.Unlock()
		o.mu.Lock()
		if err == nil && o.rpc != ob {
			err = transports.ErrGone
		}
		o.mu.Unlock()
		if err != nil {
			o.lose(ob, "the engine did not take the subscription")
			r.answer(failure(err))
			return
		}
		a := reply(codes.Valid)
		a.observe = 0
		r.answer(a)
		o.begins(ob)
	}
}

// adopt gives the session an observation of calls, and one of attributes that comes with it or nil. False: it has one, or has ended.
func (o *session) adopt(ob, attrs *observation) bool {
	o.mu.Lock()
	if o.ended || o.rpc != nil {
		o.mu.Unlock()
		return false
	}
	o.rpc = ob
	o.mu.Unlock()
	o.receive(attrs)
	return true
}

// yield takes the observation of attributes out of a session that another one of the device is to replace, so that it goes on in that
// one. One that is not answered yet stays. nil is allowed.
func (o *session) yield() *observation {
	if o == nil {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	attrs := o.attrs
	if attrs == nil || !attrs.ready {
		return nil
	}
	if m := o.out.inflight; m != nil && !m.command {
		m.abandon()
		o.out.inflight = nil
		attrs.owed = append(attrs.owed, &outgoing{payload: m.payload})
	}
	attrs.owed = append(attrs.owed, o.out.takeSome(false)...)
	o.attrs = nil
	return attrs
}

// receive gives a session an observation of attributes that another one has yielded, with what it is owed; nil is allowed. If the
// session has ended, or has another one, the peer is told.
func (o *session) receive(attrs *observation) {
	if attrs == nil {
		return
	}
	o.mu.Lock()
	back := !o.ended && o.attrs == nil
	if back {
		o.attrs = attrs
		for _, m := range attrs.owed {
			o.out.queue = append(o.out.queue, m)
			o.out.bytes += m.size()
		}
		attrs.owed = nil
		o.kick()
	}
	code := o.code
	o.mu.Unlock()
	if !back {
		attrs.farewell(code)
	}
}

// refresh answers an observer that asks again with the same token; false: it is another one. A notification that is under way gets a
// newer number than the answer: the peer would acknowledge an older one and pass it over (RFC 7641, section 3.4).
func (o *session) refresh(r *request) bool {
	o.order.Lock()
	defer o.order.Unlock()
	o.mu.Lock()
	ob := o.rpc
	if o.ended || !ob.is(r) || !ob.ready {
		o.mu.Unlock()
		return false
	}
	ob.seq = (ob.seq + 1) & 0xffffff
	a := reply(codes.Valid)
	a.observe = int64(ob.seq)
	var again *exchange
	if m := o.out.inflight; m != nil && m.command && m.exchange != nil && !m.arrived && m.exchange.abandon() {
		old := m.exchange
		mid := ob.ep.nextMID()
		again = &exchange{
			ep: old.ep, mid: mid, packet: ob.notification(m, mid, true), from: ob.from, deadline: old.deadline, rest: old.rest, over: old.over,
		}
		m.exchange = again
	}
	o.mu.Unlock()
	r.answer(a)
	if again != nil && !again.begin() {
		again.over(silent, time.Now()) // it was written before, and is not sent again
	}
	return true
}

// begins lets notifications follow the answer; greeting is held since before that. An observation that ended while it was answered gets its last word now.
func (o *session) begins(ob *observation) {
	o.mu.Lock()
	held, code := o.rpc == ob || o.attrs == ob, o.code
	if held {
		ob.ready = true
		o.kick()
	}
	o.mu.Unlock()
	if !held {
		ob.lastWord(code)
	}
}

// observeAttributes makes the peer the one that is told of changed shared attributes; the first answer is their present state. The
// same observation asked for again goes on: its numbers rise, so that the peer does not take the answer for an old one.
func (s *Server) observeAttributes(r *request, id transports.Identity) {
	cur, valid := s.current(id)
	if !valid {
		r.answer(reply(codes.Unauthorized))
		return
	}
	ob := newObservation(r)
	begin := func(o *session) {
		o.mu.Lock()
		old := o.attrs
		same := old.is(r)
		if o.ended {
			old, same = ob, false
		} else {
			o.attrs = ob
		}
		if same {
			ob.seq = (old.seq + 1) & 0xffffff
		}
		o.mu.Unlock()
		if same {
			ob.ep.hold(-1)
		} else {
			old.farewell(codes.Deleted)
		}
		o.askAttributes(r, ob, []string{}, []string{""})
	}
	if cur != nil {
		begin(cur)
		return
	}
	_, err := s.open(id, r.ep.key, false, func(o *session, err error) {
		if err != nil {
			ob.farewell(0)
			r.answer(failure(err))
			return
		}
		begin(o)
	})
	if err != nil {
		ob.farewell(0)
		r.answer(failure(err))
	}
}

// deregister ends the observation that the request names by its token; another one goes on.
func (s *Server) deregister(r *request, id transports.Identity, f feature) {
	if o, valid := s.current(id); o != nil && valid {
		o.mu.Lock()
		ob := o.rpc
		if f == forAttributes {
			ob = o.attrs
		}
		match := ob.is(r)
		o.mu.Unlock()
		if match {
			o.lose(ob, "the device cancelled its observation")
		}
	}
	r.answer(reply(codes.Deleted))
}

// lose ends an observation without a word to the peer. Calls that wait for it fail; a session that nobody observes in ends.
func (o *session) lose(ob *observation, why string) {
	o.mu.Lock()
	var waiting []*outgoing
	unsubscribe := false
	switch ob {
	case o.rpc:
		o.rpc = nil
		waiting = o.out.takeSome(true)
		unsubscribe = o.attrs != nil
	case o.attrs:
		o.attrs = nil
	default:
		o.mu.Unlock()
		return // it is lost already
	}
	ob.ep.hold(-1) // before the end of the session can be seen
	if m := o.out.inflight; m != nil && m.command == (o.rpc == nil) {
		m.abandon()
		o.out.inflight = nil
	}
	if o.rpc == nil && o.attrs == nil {
		o.stopLocked(why)
	}
	for _, m := range waiting {
		o.post(func() { o.drop(m, transports.FailedGone) })
	}
	if unsubscribe {
		o.post(func() { o.srv.in.Unsubscribe(o.id, nil) })
	}
	o.mu.Unlock()
}

// probe asks a silent peer for a sign of life: a ping, which is answered with a RST.
func (o *session) probe(ob *observation) {
	mid := ob.ep.nextMID()
	over := func(how outcome, _ time.Time) {
		o.mu.Lock()
		ob.probing = false
		o.mu.Unlock()
		if how == silent {
			o.lose(ob, "the device does not answer")
		}
	}
	x := &exchange{ep: ob.ep, mid: mid, packet: bare(message.Confirmable, mid), from: ob.from, over: over}
	if !x.begin() {
		over(silent, time.Now()) // so many messages are unanswered: it is silent
	}
}
