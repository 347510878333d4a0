package httpdevice

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"callchain/transports"
	"callchain/transports/internal/devicejson"
)

// kind is what a poll waits for.
type kind uint8

const (
	forCalls kind = iota
	forUpdates
	kinds
)

// answer is what a request that waited is answered with.
type answer struct {
	status   int
	body     []byte // JSON, or a plain text
	plain    bool
	err      error     // instead of all that: why the engine did not take it
	delivery *delivery // the call in body, for the poll whose response is the proof
	trace    string    // W3C traceparent of the call
}

// timeOver is what ThingsBoard answers to a poll whose time is over, and to one that is ended.
var timeOver = answer{status: 408}

// unauthorized is the answer to a poll with credentials that have changed since they were checked.
var unauthorized = answer{status: 401}

// deleted is ThingsBoard's answer to what waits for a device that is deleted.
var deleted = answer{status: 403, body: []byte("Device was deleted!"), plain: true}

// poll is a request that waits.
type poll struct {
	kind   kind
	result chan answer // holds one
}

// delivery is a call on its way out.
type delivery struct {
	session uuid.UUID
	command transports.Command
	done    chan struct{} // closed when the engine knows what became of it
}

// device is one that polls. Its session lives across polls and ends Linger after the last; within it the engine is asked for a
// subscription only when the one before may be used up, so that polls which bring nothing cost nothing.
type device struct {
	s        *Server
	identity transports.Identity
	remote   string

	mu      sync.Mutex     // never held during a call to the engine or to the network
	session uuid.UUID      // uuid.Nil: none
	open    bool           // the engine has accepted the session
	spent   bool           // the next poll for calls has to subscribe
	asked   time.Time      // when it was subscribed last
	epoch   int64          // newest seen
	waiting [kinds][]*poll // oldest first
	leaving map[int32]*delivery
	idle    *time.Timer
}

// join adds a poll of a device, or fails because the server is stopping.
func (s *Server) join(id transports.Identity, remote string, k kind) (*device, *poll, bool) {
	s.mu.Lock()
	if s.stopped {
		s.mu.Unlock()
		return nil, nil, false
	}
	d := s.devices[id.Device]
	if d == nil {
		d = &device{s: s, leaving: map[int32]*delivery{}}
		d.idle = time.AfterFunc(time.Hour, d.rest)
		s.devices[id.Device] = d
	}
	d.mu.Lock()
	s.mu.Unlock()
	p := &poll{kind: k, result: make(chan answer, 1)}
	if id.Credentials < d.identity.Credentials {
		p.result <- unauthorized
		d.mu.Unlock()
		return d, p, true
	}
	revoked := d.renew(id)
	d.remote = remote
	d.idle.Stop()
	d.waiting[k] = append(d.waiting[k], p)
	if len(d.waiting[k]) > s.cfg.DevicePolls {
		d.waiting[k][0].result <- timeOver
		d.waiting[k] = slices.Delete(d.waiting[k], 0, 1)
	}
	act := d.due()
	d.mu.Unlock()
	if revoked != uuid.Nil {
		s.in.Disconnect(revoked, string(transports.ReasonCredentials))
	}
	act()
	return d, p, true
}

// renew takes over who the device is. What it began with older credentials ends: who polls with them may be somebody else. The lock is held.
func (d *device) renew(id transports.Identity) (revoked uuid.UUID) {
	if id.Credentials > d.identity.Credentials {
		d.answerAll(timeOver)
		revoked = d.drop()
	}
	d.identity = id
	return revoked
}

// due is what the engine has to be told because of the polls that wait. The lock is held; the function returned is called without.
func (d *device) due() func() {
	id := d.session
	switch {
	case len(d.waiting[forCalls])+len(d.waiting[forUpdates]) == 0:
	case id == uuid.Nil:
		return d.opens()
	case len(d.leaving) > 0: // what becomes of it is told first, or the call would be sent again
	case d.open && len(d.waiting[forCalls]) > 0 && (d.spent || time.Since(d.asked) > d.s.cfg.Renewal):
		d.spent, d.asked = false, time.Now()
		return func() { d.s.in.Subscribe(id, func(err error) { d.subscribed(id, err) }) }
	}
	return func() {}
}

// opens begins a session. The lock is held.
func (d *device) opens() func() {
	id := uuid.New()
	d.session, d.open, d.spent = id, false, true
	d.s.count.sessions.Add(1)
	session := transports.Session{
		ID: id, Identity: d.identity, Transport: transports.HTTP, Remote: d.remote, Link: link{d, id}, Once: true,
	}
	return func() { d.s.in.Connect(session, func(err error) { d.connected(id, err) }) }
}

