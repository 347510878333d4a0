package owner

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"callchain/engine/projection"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/eventstore"

	"github.com/google/uuid"
)

// headOf is the stream of an event, and the head that the event moves. The first event of a stream opens it. past is set for a call that has ended.
func (rec *recorder) headOf(part *partition, d *device, ev *step.Event) (stream string, h *projection.Head, past *endedCall) {
	id := ev.Stream.ID
	switch ev.Stream.Kind {
	case step.CallStream:
		stream = projection.CallStream(d.tenant, id)
		if c := rec.callOf(part, d, ev); c != nil {
			h = &c.head
		} else {
			one, _ := rec.recentlyEnded(id)
			past, h = &one, &one.Head
		}
	case step.RunStream:
		r := rec.tables.runs[id]
		if r == nil {
			r = &parkedRun{device: d}
			rec.tables.runs[id] = r
		}
		stream, h = projection.RunStream(id), &r.head
	default:
		stream, h = d.stream, &d.head
		switch ev.Event.Fact.(type) {
		case rpc.SessionOpened:
			d.lastConnect = ev.Event.At
		case rpc.SessionClosed:
			d.lastDisconnect = ev.Event.At
		}
		part.writeBehind.changeDevice(d)
	}
	if h.Version == 0 {
		h.Began = int64(ev.Event.At)
		if ev.Stream.Kind != step.DeviceStream {
			part.writeBehind.open(stream)
		}
	}
	return stream, h, past
}

// callOf is the open call of an event, nil if it has ended. A call that is not known is open from now on.
func (rec *recorder) callOf(part *partition, d *device, ev *step.Event) *openCall {
	id := ev.Stream.ID
	c := rec.tables.calls[id]
	if c == nil {
		if _, ended := rec.recentlyEnded(id); ended {
			return nil
		}
		c = rec.tables.open(id, d)
		c.accepted, c.trace = min(ev.Event.Occurred, ev.Event.At), rec.trace
		rec.tables.use(d)
	}
	if q, ok := ev.Event.Fact.(rpc.Queued); ok && !q.Again {
		part.writeBehind.changeDevice(d) // its wire counter has moved
	}
	return c
}

// updateCall updates a call's timer, body and row with the events of a step.
func (rec *recorder) updateCall(part *partition, d *device, call *rpc.Call, events []step.Event) {
	row := &projection.Call{Tenant: d.tenant, Device: d.id, Partition: d.partition, State: *call, Body: rec.bodyAfter(part, call.ID, events)}
	if c := rec.tables.calls[call.ID]; c != nil {
		row.Head = c.head
		rec.passages(c, call, events)
		if call.Phase.Terminal() {
			row.Ended = rec.closeCall(part, c, call, events)
		} else {
			rec.tables.setDeadline(c)
		}
	} else { // it had ended before
		past, _ := rec.recentlyEnded(call.ID)
		past.Call = *call
		rec.cacheEnded(part.number, past.EndedCall)
		row.Head, row.Ended = past.Head, past.At
	}
	if row.HasRow() {
		rec.batch.calls[call.ID] = row
	}
}

// changesSession reports whether a session was opened that lived before: what it had to acknowledge is due again.
func changesSession(events []step.Event) bool {
	for i := range events {
		if f, ok := events[i].Event.Fact.(rpc.SessionOpened); ok && f.Since != 0 {
			return true
		}
	}
	return false
}

// closeCall moves a call to the recently ended ones, and returns when it ended.
func (rec *recorder) closeCall(part *partition, c *openCall, call *rpc.Call, events []step.Event) rpc.Instant {
	d := c.device
	at := events[len(events)-1].Event.At
	rec.cacheEnded(part.number, EndedCall{Device: d.id, Head: c.head, Call: *call, At: at})
	if call.Direction == rpc.ToDevice {
		rec.recent.wires.set(wireKey{d.id, call.Wire}, call.ID, 1, rec.number)
	}
	part.writeBehind.close(projection.CallStream(d.tenant, call.ID))
	rec.tables.close(c)
	return at
}

// bodyAfter is the body of a call after the events of a step. The body of an open light call is not needed, and may not be cached.
func (rec *recorder) bodyAfter(part *partition, call uuid.UUID, events []step.Event) rpc.Body {
	body, known := rec.cachedBody(call)
	if !known && !begins(call, events) {
		return body
	}
	for i := range events {
		if ev := &events[i].Event; ev.Call == call {
			body = rpc.EvolveBody(body, ev.Fact)
		}
	}
	rec.cacheBody(part.number, call, body)
	return body
}

// bodiesNeeded are the calls with rows to write whose bodies are not cached.
func (rec *recorder) bodiesNeeded(res *step.Result) (calls []uuid.UUID) {
	for i := range res.Calls {
		c := &res.Calls[i]
		if !c.Persistent && !c.Phase.Terminal() || begins(c.ID, res.Events) {
			continue
		}
		if _, known := rec.cachedBody(c.ID); !known {
			calls = append(calls, c.ID)
		}
	}
	return calls
}

// begins reports whether the events of a step are the first of a call.
func begins(call uuid.UUID, events []step.Event) bool {
	for i := range events {
		if _, ok := events[i].Event.Fact.(rpc.Requested); ok && events[i].Event.Call == call {
			return true
		}
	}
	return false
}

