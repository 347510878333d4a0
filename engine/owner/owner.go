// Package owner owns partitions: it decides the commands of their inbox, and names the events to store and the effects to release once they
// are stored.
//
// An Owner is a state machine that its caller drives, like RawNode in etcd's raft. Commands, time, and the results of reads, appends and claims come in; Ready
// lists the work to do. It has no clock, no I/O, no goroutines and no locks, and it knows no store and no registry. So a simulation drives the
// same owner as the server:
//
//	for {
//		o.Take(now, arrived)                  // or Answered, Claimed, Assign, Revoke, …
//		ready := o.Ready(now)                 // the work to do
//		// append ready.Append, report the result to o.Advance, and release its effects when it is stored
//	}
package owner

import (
	"time"

	"callchain/chains"
	"callchain/engine/bus"
	"callchain/engine/projection"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/engine/wire"
	"callchain/eventstore"

	"github.com/google/uuid"
)

// Config says how an owner works. Its functions answer at once, from memory, and change nothing.
type Config struct {
	Process     string        // this process among all (cluster.Process)
	Shared      bool          // other processes may own partitions, hold connections and wait for calls
	Partitions  int32         // of the installation
	BatchEvents int           // an append has about so many events
	Linger      time.Duration // the longest time until the fact is stored that a command left for its device
	DeadLetters int           // bounds the rows of dead letters; beyond it they are only published and counted
	Tenant      uuid.UUID     // sees the dead letters that belong to no tenant

	NewID   func() uuid.UUID
	Chain   func(chain uuid.UUID) *Program // the active version, nil if there is none
	Sampled func(trace [16]byte) bool      // whether a trace is recorded; nil: no spans are made
	Stack   func() []byte                  // of the panic that is being handled
}

// Program is a version of a rule chain.
type Program = chains.Program

// Device is the row of a device in the registry.
type Device struct {
	ID        uuid.UUID
	Tenant    uuid.UUID
	Partition int32
	Info      step.Info
	Deleted   bool // there is none (any more)
}

// DeviceState is the row of a device in projection.Devices.
type DeviceState struct {
	NextWire       int32
	Stream         string
	Head           projection.Head
	LastConnect    rpc.Instant
	LastDisconnect rpc.Instant
}

// EndedCall is a call that has ended: the fold of its stream.
type EndedCall struct {
	Device uuid.UUID
	Head   projection.Head
	Call   rpc.Call
	Body   rpc.Body
	At     rpc.Instant // when it ended
}

// Owner owns the partitions that are assigned to this process. One goroutine uses it.
//
// Messages that must wait are in the queue. Each is decided with what is in memory, and the recorder writes the decision into the batch and the memory.
type Owner struct {
	mem   *memory
	queue *queue
	rec   *recorder
	pre   *presence
	dec   *decision

	current   pending // the message that was taken last
	health    health
	appending *Batch // the batch being stored, nil if none is
	catching  bool   // durable RPC messages may not have come yet
	drained   bool   // the RPC lane was empty once since the inbox caught up
	stopping  bool
	out       Ready
}

// New makes an owner that owns nothing.
func New(c Config) *Owner {
	o := &Owner{mem: newMemory(c)}
	o.queue = &queue{memory: o.mem, byKey: map[lineKey]*line{}, reads: map[uint64]*read{}}
	o.rec = &recorder{memory: o.mem}
	o.pre = &presence{memory: o.mem}
	o.dec = newDecision(o.rec, o.pre)
	o.rec.begin()
	return o
}

// Arrived is what was taken from the inbox.
type Arrived struct {
	RPC, Data  []bus.Message
	CatchingUp bool // durable RPC messages may not have come yet: no deadline passes before they are taken
}

// Take takes messages of the inbox, and lets time pass. Deadlines pass up to when the first RPC command of those that came was sent: an answer that was sent before
// its deadline wins. A backlog in a durable inbox is not in that order, so it is taken before any deadline passes.
func (o *Owner) Take(now rpc.Instant, a Arrived) {
	o.catching = a.CatchingUp
	o.setNow(now)
	o.advanceLines()
	switch {
	case a.CatchingUp:
		o.drained = false
	case len(a.RPC) == 0:
		o.drained = true
		o.endUnawaitedCalls()
		o.fireDue(now)
	case o.drained:
		o.fireDue(sentBefore(now, a.RPC))
	}
	for i := range a.RPC {
		o.receive(&a.RPC[i])
	}
	for i := range a.Data {
		o.receive(&a.Data[i])
	}
}

// sentBefore is a time before which no message was sent that waits behind the given ones. A message without a time counts as old.
func sentBefore(now rpc.Instant, messages []bus.Message) rpc.Instant {
	first := now
	for i := range messages {
		if cmd, ok := messages[i].Value.(step.Command); ok {
			first = min(first, cmd.Occurred)
		}
	}
	return first.Add(-reorderTolerance)
}

