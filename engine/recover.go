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

// claim takes the partitions over and loads what is open in them.
func (o *owner) claim(ctx context.Context) error {
	numbers := make([]int32, o.e.config.Partitions)
	for i := range numbers {
		numbers[i] = int32(i)
	}
	checkpoints, err := o.e.store.Claim(ctx, o.e.config.Node, numbers)
	if err != nil {
		return err
	}
	o.forget()
	if err := o.countLetters(ctx); err != nil {
		return err
	}
	for _, cp := range checkpoints {
		if err := o.recover(ctx, cp); err != nil {
			return fmt.Errorf("recovering partition %d: %w", cp.Partition, err)
		}
	}
	o.e.feed.committed(checkpoints)
	if o.e.relay != nil {
		o.e.relay.begin(checkpoints)
	}
	if !o.started {
		from := positions(checkpoints)
		if err := o.e.inbox.Begin(ctx, from); err != nil {
			return err
		}
		o.goOn(from)
	}
	o.rouse()
	o.started = true
	return nil
}

// positions are where the inbox is to go on.
func positions(checkpoints []eventstore.Checkpoint) []bus.From {
	from := make([]bus.From, len(checkpoints))
	for i, cp := range checkpoints {
		from[i].Partition, from[i].Published = cp.Partition, cp.Relayed
		for lane, p := range cp.Positions {
			from[i].Next[lane] = bus.Place{Topic: p.Topic, Offset: p.Offset}
		}
	}
	return from
}

