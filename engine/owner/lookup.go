package owner

import (
	"bytes"
	"cmp"
	"fmt"
	"time"

	"callchain/engine/projection"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/nodes"

	"github.com/google/uuid"
)

// recent is what was used lately of what the store has, and what the store will have when the batches are stored.
type recent struct {
	calls  *cache[uuid.UUID, endedCall]
	wires  *cache[wireKey, uuid.UUID] // ended calls by their wire id; uuid.Nil: there is none
	bodies *cache[uuid.UUID, callBody]
	values *cache[nodes.Key, value]
	chains *cache[step.Version, *Program] // nil: the version is gone
}

// The weights of recent: entries, and bytes of bodies and of values.
const (
	recentCalls  = 5_000
	recentWires  = 25_000
	recentBytes  = 20 << 20
	recentChains = 500
)

func newRecent() recent {
	return recent{
		calls: newCache[uuid.UUID, endedCall](recentCalls), wires: newCache[wireKey, uuid.UUID](recentWires), bodies: newCache[uuid.UUID, callBody](recentBytes),
		values: newCache[nodes.Key, value](recentBytes), chains: newCache[step.Version, *Program](recentChains),
	}
}

// trim drops what is beyond the bounds and stored.
func (r *recent) trim(stored uint64) {
	r.calls.trim(stored)
	r.wires.trim(stored)
	r.bodies.trim(stored)
	r.values.trim(stored)
	r.chains.trim(stored)
}

type wireKey struct {
	device uuid.UUID
	wire   int32
}

// endedCall is a call that has ended, under the claim of its partition: another owner may have added to it after that.
type endedCall struct {
	EndedCall // without its body
	partition int32
	epoch     int64
}

// endedLately is a call that ended lately, if it is still as it was.
func (mem *memory) endedLately(call uuid.UUID) (endedCall, bool) {
	c, ok := mem.recent.calls.get(call)
	if !ok || mem.parts[c.partition].cp.Epoch != c.epoch {
		return endedCall{}, false
	}
	return c, true
}

func (mem *memory) keepEnded(partition int32, c EndedCall) {
	c.Body = rpc.Body{}
	mem.recent.calls.set(c.Call.ID, endedCall{c, partition, mem.parts[partition].cp.Epoch}, 1, mem.number)
}

// ended implements step.Env: a call that has ended. One that is open on another device counts as open, so that a chain does not take its id.
func (mem *memory) ended(call uuid.UUID) rpc.Call {
	if c, ok := mem.endedLately(call); ok {
		return c.Call
	}
	if mem.tables.calls[call] != nil {
		return rpc.Call{ID: call, Phase: rpc.PhaseRequested}
	}
	return rpc.Call{}
}

func bodyWeight(b *rpc.Body) int { return len(b.Params) + len(b.Response.Bytes) + len(b.Info) + 256 }

// callBody is the body of a call, under the claim of its partition.
type callBody struct {
	rpc.Body
	partition int32
	epoch     int64
}

func (mem *memory) keepBody(partition int32, call uuid.UUID, b rpc.Body) {
	mem.recent.bodies.set(call, callBody{b, partition, mem.parts[partition].cp.Epoch}, bodyWeight(&b), mem.number)
}

// bodyAtHand implements step.Env.
func (mem *memory) bodyAtHand(call uuid.UUID) (rpc.Body, bool) {
	b, ok := mem.recent.bodies.get(call)
	return b.Body, ok && mem.parts[b.partition].cp.Epoch == b.epoch
}

// The bounds of late answers: a device may repeat its answer for ever, and make wire ids up.
const (
	lateMost    = 8  // late answers of a call that are stored
	repliesMost = 20 // a second and device: answers to calls that are looked up in the store
)

