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

// recent caches what was used lately of the store, and what the store will hold when the open batches are stored.
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
	recentWires  = 10_000
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

// recentlyEnded is a cached ended call, if its partition was not claimed since.
func (mem *memory) recentlyEnded(call uuid.UUID) (endedCall, bool) {
	c, ok := mem.recent.calls.get(call)
	if !ok || mem.parts[c.partition].cp.Epoch != c.epoch {
		return endedCall{}, false
	}
	return c, true
}

func (mem *memory) cacheEnded(partition int32, c EndedCall) {
	c.Body = rpc.Body{}
	mem.recent.calls.set(c.Call.ID, endedCall{c, partition, mem.parts[partition].cp.Epoch}, 1, mem.number)
}

// endedState implements step.Env: a call that has ended. One that is open on another device counts as open, so that a chain does not take its id.
func (mem *memory) endedState(call uuid.UUID) rpc.Call {
	if c, ok := mem.recentlyEnded(call); ok {
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

func (mem *memory) cacheBody(partition int32, call uuid.UUID, b rpc.Body) {
	mem.recent.bodies.set(call, callBody{b, partition, mem.parts[partition].cp.Epoch}, bodyWeight(&b), mem.number)
}

// cachedBody implements step.Env.
func (mem *memory) cachedBody(call uuid.UUID) (rpc.Body, bool) {
	b, ok := mem.recent.bodies.get(call)
	return b.Body, ok && mem.parts[b.partition].cp.Epoch == b.epoch
}

// The bounds of late answers: a device may repeat its answers endlessly, or make up wire ids.
const (
	lateMost    = 8  // late answers of a call that are stored
	repliesMost = 20 // a second and device: answers to calls that are looked up in the store
)

// lookUp adds to a command what it needs beside its device: the ended call of a late answer or a removal, and the calls with callers. It returns false if
// something must be read first.
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
		if a.Late, ok = dec.lateCall(p, d, a.Wire); ok && a.Late != uuid.Nil {
			cmd.Do = step.RPC{Do: a}
		}
		return ok
	case rpc.Remove:
		if d.state.Find(a.Call) != nil {
			return true
		}
		c, ended, ok := dec.lookUpEnded(p, d, a.Call)
		a.Ended = ended && !c.Call.Removed
		cmd.Do = step.RPC{Do: a}
		return ok
	case rpc.Recover: // who waits may have come since it was given
		a.Keep = dec.awaitedOf(d)
		cmd.Do = step.RPC{Do: a}
	}
	return true
}

// lateCall is the ended call of a late answer; uuid.Nil if it is unknown, or has lateMost late answers already. ok is false if it must be read first.
func (dec *decision) lateCall(p *pending, d *device, wire int32) (call uuid.UUID, ok bool) {
	key := wireKey{d.id, wire}
	call, known := dec.recent.wires.get(key)
	if !known && wire >= 0 && wire < d.state.NextWire {
		if !p.read.wire && d.replies.allow(dec.now, repliesMost) {
			dec.need(p, func(want *Read) { want.Tenant, want.Device, want.Wire = d.tenant, d.id, &wire })
			return uuid.Nil, false
		}
		call = p.read.late
	}
	if call == uuid.Nil {
		dec.notice(Notice{Kind: NoticeUnknownAnswer, Device: d.id, Tenant: d.tenant})
		return uuid.Nil, true
	}
	c, ended, ok := dec.lookUpEnded(p, d, call)
	if !ended || c.Call.Late >= lateMost {
		return uuid.Nil, ok
	}
	return call, ok
}

// lookUpEnded finds a call of a device that has ended, in memory or in what was read. ok is false if it must be read first.
func (dec *decision) lookUpEnded(p *pending, d *device, call uuid.UUID) (c endedCall, ended, ok bool) {
	if c, ended = dec.recentlyEnded(call); ended || p.read.call == call {
		return c, ended, true
	}
	dec.need(p, func(want *Read) { want.Tenant, want.Device, want.Call = d.tenant, d.id, call })
	return c, false, false
}

// applyAnswer caches the result of a read.
func (mem *memory) applyAnswer(r *Read, a *Answer, into *answers) {
	if r.Registry {
		mem.applyDevice(r, a, into)
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
		if _, known := mem.recentlyEnded(a.Call.Call.ID); !known {
			mem.cacheEnded(r.Partition, *a.Call)
			mem.cacheBody(r.Partition, a.Call.Call.ID, a.Call.Body)
		}
		into.call = a.Call.Call.ID
	}
	for _, call := range r.Bodies {
		if _, known := mem.cachedBody(call); !known {
			mem.cacheBody(r.Partition, call, a.Bodies[call])
		}
	}
	for _, v := range r.Chains {
		mem.recent.chains.set(v, a.Chains[v], 1, mem.number)
	}
	if r.Values != nil {
		mem.applyValues(r.Values, a.Values, into)
	}
	if r.DeadLetter != uuid.Nil {
		into.deadLetter, into.unknown = a.DeadLetter, a.DeadLetter == nil
	}
}