// goOn notes where the inbox goes on. If an operator let it leave out what was lost, that holds for partitions, too, to which nothing comes before the next
// start: it would ask the operator again.
func (o *owner) goOn(from []bus.From) {
	for _, f := range from {
		part := &o.parts[f.Partition]
		for lane, next := range f.Next {
			if at := (eventstore.Position{Topic: next.Topic, Offset: next.Offset}); at != part.cp.Positions[lane] {
				part.cp.Positions[lane], part.moved = at, true
			}
		}
	}
}

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
	for _, stream := range sortedKeys(open) {
		last, err := o.restore(ctx, part, stream, open[stream])
		if errors.Is(err, errFetch) {
			return err
		}
		if err != nil { // it is set aside alone; the rest of the partition goes on
			o.quarantine(part, stream, last, err)
		}
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

// restore folds one stream and answers its last event; what has ended since the watermark leaves the index. It fails with errFetch if the
// store does not give it: that is not the stream's fault.
func (o *owner) restore(ctx context.Context, part *partition, stream string, indexed bool) (last eventstore.Event, err error) {
	part.behind.open(stream)
	if indexed {
		delete(part.behind.opened, stream)
		part.behind.indexed[stream] = struct{}{}
	}
	events, err := readStream(ctx, o.e.store, stream)
	if err != nil {
		return last, fmt.Errorf("%w: %w", errFetch, err)
	}
	if len(events) == 0 {
		part.behind.close(stream)
		return last, nil
	}
	last = events[len(events)-1]
	if err := o.load(ctx, last.Device, last.Tenant, part.cp.Partition); err != nil {
		return last, err
	}
	if strings.HasPrefix(stream, "run/") {
		return last, o.restoreRun(part, stream, events)
	}
	return last, o.restoreCall(part, stream, events)
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
	o.state.Devices[last.Device] = rpc.Restore(o.state.Devices[last.Device], call)
	h := headAfter(last)
	h.accepted = rpc.Instant(events[0].Occurred)
	o.calls[call.ID] = h
	if id := events[0].Trace; id != [16]byte{} {
		o.traces[call.ID] = o.e.spans.recalled(call.ID, id)
	}
	o.timers.set(timer{at: rpc.NextDeadline(&call), device: last.Device, id: call.ID})
	if !call.Persistent {
		o.e.open.Store(call.ID, openPlace{last.Tenant, last.Device, part.cp.Partition})
	}
	return nil
}

// rouse tells every device with open calls that its callers were lost with the memory, if they were: after a failed append the
// callers of this process still wait. Sessions that still live are connected again: their transports are in this process.
func (o *owner) rouse() {
	var first []bus.Message
	add := func(device uuid.UUID, do rpc.Action) {
		cmd := step.Command{Meta: rpc.Meta{Actor: "system", Cause: "recovery"}, Device: device, Do: step.RPC{Do: do}}
		first = append(first, bus.Message{Lane: bus.RPC, Key: device, Value: cmd})
	}
	for id, d := range o.state.Devices {
		if len(d.Open) > 0 && !o.started {
			add(id, rpc.Recover{})
		}
	}
	for _, s := range o.e.sessions.all() {
		if s.Aside {
			continue
		}
		add(s.Identity.Device, rpc.Connect{Session: s.ID, Transport: s.Transport, Remote: s.Remote, Node: o.e.config.Node})
		if s.wants {
			add(s.Identity.Device, rpc.Subscribe{Session: s.ID, Once: s.Once})
		}
	}
	slices.SortStableFunc(first, func(a, b bus.Message) int { return slices.Compare(a.Key[:], b.Key[:]) })
	o.replay = append(first, o.replay...)
}

// startAgain drops the memory after a failed append and loads it again. What the failed batch held is stepped once more,
// unless it turns out to be stored.
func (o *owner) startAgain(ctx context.Context, w written) error {
	cause := errors.Join(w.err, fencedError(w.fenced))
	o.e.log.Error("an append failed; the partitions are loaded again", "events", w.batch.events, "error", cause)
	o.e.metrics.reloads.Inc()
	o.e.unready("the store is not available: " + cause.Error())
	var conflict *eventstore.ConflictError
	var refused *eventstore.RefusedError
	spoiled := errors.As(cause, &conflict) || errors.As(cause, &refused)
	gathered := append(slices.Clone(o.batch.messages), o.replay...)
	lingered := o.linger.all()
	o.replay = nil
	if err := o.claimUntil(ctx); err != nil {
		return err
	}
	o.e.ready.Store(nil)
	guilty := w.batch.guilty()
	if !spoiled || guilty == nil && len(w.batch.messages) < 2 { // also if it refuses what no command is to blame for: rows that are written behind
		o.backOff()
	}
	switch {
	case o.stored(w.batch):
		o.writer.perform(w.batch)
	case spoiled && guilty != nil && w.batch.apart == setAside:
		o.passBy(*guilty, cause)
	case spoiled && guilty != nil:
		o.spoiler(*guilty, cause)
	default:
		gathered = append(slices.Clone(w.batch.messages), gathered...)
		o.single = spoiled
	}
	o.replay = append(o.replay, append(lingered, gathered...)...)
	return nil
}

// backOff leaves a store in peace that answers but does not append, longer each time.
func (o *owner) backOff() {
	const first, latest = 5 * time.Millisecond, time.Second
	o.pause = o.e.now().Add(min(first<<min(o.failures, 10), latest))
	o.failures++
}

// stored tells whether the batch's append is the last of its partitions after all.
func (o *owner) stored(b *batch) bool {
	for _, p := range b.order {
		if o.parts[p].cp.Append == b.id {
			return true
		}
	}
	return false
}

// claimUntil claims again until the store answers or ctx ends.
func (o *owner) claimUntil(ctx context.Context) error {
	wait := 20 * time.Millisecond
	for {
		err := o.claim(ctx)
		if err == nil {
			return nil
		}
		o.e.unready("the store is not available: " + err.Error())
		o.e.log.Warn("the store is not available", "error", err, "again", wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return fmt.Errorf("loading the partitions again: %w", errors.Join(err, ctx.Err()))
		}
		wait = min(2*wait, time.Second)
	}
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
		o.giveUp(m, cause)
		return nil
	}
	var conflict *eventstore.ConflictError
	if call, ok := cmd.Do.(step.Call); ok && errors.As(cause, &conflict) {
		o.refuse(m, cmd, &rpc.Refusal{Code: rpc.CodeKnown, Detail: fmt.Sprintf("the id %s belongs to another call", call.ID)})
		return nil
	}
	device, err := o.e.directory.Device(context.Background(), cmd.Device)
	switch {
	case errors.Is(err, ErrNoDevice):
		o.refuse(m, cmd, err)
	case err != nil:
		return fmt.Errorf("%w: %w", errFetch, err)
	default:
		o.reject(m, cmd, device, cause)
	}
	return nil
}

// passBy lets a command go of which the store refuses the letter, too: anything else would be refused for ever.
func (o *owner) passBy(m bus.Message, cause error) {
	o.giveUp(m, cause)
	o.setApart(m, passedBy)
}

// giveUp tells of a command that leaves no letter.
func (o *owner) giveUp(m bus.Message, cause error) {
	o.e.metrics.unstored.WithLabelValues(reasonRefused).Inc()
	kind := "unreadable"
	if cmd, ok := m.Value.(step.Command); ok {
		kind = kindOf(cmd.Do)
	}
	o.e.log.Error("the store refuses a dead letter; its command is passed by", "command", kind, "device", m.Key, "partition", m.Partition, "error", cause)
	if m.Done != nil {
		o.batch.done = append(o.batch.done, finished{m.Done, rejection(m.Value, cause)})
	}
}

// setApart closes the batch behind what became of one command. If nothing is to be stored or told of it, the batch is as any other.
func (o *owner) setApart(m bus.Message, how apart) {
	o.batch.messages = append(o.batch.messages, m)
	if !o.batch.empty() {
		o.batch.apart = how
	}
	o.passed(m)
}
