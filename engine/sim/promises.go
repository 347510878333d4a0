package sim

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"callchain/engine/bus"
	"callchain/engine/owner"
	"callchain/engine/projection"
	"callchain/engine/replay"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/eventstore"

	"github.com/google/uuid"
)

// promises checks a world against the invariants. It knows the store, and all released effects.
type promises struct {
	w          *world
	calls      map[uuid.UUID]*folded
	runs       map[uuid.UUID]step.Run
	wires      map[wireKey]uuid.UUID
	seen       [partitions]int64
	newest     rpc.Instant             // stored time
	persistent map[uuid.UUID]bool      // calls whose id was returned
	ended      map[uuid.UUID]rpc.Phase // ends that callers got
	dead       []string                // processes
}

// folded is a call as its events say.
type folded struct {
	projection.Call
	ends int // terminal facts
}

type wireKey struct {
	device uuid.UUID
	id     int32
}

func newPromises(w *world) promises {
	return promises{
		w: w, calls: map[uuid.UUID]*folded{}, runs: map[uuid.UUID]step.Run{}, wires: map[wireKey]uuid.UUID{}, persistent: map[uuid.UUID]bool{},
		ended: map[uuid.UUID]rpc.Phase{},
	}
}

// committed folds what an append has stored, and checks it.
func (p *promises) committed(by *process, b *owner.Batch, fenced []int32) {
	for i := range b.Store.Partitions {
		pb := &b.Store.Partitions[i]
		n := pb.Expect.Partition
		if slices.Contains(fenced, n) {
			continue
		}
		for j := range pb.Events {
			e := &pb.Events[j]
			p.w.report.Events++
			p.newest = max(p.newest, rpc.Instant(e.At))
			p.w.log("  %s: %.12s %s %s", by.name, lastPart(e.Stream), e.Type, shortened(string(e.Data)))
			if err := p.fold(by, e); err != nil {
				p.w.fail("event %d of partition %d (%s %s): %w", e.Seq, n, e.Stream, e.Type, err)
			}
		}
		p.seen[n] = pb.Next.Seq
	}
}

func lastPart(stream string) string {
	if i := bytes.LastIndexByte([]byte(stream), '/'); i >= 0 {
		return stream[i+1:]
	}
	return stream
}

func (p *promises) fold(by *process, e *eventstore.Event) error {
	switch projection.KindOf(e.Stream) {
	case projection.RunStreams:
		id, err := projection.RunOf(e.Stream)
		if err != nil {
			return err
		}
		run, err := projection.FoldRun(p.runs[id], e)
		if p.runs[id] = run; len(run.Tokens) == 0 {
			delete(p.runs, id)
		}
		return err
	case projection.CallStreams:
		return p.foldCall(by, e)
	default:
		return nil
	}
}

func (p *promises) foldCall(by *process, e *eventstore.Event) error {
	ev, err := projection.DecodeCall(e)
	if err != nil {
		return err
	}
	c := p.calls[ev.Call]
	if c == nil {
		c = &folded{}
		p.calls[ev.Call] = c
	}
	was := c.State
	c.Apply(e, ev, p.w.registry.rows[e.Device].settings)
	switch f := ev.Fact.(type) {
	case rpc.Succeeded, rpc.Failed, rpc.Expired, rpc.Cancelled, rpc.Rejected:
		if c.ends++; c.ends > 1 {
			return fmt.Errorf("the call has %d ends", c.ends)
		}
		if _, expired := f.(rpc.Expired); expired && max(by.peak[0], by.peak[1]) < was.Expires {
			return fmt.Errorf("it expired at %s, before its deadline %s by the clock of %s", by.now().Time(), was.Expires.Time(), by.name)
		}
		if c.State.Reason == rpc.CodeCallerGone {
			return p.callerGone(by, ev.Call)
		}
	case rpc.Queued:
		if other, taken := p.wires[wireKey{e.Device, f.Wire}]; taken && other != ev.Call {
			return fmt.Errorf("it has the wire id %d of call %s", f.Wire, other)
		}
		p.wires[wireKey{e.Device, f.Wire}] = ev.Call
	case rpc.Delivered:
		if f.Evidence == "" {
			return fmt.Errorf("it is delivered without evidence")
		}
	}
	return nil
}

