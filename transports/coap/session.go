package coap

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/plgd-dev/go-coap/v3/message/codes"

	"callchain/transports"
)

// presence is what a device has here: a session while it observes, and a secondary one for what it only sends. The server's mu guards it.
type presence struct {
	opening   *session // the newest that the engine has not judged yet
	observing *session // the newest that the engine accepted
	secondary *session
}

// session is one session of a device in the engine. One goroutine at a time, which runs while there is something to do, writes to
// the device and reports to the engine, so that reports come in order.
type session struct {
	srv       *Server
	id        uuid.UUID
	identity  transports.Identity
	secondary bool
	ready     chan struct{} // closed when the engine has judged the session, and who opened it has made use of that
	err       error         // its judgement, once ready
	gone      chan struct{} // closed when the session has ended and the engine was told

	order sync.Mutex // held while a command is written and reported: the device's answer to it waits

	// Held while a device is answered that it observes, so that the end of the session finds it an observer, who is told of the end. The
	// engine's goroutines take it: it is never held during a call to the engine.
	greeting sync.Mutex

	mu      sync.Mutex // never held during a call to the engine or to the network
	ended   bool
	refused bool // the engine did not take it
	why     string
	code    codes.Code // told to who observes
	rpc     *observation
	attrs   *observation
	out     outbound
	pending map[int32]*pending
	request int32 // id of the device's last request
	data    int   // telemetry and attributes that the engine is working on
	used    time.Time
}

// pending is a request of the device that the engine answers through the link.
type pending struct {
	r       *request
	observe *observation // set if it is the first state of observed attributes
}

// open makes a session and lets the engine judge it; judged is called once with the outcome.
func (s *Server) open(id transports.Identity, remote string, secondary bool, judged func(*session, error)) (*session, error) {
	one := &session{
		srv: s, id: uuid.New(), identity: id, secondary: secondary, ready: make(chan struct{}), gone: make(chan struct{}), used: time.Now(),
		code: codes.ServiceUnavailable,
	}
	s.mu.Lock()
	if s.ended || len(s.sessions) >= s.cfg.MaxSessions {
		s.mu.Unlock()
		return nil, transports.ErrBusy
	}
	s.sessions[one] = struct{}{}
	if p := s.presence(id.Device); secondary {
		p.secondary = one
	} else {
		p.opening = one
	}
	s.mu.Unlock()
	s.count.sessions.Add(1)
	s.in.Connect(transports.Session{
		ID: one.id, Identity: id, Transport: transports.CoAP, Remote: remote, Link: link{one}, Secondary: secondary,
	}, func(err error) {
		one.judge(err)
		judged(one, err)
		close(one.ready)
	})
	return one, nil
}

// presence finds what a device has, or makes it; mu is held.
func (s *Server) presence(device uuid.UUID) *presence {
	p := s.devices[device]
	if p == nil {
		p = &presence{}
		s.devices[device] = p
	}
	return p
}

// judge notes whether the engine took the session.
func (o *session) judge(err error) {
	o.err = err
	if err != nil {
		o.mu.Lock()
		o.refused = true
		o.mu.Unlock()
		o.stop(err.Error())
		return
	}
	if o.secondary {
		return
	}
	o.srv.mu.Lock()
	defer o.srv.mu.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.ended {
		o.srv.presence(o.identity.Device).observing = o
	}
}

// current is the session in which the device observes here, nil if there is none. One that the engine has not judged yet is waited
// for: a device that asks for its calls and its attributes at once means one session. One on older credentials ends; false: it is on newer ones than
// these, which are void.
func (s *Server) current(id transports.Identity) (_ *session, valid bool) {
	s.mu.Lock()
	var opening *session
	if p := s.devices[id.Device]; p != nil {
		opening = p.opening
	}
	s.mu.Unlock()
	if opening != nil {
		// However it was judged, what counts is what there is now.
		_ = opening.await()
	}
	s.mu.Lock()
	p := s.devices[id.Device]
	if p == nil {
		s.mu.Unlock()
		return nil, true
	}
	if p.opening == opening {
		p.opening = nil
	}
	one := p.observing
	outdated := one != nil && one.identity.Credentials < id.Credentials
	if outdated {
		p.observing = nil
	}
	s.mu.Unlock()
	if outdated {
		link{one}.Close(transports.ReasonCredentials)
		one = nil
	}
	return one, one == nil || one.identity.Credentials == id.Credentials
}