// Room is how many messages the owner takes now; 0 while a batch must be stored first, or too many messages wait.
func (o *Owner) Room() int {
	const turn = 64
	if o.blocked() || o.queue.count >= waitingMost {
		return 0
	}
	return turn
}

// blocked reports whether the batch takes no further command.
func (o *Owner) blocked() bool {
	return o.rec.batch.full(o.mem.config.BatchEvents) || o.rec.batch.closed && !o.rec.batch.empty() || o.mem.now < o.health.pause
}

// receive processes a message, or queues it: behind others of its line, or until its partition is loaded.
func (o *Owner) receive(m *bus.Message) {
	if m.Partition < 0 || int(m.Partition) >= len(o.mem.parts) {
		o.out.Completed = append(o.out.Completed, completionOf(m, errNoPartition))
		return
	}
	switch part := &o.mem.parts[m.Partition]; {
	case part.state == owned:
	case part.state == claiming, part.state == others && part.wanted && (durable(m) && part.reading || !o.mem.config.Shared):
		if o.queue.count < 2*waitingMost || durable(m) {
			o.queue.add(&pending{Message: *m}, false)
		} else {
			o.out.Completed = append(o.out.Completed, completionOf(m, wire.ErrBusy))
		}
		return
	default:
		o.out.redirectOne(m)
		return
	}
	if one := o.queue.lineOf(keyOf(m)); one != nil {
		o.queue.add(&pending{Message: *m}, false)
		return
	}
	if o.blocked() {
		o.queue.wake(o.queue.add(&pending{Message: *m}, false))
		return
	}
	p := &o.current
	*p = pending{Message: *m}
	if o.queue.lingers(p) || o.process(p) {
		return
	}
	waits := *p
	o.queue.waitFor(o.queue.add(&waits, false), o.dec.want)
}

// advanceLines processes the lines that are ready.
func (o *Owner) advanceLines() {
	for !o.blocked() {
		one := o.queue.next()
		if one == nil || !o.advance(one) {
			return
		}
	}
}

// advance processes the messages of a line until one must wait; false: a batch must be stored before anything else.
func (o *Owner) advance(one *line) bool {
	for !one.dropped && one.read == nil && o.mem.parts[one.key.partition].state == owned {
		p := one.queue[0]
		if o.blocked() || p.suspect && !o.rec.batch.empty() {
			o.queue.wakeFirst(one)
			return false
		}
		if !o.process(p) {
			o.queue.waitFor(one, o.dec.want)
			return true
		}
		o.queue.pop(one)
	}
	if one.dropped {
		o.queue.resumeTimers(one)
	}
	return true
}

// RegistryChanged says that rows of the registry, or the active version of a chain, may have changed.
func (o *Owner) RegistryChanged(generation uint64) { o.mem.registry = generation }

// OpenCalls is the number of calls that have not ended.
func (o *Owner) OpenCalls() int { return len(o.mem.tables.calls) }

// Epoch is the epoch of a partition that is owned, 0 of others.
func (o *Owner) Epoch(partition int32) int64 {
	if o.mem.parts[partition].state != owned {
		return 0
	}
	return o.mem.parts[partition].cp.Epoch
}

// Oldest is when the oldest command of a lane was sent that is taken but not stored; 0 without one.
func (o *Owner) Oldest(lane bus.Lane) rpc.Instant {
	oldest := o.queue.oldest(lane)
	for _, b := range []*Batch{o.rec.batch, o.appending} {
		if b != nil && b.oldest[lane] != 0 && (oldest == 0 || b.oldest[lane] < oldest) {
			oldest = b.oldest[lane]
		}
	}
	return oldest
}

// partition is the owner's memory of one partition.
type partition struct {
	number       int32
	state        ownership
	wanted       bool                  // it is assigned to this process
	reading      bool                  // the inbox delivers it
	claimAt      rpc.Instant           // it is not claimed before
	since        rpc.Instant           // of the claim
	cp           eventstore.Checkpoint // as it will be when everything decided so far is stored
	lastAt       rpc.Instant
	writeBehind  writeBehind
	flushed      rpc.Instant
	moved        bool     // the positions are ahead of the stored ones
	barrier      *barrier // nil: all connections and callers are known
	callers      int      // pending messages about callers
	endUnawaited bool     // light calls without callers must end
	leaving      rpc.Instant
	uncertain    *uncertainAppend // nil without an append whose result is unknown
}

// ownership is what a partition is to this process.
type ownership uint8

const (
	others   ownership = iota // it is not this process's
	claiming                  // it is being claimed and loaded
	owned                     // its commands are processed
	leaving                   // its events are being stored; then it goes to another process
)
