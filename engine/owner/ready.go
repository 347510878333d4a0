package owner

import (
	"errors"
	"slices"

	"callchain/engine/bus"
	"callchain/engine/rpc"
	"callchain/engine/wire"
	"callchain/eventstore"
)

// Ready is the work to do. Each part is given once.
type Ready struct {
	Append      *Batch        // to be appended; then Advance
	Release     []Release     // to be released now
	Reads       []Read        // each to be answered with Answered
	Claim       []Claim       // to be claimed and loaded; then Claimed
	CancelClaim bool          // the claim under way is to end at once
	Unread      []int32       // the inbox must stop delivering them; then Returned
	Left        []int32       // partitions that the next owner may claim
	Dropped     []int32       // partitions whose memory was dropped
	Misrouted   []bus.Message // to be sent to the owners of their partitions
	Completed   []Completion  // that wait for no append
	Notices     []Notice
	Changed     bool        // what is owned, or the status, may have changed
	Wake        rpc.Instant // when the owner has something to do if nothing comes
}

// Ready returns the work to do now.
func (o *Owner) Ready(now rpc.Instant) Ready {
	o.setNow(now)
	o.finishLeaves()
	o.pre.liftExpired()
	o.queue.retryReads()
	o.advanceLines()
	o.claim()
	if o.appending == nil && now >= o.health.pause {
		o.handOver()
	}
	out := o.out
	out.Reads, out.Notices, out.Wake = o.queue.wanted, o.mem.notices, o.nextWake()
	o.out, o.queue.wanted, o.mem.notices = Ready{}, nil, nil
	return out
}

// handOver hands the batch out to be appended, if it is not empty.
func (o *Owner) handOver() {
	if !o.rec.batch.closed {
		o.flushBehind(o.stopping && o.rec.batch.empty() && o.queue.count == 0)
	}
	if o.rec.batch.empty() {
		o.rec.batch.forget() // its messages changed nothing
		return
	}
	o.rec.seal(o.rec.batch)
	o.out.Append, o.appending = o.rec.batch, o.rec.batch
	o.rec.begin()
}

// Advance takes the result of the append: fenced partitions are not stored, and after an error it is unknown what is.
func (o *Owner) Advance(now rpc.Instant, fenced []int32, err error) {
	o.setNow(now)
	b := o.appending
	o.appending = nil
	if err != nil {
		o.appendFailed(b, err)
		return
	}
	o.health.appended()
	o.mem.stored = b.number
	o.mem.recent.trim(o.mem.stored)
	for i := range b.endings {
		o.mem.recent.bodies.drop(b.endings[i].Call, o.mem.stored) // hardly anybody asks for it again
	}
	for _, d := range b.touched {
		o.mem.tables.retire(d, o.mem.stored)
	}
	o.rec.deadLetterRows.forget(func(r removal) bool { return r.batch <= o.mem.stored })
	if len(fenced) > 0 {
		o.dropFenced(b, fenced)
	}
	o.finishLeaves()
}

// appendFailed drops the partitions of a batch that may or may not be stored. Claiming and loading them again shows which.
func (o *Owner) appendFailed(b *Batch, err error) {
	var outage *eventstore.OutageError
	o.health.outage = errors.As(err, &outage)
	o.health.problem = "the store is not available: " + err.Error()
	o.mem.notice(Notice{Kind: NoticeAppendFailed, Partitions: b.order, Count: int64(b.Events), Err: err})
	o.out.Release = append(o.out.Release, Release{Batch: b, only: b.partitionsWithoutWrites()})
	if !b.markSuspects(err) {
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
			o.finishLeave(n)
		} else {
			p.uncertain = &uncertainAppend{batch: b, messages: again[n]}
			gone = append(gone, n)
		}
	}
	o.queue.putBack(o.drop(gone))
}

// partitionsWithoutWrites are the partitions without anything to store: their answers do not depend on the append.
func (b *Batch) partitionsWithoutWrites() []int32 {
	out := []int32{}
	for i := range b.messages {
		if p := b.messages[i].Partition; !slices.Contains(b.order, p) && !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

// markSuspects marks the messages of a batch that the store refuses: a single message is rejected, several get a batch each. It returns false if the error is no refusal of
// messages.
func (b *Batch) markSuspects(err error) bool {
	var conflict *eventstore.ConflictError
	var refused *eventstore.RefusedError
	if !errors.As(err, &conflict) && !errors.As(err, &refused) || len(b.messages) == 0 {
		return false // also if the store refuses write-behind rows
	}
	for i := range b.messages {
		m := &b.messages[i]
		m.suspect = true
		if len(b.messages) == 1 {
			m.poison, m.skip = err, b.rejection != rejectsNothing
		}
	}
	return b.rejection != rejectsDeadLetter
}

// dropFenced drops partitions that another process has claimed, with everything decided since.
func (o *Owner) dropFenced(b *Batch, partitions []int32) {
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
		o.mem.parts[n].reading, o.mem.parts[n].claimAt = false, o.mem.now.Add(claimFenced)
	}
	o.out.Unread = append(o.out.Unread, partitions...)
	o.out.redirect(messages)
}

// Stop ends taking messages: the owner stores what is decided, and the write-behind rows.
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

// Abandon gives up what still waits after Stop: durable messages come again, and the senders of the others get ErrStopping.
func (o *Owner) Abandon(now rpc.Instant) {
	o.setNow(now)
	for _, p := range o.queue.removePartitions(func(int32) bool { return true }) {
		if !p.own && !durable(&p.Message) {
			o.out.Completed = append(o.out.Completed, completionOf(&p.Message, wire.ErrStopping))
		}
	}
}

// Idle reports whether everything is processed and stored, after Stop.
func (o *Owner) Idle() bool {
	return o.Stored() && o.queue.count == 0 && !slices.ContainsFunc(o.mem.parts, func(p partition) bool {
		return p.state == owned && p.stale()
	})
}
