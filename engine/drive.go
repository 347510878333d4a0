package engine

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"callchain/engine/appender"
	"callchain/engine/bus"
	"callchain/engine/owner"
	"callchain/engine/rpc"
	"callchain/eventstore"
)

// driver executes its owner's work. Its loop waits for channels only; slow work runs in the background.
//
//	inbox → owner: batch → appender → what it releases: completions, effects, topics
//	        owner: reads, claims → background → owner
type driver struct {
	*Engine
	owner       *owner.Owner
	appender    *appender.Appender
	generation  uint64 // of the registry, as the owner knows it
	answers     chan *owner.Answer
	slots       chan struct{} // of reads
	claimed     chan *owner.Claimed
	cancelClaim context.CancelFunc // nil: no claim is under way
	revocations []*revocation
	taken       [bus.Lanes][]bus.Message
	reads       context.Context //nolint:containedctx // of all reads, until the driver ends
	background  sync.WaitGroup
	failed      error // ends the driver
}

// readsAtOnce bounds the reads that are under way.
const readsAtOnce = 8

// finishMost bounds the time to store the last batch; after abandonAfter, messages that wait for reads are given up. The server's own timeout is longer.
const (
	finishMost   = 3 * time.Second
	abandonAfter = 2 * time.Second
)

// drive runs the owner until ctx ends, or the first claim of a single process fails.
func (e *Engine) drive(ctx context.Context) error {
	reads, stop := context.WithCancel(context.WithoutCancel(ctx))
	d := &driver{
		Engine: e, answers: make(chan *owner.Answer, readsAtOnce), slots: make(chan struct{}, readsAtOnce), claimed: make(chan *owner.Claimed, 1), reads: reads,
		owner: owner.New(owner.Config{
			Process: e.sender.Process, Shared: e.Group != nil, Partitions: e.config.Partitions, BatchEvents: e.config.BatchEvents, Linger: e.config.Linger,
			DeadLetters: e.config.DeadLetters, Tenant: e.config.Tenant,
			NewID: newID, Chain: e.Directory.Chain, Sampled: e.tracer.Sampled(), Stack: debug.Stack,
		}),
	}
	var relayed func(int32) int64
	if e.relay != nil {
		relayed = e.relay.UpTo
	}
	d.appender = appender.New(e.Store, relayed, e.release, e.Metrics)
	defer func() {
		stop()
		d.background.Wait()
		d.appender.Close()
	}()
	if e.Group == nil {
		d.owner.Assign(instant(), everything(e.config.Partitions))
	}
	return d.run(ctx)
}

func everything(partitions int32) []int32 {
	all := make([]int32, partitions)
	for i := range all {
		all[i] = int32(i)
	}
	return all
}

// run is the loop, until ctx ends.
func (d *driver) run(ctx context.Context) error {
	wake := time.NewTimer(0)
	defer wake.Stop()
	var peers <-chan struct{}
	if d.members != nil {
		peers = d.members.Changed()
	}
	for {
		wake.Reset(time.Until(d.work().Time()))
		var ready <-chan struct{}
		if d.owner.Room() > 0 {
			ready = d.Inbox.Ready()
		}
		select {
		case <-ready:
		case <-wake.C:
		case s := <-d.appender.Stored():
			d.owner.Advance(instant(), s.Fenced, s.Err)
		case a := <-d.answers:
			d.answered(a)
		case c := <-d.claimed:
			d.onClaimed(c)
		case <-d.share.changed:
			d.owner.Assign(instant(), d.share.now())
		case r := <-d.share.revoked:
			d.revocations = append(d.revocations, r)
			d.owner.Revoke(instant(), slices.Clone(r.partitions))
		case <-peers:
			d.peersChanged()
		case <-ctx.Done():
			return d.finish()
		}
		if d.failed != nil {
			return d.failed
		}
	}
}

// work gives the owner its messages, and executes its work, until it must wait; it returns until when.
func (d *driver) work() rpc.Instant {
	for {
		if g := d.Directory.Generation(); g != d.generation {
			d.generation = g
			d.owner.RegistryChanged(g)
		}
		for d.take() {
		}
		ready := d.owner.Ready(instant())
		if !d.do(&ready) {
			return ready.Wake
		}
	}
}

// take gives the owner messages of the inbox, RPC first; data gets a fifth of the turns. It reports whether there were any.
func (d *driver) take() bool {
	room := d.owner.Room()
	if room == 0 {
		return false
	}
	catchingUp := d.Inbox.CatchingUp()
	rpcs := d.Inbox.Take(bus.RPC, room, d.taken[bus.RPC][:0])
	data := d.Inbox.Take(bus.Data, max(room/4, room-len(rpcs)), d.taken[bus.Data][:0])
	d.owner.Take(instant(), owner.Arrived{RPC: rpcs, Data: data, CatchingUp: catchingUp})
	some := len(rpcs)+len(data) > 0
	clear(rpcs)
	clear(data)
	d.taken = [bus.Lanes][]bus.Message{bus.RPC: rpcs, bus.Data: data}
	return some
}

