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
}

// DefaultConfig are the defaults; BatchEvents as measured best: larger transactions only add latency.
func DefaultConfig() Config {
	return Config{Node: "node", Partitions: 64, ClientTimeout: 60 * time.Second, BatchEvents: 400, Linger: 50 * time.Millisecond}
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

	sessions *sessions
	waiters  *waiters
	open     sync.Map // call id → openPlace, of the open light calls
	feed     *feed
	bodies   *generations[uuid.UUID, rpc.Body]
	aside    *aside

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
		config: c, store: store, inbox: inbox, directory: d, log: log, metrics: m, now: time.Now,
		sessions: newSessions(), waiters: newWaiters(), feed: newFeed(c.Partitions), bodies: newGenerations[uuid.UUID, rpc.Body](bodyCacheBytes),
	}
	e.aside = newAside(e)
	m.watch(e)
	e.unready("the partitions are being loaded")
	return e
}

func (e *Engine) unready(why string) { e.ready.Store(&why) }

// Ready lists why the engine is not ready; empty when it is.
func (e *Engine) Ready() []string {
	if why := e.ready.Load(); why != nil {
		return []string{*why}
	}
	return nil
}

// Run claims the partitions, recovers what is open, and works until ctx ends. Then it commits what it has, answers those who
// wait with ErrStopping, and returns.
func (e *Engine) Run(ctx context.Context) error {
	o := newOwner(e)
	if err := o.claim(ctx); err != nil {
		return fmt.Errorf("claiming the partitions: %w", err)
	}
	e.ready.Store(nil)
	stop := e.aside.start()
	defer stop()
	err := o.run(ctx)
	e.unready("the server is shutting down")
	return err
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

// put hands a command to its owner.
func (e *Engine) put(lane bus.Lane, partition int32, vital bool, cmd step.Command, done func(error)) error {
	err := e.inbox.Put(bus.Message{Partition: partition, Lane: lane, Key: cmd.Device, Value: cmd, Vital: vital, Done: done})
	switch {
	case errors.Is(err, bus.ErrFull):
		e.metrics.inboxFull.Inc()
		return ErrBusy
	case err != nil:
		return ErrStopping
	}
	return nil
}
