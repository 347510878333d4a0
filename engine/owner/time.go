package owner

import (
	"time"

	"callchain/engine/bus"
	"callchain/engine/rpc"
	"callchain/engine/step"
)

// setNow sets the time. When the clock was set back, retry and wait times move back with it; deadlines do not.
func (o *Owner) setNow(now rpc.Instant) {
	if by := now.Time().Sub(o.mem.now.Time()); by < 0 && o.mem.now != 0 {
		waits := append(o.queue.waitTimes(), &o.health.pause, &o.rec.deadLetterRows.warned, &o.pre.peers.joining)
		for i := range o.pre.peers.unconfirmed {
			waits = append(waits, &o.pre.peers.unconfirmed[i].until)
		}
		for i := range o.mem.parts {
			waits = append(waits, o.mem.parts[i].waitTimes()...)
		}
		for _, at := range waits {
			if *at != 0 {
				*at = at.Add(by)
			}
		}
	}
	o.mem.now = now
}

// waitTimes are the times that move with the clock.
func (q *queue) waitTimes() (out []*rpc.Instant) {
	for i := range q.lingering {
		out = append(out, &q.lingering[i].until)
	}
	for _, r := range q.failed {
		out = append(out, &r.retryAt)
	}
	return out
}

// waitTimes are the times that move with the clock.
func (p *partition) waitTimes() []*rpc.Instant {
	out := []*rpc.Instant{&p.claimAt, &p.flushed, &p.leaving}
	if p.barrier != nil {
		out = append(out, &p.barrier.until)
	}
	return out
}

// fireDue processes what is due up to a time: unconfirmed sessions, lingering facts, deadlines of calls and waits of runs.
func (o *Owner) fireDue(upTo rpc.Instant) {
	for _, m := range o.pre.expireUnconfirmed() {
		o.queue.enqueue(m, false)
	}
	for !o.blocked() && o.queue.resumeDue(upTo) {
		o.advanceLines()
	}
	o.advanceLines()
}

// resumeDue resumes one due thing, lingering facts first; false: nothing is due.
func (q *queue) resumeDue(upTo rpc.Instant) bool {
	if d := q.lingering.due(upTo); d != nil {
		q.resumeLingering(d)
		return true
	}
	t := q.tables.timers.due(upTo)
	if t != nil {
		q.fire(t, upTo)
	}
	return t != nil
}

// fire enqueues the command of a due timer. It waits behind queued messages of its device: an answer may be among them.
func (q *queue) fire(t *timer, upTo rpc.Instant) {
	d := t.device
	for _, key := range [...]lineKey{{bus.RPC, d.partition, d.id}, {lane: bus.RPC, partition: d.partition}} {
		if one := q.lineOf(key); one != nil {
			one.held = append(one.held, t)
			return
		}
	}
	cmd := step.Command{Meta: rpc.Meta{Actor: "system", Cause: causeTimer}, Device: d.id, Do: step.Wake{Run: t.id, Token: t.token}}
	if t.token == 0 {
		if at := q.dueAt(t, upTo); at > upTo || at == 0 {
			q.tables.timers.set(t, at)
			return
		}
		cmd.Do = step.RPC{Do: rpc.Tick{Call: t.id}}
	}
	q.enqueue(bus.Message{Partition: d.partition, Lane: bus.RPC, Key: d.id, Value: cmd}, false)
}

// causeTimer is the cause of the commands of timers.
const causeTimer = "timer"

func isTimer(value any) bool {
	cmd, ok := value.(step.Command)
	return ok && cmd.Cause == causeTimer
}

// resumeTimers sets the timers again that waited behind a line.
func (q *queue) resumeTimers(one *line) {
	for _, t := range one.held {
		q.tables.timers.set(t, t.at)
	}
	one.held = nil
}

// catchUpPoll is how often the owner checks whether the inbox has caught up.
const catchUpPoll = 10 * time.Millisecond

// nextWake is when the owner has work if no message comes.
func (o *Owner) nextWake() rpc.Instant {
	const flush = time.Second // of write-behind rows
	next := o.mem.now.Add(flush)
	sooner := func(at rpc.Instant) {
		if at != 0 && at < next {
			next = at
		}
	}
	for i := range o.mem.parts {
		switch p := &o.mem.parts[i]; p.state {
		case others:
			if p.wanted && !claims(o.mem.parts) && !o.stopping {
				sooner(max(p.claimAt, 1))
			}
		case owned:
			if p.barrier != nil {
				sooner(p.barrier.until)
			}
		case leaving:
			sooner(p.leaving)
		case claiming:
		}
	}
	for _, r := range o.queue.failed {
		sooner(r.retryAt)
	}
	if o.mem.now < o.health.pause {
		sooner(o.health.pause)
		return next
	}
	if o.blocked() {
		return next // a batch must be stored first
	}
	if o.catching {
		sooner(o.mem.now.Add(catchUpPoll)) // no deadline passes before the backlog is taken
		return next
	}
	if len(o.pre.peers.unconfirmed) > 0 {
		sooner(o.pre.peers.unconfirmed[0].until)
	}
	sooner(o.mem.tables.timers.next())
	sooner(o.queue.lingering.next())
	return next
}
