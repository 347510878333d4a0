package engine

import (
	"context"
	"fmt"

	"callchain/engine/projection"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/eventstore"
	"callchain/nodes"

	"github.com/google/uuid"
)

// load brings the state of a device to hand, if it is not: its wire counter and the end of its stream.
func (o *owner) load(ctx context.Context, device, tenant uuid.UUID, partition int32) error {
	if _, ok := o.devices[device]; ok {
		return nil
	}
	if partition < 0 || int(partition) >= len(o.parts) {
		return fmt.Errorf("device %s: partition %d is not one of the %d of this installation", device, partition, len(o.parts))
	}
	rows, err := o.e.store.Rows(ctx, eventstore.Query{
		Table: projection.Devices, Where: []eventstore.Cond{{Column: "device", Op: eventstore.Eq, Value: device}},
	})
	if err != nil {
		return fmt.Errorf("%w: loading device %s: %w", errFetch, device, err)
	}
	dh := &deviceHead{tenant: tenant, stream: streamOfDevice(device), partition: partition}
	d := rpc.Device{ID: device}
	if len(rows) == 1 {
		row := rows[0]
		d.NextWire = int32(asInt(row[2]))
		dh.stream, _ = row[3].(string)
		dh.head = head{began: asInt(row[4]), version: asInt(row[5])}
		hash, _ := row[6].([]byte)
		copy(dh.hash[:], hash)
		dh.lastConnect, dh.lastDisconnect = rpc.Instant(asInt(row[7])), rpc.Instant(asInt(row[8]))
	}
	o.devices[device], o.state.Devices[device] = dh, d
	return nil
}

func asInt(v any) int64 {
	n, _ := v.(int64)
	return n
}

// lookUp hands in what a command must know of calls that are not open: the call that a late answer belongs to, the call that is
// to be removed.
func (o *owner) lookUp(ctx context.Context, cmd step.Command) step.Command {
	r, ok := cmd.Do.(step.RPC)
	if !ok {
		return cmd
	}
	switch a := r.Do.(type) {
	case rpc.Reply:
		d := o.state.Devices[cmd.Device]
		if d.ByWire(a.Wire) != nil {
			return cmd
		}
		if call, ok := o.late(ctx, cmd.Tenant, cmd.Device, a.Wire); ok {
			a.Late = call
			cmd.Do = step.RPC{Do: a}
			return cmd
		}
		o.e.metrics.foreign.Inc()
	case rpc.Remove:
		d := o.state.Devices[cmd.Device]
		if d.Find(a.Call) == nil && o.past(ctx, cmd.Tenant, cmd.Device, a.Call) {
			past, _ := o.pastOf(a.Call)
			a.Ended = past.call.Phase.Terminal() && !past.call.Removed
			cmd.Do = step.RPC{Do: a}
		}
	}
	return cmd
}

// lateMost is how many late answers of one call are kept; a device may repeat its answer for ever.
const lateMost = 8

// late is the ended call that a late answer belongs to: one that ended lately, or a persistent one by its row.
func (o *owner) late(ctx context.Context, tenant, device uuid.UUID, wire int32) (uuid.UUID, bool) {
	call, ok := o.wires.get(wireKey{device, wire})
	if !ok && wire >= 0 && wire < o.state.Devices[device].NextWire && o.mayLookUp() {
		rows, err := o.e.store.Rows(ctx, eventstore.Query{
			Table: projection.Calls, Limit: 1, Order: []eventstore.Order{{Column: "created", Desc: true}}, Where: []eventstore.Cond{
				{Column: "tenant", Op: eventstore.Eq, Value: tenant},
				{Column: "device", Op: eventstore.Eq, Value: device},
				{Column: "persistent", Op: eventstore.Eq, Value: true},
				{Column: "wire", Op: eventstore.Eq, Value: int64(wire)},
			},
		})
		if err == nil && len(rows) == 1 {
			call, ok = rows[0][1].(uuid.UUID)
			o.wires.set(wireKey{device, wire}, call, 1)
		}
	}
	if !ok || !o.past(ctx, tenant, device, call) {
		return uuid.Nil, false
	}
	past, _ := o.pastOf(call)
	return call, past.call.Late < lateMost
}

// mayLookUp bounds what devices with made-up ids can cost: so many look-ups a second, for all of them.
func (o *owner) mayLookUp() bool {
	const most = 50
	if second := o.e.now().Unix(); second != o.lookUps.second {
		o.lookUps.second, o.lookUps.n = second, 0
	}
	o.lookUps.n++
	return o.lookUps.n <= most
}

// past brings an ended call to hand: its state, its body and the end of its stream.
func (o *owner) past(ctx context.Context, tenant, device, call uuid.UUID) bool {
	if _, ok := o.pastOf(call); ok {
		return true
	}
	past, body, err := o.fold(ctx, projection.StreamOf(tenant, call))
	if err != nil || past.head.version == 0 {
		if err != nil {
			o.e.log.Error("a call that has ended cannot be read", "rpcId", call, "device", device, "tenant", tenant, "error", err)
		}
		return false
	}
	o.keepPast(o.partitionOf(device), call, past, 1)
	o.e.bodies.set(call, body, len(body.Params)+len(body.Response.Bytes)+256)
	return true
}