// callerGone checks that nobody waits for a call that ended because of that.
func (p *promises) callerGone(by *process, call uuid.UUID) error {
	const reportDelay = 5 * time.Second // the others have reported their callers by then
	for _, one := range p.w.processes {
		disturbed := one.frozen || p.w.now < max(one.resumed, p.w.outage, p.w.back, by.resumed).Add(reportDelay)
		disturbed = disturbed || p.w.now < one.began.Add(messageDelay+owner.BarrierMost) // an owner that claimed just now may not know it yet
		for _, c := range one.callers {
			if c.call.id == call && c.accepted && (one == by || !disturbed) {
				return fmt.Errorf("it ended because nobody waits for it, and somebody does at %s", one.name)
			}
		}
	}
	return nil
}

// check compares what a process has in memory with the fold of what is stored, when it has nothing else in its hands.
func (p *process) check() {
	if p.events == p.w.report.Events && p.w.now < p.again || !p.owner.Stored() {
		return
	}
	p.events, p.again = p.w.report.Events, p.w.now.Add(time.Second)
	for n := range int32(partitions) {
		if p.owner.Epoch(n) == 0 || p.w.promises.epoch(n) != p.owner.Epoch(n) {
			continue // another process has it by now
		}
		devices, runs := p.owner.State(n)
		p.w.promises.compare(p, n, devices, runs)
	}
}

// epoch is the epoch of the partition's newest claim.
func (p *promises) epoch(n int32) int64 {
	checkpoints, err := p.w.store.Checkpoints(context.Background())
	if err != nil {
		p.w.fail("reading the checkpoints: %w", err)
		return 0
	}
	for i := range checkpoints {
		if checkpoints[i].Partition == n {
			return checkpoints[i].Epoch
		}
	}
	return 0
}

// late is how late something may be that is due.
const late = 10 * time.Second

// undisturbed is since when a process has owned a partition and nothing was away.
func (p *process) undisturbed(n int32) rpc.Instant {
	return max(p.claimed[n], p.resumed, p.w.outage, p.w.back)
}

func (p *promises) compare(by *process, n int32, devices []rpc.Device, runs []step.Run) {
	live := map[uuid.UUID]bool{}
	for i := range devices {
		d := &devices[i]
		for _, list := range []rpc.Queue{d.Open, d.Asked} {
			for c := range list.All() {
				live[c.ID] = true
				stored := p.calls[c.ID]
				if stored == nil {
					p.w.fail("%s has call %s in memory, of which nothing is stored", by.name, c.ID)
				} else if a, b := lasting(*c), lasting(stored.State); a != b {
					p.w.fail("%s has in memory\n%+v\nand stored is\n%+v", by.name, a, b)
				}
				if stored != nil && d.Session.ID != uuid.Nil && c.Session == d.Session.ID && c.Session == stored.State.Session && c.Attempt == stored.State.Attempt && c.AckDue != stored.State.AckDue {
					p.w.fail("%s: the acknowledgement of call %s is due at %d, stored is %d", by.name, c.ID, c.AckDue, stored.State.AckDue)
				}
				if d.Session.ID != uuid.Nil && c.Session == d.Session.ID && c.AckDue > 0 && by.now() > c.AckDue.Add(late) && p.w.now > by.undisturbed(n).Add(late) {
					p.w.fail("%s: call %s waits for an acknowledgement that was due at %s", by.name, c.ID, c.AckDue.Time())
				}
			}
		}
	}
	for id, c := range p.calls {
		if c.Partition == n && !c.State.Phase.Terminal() && !live[id] {
			p.w.fail("call %s is open in the store, and not in the memory of %s", id, by.name)
		}
	}
	parked := 0
	for _, r := range p.runs {
		if d := p.w.registry.rows[r.Device]; d.partition == n {
			parked++
		}
	}
	if len(runs) != parked {
		p.w.fail("%s has %d runs in memory, in the store %d wait", by.name, len(runs), parked)
	}
}

// lasting is a call without what is derived from the device's session, and from settings that may change.
func lasting(c rpc.Call) rpc.Call {
	c.Session, c.Attempt, c.AckDue, c.Place = uuid.Nil, 0, 0, 0
	return c
}

// delivered checks promise P1 at the device, and that a call keeps its wire id.
func (p *promises) delivered(_ *session, o rpc.Delivery) {
	p.w.report.Delivered++
	c := p.calls[o.Call.ID]
	switch {
	case c == nil || c.State.QueuedAt == 0:
		p.w.fail("call %s reached its device before its Queued was committed", o.Call.ID)
	case c.State.Wire != o.Call.Wire:
		p.w.fail("call %s reached its device with wire id %d, stored is %d", o.Call.ID, o.Call.Wire, c.State.Wire)
	}
}