// applyDevice takes over the rows of a device. The store's row counts only for a device that is not in memory: memory may be ahead of the store.
func (mem *memory) applyDevice(r *Read, a *Answer, into *answers) {
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
	d.stream = cmp.Or(state.Stream, projection.DeviceStream(row.ID)) // in the row also before its first event: older programs rely on it
	return d
}

// repeatMargin bounds the clock difference between a sender and its owner.
const repeatMargin = 10 * time.Second

// answerRepeated answers a call whose id belongs to an ended call, or to another device's. The same content gets the same answer; nothing is added to the stream
// of the known call. ok is false if something must be read first.
func (dec *decision) answerRepeated(p *pending, cmd *step.Command, d *device) (done, ok bool) {
	call, calls := cmd.Do.(step.Call)
	if !calls || d.state.Find(call.ID) != nil {
		return false, true
	}
	past, ended := dec.recentlyEnded(call.ID)
	open := dec.tables.calls[call.ID] != nil
	if !ended && !open && call.Chosen && cmd.Occurred < dec.parts[d.partition].since.Add(repeatMargin) {
		if past, ended, ok = dec.lookUpEnded(p, d, call.ID); !ok { // it may have ended under the previous owner, after its sender had looked
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

// answerAgain sends the end of a call to another sender of it.
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

// endOf is the answer to the caller of a call that has ended, or that is persistent and stored. ok is false if its body must be read first.
func (dec *decision) endOf(p *pending, d *device, c *rpc.Call) (out step.NotifyCallers, ok bool) {
	if c.Persistent {
		return step.NotifyCallers{Call: c.ID, Phase: rpc.PhaseQueued}, true
	}
	body, known := dec.cachedBody(c.ID)
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

// valueOf is a value from memory, one without JSON if it does not exist. Values of devices of other owners are known only while one message is processed:
// they are in remoteValues.
func (mem *memory) valueOf(k nodes.Key, remoteValues map[nodes.Key]nodes.Value) (nodes.Value, bool) {
	epoch, owns := mem.owns(k.Entity.ID)
	if !owns {
		v, ok := remoteValues[k]
		return v, ok
	}
	v, ok := mem.recent.values.get(k)
	return v.Value, ok && v.epoch == epoch
}

func (mem *memory) cacheValue(k nodes.Key, v nodes.Value, remoteValues *map[nodes.Key]nodes.Value) {
	epoch, owns := mem.owns(k.Entity.ID)
	if owns {
		mem.recent.values.set(k, value{v, epoch}, len(v.JSON)+len(k.Name)+96, mem.number)
		return
	}
	if *remoteValues == nil {
		*remoteValues = map[nodes.Key]nodes.Value{}
	}
	(*remoteValues)[k] = v
}

// cachedValues implements step.Env: values from memory, false if one of them must be read. A key without a name stands for all keys of its scope.
func (dec *decision) cachedValues(keys []nodes.Key) (nodes.Values, bool) {
	out := make(nodes.Values, len(keys))
	for _, k := range keys {
		v, ok := dec.valueOf(k, dec.pending.read.remoteValues)
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
			if v, ok = dec.valueOf(one, dec.pending.read.remoteValues); !ok {
				return nil, false
			}
			if v.JSON != nil {
				out[one] = v
			}
		}
	}
	return out, true
}

// applyValues caches values that were read. What was written meanwhile is newer.
func (mem *memory) applyValues(asked []nodes.Key, found nodes.Values, into *answers) {
	for _, k := range asked {
		if k.Name != "" {
			mem.applyValue(k, found[k], into)
			continue
		}
		var names []byte
		for one, v := range found {
			if one.Entity == k.Entity && one.Scope == k.Scope {
				names = addName(names, one.Name)
				mem.applyValue(one, v, into)
			}
		}
		mem.applyValue(k, nodes.Value{JSON: names}, into)
	}
}

func (mem *memory) applyValue(k nodes.Key, v nodes.Value, into *answers) {
	if _, owns := mem.owns(k.Entity.ID); owns {
		if _, newer := mem.valueOf(k, into.remoteValues); newer {
			return
		}
	}
	mem.cacheValue(k, v, &into.remoteValues)
}

// writeValue caches a value that is written with the batch.
func (mem *memory) writeValue(w *nodes.Write, remoteValues *map[nodes.Key]nodes.Value) {
	v := w.Value
	if w.Delete {
		v = nodes.Value{}
	}
	mem.cacheValue(w.Key, v, remoteValues)
	all := w.Key
	all.Name = ""
	if list, ok := mem.valueOf(all, *remoteValues); ok {
		mem.cacheValue(all, nodes.Value{JSON: addName(list.JSON, w.Key.Name)}, remoteValues)
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
