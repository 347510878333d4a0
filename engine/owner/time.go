package owner

import (
	"time"

	"callchain/engine/bus"
	"callchain/engine/rpc"
	"callchain/engine/step"
)

// setNow takes the time. When the clock was set back, what waits for a time of the old clock would wait too long: waits move with it. Deadlines do not.
func (o *Owner) setNow(now rpc.Instant) {
	if by := now.Time().Sub(o.mem.now.Time()); by < 0 && o.mem.now != 0 {
		waits := append(o.queue.waits(), &o.health.pause, &o.rec.letters.warned, &o.pre.peers.blind)
		for i := range o.pre.peers.unconfirmed {
			waits = append(waits, &o.pre.peers.unconfirmed[i].until)
		}
		for i := range o.mem.parts {
			waits = append(waits, o.mem.parts[i].waits()...)
		}
		for _, at := range waits {
			if *at != 0 {
				*at = at.Add(by)
			}
		}
	}
	o.mem.now = now
}

// waits are the times that are waited for.
func (q *queue) waits() (out []*rpc.Instant) {
	for i := range q.lingering {
		out = append(out, &q.lingering[i].until)
	}
	for _, r := range q.failed {
		out = append(out, &r.again)
	}
	return out
}

// waits are the times that are waited for.
func (p *partition) waits() []*rpc.Instant {
	out := []*rpc.Instant{&p.again, &p.flushed, &p.leaving}
	if p.barrier != nil {
		out = append(out, &p.barrier.until)
	}
	return out
}

// passTime processes what was due at a time, now or shortly before: lingering facts, the deadlines of calls and the waits of runs.
func (o *Owner) passTime(upTo rpc.Instant) {
	for _, m := range o.pre.unconfirmedLost() {
		o.queue.give(m, false)
	}
	for !o.blocked() && o.queue.due(upTo) {
		o.advanceLines()
	}
	o.advanceLines()
}

// due lets go on what was due at a time, one thing at a time, lingering facts first; false: nothing was.
func (q *queue) due(upTo rpc.Instant) bool {
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

// fire gives the command of a timer, if its time has really come. A timer waits behind messages of its device that wait: an answer may be among them.
func (q *queue) fire(t *timer, upTo rpc.Instant) {
	d := t.device
	for _, key := range [...]lineKey{{bus.RPC, d.partition, d.id}, {lane: bus.RPC, partition: d.partition}} {
		if one := q.of(key); one != nil {
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
	q.give(bus.Message{Partition: d.partition, Lane: bus.RPC, Key: d.id, Value: cmd}, false)
}

// causeTimer is the cause of the commands of timers.
const causeTimer = "timer"

func isTimer(value any) bool {
	cmd, ok := value.(step.Command)
	return ok && cmd.Cause == causeTimer
}

// resumeTimers lets the timers go on that waited behind a line.
func (q *queue) resumeTimers(one *line) {
	for _, t := range one.held {
		q.tables.timers.set(t, t.at)
	}
	one.held = nil
}

// lookAgain is how often it is looked whether the inbox has caught up.
const lookAgain = 10 * time.Millisecond

// wake is when the owner has something to do if nothing comes.
func (o *Owner) wake() rpc.Instant {
	const flush = time.Second // of what is written behind
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
				sooner(max(p.again, 1))
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
		sooner(r.again)
	}
	if o.mem.now < o.health.pause {
		sooner(o.health.pause)
		return next
	}
	if o.blocked() {
		return next // a batch must be stored first
	}
	if o.catching {
		sooner(o.mem.now.Add(lookAgain)) // no deadline passes before what is kept was taken
		return next
	}
	if len(o.pre.peers.unconfirmed) > 0 {
		sooner(o.pre.peers.unconfirmed[0].until)
	}
	sooner(o.mem.tables.timers.next())
	sooner(o.queue.lingering.next())
	return next
}
