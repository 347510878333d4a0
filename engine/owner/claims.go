package owner

import (
	"errors"
	"slices"
	"time"

	"callchain/engine/bus"
	"callchain/engine/projection"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/engine/wire"
	"callchain/eventstore"

	"github.com/google/uuid"
)

// The waits before partitions are claimed again.
const (
	claimAgain  = 20 * time.Millisecond // after a failure; it doubles up to
	claimLatest = 500 * time.Millisecond
	claimLost   = 5 * time.Second  // while the inbox has lost what was not taken
	claimFenced = 3 * time.Second  // after another process has claimed them: the group may not have told yet
	claimNewer  = 30 * time.Second // while they hold events that only a newer program can read
	leaveMost   = 5 * time.Second  // to store what was decided of a partition that goes to another process
)

// Assign says which partitions are this process's: those are claimed, the others given up.
func (o *Owner) Assign(now rpc.Instant, partitions []int32) {
	o.setNow(now)
	o.health.assigned = true
	var gone []int32
	for i := range o.parts {
		p := &o.parts[i]
		switch p.wanted = slices.Contains(partitions, p.number); {
		case p.wanted:
		case p.state == owned || p.reading && p.state == others:
			gone = append(gone, p.number)
		case p.state == others:
			o.putElsewhere(o.takeLines(func(n int32) bool { return n == p.number }))
			o.putElsewhere(o.unconfirmedOf(p))
		}
	}
	if len(gone) > 0 {
		o.notice(Notice{Kind: NoticeReassigned, Partitions: gone})
		o.leave(gone)
	}
}

// Revoke gives partitions up that go to another process. Ready names them in Left when nothing of them is under way any more: what was decided is stored first, and
// what is written behind, so that the next owner has little to read.
func (o *Owner) Revoke(now rpc.Instant, partitions []int32) {
	o.setNow(now)
	for _, p := range partitions {
		o.parts[p].wanted = false
	}
	o.leave(partitions)
}

func (o *Owner) leave(partitions []int32) {
	mine := func(p int32) bool { return slices.Contains(partitions, p) }
	var read []int32
	for _, n := range partitions {
		p := &o.parts[n]
		if p.state == claiming {
			o.out.CancelClaim = true
			continue
		}
		if p.reading {
			p.reading = false
			read = append(read, n)
		}
		if p.state == owned {
			o.flushPartition(p)
		}
	}
	o.out.Unread = append(o.out.Unread, read...)
	o.putElsewhere(o.takeLines(mine))
	for _, n := range partitions {
		if p := &o.parts[n]; p.state == owned {
			p.state, p.leaving = leaving, o.now.Add(leaveMost)
			o.out.Changed = true
		} else if p.state == others {
			o.putElsewhere(o.unconfirmedOf(p))
			o.out.Left = append(o.out.Left, n)
		}
	}
	o.leaveStored()
}

// flushPartition brings everything of a partition into the batch that is only in memory.
func (o *Owner) flushPartition(p *partition) {
	for _, d := range o.tables.inPartition(p.number) {
		o.resumeLingering(d)
	}
	o.flush(p)
}

// leaveStored forgets the partitions that leave, and of which nothing is to be stored any more.
func (o *Owner) leaveStored() {
	for i := range o.parts {
		p := &o.parts[i]
		if p.state != leaving || slices.Contains(o.gathering.order, p.number) || o.appending != nil && slices.Contains(o.appending.order, p.number) {
			continue
		}
		o.left(p.number)
	}
}

// leaveLate forgets the partitions that leave, and could not be stored in time.
func (o *Owner) leaveLate() {
	for i := range o.parts {
		if p := &o.parts[i]; p.state == leaving && p.leaving <= o.now {
			o.left(p.number)
		}
	}
}

func (o *Owner) left(partition int32) {
	o.putElsewhere(o.drop([]int32{partition}))
	o.out.Left = append(o.out.Left, partition)
}

