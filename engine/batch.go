package engine

import (
	"context"
	"errors"
	"fmt"

	"callchain/engine/bus"
	"callchain/engine/projection"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/eventstore"
	"callchain/nodes"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace"
)

// batch is what one append will store, and what is to happen when it is stored.
type batch struct {
	id       uuid.UUID
	parts    map[int32]*eventstore.PartitionBatch
	order    []int32 // of parts
	events   int
	bytes    int
	traces   int // rows of Traces
	effects  []effect
	done     []finished
	calls    map[uuid.UUID]*projection.Call // rows to write, each in its last state
	messages []bus.Message                  // to be stepped again if the append fails
	letters  []bus.Record                   // dead letters to publish
	spans    []trace.Span                   // of the steps, to be ended when it is stored
	ended    []rpc.Call                     // traced calls that end with it
	passages []passage                      // stages that calls reach with it
	ends     []ending                       // of calls
	oldest   [bus.Lanes]rpc.Instant         // when the first of messages was sent
	single   bool                           // only the last message has left anything to store
	fenced   []int32                        // partitions that are not stored: somebody else owns them
	apart    apart                          // what became of a command that the store refuses; nothing else comes in
	sealed   eventstore.Batch
}

// apart says what a batch holds of a command whose events the store refuses.
type apart uint8

const (
	setAside apart = iota + 1 // its letter and fact, or an answer
	passedBy                  // not even those: the store refuses them, too
)

// guilty is the message that a store must mean which refuses the batch; nil if that cannot be told, or if it is none of them.
func (b *batch) guilty() *bus.Message {
	n := len(b.messages)
	if n == 0 || b.apart == passedBy || n > 1 && !b.single {
		return nil
	}
	return &b.messages[n-1] // those before it left nothing to store
}

// effect is a step's effect with its partition, and whom it concerns.
type effect struct {
	partition int32
	epoch     int64
	tenant    uuid.UUID
	do        step.Effect
	from      *lineage // what it is a child of, nil if it is not traced
	to        []string // processes; none: this one
	callers   []string // processes that wait until a delivery has left
	content   []byte   // digest of a call that is settled: its callers may not know yet that it is theirs
}

// finished is a sender to be told, and the refusal of its command if there was one.
type finished struct {
	done      func(error)
	err       error
	partition int32
}

// batchBytes bounds the data of one transaction beside the number of its events.
const batchBytes = 2 << 20

func newBatch() *batch {
	return &batch{id: newID(), parts: map[int32]*eventstore.PartitionBatch{}, calls: map[uuid.UUID]*projection.Call{}}
}

func (b *batch) empty() bool {
	return len(b.order) == 0 && len(b.effects) == 0 && len(b.done) == 0
}

func (b *batch) full(events int) bool {
	return b.events >= events || b.bytes >= batchBytes || len(b.done) >= 8*events
}

// part is the share of a partition; it begins with the checkpoint as it is now.
func (b *batch) part(cp eventstore.Checkpoint) *eventstore.PartitionBatch {
	pb, ok := b.parts[cp.Partition]
	if !ok {
		pb = &eventstore.PartitionBatch{Expect: cp}
		b.parts[cp.Partition] = pb
		b.order = append(b.order, cp.Partition)
	}
	return pb
}

// take brings the result of a step into the state and the batch.
func (o *owner) take(ctx context.Context, m bus.Message, cmd step.Command, d Device, res step.Result) {
	if err := o.refusal(res.Refusal); err != nil && len(res.Events) == 0 && len(res.Effects) == 0 {
		o.refuse(m, cmd, err)
		return
	}
	routes := o.routes(cmd, d, res)
	o.state.apply(cmd.Device, &res)
	part := &o.parts[d.Partition]
	for i := range res.Events {
		o.append(part, d, cmd.Device, &res.Events[i])
	}
	for i := range res.Calls {
		o.track(ctx, d, cmd.Device, &res.Calls[i], res.Events)
	}
	for _, run := range res.Runs() {
		o.trackRun(run)
	}
	o.store(part, res.Writes)
	o.storeTraces(part, d, cmd)
	for i, e := range res.Effects {
		if dl, ok := e.(step.DeadLetter); ok {
			o.deadLetter(part, letter{Tenant: d.Tenant, Device: cmd.Device, Reason: dl.Reason, Detail: dl.Detail, Data: keep(cmd, true).json()})
		}
		fx := routes[i]
		fx.partition, fx.epoch, fx.tenant, fx.do, fx.from = d.Partition, part.cp.Epoch, d.Tenant, e, o.parentOf(e)
		o.batch.effects = append(o.batch.effects, fx)
	}
	o.tell(m, res.Refusal)
}