// do executes the owner's work; true: there is more at once.
func (d *driver) do(r *owner.Ready) (again bool) {
	d.Metrics.Notices(d.Log, d.Group == nil, r.Notices)
	d.report(r.Changed)
	for i := range r.Release {
		d.appender.Release(r.Release[i])
	}
	if r.Append != nil || r.Changed {
		d.Metrics.OpenCalls.Set(float64(d.owner.OpenCalls()))
	}
	if r.Append != nil {
		d.appender.Append(r.Append)
	}
	if len(r.Unread) > 0 {
		d.owner.Returned(d.Inbox.End(r.Unread))
		again = true
	}
	for i := range r.Completed {
		d.sender.Complete(&r.Completed[i])
	}
	for i := range r.Misrouted {
		d.sender.Redirect(r.Misrouted[i])
	}
	if len(r.Dropped) > 0 && d.relay != nil {
		d.relay.Drop(r.Dropped)
	}
	for i := range r.Reads {
		again = d.read(&r.Reads[i]) || again
	}
	if r.CancelClaim && d.cancelClaim != nil {
		d.cancelClaim()
	}
	if len(r.Claim) > 0 {
		d.claim(r.Claim)
	}
	for _, p := range r.Left {
		d.partitionLeft(p)
	}
	return again
}

// report publishes the owner's status within this process.
func (d *driver) report(changed bool) {
	for lane := range d.oldest {
		d.oldest[lane].Store(int64(d.owner.Oldest(bus.Lane(lane))))
	}
	if changed {
		for p := range d.config.Partitions {
			d.sender.Owned.Set(p, d.owner.Epoch(p))
		}
		if d.members != nil {
			d.members.SendHeartbeat()
		}
	}
	if was := d.status.Load(); changed || !was.OK() {
		if s := d.owner.Status(); s != *was {
			d.status.Store(&s)
		}
	}
}

// partitionLeft notes that a partition was given up.
func (d *driver) partitionLeft(partition int32) {
	d.revocations = slices.DeleteFunc(d.revocations, func(r *revocation) bool {
		r.partitions = slices.DeleteFunc(r.partitions, func(p int32) bool { return p == partition })
		if len(r.partitions) == 0 {
			close(r.done)
		}
		return len(r.partitions) == 0
	})
}

// peersChanged gives the owner the other live processes.
func (d *driver) peersChanged() {
	live, gone, began := d.members.Changes()
	blind := instant().Add(owner.BarrierMost) // while no heartbeat came
	if !began.IsZero() {
		blind = rpc.At(began.Add(owner.BarrierMost))
	}
	d.owner.Peers(live, blind)
	if len(gone) > 0 {
		d.owner.ProcessesLost(instant(), gone)
	}
}

// finish stores what is decided, and the write-behind rows.
func (d *driver) finish() error {
	d.Inbox.Close()
	if d.cancelClaim != nil {
		d.cancelClaim()
	}
	late, abandon := time.NewTimer(finishMost), time.NewTimer(abandonAfter)
	defer late.Stop()
	defer abandon.Stop()
	wake := time.NewTimer(0)
	defer wake.Stop()
	d.owner.Stop(instant())
	for {
		wake.Reset(time.Until(d.work().Time()))
		if d.owner.Idle() {
			if lost := d.owner.Status().Lost; lost != nil {
				return fmt.Errorf("claiming the partitions: %w", lost)
			}
			return nil
		}
		select {
		case <-wake.C:
		case s := <-d.appender.Stored():
			if err := cause(s, d.Group == nil); err != nil {
				return fmt.Errorf("committing the last batch: %w", err)
			}
			d.owner.Advance(instant(), s.Fenced, s.Err)
		case a := <-d.answers:
			d.answered(a)
		case c := <-d.claimed:
			d.onClaimed(c)
		case <-abandon.C:
			d.owner.Abandon(instant())
		case <-late.C:
			return fmt.Errorf("committing the last batch: %w", errLate)
		}
	}
}

var errLate = errors.New("it took too long")

// cause is why a batch is not stored, nil if it is. In a single process a fenced batch is an error.
func cause(s appender.Stored, alone bool) error {
	if s.Err == nil && len(s.Fenced) > 0 && alone {
		return eventstore.ErrFenced
	}
	return s.Err
}
