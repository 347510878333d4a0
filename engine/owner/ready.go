package owner

import (
	"errors"
	"slices"

	"callchain/engine/bus"
	"callchain/engine/rpc"
	"callchain/engine/wire"
	"callchain/eventstore"
)

// Ready is what is to be done. Each part is given once.
type Ready struct {
	Append      *Batch        // to be appended; then Advance
	Release     []Release     // may leave now
	Reads       []Read        // each to be answered with Answered
	Claim       []Claim       // to be claimed and loaded; then Claimed
	CancelClaim bool          // the claim under way is to end at once
	Unread      []int32       // the inbox is to deliver them no more; Returned takes what it gives back
	Left        []int32       // nothing of them is under way any more
	Dropped     []int32       // their memory is gone
	Misrouted   []bus.Message // to be sent to the owners of their partitions
	Completed   []Completion  // that wait for no append
	Notices     []Notice
	Changed     bool        // what is owned, or the status, may have changed
	Wake        rpc.Instant // when the owner has something to do if nothing comes
}

// Ready says what is to be done now.
func (o *Owner) Ready(now rpc.Instant) Ready {
	o.setNow(now)
	o.leaveDone()
	o.pre.liftLate()
	o.queue.retryReads()
	o.advanceLines()
	o.claim()
	if o.appending == nil && now >= o.health.pause {
		o.handOver()
	}
	out := o.out
	out.Reads, out.Notices, out.Wake = o.queue.wanted, o.mem.notices, o.wake()
	o.out, o.queue.wanted, o.mem.notices = Ready{}, nil, nil
	return out
}

// handOver gives the batch to be appended, if there is something to append.
func (o *Owner) handOver() {
	if !o.rec.batch.closed {
		o.flushBehind(o.stopping && o.rec.batch.empty() && o.queue.count == 0)
	}
	if o.rec.batch.empty() {
		o.rec.batch.forget() // what was processed has left nothing
		return
	}
	o.rec.seal(o.rec.batch)
	o.out.Append, o.appending = o.rec.batch, o.rec.batch
	o.rec.begin()
}

// Advance takes what became of the append: partitions that are fenced are not stored, and after an error nobody knows.
func (o *Owner) Advance(now rpc.Instant, fenced []int32, err error) {
	o.setNow(now)
	b := o.appending
	o.appending = nil
	if err != nil {
		o.notAppended(b, err)
		return
	}
	o.health.appended()
	o.mem.stored = b.number
	o.mem.recent.trim(o.mem.stored)
	for _, d := range b.touched {
		o.mem.tables.rest(d, o.mem.stored)
	}
	o.rec.letters.forget(func(r removal) bool { return r.batch <= o.mem.stored })
	if len(fenced) > 0 {
		o.fenced(b, fenced)
	}
	o.leaveDone()
}

// notAppended drops the partitions of a batch of which nobody knows whether it is stored. They are claimed and loaded again, and then it shows.
func (o *Owner) notAppended(b *Batch, err error) {
	var outage *eventstore.OutageError
	o.health.outage = errors.As(err, &outage)
	o.health.problem = "the store is not available: " + err.Error()
	o.mem.notice(Notice{Kind: NoticeAppendFailed, Partitions: b.order, Count: int64(b.Events), Err: err})
	o.out.Release = append(o.out.Release, Release{Batch: b, only: b.storeless()})
	if !b.blame(err) {
		o.health.backOff(o.mem.now)
	}
	again := map[int32][]*pending{}
	for i := range b.messages {
		m := &b.messages[i]
		again[m.Partition] = append(again[m.Partition], m)
	}
	var gone []int32
	for _, n := range b.order {
		if p := &o.mem.parts[n]; p.state == leaving {
			o.out.redirect(again[n])
			o.left(n)
		} else {
			p.unsure = &unconfirmed{batch: b, messages: again[n]}
			gone = append(gone, n)
		}
	}
	o.queue.putBack(o.drop(gone))
}

// storeless are the partitions of which nothing is to be stored: their answers depend on no append.
func (b *Batch) storeless() []int32 {
	out := []int32{}
	for i := range b.messages {
		if p := b.messages[i].Partition; !slices.Contains(b.order, p) && !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

// blame marks the messages of a batch that the store refuses: alone, a message is rejected; of several, each gets a batch of its own. It answers false if no message is to
// blame.
func (b *Batch) blame(err error) bool {
	var conflict *eventstore.ConflictError
	var refused *eventstore.RefusedError
	if !errors.As(err, &conflict) && !errors.As(err, &refused) || len(b.messages) == 0 {
		return false // also if rows are refused that are written behind
	}
	for i := range b.messages {
		m := &b.messages[i]
		m.suspect = true
		if len(b.messages) == 1 {
			m.poison, m.skip = err, b.rejects != nothing
		}
	}
	return b.rejects != skipped
}

// fenced forgets partitions that another process has claimed. What was decided of them since has not happened.
func (o *Owner) fenced(b *Batch, partitions []int32) {
	o.mem.notice(Notice{Kind: NoticeFenced, Partitions: partitions})
	var messages []*pending
	for i := range b.messages {
		if slices.Contains(partitions, b.messages[i].Partition) {
			messages = append(messages, &b.messages[i])
		}
	}
	messages = append(messages, o.drop(partitions)...)
	if !o.mem.config.Shared {
		o.queue.putBack(messages)
		return
	}
	for _, n := range partitions {
		o.mem.parts[n].reading, o.mem.parts[n].again = false, o.mem.now.Add(claimFenced)
	}
	o.out.Unread = append(o.out.Unread, partitions...)
	o.out.redirect(messages)
}

// Stop lets the owner take nothing new: it stores what is decided and what is written behind.
func (o *Owner) Stop(now rpc.Instant) {
	o.setNow(now)
	o.stopping = true
	o.health.pause = 0 // this is the last chance
	for i := range o.mem.parts {
		for _, d := range o.mem.tables.inPartition(int32(i)) {
			o.queue.resumeLingering(d)
		}
	}
	o.advanceLines()
}

// Abandon gives up what still waits after Stop: what the inbox keeps comes again, the senders of the rest can try again.
func (o *Owner) Abandon(now rpc.Instant) {
	o.setNow(now)
	for _, p := range o.queue.take(func(int32) bool { return true }) {
		if !p.own && !kept(&p.Message) {
			o.out.Completed = append(o.out.Completed, completionOf(&p.Message, wire.ErrStopping))
		}
	}
}

// Idle tells whether nothing waits and nothing is to be stored any more, after Stop.
func (o *Owner) Idle() bool {
	return o.Stored() && o.queue.count == 0 && !slices.ContainsFunc(o.mem.parts, func(p partition) bool {
		return p.state == owned && p.stale()
	})
}