// notified checks the results of callers against the store: they must be stored, and be this call's own.
func (p *promises) notified(at *process, n *step.NotifyCallers) {
	p.w.report.Replies++
	p.w.log("  callers at %s: %.8s %s %s", at.name, n.Call, n.Phase, n.Code)
	c := p.calls[n.Call]
	before, again := p.ended[n.Call]
	switch {
	case c == nil:
		p.w.fail("callers of call %s get %s before anything of it was committed", n.Call, n.Phase)
	case n.Phase == rpc.PhaseQueued:
		p.persistent[n.Call] = true
	case c.State.Phase != n.Phase:
		p.w.fail("callers of call %s get %s; stored is %s", n.Call, n.Phase, c.State.Phase)
	case again && before != n.Phase:
		p.w.fail("callers of call %s get %s, and got %s before", n.Call, n.Phase, before)
	case n.Phase == rpc.PhaseSucceeded && len(n.Response.Bytes) > 0 && string(n.Response.Bytes) != n.Call.String():
		p.w.fail("call %s is completed by the answer to %s", n.Call, n.Response.Bytes)
	default:
		p.ended[n.Call] = n.Phase
	}
}

// atTheEnd checks that everything has ended, no caller waits, and nothing acknowledged is lost.
func (p *promises) atTheEnd() {
	for _, id := range slices.SortedFunc(maps.Keys(p.calls), func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) }) {
		c := p.calls[id]
		if !c.State.Phase.Terminal() {
			p.w.fail("call %s is still %s", id, c.State.Phase)
		}
		if phase, reportDelay := p.ended[id]; reportDelay && phase != c.State.Phase {
			p.w.fail("callers of call %s got %s; in the end it is %s", id, phase, c.State.Phase)
		}
	}
	for id := range p.runs {
		p.w.fail("run %s still waits", id)
	}
	for id := range p.persistent {
		if p.calls[id] == nil {
			p.w.fail("the id of call %s was returned, and nothing of it is stored", id)
		}
	}
	for _, one := range p.w.processes {
		for _, c := range one.callers {
			p.w.fail("somebody still waits for call %s at %s", c.call.id, one.name)
		}
		for lane := range bus.Lanes {
			if at := one.owner.Oldest(lane); at != 0 && at < p.w.now.Add(-late) {
				p.w.fail("at %s a command waits since %s", one.name, at.Time())
			}
		}
		if s := one.owner.Status(); !s.OK() {
			p.w.fail("%s: %+v", one.name, s)
		}
	}
	for _, d := range p.w.devices {
		if s := d.session; s != nil && s.since < p.w.now.Add(-time.Minute) {
			p.knows(d, s)
		}
	}
	_, err := replay.Check(context.Background(), p.w.store.Open(), replay.Options{}, func(d replay.Difference) { p.w.fail("a row is not the fold: %v", d) })
	if err != nil {
		p.w.fail("comparing the rows: %w", err)
	}
}

// sendersAnswered checks now and then that the senders of ephemeral commands get results.
func (p *promises) sendersAnswered() {
	const longest = 40 * time.Second
	for _, one := range p.w.processes {
		for _, c := range one.undecided {
			if p.w.now > max(c.since, one.resumed).Add(longest) && !one.frozen {
				p.w.fail("at %s nobody has heard of %s since %s", one.name, c.name, c.since.Time())
			}
		}
	}
	p.w.after(10*time.Second, p.sendersAnswered)
}

// knows checks that the owner of a device knows its session.
func (p *promises) knows(d *device, s *session) {
	for _, one := range p.w.processes {
		if one.owner.Epoch(d.partition) == 0 || p.epoch(d.partition) != one.owner.Epoch(d.partition) {
			continue
		}
		devices, _ := one.owner.State(d.partition)
		for i := range devices {
			if devices[i].ID == d.id && devices[i].Session.ID == s.id {
				return
			}
		}
		p.w.fail("device %d is connected as %s for a minute, and %s, its owner, does not know it", d.number, s.id, one.name)
	}
}

// String counts what happened.
func (r Report) String() string {
	return fmt.Sprintf("%d calls, %d commands, %d events, %d crashes, %d freezes, %d rebalances, %d clock jumps, %d failed and %d torn appends, %d conflicts, %d failed and %d slow reads, %d outages, %d upgrades, %d deliveries, %d replies",
		r.Calls, r.Commands, r.Events, r.Crashes, r.Freezes, r.Rebalances, r.ClockJumps, r.FailedAppends, r.TornAppends, r.Conflicts, r.FailedReads, r.SlowReads, r.Outages, r.Upgrades, r.Delivered, r.Replies)
}