// drop forgets the memory of partitions, and answers the messages that are to be processed again, by whoever owns them next.
func (o *Owner) drop(partitions []int32) (messages []*pending) {
	gone := func(p int32) bool { return slices.Contains(partitions, p) }
	for _, p := range o.gathering.without(gone) {
		messages = append(messages, &p)
	}
	for _, d := range o.tables.devices {
		if gone(d.partition) {
			for i := range d.lingering {
				messages = append(messages, &pending{Message: d.lingering[i]})
			}
			d.lingering = nil
		}
	}
	messages = append(messages, o.takeLines(gone)...)
	o.tables.drop(partitions)
	o.letters.forget(func(r removal) bool { return gone(r.partition) })
	o.recent.values.forget(func(v value, batch uint64) bool { return v.epoch == 0 && batch > o.stored })
	for _, n := range partitions {
		p := &o.parts[n]
		*p = partition{number: n, wanted: p.wanted, reading: p.reading, again: p.again, unsure: p.unsure}
	}
	o.out.Dropped = append(o.out.Dropped, partitions...)
	o.out.Changed = true
	return messages
}

// takeLines takes the messages of partitions that wait. What is read for them does not count any more: the next claim may find it otherwise.
func (o *Owner) takeLines(mine func(int32) bool) []*pending {
	messages, reads, _ := o.lines.take(mine)
	for _, r := range reads {
		o.reads.forget(r)
	}
	for _, p := range messages {
		p.read = answers{}
	}
	return messages
}

// putBack lets messages wait until their partition is loaded, before those that wait there already. What the owner made for itself it makes again, but for a command
// that the store may have refused: that must not come into a batch with others.
func (o *Owner) putBack(messages []*pending) {
	for _, p := range slices.Backward(messages) {
		if p.read = (answers{}); !p.own || p.suspect && isTimer(p.Value) {
			o.lines.add(p, true)
		}
	}
}

// putElsewhere sends on what the next owner of a partition must have. What the inbox keeps, that owner reads by itself, and tells who waits here.
func (o *Owner) putElsewhere(messages []*pending) {
	for _, p := range messages {
		if !p.own {
			o.misrouted(&p.Message)
		}
	}
}

// Returned takes what the inbox gave back of partitions that it does not deliver any more.
func (o *Owner) Returned(messages []bus.Message) {
	for i := range messages {
		o.misrouted(&messages[i])
	}
}

// misrouted sends a message on to the owner of its partition.
func (o *Owner) misrouted(m *bus.Message) {
	if !kept(m) {
		o.out.Misrouted = append(o.out.Misrouted, *m)
	}
}

// early lets a message wait until its partition is loaded, if there is room.
func (o *Owner) early(m *bus.Message) {
	if o.lines.count >= 2*waitingMost && !kept(m) {
		o.out.Completed = append(o.out.Completed, completionOf(m, wire.ErrBusy))
		return
	}
	o.lines.add(&pending{Message: *m}, false)
}

// claims tells whether a claim is under way.
func (o *Owner) claims() bool {
	return slices.ContainsFunc(o.parts, func(p partition) bool { return p.state == claiming })
}

// claim begins to claim what is wanted and not owned.
func (o *Owner) claim() {
	if o.claims() || o.stopping {
		return
	}
	for i := range o.parts {
		if p := &o.parts[i]; p.wanted && p.state == others && p.again <= o.now {
			p.state = claiming
			o.out.Claim = append(o.out.Claim, Claim{Partition: p.number, Reading: p.reading})
		}
	}
}

// Claim is a partition to be claimed and loaded. Reading: the inbox delivers it already.
type Claim struct {
	Partition int32
	Reading   bool
}

// Claimed is what became of a claim.
type Claimed struct {
	Partitions  []int32
	Err         error
	Canceled    bool         // the claim was ended
	Recovered   []*Recovered // of each
	From        []bus.From   // where the inbox goes on, of those that it did not deliver before
	DeadLetters int64        // rows of dead letters
	Sessions    []LocalSession
	Callers     map[int32][]wire.Caller // of this process, by partition
}

