// Package owner owns partitions: it decides the commands of their inbox, and says which events are to be stored and what is to leave when
// they are.
//
// An Owner is a value that is driven, in the shape of RawNode in etcd's raft. Commands, time, and what became of reads, appends and claims come in; Ready says
// what is to be done. It has no clock, no I/O, no goroutines and no locks, and it knows no store and no registry. So a simulation drives the
// same owner as the server:
//
//	for {
//		o.Take(now, arrived)                  // or Answered, Claimed, Assign, Revoke, …
//		ready := o.Ready(now)                 // what is to be done
//		// append ready.Batch, let its effects out when it is stored, and tell o.Advance what became of it
//	}
package owner

import (
	"time"

	"callchain/chains"
	"callchain/engine/bus"
	"callchain/engine/nodetrace"
	"callchain/engine/projection"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/eventstore"

	"github.com/google/uuid"
)

// Config says how an owner works. Its functions answer at once, from memory, and change nothing.
type Config struct {
	Process     string        // this process among all (cluster.Process)
	Shared      bool          // other processes may own partitions, hold connections and wait for calls
	Partitions  int32         // of the installation
	BatchEvents int           // an append has about so many events
	Linger      time.Duration // that a command left for its device is stored at the latest after this
	DeadLetters int           // so many have a row; one more is published and counted only
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
type Owner struct {
	config   Config
	env      step.Env // of every step, but for the device
	now      rpc.Instant
	registry uint64 // generation: rows that were read in an earlier one may have changed

	parts     []partition
	tables    tables
	lines     lines
	reads     reads
	lingering lingering
	recent    recent
	nodes     nodetrace.Recorder
	letters   letters
	peers     peers
	health    health

	gathering *Batch // takes what is decided now
	appending *Batch // is being stored, nil if none is
	number    uint64 // of the last batch that was begun
	stored    uint64 // of the last batch that is stored
	current   current
	catching  bool // RPC messages that were kept may not have come yet
	drained   bool // the RPC lane was empty once since the inbox caught up
	stopping  bool
	out       Ready
}

// current is the message that is being processed.
type current struct {
	pending *pending
	trace   step.TraceContext
	want    Read // what is missing
	missing bool
	rerun   *rerun // of the dead letter whose command it is
}

// New makes an owner that owns nothing.
func New(c Config) *Owner {
	o := &Owner{
		config: c, parts: make([]partition, c.Partitions), tables: newTables(), lines: lines{byKey: map[lineKey]*line{}},
		reads: reads{byID: map[uint64]*read{}}, recent: newRecent(), peers: newPeers(),
	}
	for p := range o.parts {
		o.parts[p].number = int32(p)
	}
	o.env = step.Env{
		Run: o.parked, Chain: c.Chain, Pinned: o.pinned, Values: o.valuesAtHand, Body: o.bodyAtHand, Ended: o.ended, NewID: c.NewID, Trace: o.nodes.Note,
	}
	o.begin()
	return o
}

// begin begins another batch.
func (o *Owner) begin() {
	o.number++
	o.gathering = newBatch(o.config.NewID(), o.number)
}

// Arrived is what the inbox gave.
type Arrived struct {
	RPC, Data  []bus.Message
	CatchingUp bool // RPC messages that were kept may not have come yet: no deadline passes before they are taken
}

// Take takes messages of the inbox, and lets time pass. Deadlines pass up to when the first RPC command of those that came was sent: an answer that was sent before
// its deadline wins. What was kept while nobody took it is in no such order, so that it is taken before any deadline passes.
func (o *Owner) Take(now rpc.Instant, a Arrived) {
	o.catching = a.CatchingUp
	o.setNow(now)
	o.advanceLines()
	switch {
	case a.CatchingUp:
		o.drained = false
	case len(a.RPC) == 0:
		o.drained = true
		o.endOrphans()
		o.passTime(now)
	case o.drained:
		o.passTime(sentBefore(now, a.RPC))
	}
	for i := range a.RPC {
		o.receive(&a.RPC[i])
	}
	for i := range a.Data {
		o.receive(&a.Data[i])
	}
}

// sentBefore is a time before which nothing was sent that waits behind the first messages that wait. One that does not tell was sent long ago.
func sentBefore(now rpc.Instant, messages []bus.Message) rpc.Instant {
	first := now
	for i := range messages {
		if cmd, ok := messages[i].Value.(step.Command); ok {
			first = min(first, cmd.Occurred)
		}
	}
	return first.Add(-looseOrder)
}

// Room is how many messages the owner takes now; 0: a batch must be stored first, or messages wait that it cannot process now.
func (o *Owner) Room() int {
	const turn = 64
	if o.blocked() || o.lines.count >= waitingMost {
		return 0
	}
	return turn
}

// blocked tells whether the batch takes no further command.
func (o *Owner) blocked() bool {
	return o.gathering.full(o.config.BatchEvents) || o.gathering.closed && !o.gathering.empty() || o.now < o.health.pause
}

// receive processes a message, or lets it wait: behind others of its line, or until its partition is loaded.
func (o *Owner) receive(m *bus.Message) {
	if m.Partition < 0 || int(m.Partition) >= len(o.parts) {
		o.out.Completed = append(o.out.Completed, completionOf(m, errNoPartition))
		return
	}
	switch part := &o.parts[m.Partition]; {
	case part.state == owned:
	case part.state == claiming, part.state == others && part.wanted && (kept(m) && part.reading || !o.config.Shared):
		o.early(m)
		return
	default:
		o.misrouted(m)
		return
	}
	if one := o.lines.of(keyOf(m)); one != nil {
		o.lines.add(&pending{Message: *m}, false)
		return
	}
	if o.blocked() {
		o.lines.wake(o.lines.add(&pending{Message: *m}, false))
		return
	}
	p := pending{Message: *m}
	if !o.process(&p) {
		waits := p
		o.wait(o.lines.add(&waits, false), o.current.want)
	}
}

// advanceLines processes the messages that waited and need not any more.
func (o *Owner) advanceLines() {
	for !o.blocked() {
		one := o.lines.next()
		if one == nil || !o.advance(one) {
			return
		}
	}
}

// advance processes the messages of a line until one must wait; false: a batch must be stored before anything else.
func (o *Owner) advance(one *line) bool {
	for !one.dropped && one.read == nil && o.parts[one.key.partition].state == owned {
		p := one.queue[0]
		if o.blocked() || p.suspect && !o.gathering.empty() {
			o.lines.wakeFirst(one)
			return false
		}
		if !o.process(p) {
			o.wait(one, o.current.want)
			return true
		}
		o.lines.pop(one)
	}
	if one.dropped {
		o.resumeTimers(one)
	}
	return true
}

// RegistryChanged says that rows of the registry, or the active version of a chain, may have changed.
func (o *Owner) RegistryChanged(generation uint64) { o.registry = generation }

// OpenCalls is the number of calls that have not ended.
func (o *Owner) OpenCalls() int { return len(o.tables.calls) }

// Epoch is the epoch of a partition that is owned, 0 of others.
func (o *Owner) Epoch(partition int32) int64 {
	if o.parts[partition].state != owned {
		return 0
	}
	return o.parts[partition].cp.Epoch
}

// Oldest is when the oldest command of a lane was sent that is taken and not stored; 0 if there is none.
func (o *Owner) Oldest(lane bus.Lane) rpc.Instant {
	oldest := o.gathering.oldest[lane]
	if o.appending != nil && o.appending.oldest[lane] != 0 {
		oldest = o.appending.oldest[lane]
	}
	for key, one := range o.lines.byKey {
		cmd, ok := one.queue[0].Value.(step.Command)
		if ok && key.lane == lane && cmd.Occurred != 0 && (oldest == 0 || cmd.Occurred < oldest) {
			oldest = cmd.Occurred
		}
	}
	return oldest
}

// notice reports something that an operator must know or count.
func (o *Owner) notice(n Notice) { o.out.Notices = append(o.out.Notices, n) }

// partition is the owner's memory of one partition.
type partition struct {
	number  int32
	state   ownership
	wanted  bool                  // it is assigned to this process
	reading bool                  // the inbox delivers it
	again   rpc.Instant           // it is not claimed before
	since   rpc.Instant           // of the claim
	cp      eventstore.Checkpoint // as it will be when everything decided so far is stored
	lastAt  rpc.Instant
	behind  behind
	flushed rpc.Instant
	moved   bool     // the positions are ahead of the stored ones
	barrier *barrier // nil: it is known who is connected, and who waits
	callers int      // messages about callers that are not processed
	orphans bool     // calls without callers are to be ended
	leaving rpc.Instant
	unsure  *unconfirmed // nil, or an append of which nobody said that it is stored
}

// ownership is what a partition is to this process.
type ownership uint8

const (
	others   ownership = iota // it belongs to nobody here
	claiming                  // it is being claimed and loaded
	owned                     // its commands are processed
	leaving                   // what was decided of it is being stored, then it goes to another process
)
