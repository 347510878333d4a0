package owner

import (
	"time"

	"callchain/engine/bus"
	"callchain/engine/rpc"
	"callchain/engine/step"
)

// setNow takes the time. When the clock was set back, what waits for a time of the old clock would wait too long: waits move with it. Deadlines do not.
func (o *Owner) setNow(now rpc.Instant) {
	if by := o.now.Time().Sub(now.Time()); by > 0 && o.now != 0 {
		o.moveWaits(-by)
	}
	o.now = now
}

func (o *Owner) moveWaits(by time.Duration) {
	move := func(at *rpc.Instant) {
		if *at != 0 {
			*at = at.Add(by)
		}
	}
	move(&o.health.pause)
	move(&o.letters.warned)
	move(&o.peers.blind)
	for i := range o.peers.unconfirmed {
		move(&o.peers.unconfirmed[i].until)
	}
	for i := range o.lingering {
		move(&o.lingering[i].until)
	}
	for _, r := range o.reads.waiting {
		move(&r.again)
	}
	for i := range o.parts {
		p := &o.parts[i]
		move(&p.again)
		move(&p.flushed)
		move(&p.leaving)
		if p.barrier != nil {
			move(&p.barrier.until)
		}
	}
}

// passTime processes what was due at a time, now or shortly before: lingering facts, the deadlines of calls and the waits of runs.
func (o *Owner) passTime(upTo rpc.Instant) {
	o.closeUnconfirmed()
	for !o.blocked() {
		d := o.lingering.due(upTo)
		if d == nil {
			break
		}
		o.resumeLingering(d)
	}
	for !o.blocked() {
		t := o.tables.timers.due(upTo)
		if t == nil {
			break
		}
		o.fire(t, upTo)
	}
	o.advanceLines()
}

// fire processes the command of a timer, if its time has really come. A timer waits behind messages of its device that wait: an answer may be among them.
func (o *Owner) fire(t *timer, upTo rpc.Instant) {
	d := t.device
	for _, key := range [...]lineKey{{bus.RPC, d.partition, d.id}, {lane: bus.RPC, partition: d.partition}} {
		if one := o.lines.of(key); one != nil {
			one.held = append(one.held, t)
			return
		}
	}
	cmd := step.Command{Meta: rpc.Meta{Actor: "system", Cause: causeTimer}, Device: d.id, Do: step.Wake{Run: t.id, Token: t.token}}
	if t.token == 0 {
		if at := o.dueAt(t, upTo); at > upTo || at == 0 {
			o.tables.timers.set(t, at)
			return
		}
		cmd.Do = step.RPC{Do: rpc.Tick{Call: t.id}}
	}
	o.give(bus.Message{Partition: d.partition, Lane: bus.RPC, Key: d.id, Value: cmd}, false)
	o.advanceLines()
}

// causeTimer is the cause of the commands of timers.
const causeTimer = "timer"

func isTimer(value any) bool {
	cmd, ok := value.(step.Command)
	return ok && cmd.Cause == causeTimer
}

// dueAt is when a call is due, 0 if it is not open. A tick finds all that is due by the clock: the end of the call must not come before the answers that wait were looked at.
func (o *Owner) dueAt(t *timer, upTo rpc.Instant) rpc.Instant {
	c := t.device.state.Find(t.id)
	if c == nil {
		return 0
	}
	at := t.device.state.NextDeadline(c)
	if at <= upTo && c.Expires > upTo && c.Expires <= o.now {
		at = c.Expires
	}
	return at
}

// resumeTimers lets the timers go on that waited behind a line.
func (o *Owner) resumeTimers(one *line) {
	for _, t := range one.held {
		o.tables.timers.set(t, t.at)
	}
	one.held = nil
}

// lookAgain is how often it is looked whether the inbox has caught up.
const lookAgain = 10 * time.Millisecond

// wake is when the owner has something to do if nothing comes.
func (o *Owner) wake() rpc.Instant {
	const flush = time.Second // of what is written behind
	next := o.now.Add(flush)
	sooner := func(at rpc.Instant) {
		if at != 0 && at < next {
			next = at
		}
	}
	for i := range o.parts {
		switch p := &o.parts[i]; p.state {
		case others:
			if p.wanted && !o.claims() && !o.stopping {
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
	for _, r := range o.reads.waiting {
		sooner(r.again)
	}
	if o.now < o.health.pause {
		sooner(o.health.pause)
		return next
	}
	if o.blocked() {
		return next // a batch must be stored first
	}
	if o.catching {
		sooner(o.now.Add(lookAgain)) // no deadline passes before what is kept was taken
		return next
	}
	if len(o.peers.unconfirmed) > 0 {
		sooner(o.peers.unconfirmed[0].until)
	}
	sooner(o.tables.timers.next())
	sooner(o.lingering.next())
	return next
}