// LocalSession is a live session of this process, and what its owner must hear of it.
type LocalSession struct {
	Partition int32
	Device    uuid.UUID
	Actions   []rpc.Action
}

// Recovered is a partition as it was loaded.
type Recovered struct {
	Checkpoint  eventstore.Checkpoint
	LastAt      rpc.Instant // of its last event
	Generation  uint64      // of the registry when it was read
	Devices     []RecoveredDevice
	Runs        []RecoveredRun
	Indexed     []string // streams that are open in the index
	Opened      []string // streams that were opened since
	Ended       []string // of both: those that have ended
	Quarantined []Quarantined
}

// RecoveredDevice is a device with something open, or one whose row is to be written.
type RecoveredDevice struct {
	Row     Device
	State   DeviceState
	Changed bool // its row in the store is behind
	Calls   []RecoveredCall
}

// RecoveredCall is an open call.
type RecoveredCall struct {
	Call     rpc.Call
	Head     projection.Head
	Accepted rpc.Instant
	Trace    [16]byte
}

// RecoveredRun is a run that waits. Its device is among the devices.
type RecoveredRun struct {
	Run  step.Run
	Head projection.Head
}

// Quarantined is a stored stream that cannot be folded.
type Quarantined struct {
	Stream string
	Tenant uuid.UUID
	Device uuid.UUID
	Err    error
}

// Claimed takes what became of a claim.
func (o *Owner) Claimed(now rpc.Instant, c *Claimed) {
	o.setNow(now)
	if c.Err != nil {
		o.notClaimed(c)
		return
	}
	o.health.claimed()
	o.letters.rows = c.DeadLetters
	var mine, unwanted []int32
	for _, r := range c.Recovered {
		p := &o.parts[r.Checkpoint.Partition]
		if p.state = others; p.wanted {
			o.adopt(p, r, c.From)
			mine = append(mine, p.number)
		} else {
			p.reading = true
			unwanted = append(unwanted, p.number)
		}
	}
	o.resumeSessions(mine, c)
	if len(unwanted) > 0 {
		o.leave(unwanted)
	}
	o.out.Changed = true
	o.notice(Notice{Kind: NoticeClaimed, Partitions: mine, Calls: len(o.tables.calls), Runs: len(o.tables.runs)})
}

// notClaimed says why partitions are not claimed, and lets them be claimed again later.
func (o *Owner) notClaimed(c *Claimed) {
	again := min(claimAgain<<min(o.health.failures, 10), claimLatest)
	var lost *bus.LostError
	switch {
	case c.Canceled:
		again = 0
	case errors.As(c.Err, &lost):
		again = claimLost
		o.health.problem, o.health.lost = lost.Error(), lost
		o.notice(Notice{Kind: NoticeInboxLost, Partitions: c.Partitions, Err: c.Err})
	case errors.Is(c.Err, rpc.ErrUnknownEvent):
		again = claimNewer
		o.health.problem = "start the newer program: " + c.Err.Error()
		o.notice(Notice{Kind: NoticeNewerEvents, Partitions: c.Partitions, Err: c.Err})
	default:
		o.health.failures++
		o.health.problem = "the store is not available: " + c.Err.Error()
		o.notice(Notice{Kind: NoticeNotClaimed, Partitions: c.Partitions, Err: c.Err, Again: o.now.Add(again)})
	}
	var unwanted []int32
	for _, n := range c.Partitions {
		p := &o.parts[n]
		if p.state, p.again = others, o.now.Add(again); !p.reading {
			o.out.Unread = append(o.out.Unread, n) // it may have begun
		}
		if !p.wanted {
			unwanted = append(unwanted, n)
		}
	}
	o.leave(unwanted)
}