// drop forgets the session. The lock is held.
func (d *device) drop() (was uuid.UUID) {
	was = d.session
	if was != uuid.Nil {
		d.session, d.open = uuid.Nil, false
		d.s.count.sessions.Add(-1)
	}
	return was
}

func (d *device) connected(id uuid.UUID, err error) {
	d.mu.Lock()
	if d.session != id {
		d.mu.Unlock()
		return
	}
	act := func() {}
	if err != nil {
		d.drop()
		d.answerAll(answer{err: err})
	} else {
		d.open = true
		act = d.due()
	}
	d.mu.Unlock()
	act()
}

// subscribed hears what became of a subscription. Without the session the polls wait on: another connection of the device has taken
// its place, and to end them would only make them come again and take it back.
func (d *device) subscribed(id uuid.UUID, err error) {
	if err == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.session != id {
		return
	}
	d.spent = true
	if !errors.Is(err, transports.ErrBusy) {
		d.drop()
		return
	}
	for _, p := range d.waiting[forCalls] {
		p.result <- answer{err: err}
	}
	d.waiting[forCalls] = nil
}

// answerAll ends all polls. The lock is held.
func (d *device) answerAll(a answer) {
	for k, list := range d.waiting {
		for _, p := range list {
			p.result <- a
		}
		d.waiting[k] = nil
	}
}

// leave takes a poll off that waits no longer. If it was answered at the last moment, late has the answer.
func (d *device) leave(p *poll) (late answer, answered bool) {
	d.mu.Lock()
	i := slices.Index(d.waiting[p.kind], p)
	if i >= 0 {
		d.waiting[p.kind] = slices.Delete(d.waiting[p.kind], i, i+1)
	}
	d.mu.Unlock()
	if i >= 0 {
		return timeOver, false
	}
	return <-p.result, true
}

// left is told of each poll that has its answer.
func (d *device) left() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.waiting[forCalls])+len(d.waiting[forUpdates]) == 0 {
		d.idle.Reset(d.s.cfg.Linger)
	}
}

// rest ends the session of a device that has not come back.
func (d *device) rest() {
	d.s.mu.Lock()
	d.mu.Lock()
	var was uuid.UUID
	if len(d.waiting[forCalls])+len(d.waiting[forUpdates]) == 0 {
		was = d.drop()
		if d.s.devices[d.identity.Device] == d {
			delete(d.s.devices, d.identity.Device)
		}
	}
	d.mu.Unlock()
	d.s.mu.Unlock()
	if was != uuid.Nil {
		d.s.in.Disconnect(was, "no poll came")
	}
}

// end ends polls and session because the server stops.
func (d *device) end(why string) {
	d.mu.Lock()
	d.idle.Stop()
	d.answerAll(timeOver)
	was := d.drop()
	d.mu.Unlock()
	if was != uuid.Nil {
		d.s.in.Disconnect(was, why)
	}
}

// give hands a command to the polls that wait for calls: each gets it, as with ThingsBoard, and the newest proves that it was taken.
// Without a poll the command is left to the engine, which sends it again at the next subscription. It returns why the command must
// never leave, or nothing.
func (d *device) give(session uuid.UUID, c transports.Command) (refused string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.session != session:
		return transports.FailedGone
	case c.Epoch < d.epoch:
		return transports.FailedStale
	}
	d.epoch, d.spent = c.Epoch, true
	if passed(c.Deadline) {
		return transports.FailedExpired
	}
	polls := d.waiting[forCalls]
	if len(polls) == 0 {
		return ""
	}
	d.waiting[forCalls] = nil
	a := answer{status: 200, body: devicejson.NumberedCommand(c.Wire, c.Method, c.Params), trace: c.Trace}
	for _, p := range polls[:len(polls)-1] {
		p.result <- a
	}
	a.delivery = &delivery{session: session, command: c, done: make(chan struct{})}
	d.leaving[c.Wire] = a.delivery
	polls[len(polls)-1].result <- a
	return ""
}

// passed tells whether a deadline is over; the zero time is none.
func passed(deadline time.Time) bool { return !deadline.IsZero() && !time.Now().Before(deadline) }

// again subscribes once more for polls that still wait.
func (d *device) again() {
	d.mu.Lock()
	act := d.due()
	d.mu.Unlock()
	act()
}

// reported is told when the engine knows what became of a delivery. A poll that came meanwhile asks for the next call.
func (d *device) reported(one *delivery) {
	d.mu.Lock()
	if d.leaving[one.command.Wire] == one {
		delete(d.leaving, one.command.Wire)
	}
	close(one.done)
	act := d.due()
	d.mu.Unlock()
	act()
}

// underWay is the delivery of a call that is being written now, or nil.
func (s *Server) underWay(id uuid.UUID, wire int32) *delivery {
	s.mu.Lock()
	d := s.devices[id]
	s.mu.Unlock()
	if d == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.leaving[wire]
}