// fold reads the stream of a call.
func (o *owner) fold(ctx context.Context, stream string) (endedCall, rpc.Body, error) {
	var out endedCall
	var body rpc.Body
	events, err := readStream(ctx, o.e.store, stream)
	if err != nil {
		return out, body, err
	}
	for i := range events {
		ev, err := projection.DecodeCall(&events[i])
		if err != nil {
			return out, body, fmt.Errorf("%s version %d: %w", stream, events[i].Version, err)
		}
		was := out.call.Phase.Terminal()
		out.call.ID = ev.Call
		out.call = rpc.EvolveCall(out.call, ev, rpc.DefaultSettings())
		body = rpc.EvolveBody(body, ev.Fact)
		if !was && out.call.Phase.Terminal() {
			out.at = ev.At
		}
		out.head = headAfter(&events[i])
	}
	return out, body, nil
}

func headAfter(e *eventstore.Event) head {
	return head{began: e.Began, version: e.Version, hash: e.Hash}
}

// readStream reads a whole stream; the streams of calls and runs are short.
func readStream(ctx context.Context, store eventstore.Store, stream string) ([]eventstore.Event, error) {
	const page = 1000
	var all []eventstore.Event
	for {
		some, err := store.Stream(ctx, stream, int64(len(all)), page)
		if err != nil {
			return nil, fmt.Errorf("reading stream %s: %w", stream, err)
		}
		all = append(all, some...)
		if len(some) < page {
			return all, nil
		}
	}
}

// readBody reads the body of a call that is not at hand. What cannot be read is empty: the stream still has it.
func (o *owner) readBody(ctx context.Context, tenant, device, call uuid.UUID) rpc.Body {
	_, body, err := o.fold(ctx, projection.StreamOf(tenant, call))
	if err != nil {
		o.e.log.Error("the body of a call cannot be read", "rpcId", call, "device", device, "tenant", tenant, "error", err)
	}
	return body
}

// fetch brings values and bodies to hand that a step asked for.
func (o *owner) fetch(ctx context.Context, tenant uuid.UUID, keys []nodes.Key, calls []uuid.UUID) error {
	for _, k := range keys {
		if err := o.fetchValue(ctx, k); err != nil {
			return err
		}
	}
	for _, call := range calls {
		_, body, err := o.fold(ctx, projection.StreamOf(tenant, call))
		if err != nil {
			return err
		}
		o.e.bodies.set(call, body, len(body.Params)+len(body.Response.Bytes)+256)
	}
	return nil
}

// valuesAtHand answers a step's reads from memory; false if one of them must be fetched. A key without a name stands for
// all keys of its scope.
func (o *owner) valuesAtHand(keys []nodes.Key) (nodes.Values, bool) {
	out := make(nodes.Values, len(keys))
	for _, k := range keys {
		v, ok := o.valueOf(k)
		if !ok {
			return nil, false
		}
		if k.Name == "" {
			for _, name := range splitNames(v.JSON) {
				one := k
				one.Name = name
				v, ok := o.valueOf(one)
				if !ok {
					return nil, false
				}
				if v.JSON != nil {
					out[one] = v
				}
			}
			continue
		}
		if v.JSON != nil {
			out[k] = v
		}
	}
	return out, true
}

// keepValue keeps a written value at hand; an absent value is kept as one without JSON.
func (o *owner) keepValue(w nodes.Write) {
	v := w.Value
	if w.Delete {
		v = nodes.Value{}
	}
	o.setValue(w.Key, v)
	all := w.Key
	all.Name = ""
	if list, ok := o.valueOf(all); ok {
		o.setValue(all, nodes.Value{JSON: addName(list.JSON, w.Key.Name)})
	}
}

// fetchValue reads one value, or all of a scope, from the store.
func (o *owner) fetchValue(ctx context.Context, k nodes.Key) error {
	q := eventstore.Query{Table: projection.Latest, Where: []eventstore.Cond{{Column: "entity", Op: eventstore.Eq, Value: k.Entity.ID}}}
	if k.Scope != "" {
		q.Table = projection.Attributes
		q.Where = append(q.Where, eventstore.Cond{Column: "scope", Op: eventstore.Eq, Value: k.Scope})
	}
	if k.Name != "" {
		q.Where = append(q.Where, eventstore.Cond{Column: "key", Op: eventstore.Eq, Value: projection.Storable(k.Name)})
	}
	rows, err := o.e.store.Rows(ctx, q)
	if err != nil {
		return fmt.Errorf("reading values of %s: %w", k.Entity.ID, err)
	}
	name, value, ts := q.Table.Index("key"), q.Table.Index("value"), q.Table.Index("ts")
	var names []byte
	for _, row := range rows {
		one := k
		one.Name, _ = row[name].(string)
		names = addName(names, one.Name)
		if _, newer := o.valueOf(one); newer && k.Name == "" {
			continue // it was written meanwhile
		}
		json, _ := row[value].([]byte)
		o.setValue(one, nodes.Value{JSON: json, TS: asInt(row[ts])})
	}
	switch {
	case k.Name == "":
		o.setValue(k, nodes.Value{JSON: names})
	case len(rows) == 0:
		o.setValue(k, nodes.Value{})
	}
	return nil
}
