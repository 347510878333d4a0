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
	for i := range o.mem.parts {
		p := &o.mem.parts[i]
		switch p.wanted = slices.Contains(partitions, p.number); {
		case p.wanted:
		case p.state == owned || p.reading && p.state == others:
			gone = append(gone, p.number)
		case p.state == others:
			o.out.redirect(o.queue.take(func(n int32) bool { return n == p.number }))
			o.out.redirect(p.takeUnconfirmed())
		}
	}
	if len(gone) > 0 {
		o.mem.notice(Notice{Kind: NoticeReassigned, Partitions: gone})
		o.leave(gone)
	}
}

// Revoke gives partitions up that go to another process. Ready names them in Left when nothing of them is under way any more: what was decided is stored first, and
// what is written behind, so that the next owner has little to read.
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
	o.out.redirect(o.queue.take(mine))
	for _, n := range partitions {
		if p := &o.mem.parts[n]; p.state == owned {
			p.state, p.leaving = leaving, o.mem.now.Add(leaveMost)
			o.out.Changed = true
		} else if p.state == others {
			o.out.redirect(p.takeUnconfirmed())
			o.out.Left = append(o.out.Left, n)
		}
	}
	o.leaveDone()
}

// leaveDone forgets the partitions that leave, and of which nothing is to be stored any more, or could not be in time.
func (o *Owner) leaveDone() {
	for i := range o.mem.parts {
		p := &o.mem.parts[i]
		storing := slices.Contains(o.rec.batch.order, p.number) || o.appending != nil && slices.Contains(o.appending.order, p.number)
		if p.state == leaving && (!storing || p.leaving <= o.mem.now) {
			o.left(p.number)
		}
	}
}

func (o *Owner) left(partition int32) {
	o.out.redirect(o.drop([]int32{partition}))
	o.out.Left = append(o.out.Left, partition)
}

// drop forgets the memory of partitions, and answers the messages that are to be processed again, by whoever owns them next.
func (o *Owner) drop(partitions []int32) (messages []*pending) {
	gone := func(p int32) bool { return slices.Contains(partitions, p) }
	for _, p := range o.rec.batch.without(gone) {
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
	messages = append(messages, o.queue.take(gone)...)
	o.mem.tables.drop(partitions)
	o.rec.letters.forget(func(r removal) bool { return gone(r.partition) })
	o.mem.recent.values.forget(func(v value, batch uint64) bool { return v.epoch == 0 && batch > o.mem.stored })
	for _, n := range partitions {
		p := &o.mem.parts[n]
		*p = partition{number: n, wanted: p.wanted, reading: p.reading, again: p.again, unsure: p.unsure}
	}
	o.out.Dropped = append(o.out.Dropped, partitions...)
	o.out.Changed = true
	return messages
}

// redirect sends on what the next owner of a partition must have. What the inbox keeps, that owner reads by itself, and tells who waits here.
func (r *Ready) redirect(messages []*pending) {
	for _, p := range messages {
		if !p.own {
			r.redirectOne(&p.Message)
		}
	}
}

func (r *Ready) redirectOne(m *bus.Message) {
	if !kept(m) {
		r.Misrouted = append(r.Misrouted, *m)
	}
}

// Returned takes what the inbox gave back of partitions that it does not deliver any more.
func (o *Owner) Returned(messages []bus.Message) {
	for i := range messages {
		o.out.redirectOne(&messages[i])
	}
}

// claims tells whether a claim is under way.
func claims(parts []partition) bool {
	return slices.ContainsFunc(parts, func(p partition) bool { return p.state == claiming })
}

// claim begins to claim what is wanted and not owned.
func (o *Owner) claim() {
	if claims(o.mem.parts) || o.stopping {
		return
	}
	for i := range o.mem.parts {
		if p := &o.mem.parts[i]; p.wanted && p.state == others && p.again <= o.mem.now {
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

// Claimed takes what became of a claim.
func (o *Owner) Claimed(now rpc.Instant, c *Claimed) {
	o.setNow(now)
	if c.Err != nil {
		o.notClaimed(c)
		return
	}
	o.health.claimed()
	o.rec.letters.rows = c.DeadLetters
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
		if p.state, p.again = others, o.mem.now.Add(again); !p.reading {
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
	o.mem.adopt(p, r, from)
	if p.barrier = o.pre.peers.barrier(o.mem.now); p.barrier == nil {
		p.lift()
	}
	for i := range r.Quarantined {
		o.rec.quarantine(p, &r.Quarantined[i])
	}
	if unsure != nil {
		o.resolve(p, unsure)
	}
}

// resumeSessions tells the devices of partitions that were just loaded which sessions of this process live, and which of its callers wait.
func (o *Owner) resumeSessions(mine []int32, c *Claimed) {
	for _, n := range mine {
		for _, w := range c.Callers[n] {
			o.queue.giveCaller(&o.mem.parts[n], o.mem.config.Process, w)
		}
	}
	for _, one := range o.queue.linesOf(func(n int32) bool { return slices.Contains(mine, n) }) {
		o.queue.wake(one)
	}
	for _, s := range slices.Backward(c.Sessions) {
		for _, do := range slices.Backward(s.Actions) {
			if slices.Contains(mine, s.Partition) {
				o.queue.give(ownCommand(s.Partition, s.Device, do), true)
			}
		}
	}
}

// unconfirmed is an append of which nobody said that it is stored: the claim that follows shows it.
type unconfirmed struct {
	batch    *Batch
	messages []*pending // of the partition
}

// takeUnconfirmed are the messages of a partition's unconfirmed append, once.
func (p *partition) takeUnconfirmed() []*pending {
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
	o.queue.putBack(u.messages)
}
