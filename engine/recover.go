package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"callchain/engine/bus"
	"callchain/engine/projection"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/eventstore"

	"github.com/google/uuid"
)

// recover folds the open streams of a partition and brings up to date what was written behind.
func (o *owner) recover(ctx context.Context, cp eventstore.Checkpoint) error {
	part := &o.parts[cp.Partition]
	part.cp, part.flushed = cp, o.e.now()
	rows, err := o.e.store.Rows(ctx, eventstore.Query{
		Table: projection.OpenStreams, Where: []eventstore.Cond{{Column: "partition", Op: eventstore.Eq, Value: int64(cp.Partition)}},
	})
	if err != nil {
		return err
	}
	open := map[string]bool{} // true: it is in the index
	for _, row := range rows {
		stream, _ := row[1].(string)
		open[stream] = true
	}
	if err := o.catchUp(ctx, part, open); err != nil {
		return err
	}
	for names := range slices.Chunk(sortedKeys(open), restoredAtOnce) {
		if err := o.restoreAll(ctx, part, names, open); err != nil {
			return err
		}
	}
	for device, calls := range o.restored {
		d := rpc.Restore(o.state.Devices[device], calls)
		o.state.Devices[device] = d
		for i := range calls {
			o.timers.set(timer{at: d.NextDeadline(d.Find(calls[i].ID)), device: device, id: calls[i].ID})
		}
	}
	clear(o.restored)
	return nil
}

// restoredAtOnce is how many streams are read at once.
const restoredAtOnce = 500

// restoreAll folds streams, named in order. One that cannot be folded is set aside alone; the rest of the partition goes on.
func (o *owner) restoreAll(ctx context.Context, part *partition, names []string, open map[string]bool) error {
	events, err := o.e.store.Streams(ctx, names)
	if err != nil {
		return fmt.Errorf("reading the open streams: %w", err)
	}
	for _, stream := range names {
		n := 0
		for n < len(events) && events[n].Stream == stream {
			n++
		}
		if err := o.restore(ctx, part, stream, events[:n], open[stream]); errors.Is(err, errFetch) || errors.Is(err, rpc.ErrUnknownEvent) && o.e.group != nil {
			return err // in a cluster a newer node may read it
		} else if err != nil {
			var last eventstore.Event
			if n > 0 {
				last = events[n-1]
			}
			o.quarantine(part, stream, last, err)
		}
		events = events[n:]
	}
	return nil
}

func sortedKeys(m map[string]bool) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// catchUp reads the events after the watermark: they tell which streams were opened since, how far the wire counters have
// come, and where the streams of devices end.
func (o *owner) catchUp(ctx context.Context, part *partition, open map[string]bool) error {
	const page = 2000
	for after := part.cp.Indexed; ; {
		events, err := o.e.store.Partition(ctx, part.cp.Partition, after, page)
		if err != nil {
			return err
		}
		for i := range events {
			if err := o.catchUpWith(ctx, part, &events[i], open); err != nil {
				return err
			}
			part.lastAt = max(part.lastAt, rpc.Instant(events[i].At))
			after = events[i].Seq
		}
		if len(events) < page {
			return nil
		}
	}
}

func (o *owner) catchUpWith(ctx context.Context, part *partition, e *eventstore.Event, open map[string]bool) error {
	switch {
	case strings.HasPrefix(e.Stream, "device/"):
		if err := o.load(ctx, e.Device, e.Tenant, part.cp.Partition); err != nil {
			return err
		}
		dh := o.devices[e.Device]
		dh.head, dh.stream = headAfter(e), e.Stream
		part.behind.device(e.Device)
	case strings.HasPrefix(e.Stream, "rpc/"), strings.HasPrefix(e.Stream, "run/"):
		if _, ok := open[e.Stream]; !ok {
			open[e.Stream] = false
		}
	}
	if e.Type != "Queued" {
		return nil
	}
	if err := o.load(ctx, e.Device, e.Tenant, part.cp.Partition); err != nil {
		return err
	}
	// The row is as of the watermark; a counter that was set by a later Queued is ahead of it.
	d := o.state.Devices[e.Device]
	ev, err := projection.DecodeCall(e)
	if err != nil { // its stream is in open: restore sets it aside alone. Its call had the next wire id, most likely; one that is left out does no harm.
		o.e.log.Error("an event cannot be read", "stream", e.Stream, "seq", e.Seq, "partition", e.Partition, "error", err)
		ev = rpc.Event{Fact: rpc.Queued{Wire: d.NextWire}}
	}
	o.state.Devices[e.Device] = rpc.CatchUp(d, ev)
	part.behind.device(e.Device)
	return nil
}

