package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"callchain/engine/bus"
	"callchain/engine/rpc"
	"callchain/eventstore"

	"github.com/google/uuid"
)

// The waits before partitions are claimed again.
const (
	claimAgain  = 20 * time.Millisecond // after a failure; it doubles up to
	claimLatest = time.Second
	claimLost   = 5 * time.Second // while the inbox has lost what was not taken
	claimFenced = 3 * time.Second // after somebody else has claimed them: the group may not have told yet
)

// loading is a claim of partitions under way beside the loop, so that the partitions that are held go on.
type loading struct {
	partitions []int32
	cancel     context.CancelFunc
	done       chan loaded
}

// loaded is what became of it. by holds what was loaded.
type loaded struct {
	by   *owner
	from []bus.From
	err  error
}

// wait is a partition that is not to be claimed before a time.
type wait struct {
	partition int32
	until     time.Time
}

// loaded is the channel of the partitions that are being loaded, nil if there are none.
func (o *owner) loaded() <-chan loaded {
	if o.loading == nil {
		return nil
	}
	return o.loading.done
}

// holds tells whether a partition is loaded. One that the installation does not have is nobody's, and its commands are refused by whoever meets
// them.
func (o *owner) holds(partition int32) bool {
	return partition < 0 || int(partition) >= len(o.parts) || o.parts[partition].held
}

// reassigned follows the group: what is wanted and not held is claimed, what is held and not wanted any more is given up. So is what waits to be
// loaded again: the inbox would go on delivering it, past what is thrown away meanwhile. What is being loaded is looked at when that is over.
func (o *owner) reassigned(ctx context.Context) {
	wanted, _ := o.e.assignment.now()
	var gone []int32
	for p := range o.parts {
		if o.parts[p].read && !slices.Contains(wanted, int32(p)) && !o.loads(int32(p)) {
			gone = append(gone, int32(p))
		}
	}
	if len(gone) > 0 {
		o.e.log.Info("partitions went to another node while this one was away", "partitions", gone)
		o.giveUp(ctx, gone)
	}
	o.acquire(ctx)
}

// loads tells whether a partition is being loaded.
func (o *owner) loads(partition int32) bool {
	return o.loading != nil && slices.Contains(o.loading.partitions, partition)
}

// acquire begins to claim and load what is wanted and not held, if nothing is being loaded.
func (o *owner) acquire(ctx context.Context) {
	if o.loading != nil {
		return
	}
	wanted, told := o.e.assignment.now()
	now := o.e.now()
	o.again = slices.DeleteFunc(o.again, func(w wait) bool { return !w.until.After(now) })
	var next []int32
	for _, p := range wanted {
		waits := slices.ContainsFunc(o.again, func(w wait) bool { return w.partition == p })
		if !o.parts[p].held && !waits {
			next = append(next, p)
		}
	}
	if len(next) > 0 {
		o.beginLoading(ctx, next)
	} else if told && len(o.again) == 0 && o.broken == nil {
		o.allLoaded()
	}
}

// allLoaded tells that everything that this process is to own is loaded.
func (o *owner) allLoaded() {
	o.e.pending.Store(nil)
	if o.e.ready.Load() != nil && !o.doubtful() && (o.e.members == nil || o.e.members.misfit() == "") {
		o.e.ready.Store(nil)
	}
}

// doubtful tells of a store that took a claim after an outage, but not yet what waits to be stored: a full disk has room for the one and not for
// the other.
func (o *owner) doubtful() bool {
	return o.outage && (o.busy || len(o.replay) > 0 || !o.batch.empty() || o.e.now().Before(o.pause))
}

// beginLoading claims and loads partitions beside the loop.
func (o *owner) beginLoading(ctx context.Context, partitions []int32) {
	ctx, cancel := context.WithCancel(ctx)
	l := &loading{partitions: partitions, cancel: cancel, done: make(chan loaded, 1)}
	o.loading = l
	what := fmt.Sprintf("partitions are being loaded: %v", partitions)
	o.e.pending.Store(&what)
	read := make([]bool, len(o.parts))
	for p := range o.parts {
		read[p] = o.parts[p].read
	}
	go func() {
		by := newOwner(o.e)
		from, err := by.claim(ctx, partitions, read)
		l.done <- loaded{by, from, err}
	}()
}

