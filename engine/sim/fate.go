package sim

import (
	"context"
	"slices"
	"time"

	"callchain/engine/rpc"
	"callchain/eventstore"
)

// crash ends the process: what was in its memory is lost, with its sessions and callers. It is started again.
func (p *process) crash(when string) {
	if !p.alive {
		return
	}
	w := p.w
	w.report.Crashes++
	w.log("%s CRASHES %s", p.name, when)
	p.alive = false
	w.promises.dead = append(w.promises.dead, p.name)
	w.processes = slices.DeleteFunc(w.processes, func(one *process) bool { return one == p })
	if p.place != nil {
		p.place.Kill()
	}
	for _, d := range w.devices {
		if d.session != nil && d.session.process == p {
			d.lose("its server has crashed")
		}
	}
	w.after(silence, func() {
		for _, other := range slices.Clone(w.processes) {
			other.peersChanged([]string{p.name})
		}
	})
	if len(w.processes) == 0 {
		w.start(p.node)
		return
	}
	w.after(w.within(3*time.Second), w.group.share)
	w.after(time.Second+w.within(15*time.Second), func() { w.start(p.node) })
}

// freeze stops the process for a while, as SIGSTOP does. The others go on without it.
func (p *process) freeze() {
	if p.frozen || len(p.w.processes) == 1 {
		return
	}
	p.w.report.Freezes++
	p.w.log("%s FREEZES", p.name)
	p.frozen = true
	p.place.Pause()
	p.w.after(p.w.within(3*time.Second), p.w.group.share)
	p.w.after(time.Second+p.w.within(8*time.Second), func() {
		if !p.alive {
			return
		}
		p.w.log("%s goes on", p.name)
		p.frozen, p.resumed = false, p.w.now
		p.place.Resume()
		p.after(p.w.within(2*time.Second), func() {
			p.w.group.assign()
			p.w.group.share()
		})
	})
}

// jump sets the process's clock. Alone, nobody sees that it is wrong by an hour.
func (p *process) jump() {
	p.w.report.ClockJumps++
	most := 2 * time.Second
	if len(p.w.processes) == 1 && p.w.chance(50) {
		most = time.Hour
	}
	p.clock = p.w.within(2*most) - most
	p.w.log("the clock of %s is %s off now", p.name, p.clock)
	p.resumed = p.w.now
	p.after(p.w.within(time.Minute), func() { p.clock, p.resumed = 0, p.w.now })
	p.after(0, func() {})
}

// older is the store as a program sees it that is older than what others write: the facts of calls are newer than it.
type older struct {
	eventstore.Store
	p *process
}

func (o older) Streams(ctx context.Context, streams []string, each func(*eventstore.Event) error) error {
	return o.Store.Streams(ctx, streams, func(e *eventstore.Event) error {
		switch {
		case !o.p.older || e.Type != (rpc.Sent{}).Name():
		case o.p.w.fault == NewerQuarantined:
			e.Data = []byte("{")
		default:
			e.TypeVersion++
		}
		return each(e)
	})
}
