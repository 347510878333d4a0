package owner

import (
	"bytes"
	"slices"
	"time"

	"callchain/engine/bus"
	"callchain/engine/cluster"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/engine/wire"
	"callchain/transports"

	"github.com/google/uuid"
)

// BarrierMost is how long a new owner waits at most until the other processes have told of their connections.
const BarrierMost = 2 * time.Second

// barrier is what a new owner waits for before it says of anybody that he is not there: all processes that live have told of their connections and
// their callers in the partition.
type barrier struct {
	waiting []string // processes that have not told
	blind   bool     // this process has just begun to hear the others: there may be more of them
	until   rpc.Instant
}

// peers are the other processes.
type peers struct {
	live        []string // sorted
	blind       rpc.Instant
	unconfirmed []unconfirmedSession // in the order of their time
}

// presence knows who is connected where, and who waits where.
type presence struct {
	*memory
	peers peers
}

// Peers tells which other processes live, and until when there may be more: this process has just begun to hear them.
func (o *Owner) Peers(live []string, blindUntil rpc.Instant) {
	o.pre.peers.live, o.pre.peers.blind = live, blindUntil
}

// barrier is the barrier of a partition that was just claimed; nil if there is nobody to wait for.
func (p *peers) barrier(now rpc.Instant) *barrier {
	blind := now < p.blind
	if len(p.live) == 0 && !blind {
		return nil
	}
	return &barrier{waiting: slices.Clone(p.live), blind: blind, until: now.Add(BarrierMost)}
}

func (p *peers) lives(process string) bool {
	_, found := slices.BinarySearch(p.live, process)
	return found
}

// unconfirmedSession is a session of a process that is not heard: it was lost before its Connect was taken, or it has just begun.
type unconfirmedSession struct {
	device, session uuid.UUID
	until           rpc.Instant
}

// unconfirmedMost bounds them; those beyond end when something is sent to them, or when their device comes back.
const unconfirmedMost = 100_000

// doubt notes a session of a process that is not heard.
func (pre *presence) doubt(d *device, session uuid.UUID) {
	if pre.config.Shared && d.home != pre.config.Process && !pre.peers.lives(d.home) && len(pre.peers.unconfirmed) < unconfirmedMost {
		pre.peers.unconfirmed = append(pre.peers.unconfirmed, unconfirmedSession{d.id, session, pre.now.Add(cluster.Silent)})
	}
}

// unconfirmedLost are the sessions of processes that are still not heard.
func (pre *presence) unconfirmedLost() (out []bus.Message) {
	p := &pre.peers
	for len(p.unconfirmed) > 0 && p.unconfirmed[0].until <= pre.now {
		one := p.unconfirmed[0]
		p.unconfirmed = p.unconfirmed[1:]
		if d := pre.tables.devices[one.device]; d != nil && d.state.Session.ID == one.session && !p.lives(d.home) {
			out = append(out, lost(d))
		}
	}
	return out
}

// gone are the sessions of processes that live no more. Nobody waits for these.
func (pre *presence) gone(processes []string) (out []bus.Message) {
	for _, d := range pre.tables.devices {
		if d.home != "" && slices.Contains(processes, d.home) {
			out = append(out, lost(d))
		}
	}
	slices.SortFunc(out, func(a, b bus.Message) int { return bytes.Compare(a.Key[:], b.Key[:]) })
	for i := range pre.parts {
		if b := pre.parts[i].barrier; b != nil {
			b.waiting = slices.DeleteFunc(b.waiting, func(one string) bool { return slices.Contains(processes, one) })
		}
	}
	return out
}

// liftLate ends the waiting for processes that do not tell.
func (pre *presence) liftLate() {
	for i := range pre.parts {
		if part := &pre.parts[i]; part.barrier != nil && part.barrier.until <= pre.now && part.state == owned {
			part.lift()
		}
	}
}

// Gone closes the sessions of processes that live no more.
func (o *Owner) Gone(now rpc.Instant, processes []string) {
	o.setNow(now)
	for _, m := range o.pre.gone(processes) {
		o.queue.give(m, false)
	}
}

