package owner

import (
	"cmp"
	"fmt"
	"slices"

	"callchain/engine/bus"
	"callchain/engine/nodetrace"
	"callchain/engine/projection"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/eventstore"
	"callchain/nodes"

	"github.com/google/uuid"
)

// Batch is what one append stores, and the effects to release when it is stored. Nothing changes it after Ready.
type Batch struct {
	Store  eventstore.Batch // no partitions: there is nothing to store
	Events int              // and rows, weighed

	number uint64
	parts  map[int32]*eventstore.PartitionBatch
	order  []int32 // of parts
	bytes  int
	calls  map[uuid.UUID]*projection.Call // rows to write, each in its last state

	messages    []pending // to be processed again if the append fails
	effects     []Effect
	completions []Completion
	deadLetters []deadLetterRecord
	spans       []Span
	passages    []Passage
	endings     []Ending
	commands    []string
	refusals    []rpc.Code
	nodeTraces  int
	touched     []*device // of which it has something
	oldest      [bus.Lanes]rpc.Instant
	closed      bool // nothing else may come into it
	rejection   rejection
}

// rejection is what a batch holds of a command whose events the store refuses.
type rejection uint8

const (
	rejectsNothing    rejection = iota
	rejectsCommand              // its dead letter and fact, or an answer
	rejectsDeadLetter           // neither: the store refuses its dead letter, too
)

// Effect is an effect of a step, and whom it concerns.
type Effect struct {
	Partition int32
	Epoch     int64
	Tenant    uuid.UUID
	Do        step.Effect
	From      *step.TraceContext // what it is a child of, nil if it is in no trace
	To        []string           // processes; none: this one
	Callers   []string           // processes with callers of a one-way call, to be answered when the delivery has left
	Content   []byte             // digest of a call that ended: its callers may not know yet that it is theirs
}

// Completion is the result for the sender of a message.
type Completion struct {
	Partition int32
	Done      func(error) // nil: Waiter waits, here or at another node
	Waiter    step.Waiter
	Err       error
}

// deadLetterRecord is a record for the topic of dead letters.
type deadLetterRecord struct {
	partition int32
	record    bus.Record
}

// batchBytes bounds the data of one append; Config.BatchEvents bounds its events.
const batchBytes = 2 << 20

// newBatch makes a batch with room for as much as the one before it had.
func newBatch(id uuid.UUID, number uint64, before *Batch) *Batch {
	return &Batch{
		Store: eventstore.Batch{ID: id}, number: number, parts: make(map[int32]*eventstore.PartitionBatch, len(before.parts)),
		calls: make(map[uuid.UUID]*projection.Call, len(before.calls)), messages: make([]pending, 0, len(before.messages)),
		effects: make([]Effect, 0, len(before.effects)), completions: make([]Completion, 0, len(before.completions)),
		passages: make([]Passage, 0, len(before.passages)), commands: make([]string, 0, len(before.commands)),
	}
}

func (b *Batch) empty() bool {
	return len(b.order) == 0 && len(b.effects) == 0 && len(b.completions) == 0
}

func (b *Batch) full(events int) bool {
	return b.Events >= events || b.bytes >= batchBytes || len(b.completions) >= 8*events
}

// part is the share of a partition; it begins with the checkpoint as it is now.
func (b *Batch) part(cp *eventstore.Checkpoint) *eventstore.PartitionBatch {
	pb, ok := b.parts[cp.Partition]
	if !ok {
		pb = &eventstore.PartitionBatch{Expect: *cp}
		b.parts[cp.Partition] = pb
		b.order = append(b.order, cp.Partition)
	}
	return pb
}

// forget drops messages that need not be processed again.
func (b *Batch) forget() {
	clear(b.messages)
	b.messages, b.closed, b.oldest = b.messages[:0], false, [bus.Lanes]rpc.Instant{}
}

// noteOldest notes when the oldest command of a lane was sent.
func (b *Batch) noteOldest(m *bus.Message) {
	if cmd, ok := m.Value.(step.Command); ok && b.oldest[m.Lane] == 0 {
		b.oldest[m.Lane] = cmd.Occurred
	}
}

// recorder writes decisions into the batch and the memory.
type recorder struct {
	*memory
	batch          *Batch            // the open one
	trace          step.TraceContext // of the current decision
	deadLetterRows deadLetterRows
	nodes          nodetrace.Recorder
}

// begin opens the next batch.
func (rec *recorder) begin() {
	rec.number++
	rec.batch = newBatch(rec.config.NewID(), rec.number, cmp.Or(rec.batch, &Batch{}))
}

