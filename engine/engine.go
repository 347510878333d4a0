// Package engine is the shell around the pure step: it owns partitions, drains the inbox, appends what a step answers, and
// only then lets effects out. It performs timers, answers callers, reaches devices and tells followers of committed events.
//
// It sees contracts only (event store, bus, transports, a directory of devices); what a call or a chain means is decided in
// engine/rpc and engine/step.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"callchain/chains"
	"callchain/engine/bus"
	"callchain/engine/cluster"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/eventstore"

	"github.com/google/uuid"
)

// Directory is what the engine must know of devices and chains. It answers from memory in most cases.
type Directory interface {
	// Device is a device's row as a step needs it; ErrNoDevice if there is none.
	Device(ctx context.Context, id uuid.UUID) (Device, error)
	// Chain is the active version of a chain, nil if there is none.
	Chain(id uuid.UUID) *chains.Program
	// Pinned is one version of a chain, nil if it is gone.
	Pinned(id uuid.UUID, version int) *chains.Program
}

// ErrNoDevice: the device does not exist (any more).
var ErrNoDevice = errors.New("the device does not exist")

// Device is what the directory tells of a device.
type Device struct {
	Tenant    uuid.UUID
	Partition int32
	Info      step.Info
}

// Config are the engine's settings.
type Config struct {
	Node          string
	Partitions    int32
	ClientTimeout time.Duration // a device's call ends then
	BatchEvents   int           // a transaction holds about so many events
	Linger        time.Duration // Sent is written at the latest after this
	DeadLetters   int           // so many have a row; one more is published and counted only
	Tenant        uuid.UUID     // sees the dead letters that belong to no tenant, such as bytes that nobody can read
}

// DefaultConfig are the defaults; BatchEvents as measured best: larger transactions only add latency.
func DefaultConfig() Config {
	return Config{Node: "node", Partitions: 64, ClientTimeout: 60 * time.Second, BatchEvents: 400, Linger: 50 * time.Millisecond, DeadLetters: 100_000}
}

// Engine owns all partitions of a store in this process.
type Engine struct {
	config    Config
	store     eventstore.Store
	inbox     bus.Inbox
	directory Directory
	log       *slog.Logger
	metrics   *Metrics
	now       func() time.Time

	run         string    // of this process: a name made at its start
	incarnation string    // this process among all: the node and the run
	group       bus.Group // nil: this process owns all partitions
	assignment  *assignment
	held        held
	members     *members // nil without a group
	peers       *peers   // nil without a group
	gone        chan []string
	oneways     *generations[uuid.UUID, []string] // callers at other nodes of one-way calls that are on their way to a connection here
	begun       atomic.Bool                       // partitions were loaded once
	sessions    *sessions
	waiters     *waiters
	judgements  *judgements
	relay       *relay   // nil without topics
	spans       *spans   // nil without tracing
	open        sync.Map // call id → openPlace, of the open light calls
	feed        *feed
	bodies      *generations[uuid.UUID, rpc.Body]
	revoked     *revocations
	aside       *aside

	inHand   inHand
	ready    atomic.Pointer[string] // what is wrong, nil if nothing is
	pending  atomic.Pointer[string] // what is being loaded, nil if nothing is
	stopping atomic.Bool
}

// openPlace is where an open light call lives; persistent ones are found by their row.
type openPlace struct {
	tenant, device uuid.UUID
	partition      int32
}

// New makes an engine; Run starts it.
func New(c Config, store eventstore.Store, inbox bus.Inbox, d Directory, m *Metrics, log *slog.Logger) *Engine {
	run := newID().String()
	e := &Engine{
		config: c, store: store, inbox: inbox, directory: d, log: log, metrics: m, now: time.Now,
		run: run, incarnation: cluster.Process(c.Node, run), assignment: newAssignment(), held: make(held, c.Partitions), gone: make(chan []string, 1),
		sessions: newSessions(), waiters: newWaiters(), judgements: newJudgements(), feed: newFeed(c.Partitions), bodies: newGenerations[uuid.UUID, rpc.Body](bodyCacheBytes),
		revoked: newRevocations(),
	}
	e.oneways = newGenerations[uuid.UUID, []string](onewaysMost)
	e.aside = newAside(e)
	m.watch(e)
	e.unready("the partitions are being loaded")
	return e
}

func (e *Engine) unready(why string) { e.ready.Store(&why) }

// Ready lists why the engine is not ready; empty when it is: what this node owns is loaded, and what it needs can be reached.
func (e *Engine) Ready() []string {
	why := e.troubles()
	if p := e.pending.Load(); p != nil {
		why = append(why, *p)
	}
	return why
}

// troubles are why no new call is taken. That partitions are being loaded is no reason: their commands wait in the inbox, or go to other nodes.
func (e *Engine) troubles() (why []string) {
	if p := e.ready.Load(); p != nil {
		why = append(why, *p)
	}
	if err := e.inbox.Trouble(); err != nil {
		why = append(why, err.Error())
	}
	return why
}

// PublishTo lets committed events and dead letters out on topics. It is called before Run.
func (e *Engine) PublishTo(t bus.Topics) { e.relay = newRelay(e, t) }

// ShareWith lets this process own those partitions only that a group gives it, and serve the devices and callers of all. It is called before Run.
func (e *Engine) ShareWith(g bus.Group, t bus.Topics) {
	e.group, e.members = g, newMembers(e, t)
	e.unready("this node waits for its share of the partitions")
}