func (o *owner) refusal(err error) error {
	var r *rpc.Refusal
	if errors.As(err, &r) {
		o.e.metrics.refusals.WithLabelValues(string(r.Code)).Inc()
	}
	return err
}

// refuse answers a command that changes nothing. The answer goes the way of all answers, behind what was stepped before.
func (o *owner) refuse(m bus.Message, cmd step.Command, err error) {
	if errors.Is(err, ErrNoDevice) {
		err = &rpc.Refusal{Code: rpc.CodeUnknown, Detail: fmt.Sprintf("there is no device %s", cmd.Device)}
	}
	o.tell(m, err)
}

// append gives an event its place in its stream and its partition.
func (o *owner) append(part *partition, d Device, device uuid.UUID, ev *step.Event) {
	at := int64(ev.Event.At)
	o.carry(part, d, ev)
	name, h := o.headOf(d, part, ev, at)
	data, err := ev.AppendData(nil)
	if err != nil {
		panic(fmt.Sprintf("engine: %v", err)) // facts hold JSON that was checked before
	}
	h = o.place(part, h, eventstore.Event{
		Stream: name, Type: ev.Name(), TypeVersion: rpc.DataVersion, At: at, Occurred: int64(ev.Event.Occurred),
		Tenant: d.Tenant, Device: device, Actor: ev.Event.Actor, Cause: ev.Event.Cause, Hops: ev.Event.Hops,
		Trace: ev.Event.Trace, ChainVersion: ev.Event.Chain, Data: data,
	})
	o.setHead(ev, device, h)
}

// place numbers and hashes an event behind the end of its stream, and answers the new end.
func (o *owner) place(part *partition, h head, e eventstore.Event) head {
	pb := o.batch.part(part.cp)
	h.version++
	part.cp.Seq++
	e.Began, e.Version, e.Partition, e.Seq, e.AppendID = h.began, h.version, part.cp.Partition, part.cp.Seq, o.batch.id
	if e.Occurred == 0 {
		e.Occurred = e.At
	}
	e.Hash = e.Digest(h.hash)
	h.hash = e.Hash
	part.cp.Head = eventstore.Link(part.cp.Head, e.Hash)
	pb.Events = append(pb.Events, e)
	o.batch.events++
	o.batch.bytes += len(e.Data)
	return h
}

// track keeps what the owner knows of a call: its place for others, its timer, its body, its row.
func (o *owner) track(ctx context.Context, d Device, device uuid.UUID, c *rpc.Call, events []step.Event) {
	row := &projection.Call{
		Tenant: d.Tenant, Device: device, Partition: d.Partition, State: *c, Body: o.bodyAfter(ctx, d, device, c, events), Version: o.versionOf(c.ID),
	}
	o.traceCall(c, events)
	o.passes(c, events)
	if c.Phase.Terminal() {
		row.Ended = o.ends(d, device, c, events)
	} else {
		now := o.state.Devices[device]
		o.timers.set(timer{at: now.NextDeadline(now.Find(c.ID)), device: device, id: c.ID})
		if !c.Persistent && begins(c.ID, events) {
			o.e.open.Store(c.ID, openPlace{d.Tenant, device, d.Partition})
		}
	}
	if c.Persistent || c.Phase.Terminal() {
		o.batch.calls[c.ID] = row
	}
}

// begins tells whether the events of a step are the first of a call.
func begins(call uuid.UUID, events []step.Event) bool {
	for i := range events {
		if _, ok := events[i].Event.Fact.(rpc.Requested); ok && events[i].Event.Call == call {
			return true
		}
	}
	return false
}

