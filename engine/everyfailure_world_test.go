package engine_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"callchain/engine"
	"callchain/engine/bus"
	"callchain/engine/bus/local"
	"callchain/engine/bus/memory"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/engine/wire"
	"callchain/eventstore"
	"callchain/eventstore/memstore"
	"callchain/transports"

	"github.com/google/uuid"
)

// world is an installation in which one operation fails: processes that come again when they crash, devices that connect again, and users who ask again.
type world struct {
	t        *testing.T
	scenario *scenario
	faults   faults
	disk     *memstore.Store
	brokers  *memory.Cluster // nil: the inbox is in the process
	began    time.Time
	outside  sync.WaitGroup // devices and users
	left     chan struct{}  // closed when they are to go
	running  sync.WaitGroup // processes
	over     chan struct{}  // closed when they are to end
	devices  []*worldDevice
	users    []*user

	published [partitions]int64 // events of each partition that were published

	mu        sync.Mutex
	processes []*process // by number; those that were replaced are not in it
}

func newWorld(t *testing.T, s *scenario, durable bool, plan *fault) *world {
	w := &world{
		t: t, scenario: s, disk: memstore.New(), began: time.Now(), left: make(chan struct{}), over: make(chan struct{}),
		faults: faults{count: map[string]int{}, reads: map[string]bool{}, plan: plan},
	}
	count := 1
	if durable {
		w.brokers = memory.New(partitions, wire.Codec{})
		count = cmp.Or(s.processes, 1)
	}
	w.observe()
	w.processes = make([]*process, count)
	for i := range count {
		w.begin(i)
	}
	return w
}

// end ends everybody, and fails if somebody does not end.
func (w *world) end() {
	close(w.left)
	w.outside.Wait()
	<-time.After(3 * time.Second) // the ends of the sessions are published
	close(w.over)
	w.running.Wait()
	if w.brokers != nil {
		w.brokers.Close()
	}
}

// pause waits; false: devices and users are to go.
func (w *world) pause(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-w.left:
		return false
	}
}

// process is one process of the world.
type process struct {
	*rig
	w      *world
	number int
	place  *memory.Node // nil: the inbox is in the process
	dead   atomic.Bool
	serves atomic.Bool     // its listeners are open: the server opens them when the engine is ready
	lives  context.Context //nolint:containedctx // ends when it dies
	die    context.CancelFunc
}

// crash ends a process as a power cut does.
func (p *process) crash() {
	if p.dead.CompareAndSwap(false, true) {
		if p.place != nil {
			p.place.Kill()
		}
		p.die()
	}
}

// begin starts a process. When it has crashed, or cannot begin, the next one takes its place.
func (w *world) begin(number int) {
	p := &process{w: w, number: number}
	p.lives, p.die = context.WithCancel(context.Background())
	var inbox bus.Inbox = local.New(waitMost)
	name := fmt.Sprint("node-", number)
	if w.brokers != nil {
		p.place = w.brokers.Node(name)
		inbox = p.place.Inbox()
	}
	p.rig = unstarted(w.t, w.disk.Open(), faultyInbox{inbox, p})
	p.rig.node, p.over = name, func(s eventstore.Store) eventstore.Store { return faultyStore{s, p} }
	p.chain = compiled(w.t, w.scenario.chain)
	p.info = func(uuid.UUID) step.Info {
		return step.Info{Name: "d", Type: "default", Chain: p.chain, Settings: w.scenario.settings()}
	}
	p.directory = faultyDirectory{directory{p.rig}, p}
	if p.place != nil {
		p.group, p.topics = p.place.Group(), faultyTopics{p.place.Topics(), p}
	}
	ended := p.run()
	w.mu.Lock()
	w.processes[number] = p
	w.mu.Unlock()
	w.running.Go(func() { w.supervise(p, ended) })
	w.running.Go(p.listen)
}

// listen waits until the engine is ready.
func (p *process) listen() {
	for len(p.engine.Ready()) > 0 {
		select {
		case <-time.After(2 * time.Millisecond):
		case <-p.lives.Done():
			return
		case <-p.w.over:
			return
		}
	}
	p.serves.Store(true)
}

// supervise waits for the end of a process, and begins the next.
func (w *world) supervise(p *process, ended <-chan struct{}) {
	select {
	case <-p.lives.Done():
		_ = p.stop() // nobody hears what it says
	case <-ended:
		p.crash()
	case <-w.over:
		if err := p.stop(); err != nil {
			w.t.Errorf("%s ends with %v", p.rig.node, err)
		}
		return
	}
	select {
	case <-time.After(200 * time.Millisecond):
	case <-w.over:
		return
	}
	w.begin(p.number)
	w.faults.over()
}

