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

	incarnation string // this process: the node and a name made at its start
	sessions    *sessions
	waiters     *waiters
	judgements  *judgements
	relay       *relay   // nil without topics
	spans       *spans   // nil without tracing
	open        sync.Map // call id → openPlace, of the open light calls
	feed        *feed
	bodies      *generations[uuid.UUID, rpc.Body]
	aside       *aside

	inHand   inHand
	ready    atomic.Pointer[string] // why not ready, nil when ready
	stopping atomic.Bool
}

// openPlace is where an open light call lives; persistent ones are found by their row.
type openPlace struct {
	tenant, device uuid.UUID
	partition      int32
}

// New makes an engine; Run starts it.
func New(c Config, store eventstore.Store, inbox bus.Inbox, d Directory, m *Metrics, log *slog.Logger) *Engine {
	e := &Engine{
		config: c, store: store, inbox: inbox, directory: d, log: log, metrics: m, now: time.Now, incarnation: c.Node + "/" + newID().String(),
		sessions: newSessions(), waiters: newWaiters(), judgements: newJudgements(), feed: newFeed(c.Partitions), bodies: newGenerations[uuid.UUID, rpc.Body](bodyCacheBytes),
	}
	e.aside = newAside(e)
	m.watch(e)
	e.unready("the partitions are being loaded")
	return e
}

func (e *Engine) unready(why string) { e.ready.Store(&why) }

// Ready lists why the engine is not ready; empty when it is.
func (e *Engine) Ready() []string {
	var why []string
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

// Run claims the partitions, recovers what is open, and works until ctx ends. Then it commits what it has, answers those who
// wait with ErrStopping, and returns.
func (e *Engine) Run(ctx context.Context) error {
	o := newOwner(e)
	if err := e.begin(ctx, o); err != nil {
		return fmt.Errorf("claiming the partitions: %w", err)
	}
	e.ready.Store(nil)
	defer e.aside.start()()
	defer e.startRelay()()
	err := o.run(ctx)
	e.unready("the server is shutting down")
	return err
}

// begin claims the partitions for the first time. While the inbox has lost what was not taken, the engine stays unready, so that an
// operator can decide.
func (e *Engine) begin(ctx context.Context, o *owner) error {
	const look = 5 * time.Second
	for {
		err := o.claim(ctx)
		var lost *bus.LostError
		if !errors.As(err, &lost) {
			return err
		}
		e.unready(lost.Error())
		e.log.Error("the inbox lost messages; the partitions wait for a decision", "error", lost)
		again := time.NewTimer(look)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return err
		}
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
	if how == judged && e.inbox.Remembers() {
		id := e.judgements.await(done)
		cmd.Waiter = step.Waiter{Node: e.incarnation, ID: id}
		forget = func() { e.judgements.take(id) }
		m.Done = func(err error) {
			if err == nil {
				return // it is kept; what becomes of it, its owner tells
			}
			if tell := e.judgements.take(id); tell != nil {
				tell(e.refused(err))
			}
		}
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
