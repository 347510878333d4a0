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

// BarrierMost bounds how long a new owner waits for the other processes to report their connections.
const BarrierMost = 2 * time.Second

// barrier is what a new owner waits for before it treats a device as offline or a caller as gone: every live process has reported its connections
// and callers in the partition.
type barrier struct {
	waiting []string // processes that have not reported
	joining bool     // this process has just begun to receive heartbeats: there may be more processes
	until   rpc.Instant
}

// peers are the other processes.
type peers struct {
	live        []string // sorted
	joining     rpc.Instant
	unconfirmed []unconfirmedSession // in the order of their time
}

// presence knows who is connected where, and who waits where.
type presence struct {
	*memory
	peers peers
}

// Peers sets which other processes live. Until joiningUntil there may be more: this process has just begun to receive heartbeats.
func (o *Owner) Peers(live []string, joiningUntil rpc.Instant) {
	o.pre.peers.live, o.pre.peers.joining = live, joiningUntil
}

// barrier is the barrier of a partition that was just claimed; nil without other processes.
func (p *peers) barrier(now rpc.Instant) *barrier {
	joining := now < p.joining
	if len(p.live) == 0 && !joining {
		return nil
	}
	return &barrier{waiting: slices.Clone(p.live), joining: joining, until: now.Add(BarrierMost)}
}

func (p *peers) lives(process string) bool {
	_, found := slices.BinarySearch(p.live, process)
	return found
}

// unconfirmedSession is a session of a process without heartbeats: the process died before its Connect was taken, or has just started.
type unconfirmedSession struct {
	device, session uuid.UUID
	until           rpc.Instant
}

// unconfirmedMost bounds them; those beyond end when something is sent to them, or when their device comes back.
const unconfirmedMost = 100_000

// addUnconfirmed notes a session of a process without heartbeats.
func (pre *presence) addUnconfirmed(d *device, session uuid.UUID) {
	if pre.config.Shared && d.home != pre.config.Process && !pre.peers.lives(d.home) && len(pre.peers.unconfirmed) < unconfirmedMost {
		pre.peers.unconfirmed = append(pre.peers.unconfirmed, unconfirmedSession{d.id, session, pre.now.Add(cluster.DeadAfter)})
	}
}

// expireUnconfirmed closes the sessions of processes that sent no heartbeat in time.
func (pre *presence) expireUnconfirmed() (out []bus.Message) {
	p := &pre.peers
	for len(p.unconfirmed) > 0 && p.unconfirmed[0].until <= pre.now {
		one := p.unconfirmed[0]
		p.unconfirmed = p.unconfirmed[1:]
		if d := pre.tables.devices[one.device]; d != nil && d.state.Session.ID == one.session && !p.lives(d.home) {
			out = append(out, nodeLost(d))
		}
	}
	return out
}

// closeLost closes the sessions of dead processes, and takes these processes out of the barriers.
func (pre *presence) closeLost(processes []string) (out []bus.Message) {
	for _, d := range pre.tables.devices {
		if d.home != "" && slices.Contains(processes, d.home) {
			out = append(out, nodeLost(d))
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

// liftExpired lifts the barriers whose processes did not report in time.
func (pre *presence) liftExpired() {
	for i := range pre.parts {
		if part := &pre.parts[i]; part.barrier != nil && part.barrier.until <= pre.now && part.state == owned {
			part.lift()
		}
	}
}

// ProcessesLost closes the sessions of dead processes.
func (o *Owner) ProcessesLost(now rpc.Instant, processes []string) {
	o.setNow(now)
	for _, m := range o.pre.closeLost(processes) {
		o.queue.enqueue(m, false)
	}
}

// nodeLost is the end of a device's session whose process is gone.
func nodeLost(d *device) bus.Message {
	return ownCommand(d.partition, d.id, rpc.Disconnect{Session: d.state.Session.ID, Why: string(transports.ReasonNodeLost)})
}

// ownCommand is a command that the owner gives itself.
func ownCommand(partition int32, device uuid.UUID, do rpc.Action) bus.Message {
	cmd := step.Command{Meta: rpc.Meta{Actor: "system", Cause: "recovery"}, Device: device, Do: step.RPC{Do: do}}
	return bus.Message{Partition: partition, Lane: bus.RPC, Key: device, Value: cmd}
}

// refuseUnready refuses a call that fails when its device is offline, while the barrier leaves that open.
func (dec *decision) refuseUnready(m *bus.Message, cmd *step.Command, d *device, part *partition) bool {
	call, ok := cmd.Do.(step.Call)
	if !ok || !call.FailOffline || part.barrier == nil || d.state.Session.ID != uuid.Nil {
		return false
	}
	dec.refuse(m, wire.ErrUnready)
	return true
}

// confirm takes the report of another process about its callers.
func (o *Owner) confirm(c *wire.Confirm, part *partition) {
	if part.cp.Epoch != c.Epoch {
		return // it was for an earlier owner
	}
	for i := range c.Callers {
		o.queue.enqueueCaller(part, c.Process, c.Callers[i])
	}
	if b := part.barrier; b != nil {
		b.waiting = slices.DeleteFunc(b.waiting, func(p string) bool { return p == c.Process })
		if len(b.waiting) == 0 && !b.joining {
			part.lift()
		}
	}
}

// lift ends the wait for other processes.
func (p *partition) lift() { p.barrier, p.endUnawaited = nil, true }

// callerWaiting is a message of the owner to itself: a caller waits in a process.
type callerWaiting struct {
	process string
	caller  wire.Caller
}

// callerWaits notes a caller. If its call has ended it missed the end, which is sent again. It returns false if something must be read first.
func (dec *decision) callerWaits(p *pending, w *callerWaiting) bool {
	part := &dec.parts[p.Partition]
	d, err := dec.deviceOf(p, &step.Command{Device: w.caller.Device, Do: step.RPC{}})
	if err != nil || dec.missing {
		return err != nil
	}
	c := d.state.Find(w.caller.Call)
	if c == nil {
		past, ended, ok := dec.lookUpEnded(p, d, w.caller.Call)
		if !ended {
			return ok // its command is still on the way, or the call is another device's
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

// endUnawaitedCalls ends the light calls that were not sent and have no caller left. It comes after the durable messages: a device's answer among them proves
// that a call was sent.
func (o *Owner) endUnawaitedCalls() {
	for i := range o.mem.parts {
		part := &o.mem.parts[i]
		durableLine := lineKey{lane: bus.RPC, partition: part.number}
		if !part.endUnawaited || part.state != owned || part.callers > 0 || o.queue.lineOf(durableLine) != nil {
			continue
		}
		part.endUnawaited = false
		for _, d := range o.mem.tables.inPartition(part.number) {
			if hasAwaitedCalls(d) {
				o.queue.enqueue(ownCommand(part.number, d.id, rpc.Recover{}), false)
			}
		}
	}
	o.advanceLines()
}

// hasAwaitedCalls reports whether a device has light calls that had a caller.
func hasAwaitedCalls(d *device) bool {
	for call := range d.state.Open.All() {
		if call.Waiting {
			return true
		}
	}
	return false
}