// ends moves a call that has ended to those that ended lately, and answers when it ended. A call that had ended before only
// has its last state replaced.
func (o *owner) ends(d Device, device uuid.UUID, c *rpc.Call, events []step.Event) rpc.Instant {
	h, open := o.calls[c.ID]
	if !open {
		past, _ := o.pastOf(c.ID)
		past.call = *c
		o.keepPast(d.Partition, c.ID, past, 0)
		return past.at
	}
	at := events[len(events)-1].Event.At
	o.keepPast(d.Partition, c.ID, endedCall{head: h, call: *c, at: at}, 1)
	if c.Direction == rpc.ToDevice {
		o.wires.set(wireKey{device, c.Wire}, c.ID, 1)
	}
	o.parts[d.Partition].behind.close(projection.StreamOf(d.Tenant, c.ID))
	delete(o.calls, c.ID)
	o.timers.forget(c.ID)
	if !c.Persistent {
		o.e.open.Delete(c.ID)
	}
	return at
}

// bodyAfter is the body of a call after the events of a step.
func (o *owner) bodyAfter(ctx context.Context, d Device, device uuid.UUID, c *rpc.Call, events []step.Event) rpc.Body {
	body, known := o.e.bodies.get(c.ID)
	changed := false
	for i := range events {
		ev := &events[i].Event
		if ev.Call != c.ID {
			continue
		}
		if !known {
			if _, begins := ev.Fact.(rpc.Requested); !begins {
				body = o.readBody(ctx, d.Tenant, device, c.ID)
			}
			known = true
		}
		body, changed = rpc.EvolveBody(body, ev.Fact), true
	}
	if changed {
		o.e.bodies.set(c.ID, body, len(body.Params)+len(body.Response.Bytes)+len(body.Info)+256)
	}
	return body
}

// seal makes the store's batch of what was gathered.
func (o *owner) seal() {
	b := o.batch
	for _, c := range b.calls {
		row, err := c.Row()
		if err != nil {
			panic(fmt.Sprintf("engine: %v", err)) // bodies hold JSON that was checked before
		}
		pb := b.part(o.parts[c.Partition].cp)
		pb.Rows = append(pb.Rows, row)
	}
	b.sealed = eventstore.Batch{ID: b.id, Partitions: make([]eventstore.PartitionBatch, 0, len(b.order))}
	for _, p := range b.order {
		cp := &o.parts[p].cp
		cp.Append = b.id
		o.parts[p].moved = false // the positions go with it
		if o.e.relay != nil {
			cp.Relayed = max(cp.Relayed, o.e.relay.upTo(p))
		}
		pb := b.parts[p]
		pb.Next = *cp
		b.sealed.Partitions = append(b.sealed.Partitions, *pb)
	}
}

// store turns the writes of nodes into rows and keeps the values at hand.
func (o *owner) store(part *partition, writes []nodes.Write) {
	if len(writes) == 0 {
		return
	}
	pb := o.batch.part(part.cp)
	for _, w := range writes {
		pb.Rows = append(pb.Rows, valueRow(w))
		o.keepValue(w)
	}
	o.batch.events += len(writes) / 2 // rows cost, too
}

func valueRow(w nodes.Write) eventstore.Row {
	k, v := w.Key, w.Value
	if k.Scope == "" {
		if w.Delete {
			return eventstore.Row{Table: projection.Latest, Delete: true, Values: []any{k.Entity.ID, projection.Storable(k.Name)}}
		}
		return eventstore.Row{Table: projection.Latest, Values: []any{k.Entity.ID, projection.Storable(k.Name), v.JSON, v.TS}}
	}
	if w.Delete {
		return eventstore.Row{Table: projection.Attributes, Delete: true, Values: []any{k.Entity.ID, k.Scope, projection.Storable(k.Name)}}
	}
	return eventstore.Row{Table: projection.Attributes, Values: []any{k.Entity.ID, k.Scope, projection.Storable(k.Name), v.JSON, v.TS}}
}