// place numbers and hashes an event behind the end of its stream.
func (rec *recorder) place(part *partition, h *projection.Head, e eventstore.Event) {
	pb := rec.batch.part(&part.cp)
	h.Version++
	part.cp.Seq++
	e.Began, e.Version, e.Partition, e.Seq, e.AppendID = h.Began, h.Version, part.number, part.cp.Seq, rec.batch.Store.ID
	if e.Occurred == 0 {
		e.Occurred = e.At
	}
	e.Hash = e.Digest(h.Hash)
	h.Hash = e.Hash
	part.cp.Head = eventstore.Link(part.cp.Head, e.Hash)
	pb.Events = append(pb.Events, e)
	rec.batch.Events++
	rec.batch.bytes += len(e.Data)
}

// seal builds the store's batch.
func (rec *recorder) seal(b *Batch) {
	for _, c := range b.calls {
		row, err := c.Row()
		if err != nil {
			panic(fmt.Sprintf("owner: %v", err)) // bodies hold JSON that was checked before
		}
		pb := b.parts[c.Partition]
		pb.Rows = append(pb.Rows, row)
	}
	b.Store.Partitions = make([]eventstore.PartitionBatch, 0, len(b.order))
	for _, p := range b.order {
		cp := &rec.parts[p].cp
		cp.Append = b.Store.ID
		rec.parts[p].moved = false // the positions go with it
		pb := b.parts[p]
		pb.Next = *cp
		b.Store.Partitions = append(b.Store.Partitions, *pb)
	}
}

// removePartitions removes partitions from a batch that is not appended yet, and returns their messages.
func (b *Batch) removePartitions(gone func(int32) bool) (messages []pending) {
	for _, p := range b.order {
		if pb := b.parts[p]; gone(p) {
			b.Events -= len(pb.Events)
			for i := range pb.Events {
				b.bytes -= len(pb.Events[i].Data)
			}
			delete(b.parts, p)
		}
	}
	b.order = slices.DeleteFunc(b.order, gone)
	for id, c := range b.calls {
		if gone(c.Partition) {
			delete(b.calls, id)
		}
	}
	for i := range b.messages {
		if gone(b.messages[i].Partition) {
			messages = append(messages, b.messages[i])
		}
	}
	b.messages = slices.DeleteFunc(b.messages, func(p pending) bool { return gone(p.Partition) })
	b.effects = slices.DeleteFunc(b.effects, func(fx Effect) bool { return gone(fx.Partition) })
	b.completions = slices.DeleteFunc(b.completions, func(c Completion) bool { return gone(c.Partition) })
	b.deadLetters = slices.DeleteFunc(b.deadLetters, func(d deadLetterRecord) bool { return gone(d.partition) })
	b.spans = slices.DeleteFunc(b.spans, func(s Span) bool { return gone(s.Partition) })
	b.passages = slices.DeleteFunc(b.passages, func(p Passage) bool { return gone(p.Partition) })
	b.endings = slices.DeleteFunc(b.endings, func(e Ending) bool { return gone(e.Partition) })
	b.touched = slices.DeleteFunc(b.touched, func(d *device) bool { return gone(d.partition) })
	b.closed = b.closed && len(b.messages) > 0
	b.oldest = [bus.Lanes]rpc.Instant{}
	for i := range b.messages {
		b.noteOldest(&b.messages[i].Message)
	}
	return messages
}

// apply writes the result of a step into the memory and the batch.
func (dec *decision) apply(m *bus.Message, cmd *step.Command, d *device, res *step.Result) {
	if res.Refusal != nil && len(res.Events) == 0 && len(res.Effects) == 0 {
		dec.refuse(m, res.Refusal)
		return
	}
	part := &dec.parts[d.partition]
	effects := dec.presence.route(cmd, d, res.Effects)
	dec.presence.rememberHome(cmd, d, res.Events)
	d.state = res.After()
	for i := range res.Events {
		dec.placeEvent(part, d, &res.Events[i])
	}
	if res.Refusal == nil {
		dec.presence.rememberSender(cmd, d)
	}
	for i := range res.Calls {
		dec.updateCall(part, d, &res.Calls[i], res.Events)
	}
	if changesSession(res.Events) {
		dec.tables.setDeadlines(d)
	}
	for _, run := range res.Runs() {
		dec.park(part, d, run)
	}
	dec.tables.rearm(cmd)
	dec.write(part, res.Writes)
	dec.writeNodeTraces(part, d, cmd)
	for i, do := range res.Effects {
		if dl, ok := do.(step.DeadLetter); ok {
			dec.recordCutOff(part, d, cmd, &dl)
		}
		fx := &effects[i]
		fx.Partition, fx.Epoch, fx.Tenant, fx.Do, fx.From = d.partition, part.cp.Epoch, d.tenant, do, dec.contextOf(do)
	}
	dec.batch.effects = append(dec.batch.effects, effects...)
	dec.refuse(m, res.Refusal)
}

