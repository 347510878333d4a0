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
	silent  time.Time // since when messages with a deadline were not acknowledged; zero: they were
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
	if !ob.ready {
		return // its request is answered with the reason
	}
	a := reply(code)
	mid := ob.ep.nextMID()
	if !ob.confirmable || code == codes.ServiceUnavailable {
		_ = ob.ep.send(ob.from, encode(message.NonConfirmable, mid, ob.token, &a)) // non-confirmable: it may be lost
		return
	}
	x := &exchange{ep: ob.ep, mid: mid, packet: encode(message.Confirmable, mid, ob.token, &a), from: ob.from, over: func(outcome, time.Time) {}}
	x.begin()
}

// current is the session in which the device observes here, nil if there is none.
func (s *Server) current(id transports.Identity) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.devices[id.Device]; p != nil {
		return p.observing
	}
	return nil
}

// observeCalls makes the peer the one that gets the device's calls. The same observation asked for again goes on; another one is a
// session of its own, so that the engine sends what is unanswered once more, and the older one ends.
func (s *Server) observeCalls(r *request, id transports.Identity) {
	cur := s.current(id)
	if cur != nil && cur.refresh(r) {
		return
	}
	ob := newObservation(r)
	subscribed := func(o *session) func(error) {
		return func(err error) {
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
	if cur != nil && cur.adopt(ob, nil) {
		s.in.Subscribe(cur.id, subscribed(cur))
		return
	}
	_, err := s.open(id, r.ep.key, false, func(o *session, err error) {
		if err == nil && !o.adopt(ob, cur) {
			err = transports.ErrGone
		}
		if err != nil {
			ob.farewell(0)
			r.answer(failure(err))
			return
		}
		s.in.Subscribe(o.id, subscribed(o))
	})
	if err != nil {
		ob.farewell(0)
		r.answer(failure(err))
	}
}

// adopt gives the session an observation of calls, and takes that of attributes over from another session. False: it has one, or
// has ended.
func (o *session) adopt(ob *observation, from *session) bool {
	var attrs *observation
	if from != nil {
		from.mu.Lock()
		attrs, from.attrs = from.attrs, nil
		from.mu.Unlock()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if attrs != nil && o.attrs == nil {
		o.attrs = attrs
	}
	if o.ended || o.rpc != nil {
		return false
	}
	o.rpc = ob
	return true
}

// refresh answers an observer that asks again with the same token; false: it is another one.
func (o *session) refresh(r *request) bool {
	o.mu.Lock()
	ob := o.rpc
	if o.ended || !ob.is(r) || !ob.ready {
		o.mu.Unlock()
		return false
	}
	ob.seq = (ob.seq + 1) & 0xffffff
	a := reply(codes.Valid)
	a.observe = int64(ob.seq)
	o.mu.Unlock()
	r.answer(a)
	return true
}

// begins lets notifications follow the answer.
func (o *session) begins(ob *observation) {
	o.mu.Lock()
	defer o.mu.Unlock()
	ob.ready = true
	o.kick()
}

// observeAttributes makes the peer the one that is told of changed shared attributes; the first answer is their present state.
func (s *Server) observeAttributes(r *request, id transports.Identity) {
	ob := newObservation(r)
	begin := func(o *session) {
		o.mu.Lock()
		old := o.attrs
		if o.ended {
			old = ob
		} else {
			o.attrs = ob
		}
		o.mu.Unlock()
		old.farewell(codes.Deleted)
		o.askAttributes(r, ob, []string{}, []string{""})
	}
	if cur := s.current(id); cur != nil {
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
	if o := s.current(id); o != nil {
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
		waiting = o.out.takeAll()
		unsubscribe = o.attrs != nil
	case o.attrs:
		o.attrs = nil
	default:
		o.mu.Unlock()
		return // it is lost already
	}
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
	ob.ep.hold(-1)
}

// probe asks a silent peer for a sign of life: a ping, which is answered with a RST.
func (o *session) probe(ob *observation) {
	mid := ob.ep.nextMID()
	x := &exchange{ep: ob.ep, mid: mid, packet: bare(message.Confirmable, mid), from: ob.from, over: func(how outcome, _ time.Time) {
		o.mu.Lock()
		ob.probing = false
		o.mu.Unlock()
		if how == silent {
			o.lose(ob, "the device does not answer")
		}
	}}
	x.begin()
}