// sessionOf finds the session for what a device sends: the one in which it observes, or a secondary one.
func (s *Server) sessionOf(id transports.Identity, remote string) (*session, error) {
	s.mu.Lock()
	p := s.presence(id.Device)
	one := p.observing
	if one == nil {
		one = p.secondary
	}
	stale := one != nil && one.identity != id && one.secondary
	if stale {
		p.secondary = nil
	}
	s.mu.Unlock()
	if stale { // the device was changed
		one.stop("the device was changed")
		one = nil
	}
	if one == nil {
		var err error
		if one, err = s.open(id, remote, true, func(*session, error) {}); err != nil {
			s.mu.Lock()
			s.tidy(id.Device)
			s.mu.Unlock()
			return nil, err
		}
	}
	if err := one.await(); err != nil {
		return nil, err
	}
	one.mu.Lock()
	one.used = time.Now()
	one.mu.Unlock()
	return one, nil
}

// await waits until the engine has judged the session.
func (o *session) await() error {
	select {
	case <-o.ready:
		return o.err
	default:
	}
	ctx, cancel := context.WithTimeout(context.Background(), o.srv.cfg.AuthTimeout)
	defer cancel()
	select {
	case <-o.ready:
		return o.err
	case <-ctx.Done():
		return errors.Join(transports.ErrBusy, ctx.Err())
	case <-o.srv.done:
		return transports.ErrBusy
	}
}

// tidy forgets a device that has no session; mu is held.
func (s *Server) tidy(device uuid.UUID) {
	if p := s.devices[device]; p != nil && p.opening == nil && p.observing == nil && p.secondary == nil {
		delete(s.devices, device)
	}
}

// stop ends the session. The first reason wins.
func (o *session) stop(why string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.stopLocked(why)
}

func (o *session) stopLocked(why string) {
	if o.ended {
		return
	}
	o.ended, o.why = true, why
	o.kick()
}

// finish ends what hangs on the session, and tells the engine; it runs once, as the last of the session's work.
func (o *session) finish() {
	s := o.srv
	s.mu.Lock()
	if p := s.devices[o.identity.Device]; p != nil {
		if p.opening == o {
			p.opening = nil
		}
		if p.observing == o {
			p.observing = nil
		}
		if p.secondary == o {
			p.secondary = nil
		}
		s.tidy(o.identity.Device)
	}
	s.mu.Unlock()
	o.greeting.Lock()
	o.mu.Lock()
	waiting := o.out.takeAll()
	inflight := o.out.inflight
	o.out.inflight = nil
	observed := []*observation{o.rpc, o.attrs}
	o.rpc, o.attrs = nil, nil
	asked := o.pending
	o.pending = nil
	refused, why, code := o.refused, o.why, o.code
	o.mu.Unlock()
	o.greeting.Unlock()
	if inflight != nil {
		inflight.abandon()
	}
	for _, m := range waiting {
		o.drop(m, transports.FailedGone)
	}
	for _, p := range asked {
		p.r.answer(busy())
	}
	for _, ob := range observed {
		ob.farewell(code)
	}
	s.count.sessions.Add(-1)
	if !refused {
		s.in.Disconnect(o.id, why)
	}
	s.mu.Lock()
	delete(s.sessions, o) // not before: the end of the server waits for those it finds here
	s.mu.Unlock()
	close(o.gone)
}

// check ends a session that nobody uses, and asks a device that was silent for long whether it is there.
func (o *session) check(now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.secondary {
		if len(o.pending) == 0 && o.data == 0 && now.Sub(o.used) > o.srv.cfg.SessionIdle {
			o.stopLocked("idle")
		}
		return
	}
	for _, ob := range []*observation{o.rpc, o.attrs} {
		if ob == nil || !ob.ready || ob.probing || o.out.inflight != nil {
			continue
		}
		ob.ep.mu.Lock()
		quiet := now.Sub(ob.ep.heard)
		ob.ep.mu.Unlock()
		if quiet > o.srv.cfg.ProbeAfter {
			ob.probing = true
			go o.probe(ob)
		}
	}
}

// ask notes a request that the engine is to answer through the link; 0: the session has ended.
func (o *session) ask(p *pending) (request int32, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		return 0, false
	}
	if o.pending == nil {
		o.pending = map[int32]*pending{}
	}
	for {
		o.request = (o.request + 1) & 0x7fffffff
		if _, used := o.pending[o.request]; !used {
			o.pending[o.request] = p
			return o.request, true
		}
	}
}

// answered takes a request out of those that wait, nil if it is not there.
func (o *session) answered(request int32) *pending {
	o.mu.Lock()
	defer o.mu.Unlock()
	p := o.pending[request]
	delete(o.pending, request)
	return p
}
