package sim

import (
	"slices"
	"time"

	"callchain/engine/cluster"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/engine/wire"
	"callchain/transports"

	"github.com/google/uuid"
)

// group assigns the partitions to the live processes, as a consumer group does.
type group struct {
	w      *world
	holder [partitions]*process // the process that it is assigned to; nil: none
	moving [partitions]bool     // its holder was asked to give it up
}

// share assigns the partitions at random. A holder gives a partition up before it moves.
func (g *group) share() {
	able := slices.DeleteFunc(slices.Clone(g.w.processes), func(p *process) bool { return p.frozen || p.unfit })
	g.w.report.Rebalances++
	for n := range g.holder {
		held := g.holder[n]
		if held != nil && !slices.Contains(able, held) {
			if slices.Contains(g.w.processes, held) && held.unfit && !held.frozen {
				g.move(int32(n))
				continue
			}
			g.holder[n], held = nil, nil // it is expelled
			g.moving[n] = false
		}
		if len(able) == 0 || g.moving[n] {
			continue
		}
		next := able[g.w.rng.IntN(len(able))]
		switch {
		case held == nil:
			g.holder[n] = next
		case next != held:
			g.move(int32(n))
		}
	}
	g.assign()
}

// move asks the holder of a partition to give it up, until a timeout.
func (g *group) move(n int32) {
	const longest = 10 * time.Second
	held := g.holder[n]
	g.moving[n] = true
	held.revoke(n, func() { g.left(n, held) })
	g.w.after(longest, func() { g.left(n, held) })
}

// left gives a partition to another process.
func (g *group) left(n int32, held *process) {
	if g.holder[n] != held || !g.moving[n] {
		return
	}
	g.holder[n], g.moving[n] = nil, false
	able := slices.DeleteFunc(slices.Clone(g.w.processes), func(p *process) bool { return p.frozen || p.unfit })
	if len(able) > 0 {
		g.holder[n] = able[g.w.rng.IntN(len(able))]
	}
	g.assign()
}

// assign sends each process its assignment.
func (g *group) assign() {
	for _, p := range g.w.processes {
		if p.frozen {
			continue // it gets it when it resumes
		}
		var mine []int32
		for n, held := range g.holder {
			if held == p && !g.moving[n] {
				mine = append(mine, int32(n))
			}
		}
		p.owner.Assign(p.now(), mine)
	}
}

// The times of messages between processes.
const (
	messageDelay = 600 * time.Millisecond // until a heartbeat or a claim arrives
	silence      = cluster.DeadAfter + time.Second
)

// start starts a process of a node.
func (w *world) start(node string) {
	w.runs++
	p := newProcess(w, node)
	w.group.w = w
	w.processes = append(w.processes, p)
	p.peersChanged(nil)
	for _, other := range slices.Clone(w.processes) {
		if other != p {
			w.after(w.within(messageDelay), func() { other.peersChanged(w.runsBefore(p)) })
		}
	}
	w.group.share()
}

// runsBefore are the runs of a process's node before it.
func (w *world) runsBefore(p *process) (gone []string) {
	for _, name := range w.promises.dead {
		if cluster.NodeOf(name) == p.node {
			gone = append(gone, name)
		}
	}
	return gone
}

// peersChanged gives a process the live processes, and the dead ones.
func (p *process) peersChanged(gone []string) {
	if !p.alive || p.w.bus == nil {
		return
	}
	var live []string
	for _, other := range p.w.processes {
		if other != p {
			live = append(live, other.name)
		}
	}
	slices.Sort(live)
	p.owner.Peers(live, p.began.Add(2*time.Second))
	if len(gone) > 0 {
		p.owner.ProcessesLost(p.now(), gone)
	}
}

// announce announces a claim to the others, which report their sessions and callers.
func (p *process) announce(n int32, epoch int64) {
	for _, other := range p.w.processes {
		if other != p {
			p.w.after(p.w.within(messageDelay), func() { other.reportTo(n, epoch) })
		}
	}
}

// reportTo reports the sessions and the callers here to the new owner of a partition.
func (p *process) reportTo(n int32, epoch int64) {
	switch {
	case !p.alive:
		return
	case p.frozen:
		p.w.after(time.Second, func() { p.reportTo(n, epoch) })
		return
	}
	p.epochs[n] = max(p.epochs[n], epoch)
	for _, s := range p.sessionsIn(n) {
		for _, do := range s.sessionReport() {
			p.putCommand(n, true, p.command(s.device.id, step.RPC{Do: do}), nil) // this process may not know yet that it is not the owner
		}
	}
	p.putValue(n, wire.Confirm{Process: p.name, Partition: n, Epoch: epoch, Callers: p.callersIn(n)})
}

// session is a session of a device with a process.
type session struct {
	id         uuid.UUID
	device     *device
	process    *process
	since      rpc.Instant // by the clock of the process
	subscribed bool
	given      map[attempt]bool
}

type attempt struct {
	call   uuid.UUID
	number int16
}

// sessionReport is the commands that report a session to a new owner.
func (s *session) sessionReport() []rpc.Action {
	out := []rpc.Action{rpc.Connect{Session: s.id, Transport: transports.MQTT, Node: s.process.node, Process: s.process.run, Since: s.since}}
	if s.subscribed {
		out = append(out, rpc.Subscribe{Session: s.id, Resumed: true})
	}
	return out
}