// lookUp hands in what a command must know beside its device: the ended call that a late answer belongs to or that is to be removed, and who waits. It answers
// false if that must be read first.
func (dec *decision) lookUp(p *pending, cmd *step.Command, d *device) bool {
	r, ok := cmd.Do.(step.RPC)
	if !ok {
		return true
	}
	switch a := r.Do.(type) {
	case rpc.Reply:
		if d.state.ByWire(a.Wire) != nil {
			return true
		}
		if a.Late, ok = dec.late(p, d, a.Wire); ok && a.Late != uuid.Nil {
			cmd.Do = step.RPC{Do: a}
		}
		return ok
	case rpc.Remove:
		if d.state.Find(a.Call) != nil {
			return true
		}
		c, ended, ok := dec.past(p, d, a.Call)
		a.Ended = ended && !c.Call.Removed
		cmd.Do = step.RPC{Do: a}
		return ok
	case rpc.Recover: // who waits may have come since it was given
		a.Keep = dec.awaitedOf(d)
		cmd.Do = step.RPC{Do: a}
	}
	return true
}

// late is the ended call that a late answer belongs to: one that ended lately, or a persistent one by its wire id; uuid.Nil if there is none, or enough late answers
// of it are stored. ok is false if it must be read first.
func (dec *decision) late(p *pending, d *device, wire int32) (call uuid.UUID, ok bool) {
	key := wireKey{d.id, wire}
	call, known := dec.recent.wires.get(key)
	if !known && wire >= 0 && wire < d.state.NextWire {
		if !p.read.wire && d.replies.take(dec.now, repliesMost) {
			dec.need(p, func(want *Read) { want.Tenant, want.Device, want.Wire = d.tenant, d.id, &wire })
			return uuid.Nil, false
		}
		call = p.read.late
	}
	if call == uuid.Nil {
		dec.notice(Notice{Kind: NoticeUnknownAnswer, Device: d.id, Tenant: d.tenant})
		return uuid.Nil, true
	}
	c, ended, ok := dec.past(p, d, call)
	if !ended || c.Call.Late >= lateMost {
		return uuid.Nil, ok
	}
	return call, ok
}

// past is a call of a device that has ended, from memory or as it was read. ok is false if it must be read first.
func (dec *decision) past(p *pending, d *device, call uuid.UUID) (c endedCall, ended, ok bool) {
	if c, ended = dec.endedLately(call); ended || p.read.call == call {
		return c, ended, true
	}
	dec.need(p, func(want *Read) { want.Tenant, want.Device, want.Call = d.tenant, d.id, call })
	return c, false, false
}

// accept takes over what a read has found.
func (mem *memory) accept(r *Read, a *Answer, into *answers) {
	if r.Registry {
		mem.acceptDevice(r, a, into)
	}
	if r.Wire != nil {
		into.wire = true
		if a.Call != nil {
			into.late = a.Call.Call.ID
		}
		mem.recent.wires.set(wireKey{r.Device, *r.Wire}, into.late, 1, mem.number)
	}
	if r.Call != uuid.Nil {
		into.call = r.Call
	}
	if a.Call != nil {
		if _, known := mem.endedLately(a.Call.Call.ID); !known {
			mem.keepEnded(r.Partition, *a.Call)
			mem.keepBody(r.Partition, a.Call.Call.ID, a.Call.Body)
		}
		into.call = a.Call.Call.ID
	}
	for _, call := range r.Bodies {
		if _, known := mem.bodyAtHand(call); !known {
			mem.keepBody(r.Partition, call, a.Bodies[call])
		}
	}
	for _, v := range r.Chains {
		mem.recent.chains.set(v, a.Chains[v], 1, mem.number)
	}
	if r.Values != nil {
		mem.acceptValues(r.Values, a.Values, into)
	}
	if r.DeadLetter != uuid.Nil {
		into.deadLetter, into.unknown = a.DeadLetter, a.DeadLetter == nil
	}
}