// restore folds one stream; what has ended since the watermark leaves the index. It fails with errFetch if the store does not answer: that is
// not the stream's fault.
func (o *owner) restore(ctx context.Context, part *partition, stream string, events []eventstore.Event, indexed bool) error {
	part.behind.open(stream)
	if indexed {
		delete(part.behind.opened, stream)
		part.behind.indexed[stream] = struct{}{}
	}
	if len(events) == 0 {
		part.behind.close(stream)
		return nil
	}
	last := &events[len(events)-1]
	if err := o.load(ctx, last.Device, last.Tenant, part.cp.Partition); err != nil {
		return err
	}
	if strings.HasPrefix(stream, "run/") {
		return o.restoreRun(part, stream, events)
	}
	return o.restoreCall(part, stream, events)
}

func (o *owner) restoreRun(part *partition, stream string, events []eventstore.Event) error {
	run, err := decodeRun(events)
	if err != nil {
		return err
	}
	run.ID, err = uuid.Parse(strings.TrimPrefix(stream, "run/"))
	if err != nil {
		return err
	}
	if len(run.Tokens) == 0 {
		part.behind.close(stream)
		return nil
	}
	o.state.Runs[run.ID] = run
	o.runs[run.ID] = headAfter(&events[len(events)-1])
	o.trackRun(run)
	return nil
}

func (o *owner) restoreCall(part *partition, stream string, events []eventstore.Event) error {
	var call rpc.Call
	last := &events[len(events)-1]
	settings := rpc.DefaultSettings()
	if d, err := o.e.directory.Device(context.Background(), last.Device); err == nil {
		settings = d.Info.Settings
	}
	for i := range events {
		ev, err := projection.DecodeCall(&events[i])
		if err != nil {
			return err
		}
		call.ID = ev.Call
		call = rpc.EvolveCall(call, ev, settings)
	}
	if call.Phase.Terminal() {
		part.behind.close(stream)
		return nil
	}
	o.restored[last.Device] = append(o.restored[last.Device], call)
	h := headAfter(last)
	h.accepted = rpc.Instant(events[0].Occurred)
	o.calls[call.ID] = h
	if id := events[0].Trace; id != [16]byte{} {
		o.traces[call.ID] = o.e.spans.recalled(call.ID, id)
	}
	return nil
}

// startAgain drops the memory after a failed append; it is loaded again. What the failed batch held is stepped once more, unless it turns
// out to be stored.
func (o *owner) startAgain(w written) {
	cause := w.cause()
	o.e.log.Error("an append failed; the partitions are loaded again", "events", w.batch.events, "error", cause)
	o.e.metrics.reloads.Inc()
	o.e.unready("the store is not available: " + cause.Error())
	var outage *eventstore.OutageError
	o.outage = errors.As(cause, &outage)
	o.gathered = append(slices.Clone(o.batch.messages), o.replay...)
	o.gathered = append(o.linger.all(), o.gathered...)
	o.replay, o.broken = nil, &w
	o.forget()
	o.e.bodies.clear()
}

// cause is why a batch is not stored, or not whole.
func (w *written) cause() error { return errors.Join(w.err, fencedError(w.fenced)) }

// mended goes on after a failed append, when the partitions that this process had, and has still, are loaded again.
func (o *owner) mended() {
	if o.broken == nil || slices.ContainsFunc(o.parts, func(p partition) bool { return p.read && !p.held }) {
		return
	}
	w, gathered := *o.broken, o.gathered
	o.broken, o.gathered = nil, nil
	cause := w.cause()
	var conflict *eventstore.ConflictError
	var refused *eventstore.RefusedError
	spoiled := errors.As(cause, &conflict) || errors.As(cause, &refused)
	guilty := w.batch.guilty()
	if !spoiled || guilty == nil && len(w.batch.messages) < 2 { // also if it refuses what no command is to blame for: rows that are written behind
		o.backOff()
	}
	stored, again := o.stored(w.batch)
	switch {
	case stored:
		o.writer.perform(w.batch)
		gathered = append(again, gathered...)
	case spoiled && guilty != nil && w.batch.apart == setAside:
		o.passBy(*guilty, cause)
	case spoiled && guilty != nil:
		o.spoiler(*guilty, cause)
	default:
		gathered = append(slices.Clone(w.batch.messages), gathered...)
		o.single = spoiled
	}
	o.replay = append(o.replay, gathered...)
}