// placeEvent gives an event its place in its stream and its partition.
func (rec *recorder) placeEvent(part *partition, d *device, ev *step.Event) {
	data, err := ev.AppendData(nil)
	if err != nil {
		panic(fmt.Sprintf("owner: %v", err)) // facts hold JSON that was checked before
	}
	rec.carryOver(part, d, ev)
	name, h, past := rec.headOf(part, d, ev)
	rec.place(part, h, eventstore.Event{
		Stream: name, Type: ev.Name(), TypeVersion: ev.Version(), At: int64(ev.Event.At), Occurred: int64(ev.Event.Occurred),
		Tenant: d.tenant, Device: d.id, Actor: ev.Event.Actor, Cause: ev.Event.Cause, Hops: ev.Event.Hops,
		Trace: ev.Event.Trace, ChainVersion: ev.Event.Chain, Data: data,
	})
	if past != nil {
		rec.recent.calls.set(ev.Stream.ID, *past, 1, rec.number)
	}
	rec.touch(d)
}

// write turns the writes of nodes into rows, and caches the values.
func (dec *decision) write(part *partition, writes []nodes.Write) {
	if len(writes) == 0 {
		return
	}
	pb := dec.batch.part(&part.cp)
	for i := range writes {
		pb.Rows = append(pb.Rows, projection.ValueRow(&writes[i]))
		dec.writeValue(&writes[i], &dec.pending.read.remoteValues)
	}
	dec.batch.Events += len(writes) / 2 // rows cost, too
}

// Release gives the effects of a batch, without the partitions that are not stored.
type Release struct {
	*Batch
	fenced []int32 // partitions that are not stored
	only   []int32 // if it is not nil: the partitions that are stored
}

// Release releases the batch without the fenced partitions.
func (b *Batch) Release(fenced []int32) Release { return Release{Batch: b, fenced: fenced} }

// Holds reports whether the effects of a partition are released.
func (r *Release) Holds(partition int32) bool {
	if r.only != nil {
		return slices.Contains(r.only, partition)
	}
	return !slices.Contains(r.fenced, partition)
}

// Spans gives the spans of the steps, which end now.
func (r *Release) Spans(each func(*Span)) {
	for i := range r.spans {
		if r.Holds(r.spans[i].Partition) {
			each(&r.spans[i])
		}
	}
}

// Completions gives the results for the senders.
func (r *Release) Completions(each func(*Completion)) {
	for i := range r.completions {
		if r.Holds(r.completions[i].Partition) {
			each(&r.completions[i])
		}
	}
}

// Effects gives the effects, in order.
func (r *Release) Effects(each func(*Effect)) {
	for i := range r.effects {
		if r.Holds(r.effects[i].Partition) {
			each(&r.effects[i])
		}
	}
}

// Passages gives the stages that calls have reached.
func (r *Release) Passages(each func(*Passage)) {
	for i := range r.passages {
		if r.Holds(r.passages[i].Partition) {
			each(&r.passages[i])
		}
	}
}

// Endings gives the calls that have ended.
func (r *Release) Endings(each func(*Ending)) {
	for i := range r.endings {
		if r.Holds(r.endings[i].Partition) {
			each(&r.endings[i])
		}
	}
}

// Commands are the names of the commands that were processed, for counting; of a part of a batch there are none.
func (r *Release) Commands() []string {
	if r.only != nil {
		return nil
	}
	return r.commands
}

// Refusals are the codes of those that were refused, likewise.
func (r *Release) Refusals() []rpc.Code {
	if r.only != nil {
		return nil
	}
	return r.refusals
}

// DeadLetters are the records for their topic.
func (r *Release) DeadLetters() (out []bus.Record) {
	for i := range r.deadLetters {
		if r.Holds(r.deadLetters[i].partition) {
			out = append(out, r.deadLetters[i].record)
		}
	}
	return out
}

// Stored are the shares of the partitions that are stored.
func (r *Release) Stored() []eventstore.PartitionBatch {
	if r.only == nil && len(r.fenced) == 0 {
		return r.Store.Partitions
	}
	return slices.DeleteFunc(slices.Clone(r.Store.Partitions), func(p eventstore.PartitionBatch) bool { return !r.Holds(p.Expect.Partition) })
}