// claim takes partitions over, loads what is open in them, and lets the inbox deliver those that it does not yet.
func (o *owner) claim(ctx context.Context, partitions []int32, read []bool) ([]bus.From, error) {
	began := o.e.now()
	checkpoints, err := o.e.store.Claim(ctx, o.e.config.Node, partitions)
	if err != nil {
		return nil, err
	}
	if err := o.countLetters(ctx); err != nil {
		return nil, err
	}
	for _, cp := range checkpoints {
		if err := o.recover(ctx, cp); err != nil {
			return nil, fmt.Errorf("recovering partition %d: %w", cp.Partition, err)
		}
	}
	from := positions(checkpoints)
	from = slices.DeleteFunc(from, func(f bus.From) bool { return read[f.Partition] })
	if err := o.e.inbox.Begin(ctx, from); err != nil {
		return nil, err
	}
	o.goOn(from)
	level := slog.LevelDebug // alone, it is told that the server is ready
	if o.e.group != nil {
		level = slog.LevelInfo
	}
	o.e.log.Log(ctx, level, "partitions loaded", "partitions", partitions, "calls", len(o.calls), "runs", len(o.runs), "after", o.e.now().Sub(began).Round(time.Millisecond))
	return from, nil
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

// cancelLoading ends a load that is under way, and waits for it: a claim must not come behind that of the next owner.
func (o *owner) cancelLoading() {
	if o.loading == nil {
		return
	}
	l := o.loading
	l.cancel()
	<-l.done
	o.loading = nil
	o.notBegun(l.partitions)
}

// notBegun ends what a load has begun that came to nothing: the inbox may deliver some of the partitions already. It begins anew with the next
// load, where that finds the position.
func (o *owner) notBegun(partitions []int32) {
	var fresh []int32
	for _, p := range partitions {
		if !o.parts[p].read {
			fresh = append(fresh, p)
		}
	}
	back := o.stopReading(fresh)
	o.reroute(append(back, o.withdraw(fresh)...))
}

// merge takes over what was loaded. It fails if that failed and nobody can mend it: without a group, at the first claim.
func (o *owner) merge(ctx context.Context, l loaded) error {
	partitions := o.loading.partitions
	o.loading.cancel()
	o.loading = nil
	if l.err != nil {
		return o.notLoaded(partitions, l.err)
	}
	wanted, _ := o.e.assignment.now()
	o.takeOver(l.by, l.from, func(p int32) bool { return slices.Contains(partitions, p) && slices.Contains(wanted, p) })
	var unwanted []int32
	for _, p := range partitions {
		if !slices.Contains(wanted, p) {
			unwanted = append(unwanted, p)
		}
	}
	back := o.stopReading(unwanted)
	o.reroute(append(back, o.withdraw(unwanted)...))
	o.e.begun.Store(true)
	first := o.broken == nil
	o.mended()
	o.rouse(func(p int32) bool { return slices.Contains(partitions, p) && o.parts[p].held }, first)
	o.replay, o.early = append(o.replay, o.early...), nil
	o.failures = 0
	o.acquire(ctx)
	o.e.members.tell()
	return nil
}

// takeOver moves what another owner has loaded into this one.
func (o *owner) takeOver(by *owner, from []bus.From, mine func(int32) bool) {
	var checkpoints []eventstore.Checkpoint
	for p := range by.parts {
		if !mine(int32(p)) {
			continue
		}
		read := o.parts[p].read || slices.ContainsFunc(from, func(f bus.From) bool { return f.Partition == int32(p) })
		o.parts[p] = by.parts[p]
		o.parts[p].held, o.parts[p].read, o.parts[p].since = true, read, rpc.At(o.e.now())
		o.parts[p].unsure = o.e.members.unsure(o.e.now())
		checkpoints = append(checkpoints, by.parts[p].cp)
		if pb := by.batch.parts[int32(p)]; pb != nil {
			o.batch.parts[int32(p)] = pb
			o.batch.order = append(o.batch.order, int32(p))
		}
	}
	o.batch.events += by.batch.events
	o.batch.bytes += by.batch.bytes
	o.batch.letters = append(o.batch.letters, by.batch.letters...)
	o.letters.rows = by.letters.rows
	for id, dh := range by.devices {
		if mine(dh.partition) {
			o.devices[id] = dh
			o.state.Devices[id] = by.state.Devices[id]
			o.adopt(by, id)
		}
	}
	for id, run := range by.state.Runs {
		if dh := by.devices[run.Device]; dh != nil && mine(dh.partition) {
			o.state.Runs[id], o.runs[id] = run, by.runs[id]
		}
	}
	for _, t := range by.timers.heap {
		if dh := by.devices[t.device]; dh != nil && mine(dh.partition) {
			o.timers.set(t)
		}
	}
	o.e.feed.committed(checkpoints)
	if o.e.relay != nil {
		o.e.relay.begin(checkpoints)
	}
	for i := range checkpoints {
		o.e.held.set(checkpoints[i].Partition, checkpoints[i].Epoch)
	}
}

// adopt takes over the open calls of a device.
func (o *owner) adopt(by *owner, device uuid.UUID) {
	d := by.state.Devices[device]
	for _, c := range openCalls(&d) {
		o.calls[c.ID] = by.calls[c.ID]
		if from, traced := by.traces[c.ID]; traced {
			o.traces[c.ID] = from
		}
		if !c.Persistent {
			dh := by.devices[device]
			o.e.open.Store(c.ID, openPlace{dh.tenant, device, dh.partition})
		}
	}
}

// notLoaded says why partitions are not loaded, and tries again later.
func (o *owner) notLoaded(partitions []int32, err error) error {
	o.notBegun(partitions)
	if errors.Is(err, context.Canceled) {
		return nil
	}
	again := min(claimAgain<<min(o.failures, 10), claimLatest)
	o.failures++
	var lost *bus.LostError
	switch {
	case errors.As(err, &lost):
		again = claimLost
		o.lost = lost
		o.e.unready(lost.Error())
		o.e.log.Error("the inbox lost messages; the partitions wait for a decision", "error", lost)
	case !o.e.begun.Load() && o.e.group == nil:
		return fmt.Errorf("claiming the partitions: %w", err)
	case errors.Is(err, rpc.ErrUnknownEvent):
		o.e.members.standDown(unfitEvents, err.Error())
	default:
		o.e.unready("the store is not available: " + err.Error())
		o.e.log.Warn("the store is not available", "error", err, "again", again)
	}
	until := o.e.now().Add(again)
	for _, p := range partitions {
		o.again = append(o.again, wait{p, until})
	}
	return nil
}

// nextLook is when something can be done about the partitions that are held, or to be held, at most at a time. What cannot be done now is no reason to
// look: that would go on without a pause.
func (o *owner) nextLook(next time.Time) time.Time {
	for _, w := range o.again {
		if o.loading == nil && w.until.Before(next) {
			next = w.until
		}
	}
	if o.blocked() {
		return next
	}
	for p := range o.parts {
		if u := o.parts[p].unsure; u != nil && u.until.Before(next) {
			next = u.until
		}
	}
	return next
}
