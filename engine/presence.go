package engine

import (
	"bytes"
	"context"
	"slices"
	"time"

	"callchain/engine/bus"
	"callchain/engine/cluster"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/transports"

	"github.com/google/uuid"
)

// sureAfter is how long a new owner waits at most until the other nodes have told of their connections.
const sureAfter = 2 * time.Second

// unsure is what a new owner waits for before it says of anybody that he is not there: all nodes that live have told of the connections and
// the callers that they have.
type unsure struct {
	others []string // processes that have not told
	blind  bool     // this process has just begun to hear the others: there may be more of them
	until  time.Time
}

// confirm is a node's word that it has told of its connections in a partition, and who waits there. It comes through the inbox, behind them.
type confirm struct {
	Process   string    `json:"process"`
	Partition int32     `json:"partition"`
	Epoch     int64     `json:"epoch"` // of the claim that it answers
	Callers   []waiting `json:"callers,omitempty"`
}

// waiting is a call whose caller waits at a node.
type waiting struct {
	Tenant  uuid.UUID `json:"tenant"`
	Device  uuid.UUID `json:"device"`
	Call    uuid.UUID `json:"call"`
	Content []byte    `json:"content"` // digest of what the caller asked for
}

// undecided refuses a call that would fail because its device is not connected, while that is not known yet.
func (o *owner) undecided(m bus.Message, cmd step.Command, part *partition) bool {
	call, ok := cmd.Do.(step.Call)
	if !ok || !call.FailOffline || part.unsure == nil {
		return false
	}
	if d := o.state.Devices[cmd.Device]; d.Session.ID != uuid.Nil {
		return false
	}
	o.refuse(m, cmd, ErrUnready)
	return true
}

// rouse tells the devices of newly loaded partitions which connections of this process live, and whose callers are gone. first: there was
// nobody before; else the callers of this process still wait.
func (o *owner) rouse(mine func(int32) bool, first bool) {
	var out []bus.Message
	for _, s := range o.e.sessions.all() {
		if s.Aside || !mine(s.Identity.Partition) {
			continue
		}
		for _, do := range o.e.resume(&s) {
			out = append(out, synthetic(s.Identity.Partition, s.Identity.Device, do))
		}
	}
	slices.SortStableFunc(out, func(a, b bus.Message) int { return slices.Compare(a.Key[:], b.Key[:]) })
	o.replay = append(out, o.replay...)
	for p := range o.parts {
		if mine(int32(p)) && o.e.group != nil { // what they wait for may have ended at another node
			for _, w := range o.e.waiters.in(int32(p)) {
				o.waitsThere(&o.parts[p], o.e.incarnation, w)
			}
		}
		if part := &o.parts[p]; mine(int32(p)) && part.unsure == nil && (first || o.e.group != nil) {
			o.sure(int32(p))
		}
	}
}

// synthetic is a command that the owner gives itself.
func synthetic(partition int32, device uuid.UUID, do rpc.Action) bus.Message {
	cmd := step.Command{Meta: rpc.Meta{Actor: "system", Cause: "recovery"}, Device: device, Do: step.RPC{Do: do}}
	return bus.Message{Partition: partition, Lane: bus.RPC, Key: device, Value: cmd}
}

// confirmed takes the word of another node.
func (o *owner) confirmed(m bus.Message, c confirm) {
	part := &o.parts[m.Partition]
	o.batch.messages = append(o.batch.messages, m)
	defer o.passed(m)
	if part.cp.Epoch != c.Epoch {
		return // it was for an owner before
	}
	for _, w := range c.Callers {
		o.waitsThere(part, c.Process, w)
	}
	if part.unsure == nil {
		return
	}
	part.unsure.others = slices.DeleteFunc(part.unsure.others, func(p string) bool { return p == c.Process })
	if len(part.unsure.others) == 0 && !part.unsure.blind {
		o.sure(m.Partition)
	}
}

// sure ends the waiting.
func (o *owner) sure(partition int32) {
	o.parts[partition].unsure, o.parts[partition].orphans = nil, true
}

// endOrphans ends the light calls that were not sent, and that nobody waits for: they are not sent any more. It comes behind everything that was kept: an
// answer of the device may be among it, and proves that the call was sent.
func (o *owner) endOrphans() {
	for p := range o.parts {
		if part := &o.parts[p]; part.orphans && part.held {
			part.orphans = false
			o.endOrphansOf(int32(p))
		}
	}
}

func (o *owner) endOrphansOf(partition int32) {
	var out []bus.Message
	for id, dh := range o.devices {
		if dh.partition != partition {
			continue
		}
		if d := o.state.Devices[id]; slices.ContainsFunc(openCalls(&d), func(c *rpc.Call) bool { return c.Waiting }) {
			out = append(out, synthetic(partition, id, rpc.Recover{Keep: o.awaited(openCalls(&d))}))
		}
	}
	slices.SortStableFunc(out, func(a, b bus.Message) int { return slices.Compare(a.Key[:], b.Key[:]) })
	o.replay = append(o.replay, out...)
}