// at is a process that lives, beginning with a number; nil: none does now.
func (w *world) at(number int) *process {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.processes {
		if p := w.processes[(number+i)%len(w.processes)]; !p.dead.Load() {
			return p
		}
	}
	return nil
}

// worldDevice is a device that connects again when it loses its session, and sends an answer again until it is acknowledged.
type worldDevice struct {
	w     *world
	name  string
	id    uuid.UUID
	at    int // the process that it prefers
	react func(*link, transports.Command)

	mu      sync.Mutex
	current *link                         // nil: it is not connected
	got     map[int32]int                 // how often a call came, by wire id
	did     map[uuid.UUID]map[string]bool // evidence that it gave, by call
	pending map[int32][]byte              // answers that are not acknowledged, by wire id
	replies map[int32]string              // to its own calls
}

// device connects a device after a while.
func (w *world) device(name string, after time.Duration, react func(*link, transports.Command)) *worldDevice {
	d := &worldDevice{
		w: w, name: name, id: named(name), at: len(w.processes) - 1, react: react,
		got: map[int32]int{}, did: map[uuid.UUID]map[string]bool{}, pending: map[int32][]byte{}, replies: map[int32]string{},
	}
	w.devices = append(w.devices, d)
	w.outside.Go(func() {
		for again := w.pause(after); again; again = w.pause(100 * time.Millisecond) {
			if p := w.at(d.at); p != nil && p.serves.Load() {
				d.connect(p)
			}
		}
	})
	return d
}

// link is a connection of a device.
type link struct {
	d       *worldDevice
	p       *process
	session uuid.UUID
	queue   chan transports.Command
	ended   chan struct{}
	once    sync.Once
}

func (l *link) end() { l.once.Do(func() { close(l.ended) }) }

// connect holds a session until its end.
func (d *worldDevice) connect(p *process) {
	l := &link{d: d, p: p, session: uuid.New(), queue: make(chan transports.Command, 100), ended: make(chan struct{})}
	in := p.engine.Inbound()
	defer func() {
		l.end()
		if !p.dead.Load() {
			in.Disconnect(l.session, "closed")
		}
	}()
	session := transports.Session{
		ID: l.session, Identity: transports.Identity{Tenant: tenant, Device: d.id, Partition: int32(d.id[15]) % partitions}, Transport: "mqtt", Link: l,
	}
	if l.await("connect", func(done func(error)) { in.Connect(session, done) }) != nil {
		return
	}
	if l.await("subscribe", func(done func(error)) { in.Subscribe(l.session, done) }) != nil {
		return
	}
	d.mu.Lock()
	d.current = l
	for wireID, body := range d.pending {
		l.d.w.outside.Go(func() { l.reply(wireID, body) })
	}
	d.mu.Unlock()
	for {
		select {
		case c := <-l.queue:
			d.w.outside.Go(func() { d.react(l, c) })
		case <-l.ended:
			return
		case <-p.lives.Done():
			return
		case <-d.w.left:
			return
		}
	}
}

// outcomeMost is how long the engine may take to answer a device.
const outcomeMost = time.Minute

// await waits until the engine has answered, once.
func (l *link) await(what string, begin func(done func(error))) error {
	outcome := make(chan error, 2)
	begin(func(err error) { outcome <- err })
	select {
	case err := <-outcome:
		select {
		case <-outcome:
			l.d.w.t.Errorf("%s of %s: done is called twice", what, l.d.name)
		default:
		}
		return err
	case <-l.p.lives.Done():
		return errPower
	case <-l.ended:
		return errIO
	case <-l.d.w.left:
		return errIO
	case <-time.After(outcomeMost):
		l.d.w.t.Errorf("%s of %s has no outcome after %s", what, l.d.name, outcomeMost)
		return errIO
	}
}

// take gives the device a command.
func (l *link) take(c transports.Command) {
	select {
	case l.queue <- c:
	case <-l.ended:
	}
}

// Close implements transports.Link.
func (l *link) Close(transports.Reason) { l.end() }

// AnswerAttributes and PushAttributes implement transports.Link.
func (l *link) AnswerAttributes(transports.AttributesAnswer) {}
func (l *link) PushAttributes(map[string][]byte, []string)   {}

// count is how often the device has got a call, with this time.
func (l *link) count(c transports.Command) int {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	l.d.got[c.Wire]++
	return l.d.got[c.Wire]
}

// proves notes evidence that the device gives.
func (l *link) proves(call uuid.UUID, evidence string) {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	if l.d.did[call] == nil {
		l.d.did[call] = map[string]bool{}
	}
	l.d.did[call][evidence] = true
}