// adopt takes over a partition that was loaded.
func (o *Owner) adopt(p *partition, r *Recovered, from []bus.From) {
	unsure := p.unsure
	*p = partition{number: p.number, wanted: true, state: owned, reading: true, since: o.now, cp: r.Checkpoint, lastAt: r.LastAt, flushed: o.now, barrier: o.peers.barrier(o.now)}
	if ahead := time.Second; r.LastAt > o.now.Add(ahead) {
		o.notice(Notice{Kind: NoticeAheadOfClock, Partition: p.number, Stored: r.LastAt, Now: o.now})
	}
	p.goOn(from)
	for _, stream := range r.Opened {
		p.behind.open(stream)
	}
	for _, stream := range r.Indexed {
		p.behind.found(stream)
	}
	for _, stream := range r.Ended {
		p.behind.close(stream)
	}
	for i := range r.Devices {
		o.adoptDevice(p, &r.Devices[i], r.Generation)
	}
	for i := range r.Runs {
		run := &r.Runs[i]
		if d := o.tables.devices[run.Run.Device]; d != nil {
			o.tables.park(&parkedRun{run: run.Run, device: d, head: run.Head})
		}
	}
	for i := range r.Quarantined {
		o.quarantine(p, &r.Quarantined[i])
	}
	if p.barrier == nil {
		o.lift(p)
	}
	if unsure != nil {
		o.resolve(p, unsure)
	}
}

// goOn notes where the inbox goes on. If an operator let it leave out what was lost, that holds for partitions, too, to which nothing comes before the next start:
// it would ask the operator again.
func (p *partition) goOn(from []bus.From) {
	for _, f := range from {
		if f.Partition != p.number {
			continue
		}
		for lane, next := range f.Next {
			if at := (eventstore.Position{Topic: next.Topic, Offset: next.Offset}); at != p.cp.Positions[lane] {
				p.cp.Positions[lane], p.moved = at, true
			}
		}
	}
}

func (o *Owner) adoptDevice(p *partition, r *RecoveredDevice, generation uint64) {
	d := newDevice(&r.Row, &r.State)
	d.partition, d.info, d.generation, d.deleted = p.number, r.Row.Info, generation, r.Row.Deleted
	d.state.Settings = r.Row.Info.Settings
	calls := make([]rpc.Call, len(r.Calls))
	for i := range r.Calls {
		calls[i] = r.Calls[i].Call
	}
	d.state = rpc.Restore(d.state, calls)
	o.tables.devices[d.id] = d
	for i := range r.Calls {
		one := &r.Calls[i]
		c := o.tables.open(one.Call.ID, d)
		c.head, c.accepted, c.from = one.Head, one.Accepted, o.recalled(one.Call.ID, one.Trace)
		o.tables.await(c)
	}
	if r.Changed {
		p.behind.change(d)
	}
	o.tables.rest(d, o.stored)
}

// resumeSessions tells the devices of partitions that were just loaded which sessions of this process live, and which of its callers wait.
func (o *Owner) resumeSessions(mine []int32, c *Claimed) {
	for _, n := range mine {
		for _, w := range c.Callers[n] {
			o.giveCaller(&o.parts[n], o.config.Process, w)
		}
		for _, one := range o.lines.byKey {
			if one.key.partition == n {
				o.lines.wake(one)
			}
		}
	}
	for _, s := range slices.Backward(c.Sessions) {
		for _, do := range slices.Backward(s.Actions) {
			if slices.Contains(mine, s.Partition) {
				o.give(ownCommand(s.Partition, s.Device, do), true)
			}
		}
	}
}

// unconfirmed is an append of which nobody said that it is stored: the claim that follows shows it.
type unconfirmed struct {
	batch    *Batch
	messages []*pending // of the partition
}

func (o *Owner) unconfirmedOf(p *partition) []*pending {
	if p.unsure == nil {
		return nil
	}
	messages := p.unsure.messages
	p.unsure = nil
	return messages
}

// resolve finds out whether an append is stored after all: it is the partition's last one then. Otherwise its messages are processed again.
func (o *Owner) resolve(p *partition, u *unconfirmed) {
	if p.cp.Append == u.batch.Store.ID {
		o.out.Release = append(o.out.Release, Release{Batch: u.batch, only: []int32{p.number}})
		return
	}
	o.putBack(u.messages)
}