// lost is the end of a device's session whose process is gone.
func lost(d *device) bus.Message {
	return ownCommand(d.partition, d.id, rpc.Disconnect{Session: d.state.Session.ID, Why: string(transports.ReasonNodeLost)})
}

// ownCommand is a command that the owner gives itself.
func ownCommand(partition int32, device uuid.UUID, do rpc.Action) bus.Message {
	cmd := step.Command{Meta: rpc.Meta{Actor: "system", Cause: "recovery"}, Device: device, Do: step.RPC{Do: do}}
	return bus.Message{Partition: partition, Lane: bus.RPC, Key: device, Value: cmd}
}

// undecided refuses a call that would fail because its device is not connected, while that is not known yet.
func (dec *decision) undecided(m *bus.Message, cmd *step.Command, d *device, part *partition) bool {
	call, ok := cmd.Do.(step.Call)
	if !ok || !call.FailOffline || part.barrier == nil || d.state.Session.ID != uuid.Nil {
		return false
	}
	dec.refuse(m, wire.ErrUnready)
	return true
}

// confirm takes the word of another process.
func (o *Owner) confirm(c *wire.Confirm, part *partition) {
	if part.cp.Epoch != c.Epoch {
		return // it was for an owner before
	}
	for i := range c.Callers {
		o.queue.giveCaller(part, c.Process, c.Callers[i])
	}
	if b := part.barrier; b != nil {
		b.waiting = slices.DeleteFunc(b.waiting, func(p string) bool { return p == c.Process })
		if len(b.waiting) == 0 && !b.blind {
			part.lift()
		}
	}
}

// lift ends the waiting for other processes.
func (p *partition) lift() { p.barrier, p.orphans = nil, true }

// callerWaiting is a message of the owner to itself: somebody in a process waits for a call.
type callerWaiting struct {
	process string
	caller  wire.Caller
}

// callerWaits notes a caller. One whose call has ended missed its end: it is told again. It answers false if something must be read first.
func (dec *decision) callerWaits(p *pending, w *callerWaiting) bool {
	part := &dec.parts[p.Partition]
	d, err := dec.deviceOf(p, &step.Command{Device: w.caller.Device, Do: step.RPC{}})
	if err != nil || dec.missing {
		return err != nil
	}
	c := d.state.Find(w.caller.Call)
	if c == nil {
		past, ended, ok := dec.past(p, d, w.caller.Call)
		if !ended {
			return ok // its command is still on the way, or it is another's
		}
		c = &past.Call
	}
	switch {
	case !bytes.Equal(c.Content[:], w.caller.Content):
		return true
	case !c.Phase.Terminal() && !(c.Persistent && c.Phase >= rpc.PhaseQueued):
		dec.awaitedBy(dec.tables.calls[c.ID], w.process)
		return true
	}
	out, ok := dec.endOf(p, d, c)
	if ok {
		dec.batch.effects = append(dec.batch.effects, Effect{
			Partition: part.number, Epoch: part.cp.Epoch, Do: out, To: []string{w.process}, Content: w.caller.Content,
		})
	}
	return ok
}

// endOrphans ends the light calls that were not sent, and that nobody waits for: they are not sent any more. It comes behind everything that was kept: an
// answer of the device may be among it, and proves that the call was sent.
func (o *Owner) endOrphans() {
	for i := range o.mem.parts {
		part := &o.mem.parts[i]
		kept := lineKey{lane: bus.RPC, partition: part.number}
		if !part.orphans || part.state != owned || part.callers > 0 || o.queue.of(kept) != nil {
			continue
		}
		part.orphans = false
		for _, d := range o.mem.tables.inPartition(part.number) {
			if hasWaiting(d) {
				o.queue.give(ownCommand(part.number, d.id, rpc.Recover{}), false)
			}
		}
	}
	o.advanceLines()
}

// hasWaiting tells whether a device has light calls that somebody waited for.
func hasWaiting(d *device) bool {
	for call := range d.state.Open.All() {
		if call.Waiting {
			return true
		}
	}
	return false
}