// written says that a command has left; ack: its acknowledgement is to follow.
func (l *link) written(c transports.Command, ack bool) {
	if !ack {
		l.proves(c.Call, transports.EvidenceWritten)
	}
	l.p.engine.Inbound().Written(l.session, c.Call, c.Attempt, time.Now(), ack)
}

func (l *link) acknowledge(c transports.Command) {
	l.proves(c.Call, transports.EvidencePuback)
	l.p.engine.Inbound().Acknowledged(l.session, c.Call, transports.EvidencePuback, time.Now())
}

// answer answers a call.
func (l *link) answer(c transports.Command) {
	l.proves(c.Call, transports.EvidenceAnswer)
	body := fmt.Appendf(nil, `"answer to %s"`, c.Call)
	l.d.mu.Lock()
	l.d.pending[c.Wire] = body
	l.d.mu.Unlock()
	l.reply(c.Wire, body)
}

// reply sends an answer until it is acknowledged or the session ends; the next session goes on with it.
func (l *link) reply(wireID int32, body []byte) {
	for {
		select {
		case <-l.ended:
			return
		case <-l.p.lives.Done():
			return
		default:
		}
		if err := l.await("reply", func(done func(error)) { l.p.engine.Inbound().Reply(l.session, wireID, body, done) }); err == nil {
			l.d.mu.Lock()
			delete(l.d.pending, wireID)
			l.d.mu.Unlock()
			return
		}
		if !l.d.w.pause(100 * time.Millisecond) {
			return
		}
	}
}

// responded notes the answer to the device's own call.
func (d *worldDevice) responded(r transports.Response) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.replies[r.Request] = string(r.Body)
}

// calls makes a call of the device as soon as it is connected, until it is acknowledged.
func (d *worldDevice) calls(request int32, method string) {
	d.w.outside.Go(func() {
		for d.w.pause(50 * time.Millisecond) {
			d.mu.Lock()
			l := d.current
			d.mu.Unlock()
			if l == nil {
				continue
			}
			if l.await("call", func(done func(error)) { l.p.engine.Inbound().Call(l.session, request, method, nil, done) }) == nil {
				return
			}
		}
	})
}

// user asks for a call, and asks again with the same id as long as the outcome is not known.
type user struct {
	w       *world
	request engine.CallRequest
	ended   chan struct{}
	result  engine.CallResult
	err     error
}

// user asks for a call of 20 seconds after a while.
func (w *world) user(call string, after time.Duration, change func(*engine.CallRequest)) *user {
	u := &user{w: w, ended: make(chan struct{})}
	u.request = engine.CallRequest{ID: named(call), Chosen: true, Tenant: tenant, Device: named("d1"), Method: call, Actor: "user"}
	change(&u.request)
	w.users = append(w.users, u)
	w.outside.Go(func() {
		defer close(u.ended)
		if !w.pause(after) {
			return
		}
		u.request.Expires = time.Now().Add(callFor)
		for u.ask() && w.pause(100*time.Millisecond) {
		}
	})
	return u
}

// callFor is how long the calls of users may take.
const callFor = 20 * time.Second

// ask asks once; true: it must be asked again.
func (u *user) ask() bool {
	p := u.w.at(0)
	if p == nil {
		return true
	}
	u.result, u.err = p.engine.Call(p.lives, u.request)
	return u.w.again(u.err)
}

// again reports whether something must be asked again.
func (w *world) again(err error) bool {
	for _, one := range []error{engine.ErrBusy, engine.ErrUnready, engine.ErrUncertain, engine.ErrStopping, errIO, errPower, context.Canceled} {
		if errors.Is(err, one) {
			return true
		}
	}
	return false
}

// cancels cancels a call after a while.
func (w *world) cancels(call string, after time.Duration) {
	w.outside.Go(func() {
		for again := w.pause(after); again; again = w.pause(100 * time.Millisecond) {
			p := w.at(0)
			if p == nil {
				continue
			}
			err := p.engine.Cancel(p.lives, tenant, named(call), "user")
			var refusal *rpc.Refusal
			if errors.As(err, &refusal) && refusal.Code == rpc.CodeUnknown {
				continue // it is not stored yet
			}
			if !w.again(err) {
				return
			}
		}
	})
}

// crashes lets the process that owns the partition of a device crash after a while.
func (w *world) crashes(device string, after time.Duration) {
	w.outside.Go(func() {
		if !w.pause(after) {
			return
		}
		checkpoints, err := w.disk.Open().Checkpoints(context.Background())
		if err != nil {
			w.t.Error(err)
			return
		}
		for _, cp := range checkpoints {
			if cp.Partition != int32(named(device)[15])%partitions {
				continue
			}
			for i := range w.processes {
				if p := w.at(i); p != nil && p.rig.node == cp.Node {
					p.crash()
					return
				}
			}
		}
	})
}
