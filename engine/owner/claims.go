package owner

import (
	"errors"
	"slices"
	"time"

	"callchain/engine/bus"
	"callchain/engine/rpc"
	"callchain/engine/wire"

	"github.com/google/uuid"
)

// The waits before partitions are claimed again.
const (
	claimAgain  = 20 * time.Millisecond // after a failure; it doubles up to
	claimLatest = 500 * time.Millisecond
	claimLost   = 5 * time.Second  // while the inbox has lost messages
	claimFenced = 3 * time.Second  // after another process has claimed them: the group's assignment may follow
	claimNewer  = 30 * time.Second // while they hold events that only a newer program can read
	leaveMost   = 5 * time.Second  // to store what was decided of a partition that goes to another process
)

// Assign says which partitions are this process's: those are claimed, the others given up.
func (o *Owner) Assign(now rpc.Instant, partitions []int32) {
	o.setNow(now)
	o.health.assigned = true
	var gone []int32
	for i := range o.mem.parts {
		p := &o.mem.parts[i]
		switch p.wanted = slices.Contains(partitions, p.number); {
		case p.wanted:
		case p.state == owned || p.reading && p.state == others:
			gone = append(gone, p.number)
		case p.state == others:
			o.out.redirect(o.queue.removePartitions(func(n int32) bool { return n == p.number }))
			o.out.redirect(p.takeUncertain())
		}
	}
	if len(gone) > 0 {
		o.mem.notice(Notice{Kind: NoticeReassigned, Partitions: gone})
		o.leave(gone)
	}
}

// Revoke gives up partitions that go to another process. Ready names them in Left once everything decided, and the write-behind rows, are stored, so that the
// next owner has little to read.
func (o *Owner) Revoke(now rpc.Instant, partitions []int32) {
	o.setNow(now)
	for _, p := range partitions {
		o.mem.parts[p].wanted = false
	}
	o.leave(partitions)
}

func (o *Owner) leave(partitions []int32) {
	mine := func(p int32) bool { return slices.Contains(partitions, p) }
	var read []int32
	for _, n := range partitions {
		p := &o.mem.parts[n]
		if p.state == claiming {
			o.out.CancelClaim = true
			continue
		}
		if p.reading {
			p.reading = false
			read = append(read, n)
		}
		if p.state == owned { // what is only in memory
			for _, d := range o.mem.tables.inPartition(n) {
				o.queue.resumeLingering(d)
			}
			o.advanceLines()
			o.rec.flush(p)
		}
	}
	o.out.Unread = append(o.out.Unread, read...)
	o.out.redirect(o.queue.removePartitions(mine))
	for _, n := range partitions {
		if p := &o.mem.parts[n]; p.state == owned {
			p.state, p.leaving = leaving, o.mem.now.Add(leaveMost)
			o.out.Changed = true
		} else if p.state == others {
			o.out.redirect(p.takeUncertain())
			o.out.Left = append(o.out.Left, n)
		}
	}
	o.finishLeaves()
}

// finishLeaves drops the leaving partitions whose events are stored, or could not be stored in time.
func (o *Owner) finishLeaves() {
	for i := range o.mem.parts {
		p := &o.mem.parts[i]
		storing := slices.Contains(o.rec.batch.order, p.number) || o.appending != nil && slices.Contains(o.appending.order, p.number)
		if p.state == leaving && (!storing || p.leaving <= o.mem.now) {
			o.finishLeave(p.number)
		}
	}
}

func (o *Owner) finishLeave(partition int32) {
	o.out.redirect(o.drop([]int32{partition}))
	o.out.Left = append(o.out.Left, partition)
}

// drop forgets the memory of partitions, and returns the messages that their next owner must process again.
func (o *Owner) drop(partitions []int32) (messages []*pending) {
	gone := func(p int32) bool { return slices.Contains(partitions, p) }
	for _, p := range o.rec.batch.removePartitions(gone) {
		messages = append(messages, &p)
	}
	for _, n := range partitions {
		for _, d := range o.mem.tables.inPartition(n) {
			for i := range d.lingering {
				messages = append(messages, &pending{Message: d.lingering[i]})
			}
			d.lingering = nil
		}
	}
	messages = append(messages, o.queue.removePartitions(gone)...)
	o.mem.tables.drop(partitions)
	o.rec.deadLetterRows.forget(func(r removal) bool { return gone(r.partition) })
	o.mem.recent.values.forget(func(v value, batch uint64) bool { return v.epoch == 0 && batch > o.mem.stored })
	for _, n := range partitions {
		p := &o.mem.parts[n]
		*p = partition{number: n, wanted: p.wanted, reading: p.reading, claimAt: p.claimAt, uncertain: p.uncertain}
	}
	o.out.Dropped = append(o.out.Dropped, partitions...)
	o.out.Changed = true
	return messages
}

// redirect sends messages on to the next owner. Durable messages the next owner reads from the inbox itself.
func (r *Ready) redirect(messages []*pending) {
	for _, p := range messages {
		if !p.own {
			r.redirectOne(&p.Message)
		}
	}
}

func (r *Ready) redirectOne(m *bus.Message) {
	if !durable(m) {
		r.Misrouted = append(r.Misrouted, *m)
	}
}