// acceptDevice takes over the rows of a device. Its row in the store is of use only if it is not in memory, where it may be ahead of the store.
func (mem *memory) acceptDevice(r *Read, a *Answer, into *answers) {
	into.registry, into.noDevice = true, a.Registry.Deleted
	d := mem.tables.devices[r.Device]
	switch {
	case d == nil && (a.Registry.Deleted || !r.State):
		return
	case d == nil && a.Registry.Partition != r.Partition:
		into.elsewhere = true
		return
	case d == nil:
		d = newDevice(a.Registry, a.State)
		mem.tables.devices[d.id] = d
	}
	d.generation, d.deleted = a.Generation, a.Registry.Deleted
	if d.deleted {
		d.info = step.Info{Settings: rpc.DefaultSettings()}
	} else {
		d.info = a.Registry.Info
	}
	d.state.Settings = d.info.Settings
}

func newDevice(row *Device, state *DeviceState) *device {
	d := &device{id: row.ID, tenant: row.Tenant, partition: row.Partition, state: rpc.Device{ID: row.ID}}
	if state == nil {
		state = &DeviceState{}
	}
	d.state.NextWire, d.head, d.lastConnect, d.lastDisconnect = state.NextWire, state.Head, state.LastConnect, state.LastDisconnect
	d.stream = cmp.Or(state.Stream, projection.DeviceStream(row.ID)) // also in the row, before its first event: programs before this one go by it
	return d
}

// repeatMargin is how far the clock of a sender may be ahead of its owner's, or behind.
const repeatMargin = 10 * time.Second

// repeated answers a call whose id belongs to a call already, but to none that is open on this device: one that has ended, or one of another device. What asks for
// the same gets the same answer; nothing is added to the stream of the other. ok is false if something must be read first.
func (dec *decision) repeated(p *pending, cmd *step.Command, d *device) (done, ok bool) {
	call, calls := cmd.Do.(step.Call)
	if !calls || d.state.Find(call.ID) != nil {
		return false, true
	}
	past, ended := dec.endedLately(call.ID)
	open := dec.tables.calls[call.ID] != nil
	if !ended && !open && call.Chosen && cmd.Occurred < dec.parts[d.partition].since.Add(repeatMargin) {
		if past, ended, ok = dec.past(p, d, call.ID); !ok { // it may have ended under the owner before, after its sender had looked
			return false, false
		}
	}
	switch {
	case ended && past.Call.Content == call.Content:
		return dec.answerAgain(p, cmd, d, &past.Call)
	case ended || open:
		dec.refuse(&p.Message, &rpc.Refusal{Code: rpc.CodeKnown, Detail: fmt.Sprintf("the id %s belongs to another call", call.ID)})
		return true, true
	}
	return false, true
}

// answerAgain tells the end of a call to one more who asks for it.
func (dec *decision) answerAgain(p *pending, cmd *step.Command, d *device, c *rpc.Call) (done, ok bool) {
	out, ok := dec.endOf(p, d, c)
	if !ok {
		return false, false
	}
	dec.complete(&p.Message, nil)
	dec.batch.effects = append(dec.batch.effects, Effect{
		Partition: d.partition, Epoch: dec.parts[d.partition].cp.Epoch, Do: out, From: dec.contextOf(out), To: dec.presence.senderOf(cmd),
	})
	return true, true
}

// endOf is what the caller of a call is told that has ended, or that is persistent and stored. ok is false if its body must be read first.
func (dec *decision) endOf(p *pending, d *device, c *rpc.Call) (out step.NotifyCallers, ok bool) {
	if c.Persistent {
		return step.NotifyCallers{Call: c.ID, Phase: rpc.PhaseQueued}, true
	}
	body, known := dec.bodyAtHand(c.ID)
	if !known {
		dec.need(p, func(want *Read) { want.Tenant, want.Device, want.Bodies = d.tenant, d.id, append(want.Bodies, c.ID) })
		return out, false
	}
	return step.NotifyCallers{Call: c.ID, Phase: c.Phase, Code: c.Reason, Detail: body.Error, Response: body.Response}, true
}

// value is a value of a device, under the claim of its partition.
type value struct {
	nodes.Value
	epoch int64
}