// Run claims the partitions, recovers what is open, and works until ctx ends. Then it commits what it has, answers those who
// wait with ErrStopping, and returns.
func (e *Engine) Run(ctx context.Context) error {
	o := newOwner(e)
	defer e.aside.start()()
	defer e.startRelay()()
	leave := e.takePart()
	defer leave()
	defer close(e.assignment.ended)
	err := o.run(ctx)
	e.unready("the server is shutting down")
	return err
}

// takePart joins the other nodes. Without a group, all partitions are this process's. The function returned leaves them.
func (e *Engine) takePart() (leave func()) {
	if e.group == nil {
		all := make([]int32, e.config.Partitions)
		for i := range all {
			all[i] = int32(i)
		}
		e.assignment.Assigned(all)
		return func() {}
	}
	const grace = time.Second
	ctx, cancel := context.WithCancel(context.Background())
	e.peers = newPeers(ctx, e, e.members.topics)
	var running sync.WaitGroup
	running.Go(func() { e.members.run(ctx) })
	return func() {
		last, done := context.WithTimeout(context.Background(), grace)
		defer done()
		e.peers.drain(last)
		e.members.publish(last, true)
		cancel()
		running.Wait()
		e.peers.stop()
	}
}

// startRelay begins to publish; the function returned publishes what is left, for two seconds at most.
func (e *Engine) startRelay() (stop func()) {
	if e.relay == nil {
		return func() {}
	}
	const grace = 2 * time.Second
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { e.relay.run(ctx) })
	running.Go(func() { e.relay.runLetters(ctx) })
	return func() {
		cancel()
		running.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), grace)
		defer cancel()
		running.Go(func() { drain(ctx, e.relay.publishLetters) })
		drain(ctx, e.relay.publish)
		running.Wait()
	}
}

// Stop refuses new calls and answers those who wait with ErrStopping; what was accepted goes on.
func (e *Engine) Stop() {
	e.stopping.Store(true)
	e.waiters.failAll(ErrStopping)
}

// meta is the part of a command that the sender knows; the owner stamps At.
func (e *Engine) meta(actor, cause string) rpc.Meta {
	return rpc.Meta{Occurred: rpc.At(e.now()), Actor: actor, Cause: cause}
}

// class says what the sender of a command waits for, and so how the command travels.
type class uint8

const (
	durable  class = iota // done when the command is durable
	judged                // done when the owner has judged it
	fleeting              // likewise; the command concerns a session of this process and dies with it
)

// put hands a command to its owner. forget ends the wait for its outcome, should the sender not care any more.
func (e *Engine) put(lane bus.Lane, partition int32, vital bool, how class, cmd step.Command, done func(error)) (forget func(), err error) {
	m := bus.Message{Partition: partition, Lane: lane, Key: cmd.Device, Vital: vital, Fleeting: how == fleeting, Done: done}
	forget = func() {}
	if how == fleeting && e.group != nil && !e.held.has(partition) { // its owner is at another node
		m.Fleeting = false
		if how = durable; done != nil {
			how = judged
		}
	}
	if e.group != nil {
		cmd.Waiter.Node = e.incarnation
	}
	if how == judged && e.inbox.Remembers() {
		forget = e.awaitJudgement(&cmd.Waiter, &m, done)
	}
	written := e.spans.writing(&cmd, &m, e.inbox.Remembers())
	m.Value = cmd
	err = e.inbox.Put(m)
	written(err)
	if err != nil {
		forget()
		return forget, e.refused(err)
	}
	return forget, nil
}

// awaitJudgement lets the owner of a message tell done what it made of it. That it is kept, nobody needs to know.
func (e *Engine) awaitJudgement(w *step.Waiter, m *bus.Message, done func(error)) (forget func()) {
	id := e.judgements.await(done, e.now())
	*w = step.Waiter{Node: e.incarnation, ID: id}
	m.Done = func(err error) {
		if err == nil {
			return // it is kept; what becomes of it, its owner tells
		}
		if tell := e.judgements.take(id); tell != nil {
			tell(e.refused(err))
		}
	}
	return func() { e.judgements.take(id) }
}

// putFleeting puts a message that was, or was to be, fleeting to its owner, wherever that is now.
func (e *Engine) putFleeting(m bus.Message) error {
	m.Fleeting = e.group == nil || e.held.has(m.Partition)
	if m.Fleeting || m.Done == nil {
		return e.inbox.Put(m)
	}
	var forget func()
	switch v := m.Value.(type) {
	case step.Command:
		forget = e.awaitJudgement(&v.Waiter, &m, m.Done)
		m.Value = v
	case wish:
		forget = e.awaitJudgement(&v.Waiter, &m, m.Done)
		m.Value = v
	}
	err := e.inbox.Put(m)
	if err != nil {
		forget()
	}
	return err
}

// refused is what a sender is told of an inbox that did not take its command.
func (e *Engine) refused(err error) error {
	switch {
	case errors.Is(err, bus.ErrFull):
		e.metrics.inboxFull.Inc()
		return ErrBusy
	case errors.Is(err, bus.ErrAway):
		return fmt.Errorf("%w: %w", ErrUncertain, err)
	case errors.Is(err, bus.ErrClosed):
		return ErrStopping
	case errors.Is(err, bus.ErrTooLarge):
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	return err
}