// awaited are those of the calls whose callers are known to wait.
func (o *owner) awaited(calls []*rpc.Call) (keep []uuid.UUID) {
	for _, c := range calls {
		if len(o.callers[c.ID]) > 0 || o.e.waiters.has(c.ID) {
			keep = append(keep, c.ID)
		}
	}
	return keep
}

// doubted is a connection of a process that was not heard: it was lost before its Connect was taken, or it has just begun.
type doubted struct {
	device, session uuid.UUID
	home            string
	until           time.Time
}

// doubtedMost bounds them; those beyond end when something is sent to them, or when their device comes back.
const doubtedMost = 100_000

// doubt notes a connection of a process that is not heard.
func (o *owner) doubt(device uuid.UUID, dh *deviceHead) {
	if dh.home != o.e.incarnation && !o.e.members.lives(dh.home) && len(o.doubted) < doubtedMost {
		o.doubted = append(o.doubted, doubted{device, dh.session, dh.home, o.e.now().Add(cluster.Silent)})
	}
}

// resolve closes the connections of processes that are still not heard.
func (o *owner) resolve(now time.Time) {
	for len(o.doubted) > 0 && !o.doubted[0].until.After(now) {
		d := o.doubted[0]
		o.doubted = o.doubted[1:]
		if dh := o.devices[d.device]; dh != nil && dh.session == d.session && !o.e.members.lives(d.home) {
			o.replay = append(o.replay, lost(d.device, dh))
		}
	}
}

// lost is the end of a device's connection whose process is gone.
func lost(device uuid.UUID, dh *deviceHead) bus.Message {
	return synthetic(dh.partition, device, rpc.Disconnect{Session: dh.session, Why: string(transports.ReasonNodeLost)})
}

// beSure ends the waiting for nodes that do not tell.
func (o *owner) beSure(now time.Time) {
	o.resolve(now)
	for p := range o.parts {
		if u := o.parts[p].unsure; u != nil && !u.until.After(now) {
			o.sure(int32(p))
		}
	}
}

// waitsThere notes a caller, of another node or of this one. One whose call has ended already missed its end: it is told again.
func (o *owner) waitsThere(part *partition, process string, w waiting) {
	d := o.state.Devices[w.Device]
	c := d.Find(w.Call)
	if c != nil && !(c.Persistent && c.Phase >= rpc.PhaseQueued) {
		if bytes.Equal(c.Content[:], w.Content) {
			o.waits(w.Call, process)
		}
		return
	}
	out, ok := o.outcomeOf(c, w)
	if !ok {
		return // its command is still on the way, or it is another's
	}
	o.batch.effects = append(o.batch.effects, effect{partition: part.cp.Partition, epoch: part.cp.Epoch, do: out, to: []string{process}, content: w.Content})
}

// waits notes that somebody at another node waits for a call.
func (o *owner) waits(call uuid.UUID, process string) {
	if process != "" && process != o.e.incarnation && !slices.Contains(o.callers[call], process) {
		o.callers[call] = append(o.callers[call], process)
	}
}

// outcomeOf is what the caller of a call is to be told that is stored, or has ended; false if the caller asked for something else.
func (o *owner) outcomeOf(c *rpc.Call, w waiting) (step.Settle, bool) {
	if c == nil {
		if !o.past(context.Background(), w.Tenant, w.Device, w.Call) {
			return step.Settle{}, false
		}
		past, _ := o.pastOf(w.Call)
		c = &past.call
	}
	if !bytes.Equal(c.Content[:], w.Content) {
		return step.Settle{}, false
	}
	return o.ending(context.Background(), w.Tenant, w.Device, c), true
}

// lostNodes closes the sessions of processes that live no more.
func (o *owner) lostNodes(processes []string) {
	var out []bus.Message
	for id, dh := range o.devices {
		if dh.home == "" || !slices.Contains(processes, dh.home) {
			continue
		}
		if d := o.state.Devices[id]; d.Session.ID == dh.session {
			out = append(out, lost(id, dh))
		}
	}
	for p := range o.parts {
		if u := o.parts[p].unsure; u != nil {
			u.others = slices.DeleteFunc(u.others, func(one string) bool { return slices.Contains(processes, one) })
		}
	}
	slices.SortStableFunc(out, func(a, b bus.Message) int { return slices.Compare(a.Key[:], b.Key[:]) })
	o.replay = append(o.replay, out...)
}

// openCalls are the calls to a device and then those of it, each in order.
func openCalls(d *rpc.Device) []*rpc.Call {
	return slices.Concat(slices.Collect(d.Open.All()), slices.Collect(d.Asked.All()))
}