// owns is the epoch of an entity's partition, and whether only this owner writes its values.
func (mem *memory) owns(entity uuid.UUID) (epoch int64, owns bool) {
	if d := mem.tables.devices[entity]; d != nil {
		return mem.parts[d.partition].cp.Epoch, true
	}
	return 0, !mem.config.Shared
}

// valueOf is a value from memory, one without JSON if it does not exist. Those of devices that other owners write are known only while one message is
// processed: they are foreign.
func (mem *memory) valueOf(k nodes.Key, foreign map[nodes.Key]nodes.Value) (nodes.Value, bool) {
	epoch, owns := mem.owns(k.Entity.ID)
	if !owns {
		v, ok := foreign[k]
		return v, ok
	}
	v, ok := mem.recent.values.get(k)
	return v.Value, ok && v.epoch == epoch
}

func (mem *memory) keepValue(k nodes.Key, v nodes.Value, foreign *map[nodes.Key]nodes.Value) {
	epoch, owns := mem.owns(k.Entity.ID)
	if owns {
		mem.recent.values.set(k, value{v, epoch}, len(v.JSON)+len(k.Name)+96, mem.number)
		return
	}
	if *foreign == nil {
		*foreign = map[nodes.Key]nodes.Value{}
	}
	(*foreign)[k] = v
}

// valuesAtHand implements step.Env: values from memory, false if one of them must be read. A key without a name stands for all keys of its scope.
func (dec *decision) valuesAtHand(keys []nodes.Key) (nodes.Values, bool) {
	out := make(nodes.Values, len(keys))
	for _, k := range keys {
		v, ok := dec.valueOf(k, dec.pending.read.foreign)
		switch {
		case !ok:
			return nil, false
		case k.Name != "":
			if v.JSON != nil {
				out[k] = v
			}
			continue
		}
		for _, name := range splitNames(v.JSON) {
			one := k
			one.Name = name
			if v, ok = dec.valueOf(one, dec.pending.read.foreign); !ok {
				return nil, false
			}
			if v.JSON != nil {
				out[one] = v
			}
		}
	}
	return out, true
}

// acceptValues takes over values that were read. What was written meanwhile is newer.
func (mem *memory) acceptValues(asked []nodes.Key, found nodes.Values, into *answers) {
	for _, k := range asked {
		if k.Name != "" {
			mem.acceptValue(k, found[k], into)
			continue
		}
		var names []byte
		for one, v := range found {
			if one.Entity == k.Entity && one.Scope == k.Scope {
				names = addName(names, one.Name)
				mem.acceptValue(one, v, into)
			}
		}
		mem.acceptValue(k, nodes.Value{JSON: names}, into)
	}
}

func (mem *memory) acceptValue(k nodes.Key, v nodes.Value, into *answers) {
	if _, owns := mem.owns(k.Entity.ID); owns {
		if _, newer := mem.valueOf(k, into.foreign); newer {
			return
		}
	}
	mem.keepValue(k, v, &into.foreign)
}

// writeValue keeps a value that is written with the batch.
func (mem *memory) writeValue(w *nodes.Write, foreign *map[nodes.Key]nodes.Value) {
	v := w.Value
	if w.Delete {
		v = nodes.Value{}
	}
	mem.keepValue(w.Key, v, foreign)
	all := w.Key
	all.Name = ""
	if list, ok := mem.valueOf(all, *foreign); ok {
		mem.keepValue(all, nodes.Value{JSON: addName(list.JSON, w.Key.Name)}, foreign)
	}
}

// The names of all keys of a scope are one text, each ended by a zero byte, which no stored key contains.

func addName(list []byte, name string) []byte {
	entry := append([]byte(name), 0)
	if bytes.HasPrefix(list, entry) || bytes.Contains(list, append([]byte{0}, entry...)) {
		return list
	}
	return append(list[:len(list):len(list)], entry...)
}

func splitNames(list []byte) []string {
	var out []string
	for len(list) > 0 {
		end := bytes.IndexByte(list, 0)
		out = append(out, string(list[:end]))
		list = list[end+1:]
	}
	return out
}
