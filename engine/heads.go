package engine

import (
	"callchain/engine/projection"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/eventstore"

	"github.com/google/uuid"
)

// head is the end of a stream.
type head struct {
	began    int64
	accepted rpc.Instant // calls: when the sender accepted it
	version  int64
	hash     eventstore.Hash
}

type endedCall struct {
	head      head
	call      rpc.Call
	at        rpc.Instant
	partition int32
	epoch     int64 // of the claim under which it was seen: another owner may have added to it since
}

// pastOf is a call that ended lately, if it is still as it was.
func (o *owner) pastOf(call uuid.UUID) (endedCall, bool) {
	past, ok := o.ended.get(call)
	if !ok || o.parts[past.partition].cp.Epoch != past.epoch {
		return endedCall{}, false
	}
	return past, true
}

func (o *owner) keepPast(partition int32, call uuid.UUID, past endedCall, cost int) {
	past.partition, past.epoch = partition, o.parts[partition].cp.Epoch
	o.ended.set(call, past, cost)
}

// deviceHead is the end of a device's stream, and what of its row was not written yet.
type deviceHead struct {
	head
	tenant         uuid.UUID
	stream         string
	partition      int32
	session        uuid.UUID // the live one
	home           string    // the process that holds it
	lastConnect    rpc.Instant
	lastDisconnect rpc.Instant
}

func streamOfDevice(id uuid.UUID) string { return "device/" + id.String() }
func streamOfRun(id uuid.UUID) string    { return "run/" + id.String() }

// headOf is the stream of an event and its end so far; an event that begins a stream opens it.
func (o *owner) headOf(d Device, part *partition, ev *step.Event, at int64) (string, head) {
	var name string
	var h head
	switch ev.Stream.Kind {
	case step.CallStream:
		name = projection.StreamOf(d.Tenant, ev.Stream.ID)
		var known bool
		if h, known = o.calls[ev.Stream.ID]; !known {
			past, _ := o.pastOf(ev.Stream.ID)
			h = past.head
		}
	case step.RunStream:
		name, h = streamOfRun(ev.Stream.ID), o.runs[ev.Stream.ID]
	default:
		dh := o.devices[ev.Stream.ID]
		name, h = dh.stream, dh.head
	}
	if h.version == 0 {
		h.began, h.accepted = at, min(ev.Event.Occurred, ev.Event.At)
		if ev.Stream.Kind != step.DeviceStream {
			part.behind.open(name)
		}
	}
	return name, h
}

// setHead moves the end of an event's stream.
func (o *owner) setHead(ev *step.Event, device uuid.UUID, h head) {
	id := ev.Stream.ID
	switch ev.Stream.Kind {
	case step.CallStream:
		if past, ok := o.pastOf(id); ok {
			past.head = h
			o.ended.set(id, past, 0)
			return
		}
		o.calls[id] = h
		if q, ok := ev.Event.Fact.(rpc.Queued); ok && !q.Again {
			o.touch(device)
		}
	case step.RunStream:
		o.runs[id] = h
	default:
		dh := o.devices[id]
		dh.head = h
		switch ev.Event.Fact.(type) {
		case rpc.SessionOpened:
			dh.lastConnect = ev.Event.At
		case rpc.SessionClosed:
			dh.lastDisconnect = ev.Event.At
		}
		o.touch(id)
	}
}

// touch notes that a device's row must be written.
func (o *owner) touch(device uuid.UUID) {
	if dh := o.devices[device]; dh != nil {
		o.parts[dh.partition].behind.device(device)
	}
}

func (o *owner) versionOf(call uuid.UUID) int64 {
	if h, ok := o.calls[call]; ok {
		return h.version
	}
	past, _ := o.pastOf(call)
	return past.head.version
}

// trackRun keeps the timers of a run, or forgets it when it has ended.
func (o *owner) trackRun(run step.Run) {
	if len(run.Tokens) == 0 {
		if dh := o.devices[run.Device]; dh != nil {
			o.parts[dh.partition].behind.close(streamOfRun(run.ID))
		}
		delete(o.runs, run.ID)
		return
	}
	for _, t := range run.Tokens {
		if t.Due != 0 {
			o.timers.set(timer{at: t.Due, device: run.Device, id: run.ID, token: t.Number})
		}
	}
}

// behind is what of a partition is written behind: rows of devices, and the index of open streams. All of it can be had again from
// the events after Checkpoint.Indexed.
type behind struct {
	devices map[uuid.UUID]struct{}
	opened  map[string]struct{} // open, and not in the index yet
	closed  map[string]struct{} // closed, and still in the index
	indexed map[string]struct{} // in the index
}

func (b *behind) device(id uuid.UUID) {
	if b.devices == nil {
		b.devices = map[uuid.UUID]struct{}{}
	}
	b.devices[id] = struct{}{}
}

func (b *behind) open(stream string) {
	if b.opened == nil {
		b.opened, b.closed, b.indexed = map[string]struct{}{}, map[string]struct{}{}, map[string]struct{}{}
	}
	b.opened[stream] = struct{}{}
}

func (b *behind) close(stream string) {
	if _, ok := b.indexed[stream]; ok {
		b.closed[stream] = struct{}{}
	}
	delete(b.opened, stream)
}

func (b *behind) dirty() bool { return len(b.devices)+len(b.opened)+len(b.closed) > 0 }

// flushBehind adds the rows that are written behind of a few partitions to the batch, about once a second each; of all when
// everything is to be written.
func (o *owner) flushBehind(all bool) {
	now := o.e.now()
	few := 4
	for i := range o.parts {
		p := &o.parts[i]
		if !p.behind.dirty() && !p.moved || !all && now.Sub(p.flushed).Seconds() < 1 {
			continue
		}
		p.flushed = now
		o.flushPartition(p)
		if few--; few == 0 && !all {
			return
		}
	}
}

func (o *owner) flushPartition(p *partition) {
	pb := o.batch.part(p.cp)
	b := &p.behind
	for id := range b.devices {
		pb.Rows = append(pb.Rows, o.deviceRow(id))
	}
	for stream := range b.opened {
		pb.Rows = append(pb.Rows, eventstore.Row{Table: projection.OpenStreams, Values: []any{int64(p.cp.Partition), stream}})
		b.indexed[stream] = struct{}{}
	}
	for stream := range b.closed {
		pb.Rows = append(pb.Rows, eventstore.Row{Table: projection.OpenStreams, Delete: true, Values: []any{int64(p.cp.Partition), stream}})
		delete(b.indexed, stream)
	}
	clear(b.devices)
	clear(b.opened)
	clear(b.closed)
	p.moved = false
	p.cp.Indexed = p.cp.Seq
}

func (o *owner) deviceRow(id uuid.UUID) eventstore.Row {
	dh := o.devices[id]
	d := o.state.Devices[id]
	hash := dh.hash // the row is written while the stream may grow
	return eventstore.Row{Table: projection.Devices, Values: []any{
		id, int64(dh.partition), int64(d.NextWire), dh.stream, dh.began, dh.version, hash[:], instantOrNil(dh.lastConnect), instantOrNil(dh.lastDisconnect),
	}}
}

func instantOrNil(i rpc.Instant) any {
	if i == 0 {
		return nil
	}
	return int64(i)
}