// backOff leaves a store in peace that answers but does not append, longer each time.
func (o *owner) backOff() {
	const first, latest = 5 * time.Millisecond, time.Second
	o.pause = o.e.now().Add(min(first<<min(o.failures, 10), latest))
	o.failures++
}

// spoiler deals with the one command whose events the store refuses. What becomes of it is stored in a batch of its own: if that is refused, too,
// nobody else is blamed, and if it fails, the command is stepped again.
func (o *owner) spoiler(m bus.Message, cause error) {
	if err := o.refuseSpoiler(m, cause); err != nil {
		o.e.log.Warn("a command that the store refuses waits for the store", "device", m.Key, "error", err)
		o.replay = append(o.replay, m)
		o.backOff()
		return
	}
	o.setApart(m, setAside)
}

// refuseSpoiler takes what becomes of such a command into the batch. It fails with errFetch if the store does not answer; nothing has happened then.
func (o *owner) refuseSpoiler(m bus.Message, cause error) error {
	if w, ok := m.Value.(wish); ok {
		o.refusedByStore(m, w, cause)
		return nil
	}
	cmd, ok := m.Value.(step.Command)
	if !ok { // an unreadable message: its letter was refused
		o.abandon(m, cause)
		return nil
	}
	device, err := o.e.directory.Device(context.Background(), cmd.Device)
	var conflict *eventstore.ConflictError
	call, calls := cmd.Do.(step.Call)
	switch {
	case errors.Is(err, ErrNoDevice):
		o.refuse(m, cmd, err)
	case err != nil:
		return fmt.Errorf("%w: %w", errFetch, err)
	case calls && errors.As(cause, &conflict):
		o.known(m, cmd, device, call)
	default:
		o.reject(m, cmd, device, cause)
	}
	return nil
}

// known answers a call whose id belongs to a stored call that this owner did not know of: the same wish gets the same answer.
func (o *owner) known(m bus.Message, cmd step.Command, d Device, call step.Call) {
	ctx := context.Background()
	if o.past(ctx, d.Tenant, cmd.Device, call.ID) {
		if past, _ := o.pastOf(call.ID); past.call.Content == call.Content {
			o.answerAgain(ctx, m, &cmd, d, past.call)
			return
		}
	}
	o.refuse(m, cmd, &rpc.Refusal{Code: rpc.CodeKnown, Detail: fmt.Sprintf("the id %s belongs to another call", call.ID)})
}

// passBy lets a command go of which the store refuses the letter, too: anything else would be refused for ever.
func (o *owner) passBy(m bus.Message, cause error) {
	o.abandon(m, cause)
	o.setApart(m, passedBy)
}

// abandon tells of a command that leaves no letter.
func (o *owner) abandon(m bus.Message, cause error) {
	o.e.metrics.unstored.WithLabelValues(reasonRefused).Inc()
	kind := "unreadable"
	if cmd, ok := m.Value.(step.Command); ok {
		kind = kindOf(cmd.Do)
	}
	o.e.log.Error("the store refuses a dead letter; its command is passed by", "command", kind, "device", m.Key, "partition", m.Partition, "error", cause)
	o.tell(m, rejection(m.Value, cause))
}

// setApart closes the batch behind what became of one command. If nothing is to be stored or told of it, the batch is as any other.
func (o *owner) setApart(m bus.Message, how apart) {
	o.batch.messages = append(o.batch.messages, m)
	if !o.batch.empty() {
		o.batch.apart = how
	}
	o.passed(m)
}

func fencedError(fenced []int32) error {
	if len(fenced) == 0 {
		return nil
	}
	return fmt.Errorf("partitions %v: %w", fenced, eventstore.ErrFenced)
}
