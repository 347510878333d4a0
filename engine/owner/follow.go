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

// headOf is the stream of an event and its end, which the event moves. An event that begins a stream opens it. The end of a call that has ended is in past.
func (rec *recorder) headOf(part *partition, d *device, ev *step.Event) (stream string, h *projection.Head, past *endedCall) {
	id := ev.Stream.ID
	switch ev.Stream.Kind {
	case step.CallStream:
		stream = projection.CallStream(d.tenant, id)
		if c := rec.callOf(part, d, ev); c != nil {
			h = &c.head
		} else {
			one, _ := rec.endedLately(id)
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
		part.behind.change(d)
	}
	if h.Version == 0 {
		h.Began = int64(ev.Event.At)
		if ev.Stream.Kind != step.DeviceStream {
			part.behind.open(stream)
		}
	}
	return stream, h, past
}

// callOf is the open call of an event, nil if it has ended. A call that is not known is open from now on.
func (rec *recorder) callOf(part *partition, d *device, ev *step.Event) *openCall {
	id := ev.Stream.ID
	c := rec.tables.calls[id]
	if c == nil {
		if _, ended := rec.endedLately(id); ended {
			return nil
		}
		c = rec.tables.open(id, d)
		c.accepted, c.from = min(ev.Event.Occurred, ev.Event.At), rec.trace
		rec.tables.use(d)
	}
	if q, ok := ev.Event.Fact.(rpc.Queued); ok && !q.Again {
		part.behind.change(d) // its wire counter has moved
	}
	return c
}

// follow brings what the owner knows of a call up to date with the events of a step: its timer, its body, its row.
func (rec *recorder) follow(part *partition, d *device, call *rpc.Call, events []step.Event) {
	row := &projection.Call{Tenant: d.tenant, Device: d.id, Partition: d.partition, State: *call, Body: rec.bodyAfter(part, call.ID, events)}
	if c := rec.tables.calls[call.ID]; c != nil {
		row.Head = c.head
		rec.passages(c, call, events)
		if call.Phase.Terminal() {
			row.Ended = rec.end(part, c, call, events)
		} else {
			rec.tables.await(c)
		}
	} else { // it had ended before
		past, _ := rec.endedLately(call.ID)
		past.Call = *call
		rec.keepEnded(part.number, past.EndedCall)
		row.Head, row.Ended = past.Head, past.At
	}
	if row.HasRow() {
		rec.batch.calls[call.ID] = row
	}
}

// changesSession tells whether a session was opened that lived before: what it had to acknowledge is due again.
func changesSession(events []step.Event) bool {
	for i := range events {
		if f, ok := events[i].Event.Fact.(rpc.SessionOpened); ok && f.Since != 0 {
			return true
		}
	}
	return false
}

// end moves a call that has ended to those that ended lately, and answers when it ended.
func (rec *recorder) end(part *partition, c *openCall, call *rpc.Call, events []step.Event) rpc.Instant {
	d := c.device
	at := events[len(events)-1].Event.At
	rec.keepEnded(part.number, EndedCall{Device: d.id, Head: c.head, Call: *call, At: at})
	if call.Direction == rpc.ToDevice {
		rec.recent.wires.set(wireKey{d.id, call.Wire}, call.ID, 1, rec.number)
	}
	part.behind.close(projection.CallStream(d.tenant, call.ID))
	rec.tables.close(c)
	return at
}

// bodyAfter is the body of a call after the events of a step. That of a light call which goes on is not needed, and may not be at hand.
func (rec *recorder) bodyAfter(part *partition, call uuid.UUID, events []step.Event) rpc.Body {
	body, known := rec.bodyAtHand(call)
	if !known && !begins(call, events) {
		return body
	}
	for i := range events {
		if ev := &events[i].Event; ev.Call == call {
			body = rpc.EvolveBody(body, ev.Fact)
		}
	}
	rec.keepBody(part.number, call, body)
	return body
}

// bodiesNeeded are the calls with rows to write whose bodies are not at hand.
func (rec *recorder) bodiesNeeded(res *step.Result) (calls []uuid.UUID) {
	for i := range res.Calls {
		c := &res.Calls[i]
		if !c.Persistent && !c.Phase.Terminal() || begins(c.ID, res.Events) {
			continue
		}
		if _, known := rec.bodyAtHand(c.ID); !known {
			calls = append(calls, c.ID)
		}
	}
	return calls
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

// touch notes that the batch has something of a device, which stays in memory until that is stored.
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
		part.behind.close(projection.RunStream(run.ID))
	}
	rec.tables.park(r)
}

// carriedAfter is how long the stream of a device may get before it goes on in a successor.
const carriedAfter = 10_000

// Carried closes a long-lived stream: its state goes on in the stream To, so that retention can work on whole streams.
type Carried struct {
	To       string `json:"to"`
	NextWire int32  `json:"nextWire"`
	LastHash string `json:"lastHash"` // of the event before this one
}

// carry closes the stream of a device before its first event of a new month, or when it has become long.
func (rec *recorder) carry(part *partition, d *device, ev *step.Event) {
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

// behind is what of a partition is written behind: rows of devices, and the index of open streams. All of it can be had again from
// the events after Checkpoint.Indexed (decision 0006).
type behind struct {
	devices []*device           // with rows to write
	opened  map[string]struct{} // open, and not in the index yet
	closed  map[string]struct{} // closed, and still in the index
	indexed map[string]struct{} // in the index
}

// change notes that the row of a device is to be written.
func (b *behind) change(d *device) {
	if !d.changed {
		d.changed = true
		b.devices = append(b.devices, d)
	}
}

func (b *behind) open(stream string) {
	if b.opened == nil {
		b.opened, b.closed, b.indexed = map[string]struct{}{}, map[string]struct{}{}, map[string]struct{}{}
	}
	b.opened[stream] = struct{}{}
}

// found notes a stream that is open in the index.
func (b *behind) found(stream string) {
	b.open(stream)
	delete(b.opened, stream)
	b.indexed[stream] = struct{}{}
}

func (b *behind) close(stream string) {
	if _, ok := b.indexed[stream]; ok {
		b.closed[stream] = struct{}{}
	}
	delete(b.opened, stream)
}

// stale tells whether a flush of the partition writes something.
func (p *partition) stale() bool {
	return p.behind.dirty() || p.moved || p.cp.Seq-p.cp.Indexed >= catchUpMost
}

func (b *behind) dirty() bool { return len(b.devices)+len(b.opened)+len(b.closed) > 0 }

// catchUpMost is after how many events a partition's watermark moves on although no row of it has changed: recovery reads what comes after it.
const catchUpMost = 1_000

// flushBehind adds the rows that are written behind of a few partitions to the batch, about once a second each; of all when everything is to be written.
// A partition that was loaded has its turn in the first batch: otherwise each of several crashes in a row makes the next recovery longer.
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

// flush adds the rows of a partition that are written behind.
func (rec *recorder) flush(p *partition) {
	p.flushed = rec.now
	pb := rec.batch.part(&p.cp)
	b := &p.behind
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