// touch keeps a device in memory until the batch is stored.
func (rec *recorder) touch(d *device) {
	if d.written != rec.number {
		d.written = rec.number
		rec.batch.touched = append(rec.batch.touched, d)
	}
}

// park keeps the timers of a run, or forgets it when it has ended.
func (rec *recorder) park(part *partition, d *device, run step.Run) {
	r := rec.tables.runs[run.ID]
	r.run, r.device = run, d
	if len(run.Tokens) == 0 {
		part.writeBehind.close(projection.RunStream(run.ID))
	}
	rec.tables.park(r)
}

// carriedAfter bounds the events of a device's stream; then a successor continues it.
const carriedAfter = 10_000

// Carried closes a long-lived stream: the stream To continues it, so that retention can work on whole streams.
type Carried struct {
	To       string `json:"to"`
	NextWire int32  `json:"nextWire"`
	LastHash string `json:"lastHash"` // of the event before this one
}

// carryOver closes the stream of a device before its first event of a new month, or when it has become long.
func (rec *recorder) carryOver(part *partition, d *device, ev *step.Event) {
	if ev.Stream.Kind != step.DeviceStream {
		return
	}
	at := int64(ev.Event.At)
	if d.head.Version == 0 || d.head.Version < carriedAfter && month(d.head.Began) == month(at) {
		return
	}
	next := projection.Successor(d.id, d.stream)
	data, err := json.Marshal(Carried{To: next, NextWire: d.state.NextWire, LastHash: hex.EncodeToString(d.head.Hash[:])})
	if err != nil {
		panic(fmt.Sprintf("owner: %v", err)) // texts and numbers only
	}
	rec.place(part, &d.head, eventstore.Event{
		Stream: d.stream, Type: "Carried", TypeVersion: 1, At: at, Tenant: d.tenant, Device: d.id, Actor: "system", Cause: "carry", Data: data,
	})
	d.stream, d.head = next, projection.Head{}
}

// month counts the months of the calendar, in UTC.
func month(at int64) int {
	t := time.UnixMicro(at).UTC()
	return t.Year()*12 + int(t.Month())
}

// writeBehind is what of a partition is written after its events: rows of devices, and the index of open streams. Recovery rebuilds it from
// the events after Checkpoint.Indexed (decision 0006).
type writeBehind struct {
	devices []*device           // with rows to write
	opened  map[string]struct{} // open, and not in the index yet
	closed  map[string]struct{} // closed, and still in the index
	indexed map[string]struct{} // in the index
}

// changeDevice notes that the row of a device is to be written.
func (b *writeBehind) changeDevice(d *device) {
	if !d.changed {
		d.changed = true
		b.devices = append(b.devices, d)
	}
}

func (b *writeBehind) open(stream string) {
	if b.opened == nil {
		b.opened, b.closed, b.indexed = map[string]struct{}{}, map[string]struct{}{}, map[string]struct{}{}
	}
	b.opened[stream] = struct{}{}
}

// openIndexed notes a stream that is open in the index.
func (b *writeBehind) openIndexed(stream string) {
	b.open(stream)
	delete(b.opened, stream)
	b.indexed[stream] = struct{}{}
}

func (b *writeBehind) close(stream string) {
	if _, ok := b.indexed[stream]; ok {
		b.closed[stream] = struct{}{}
	}
	delete(b.opened, stream)
}

// stale reports whether a flush of the partition would write something.
func (p *partition) stale() bool {
	return p.writeBehind.dirty() || p.moved || p.cp.Seq-p.cp.Indexed >= catchUpMost
}

func (b *writeBehind) dirty() bool { return len(b.devices)+len(b.opened)+len(b.closed) > 0 }

// catchUpMost is after how many events a partition's watermark moves on although no row of it has changed: recovery reads what comes after it.
const catchUpMost = 1_000

// flushBehind adds the write-behind rows of a few partitions to the batch, about once a second each; of all partitions if all is set.
// A loaded partition is flushed with the first batch: otherwise each of several crashes in a row makes the next recovery longer.
func (o *Owner) flushBehind(all bool) {
	few := 4
	for i := range o.mem.parts {
		p := &o.mem.parts[i]
		if p.state != owned || !p.stale() || !all && o.mem.now < p.flushed.Add(time.Second) {
			continue
		}
		o.rec.flush(p)
		if few--; few == 0 && !all {
			return
		}
	}
}

// flush adds the write-behind rows of a partition.
func (rec *recorder) flush(p *partition) {
	p.flushed = rec.now
	pb := rec.batch.part(&p.cp)
	b := &p.writeBehind
	for _, d := range b.devices {
		pb.Rows = append(pb.Rows, d.row())
		d.changed = false
		rec.touch(d)
	}
	for stream := range b.opened {
		pb.Rows = append(pb.Rows, openStream(p.number, stream, false))
		b.indexed[stream] = struct{}{}
	}
	for stream := range b.closed {
		pb.Rows = append(pb.Rows, openStream(p.number, stream, true))
		delete(b.indexed, stream)
	}
	b.devices = nil
	clear(b.opened)
	clear(b.closed)
	p.moved = false
	p.cp.Indexed = p.cp.Seq
}

func openStream(partition int32, stream string, closed bool) eventstore.Row {
	return eventstore.Row{Table: projection.OpenStreams, Delete: closed, Values: []any{int64(partition), stream}}
}
