// Package engine runs device RPC: it takes calls, drives the owner of this process's partitions, and does the I/O for it: read, append, send.
//
// It sees contracts only (event store, bus, transports, a directory of devices); what a call or a chain means is decided in engine/rpc, engine/step and
// engine/owner. See docs/architecture.md for the packages below it.
package engine

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"callchain/engine/bus"
	"callchain/engine/cluster"
	"callchain/engine/delivery"
	"callchain/engine/membership"
	"callchain/engine/observe"
	"callchain/engine/owner"
	"callchain/engine/recovery"
	"callchain/engine/relay"
	"callchain/engine/replies"
	"callchain/engine/rpc"
	"callchain/engine/submit"
	"callchain/eventstore"
	"callchain/transports"

	"github.com/google/uuid"
)

// Directory provides devices and chains.
type Directory interface {
	recovery.Registry
	// Cached is the row of a device from memory, false if it must be read with Device.
	Cached(device uuid.UUID) (owner.Device, bool)
	// Chain is the active version of a chain, nil if there is none. It answers from memory.
	Chain(id uuid.UUID) *owner.Program
}

// Config are the engine's settings.
type Config struct {
	Node          string
	Partitions    int32
	ClientTimeout time.Duration // a device's call ends then
	BatchEvents   int           // an append has about so many events
	Linger        time.Duration // the longest time until the fact is stored that a command left for its device
	DeadLetters   int           // bounds the rows of dead letters; beyond it they are only published and counted
	Tenant        uuid.UUID     // sees the dead letters that belong to no tenant, such as bytes that cannot be decoded
}

// DefaultConfig are the defaults. Measurements chose BatchEvents: larger transactions only add latency.
func DefaultConfig() Config {
	return Config{Node: "node", Partitions: 64, ClientTimeout: 60 * time.Second, BatchEvents: 400, Linger: 50 * time.Millisecond, DeadLetters: 100_000}
}

// Deps are the engine's dependencies.
type Deps struct {
	Store     eventstore.Store
	Inbox     bus.Inbox
	Directory Directory
	Topics    bus.Topics       // for committed events and dead letters; nil: they are not published
	Group     bus.Group        // assigns the partitions to nodes, with Topics; nil: all are this process's
	Tracing   *observe.Tracing // nil: no spans are made
	Metrics   *observe.Metrics
	Log       *slog.Logger
}

// Engine owns partitions of a store in this process, and serves devices and callers of all.
type Engine struct {
	config Config
	Deps

	sender   *submit.Sender
	callers  *replies.Callers
	delivery *delivery.Delivery
	members  *membership.Membership // nil: there are no other nodes
	relay    *relay.Relay           // nil without topics
	tracer   *observe.Tracer        // nil without tracing
	reader   *recovery.Reader
	feed     *feed
	share    *share

	oldest   [bus.Lanes]atomic.Int64 // rpc.Instant of the oldest command that the owner has taken and not stored, 0 if there is none
	status   atomic.Pointer[owner.Status]
	stopping atomic.Bool
}

// New makes an engine; Run starts it.
func New(c Config, deps Deps) *Engine {
	run := newID().String()
	process := cluster.Process(c.Node, run)
	e := &Engine{
		config: c, Deps: deps, callers: replies.NewCallers(), feed: newFeed(c.Partitions), share: newShare(),
		reader: &recovery.Reader{Store: deps.Store, Registry: deps.Directory},
	}
	if deps.Tracing != nil {
		e.tracer = observe.NewTracer(*deps.Tracing)
	}
	if deps.Topics != nil {
		e.relay = relay.New(c.Partitions, deps.Topics, deps.Store, deps.Metrics, deps.Log)
	}
	e.sender = &submit.Sender{
		Inbox: deps.Inbox, Process: process, Shared: deps.Group != nil, Owned: submit.NewOwned(c.Partitions), Decisions: replies.NewDecisions(),
		Tracer: e.tracer, Metrics: deps.Metrics, NewID: newID,
	}
	d := delivery.Config{
		Node: c.Node, Run: run, Process: process, ClientTimeout: c.ClientTimeout, Sender: e.sender, Callers: e.callers, Body: e.reader.DeliveryBody, Age: e.age,
		Tracer: e.tracer, Metrics: deps.Metrics, Log: deps.Log,
	}
	if deps.Group != nil {
		e.members = membership.New(membership.Config{
			Node: c.Node, Process: process, Partitions: c.Partitions, Topics: deps.Topics, Group: deps.Group, Member: e.share, Store: deps.Store,
			Sender: e.sender, Callers: e.callers, Age: e.ageHere, Metrics: deps.Metrics, Log: deps.Log,
		})
		e.sender.Notify, d.Peers = e.members.Notify, e.members
	}
	e.delivery = delivery.New(d)
	if e.members != nil {
		e.members.Serve(e.delivery)
	}
	e.status.Store(&owner.Status{Problem: "the partitions are being loaded"})
	e.measure()
	return e
}

// newID makes a UUID of version 7: sorted by time, so that index pages fill from one end.
func newID() uuid.UUID {
	id, err := uuid.NewV7()
	if err != nil {
		panic(fmt.Sprintf("engine: no randomness: %v", err)) // the system cannot give random bytes
	}
	return id
}

// Run claims the partitions, recovers what is open, and works until ctx ends. Then it stores the last batch, gives waiting callers wire.ErrStopping, and returns.
func (e *Engine) Run(ctx context.Context) error {
	defer e.delivery.Close()
	if e.relay != nil {
		defer startBackground(ctx, e.relay.Run)()
	}
	if e.members != nil {
		defer startBackground(ctx, e.members.Run)()
	}
	defer close(e.share.ended)
	err := e.drive(ctx)
	e.status.Store(&owner.Status{Problem: "the server is shutting down"})
	return err
}

// startBackground runs a function until the returned one is called, which waits for its end.
func startBackground(ctx context.Context, run func(context.Context)) (end func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() { run(ctx) })
	return func() {
		cancel()
		running.Wait()
	}
}

// Stop refuses new calls and gives waiting callers wire.ErrStopping; accepted calls go on.
func (e *Engine) Stop() {
	e.stopping.Store(true)
	e.callers.RefuseAll(ErrStopping)
}

// Inbound is the engine's side of the transports' contract.
func (e *Engine) Inbound() transports.Inbound { return e.delivery.Inbound() }

// Revoke ends the sessions of a device that this process holds on credentials older than their new version. Sessions being opened with them are refused.
func (e *Engine) Revoke(device uuid.UUID, version int64) { e.delivery.Revoke(device, version) }

// Deleted ends all sessions of a deleted device that this process holds.
func (e *Engine) Deleted(device uuid.UUID) { e.delivery.Deleted(device) }

// Connected are the devices that have a session here, with the oldest version of credentials that one was made with.
func (e *Engine) Connected() map[uuid.UUID]int64 { return e.delivery.Connected() }

// CloseDevice lets the owner of a device end its session at any node. It is for nodes of cluster.LevelFirst, without Revoke.
func (e *Engine) CloseDevice(device uuid.UUID, partition int32, why transports.Reason) error {
	return e.delivery.CloseDevice(device, partition, why)
}

// Level is the newest feature level that all live nodes have; of a single process, its own.
func (e *Engine) Level() int {
	if e.members == nil {
		return cluster.Level
	}
	return e.members.Level()
}

func instant() rpc.Instant { return rpc.At(time.Now()) }