// Returned takes the messages that the inbox gave back when it stopped delivering partitions.
func (o *Owner) Returned(messages []bus.Message) {
	for i := range messages {
		o.out.redirectOne(&messages[i])
	}
}

// claims reports whether a claim is under way.
func claims(parts []partition) bool {
	return slices.ContainsFunc(parts, func(p partition) bool { return p.state == claiming })
}

// claim starts to claim the partitions that are wanted and not owned.
func (o *Owner) claim() {
	if claims(o.mem.parts) || o.stopping {
		return
	}
	for i := range o.mem.parts {
		if p := &o.mem.parts[i]; p.wanted && p.state == others && p.claimAt <= o.mem.now {
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

// Claimed is the result of a claim.
type Claimed struct {
	Partitions  []int32
	Err         error
	Canceled    bool         // the claim was ended
	Recovered   []*Recovered // of each
	From        []bus.From   // where the inbox goes on, for partitions that it did not deliver before
	DeadLetters int64        // rows of dead letters
	Sessions    []LocalSession
	Callers     map[int32][]wire.Caller // of this process, by partition
}

// LocalSession is a live session of this process, with the commands that report it to its owner.
type LocalSession struct {
	Partition int32
	Device    uuid.UUID
	Actions   []rpc.Action
}

// Claimed takes the result of a claim.
func (o *Owner) Claimed(now rpc.Instant, c *Claimed) {
	o.setNow(now)
	if c.Err != nil {
		o.claimFailed(c)
		return
	}
	o.health.claimed()
	o.rec.deadLetterRows.rows = c.DeadLetters
	var mine, unwanted []int32
	for _, r := range c.Recovered {
		p := &o.mem.parts[r.Checkpoint.Partition]
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
	o.mem.notice(Notice{Kind: NoticeClaimed, Partitions: mine, Calls: len(o.mem.tables.calls), Runs: len(o.mem.tables.runs)})
}

// claimFailed reports why partitions are not claimed, and schedules another try.
func (o *Owner) claimFailed(c *Claimed) {
	again := min(claimAgain<<min(o.health.failures, 10), claimLatest)
	var lost *bus.LostError
	switch {
	case c.Canceled:
		again = 0
	case errors.As(c.Err, &lost):
		again = claimLost
		o.health.problem, o.health.lost = lost.Error(), lost
		o.mem.notice(Notice{Kind: NoticeInboxLost, Partitions: c.Partitions, Err: c.Err})
	case errors.Is(c.Err, rpc.ErrUnknownEvent):
		again = claimNewer
		o.health.problem = "start the newer program: " + c.Err.Error()
		o.mem.notice(Notice{Kind: NoticeNewerEvents, Partitions: c.Partitions, Err: c.Err})
	default:
		o.health.failures++
		o.health.problem = "the store is not available: " + c.Err.Error()
		o.mem.notice(Notice{Kind: NoticeNotClaimed, Partitions: c.Partitions, Err: c.Err, Again: o.mem.now.Add(again)})
	}
	var unwanted []int32
	for _, n := range c.Partitions {
		p := &o.mem.parts[n]
		if p.state, p.claimAt = others, o.mem.now.Add(again); !p.reading {
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
	uncertain := p.uncertain
	o.mem.adopt(p, r, from)
	if p.barrier = o.pre.peers.barrier(o.mem.now); p.barrier == nil {
		p.lift()
	}
	for i := range r.Quarantined {
		o.rec.quarantine(p, &r.Quarantined[i])
	}
	if uncertain != nil {
		o.resolve(p, uncertain)
	}
}

// resumeSessions reports this process's sessions and callers to the devices of partitions that were just loaded.
func (o *Owner) resumeSessions(mine []int32, c *Claimed) {
	for _, n := range mine {
		for _, w := range c.Callers[n] {
			o.queue.enqueueCaller(&o.mem.parts[n], o.mem.config.Process, w)
		}
	}
	for _, one := range o.queue.linesOf(func(n int32) bool { return slices.Contains(mine, n) }) {
		o.queue.wake(one)
	}
	for _, s := range slices.Backward(c.Sessions) {
		for _, do := range slices.Backward(s.Actions) {
			if slices.Contains(mine, s.Partition) {
				o.queue.enqueue(ownCommand(s.Partition, s.Device, do), true)
			}
		}
	}
}

// uncertainAppend is an append with an unknown result: the next claim shows whether it is stored.
type uncertainAppend struct {
	batch    *Batch
	messages []*pending // of the partition
}

// takeUncertain removes the messages of a partition's uncertain append.
func (p *partition) takeUncertain() []*pending {
	if p.uncertain == nil {
		return nil
	}
	messages := p.uncertain.messages
	p.uncertain = nil
	return messages
}

// resolve finds out whether an uncertain append is stored: then it is the partition's last one. Otherwise its messages are processed again.
func (o *Owner) resolve(p *partition, u *uncertainAppend) {
	if p.cp.Append == u.batch.Store.ID {
		o.out.Release = append(o.out.Release, Release{Batch: u.batch, only: []int32{p.number}})
		return
	}
	o.queue.putBack(u.messages)
}
