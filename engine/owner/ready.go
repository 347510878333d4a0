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
	o.leaveLate()
	o.liftLate()
	o.retryReads()
	o.advanceLines()
	o.claim()
	if o.appending == nil && now >= o.health.pause {
		o.handOver()
	}
	out := o.out
	o.out = Ready{}
	out.Wake = o.wake()
	return out
}

// handOver gives the batch to be appended, if there is something to append.
func (o *Owner) handOver() {
	if !o.gathering.closed {
		o.flushBehind(o.stopping && o.gathering.empty() && o.lines.count == 0)
	}
	if o.gathering.empty() {
		o.gathering.forget() // what was processed has left nothing
		return
	}
	o.seal(o.gathering)
	o.out.Append, o.appending = o.gathering, o.gathering
	o.begin()
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
	o.stored = b.number
	o.recent.trim(o.stored)
	for _, d := range b.touched {
		o.tables.rest(d, o.stored)
	}
	o.letters.forget(func(r removal) bool { return r.batch <= o.stored })
	if len(fenced) > 0 {
		o.fenced(b, fenced)
	}
	o.leaveStored()
}

// notAppended drops the partitions of a batch of which nobody knows whether it is stored. They are claimed and loaded again, and then it shows.
func (o *Owner) notAppended(b *Batch, err error) {
	var outage *eventstore.OutageError
	o.health.outage = errors.As(err, &outage)
	o.health.problem = "the store is not available: " + err.Error()
	o.notice(Notice{Kind: NoticeAppendFailed, Partitions: b.order, Count: int64(b.Events), Err: err})
	if !o.blame(b, err) {
		o.health.backOff(o.now)
	}
	again := map[int32][]*pending{}
	for i := range b.messages {
		m := &b.messages[i]
		again[m.Partition] = append(again[m.Partition], m)
	}
	var gone []int32
	for _, n := range b.order {
		if p := &o.parts[n]; p.state == leaving {
			o.putElsewhere(again[n])
			o.left(n)
		} else {
			p.unsure = &unconfirmed{batch: b, messages: again[n]}
			gone = append(gone, n)
		}
	}
	o.putBack(o.drop(gone))
}

// blame marks the messages of a batch that the store refuses: alone, a message is rejected; of several, each gets a batch of its own. It answers false if no message is to
// blame.
func (o *Owner) blame(b *Batch, err error) bool {
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
	o.notice(Notice{Kind: NoticeFenced, Partitions: partitions})
	var messages []*pending
	for i := range b.messages {
		if slices.Contains(partitions, b.messages[i].Partition) {
			messages = append(messages, &b.messages[i])
		}
	}
	messages = append(messages, o.drop(partitions)...)
	if !o.config.Shared {
		o.putBack(messages)
		return
	}
	for _, n := range partitions {
		o.parts[n].reading, o.parts[n].again = false, o.now.Add(claimFenced)
	}
	o.out.Unread = append(o.out.Unread, partitions...)
	o.putElsewhere(messages)
}

// Stop lets the owner take nothing new: it stores what is decided and what is written behind.
func (o *Owner) Stop(now rpc.Instant) {
	o.setNow(now)
	o.stopping = true
	o.health.pause = 0 // this is the last chance
	for _, d := range o.tables.devices {
		if len(d.lingering) > 0 {
			o.resumeLingering(d)
		}
	}
}

// Abandon gives up what still waits after Stop: what the inbox keeps comes again, the senders of the rest can try again.
func (o *Owner) Abandon(now rpc.Instant) {
	o.setNow(now)
	for _, p := range o.takeLines(func(int32) bool { return true }) {
		if !p.own && !kept(&p.Message) {
			o.out.Completed = append(o.out.Completed, completionOf(&p.Message, wire.ErrStopping))
		}
	}
}

// Idle tells whether nothing waits and nothing is to be stored any more, after Stop.
func (o *Owner) Idle() bool {
	return o.Stored() && o.lines.count == 0 && !slices.ContainsFunc(o.parts, func(p partition) bool {
		return p.state == owned && (p.behind.dirty() || p.moved)
	})
}
