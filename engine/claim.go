package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"callchain/engine/bus"
	"callchain/engine/membership"
	"callchain/engine/owner"
	"callchain/engine/projection"
	"callchain/engine/rpc"
	"callchain/engine/wire"
	"callchain/eventstore"
)

// read answers a read of the owner at once from memory, else in the background. It reports whether it answered.
func (d *driver) read(r *owner.Read) bool {
	if r.OnlyRegistry() {
		generation := d.Directory.Generation()
		if row, ok := d.Directory.Cached(r.Device); ok {
			d.owner.Answered(instant(), &owner.Answer{ID: r.ID, Registry: &row, Generation: generation})
			return true
		}
	}
	one := *r
	d.background.Go(func() {
		select {
		case d.slots <- struct{}{}:
		case <-d.reads.Done():
			return
		}
		a := d.reader.Answer(d.reads, &one)
		<-d.slots
		select {
		case d.answers <- a:
		case <-d.reads.Done():
		}
	})
	return false
}

// answered gives the owner an answer, and all others that have come.
func (d *driver) answered(a *owner.Answer) {
	for {
		d.owner.Answered(instant(), a)
		select {
		case a = <-d.answers:
		default:
			return
		}
	}
}

// claim claims and loads partitions in the background, so that owned ones go on.
func (d *driver) claim(claims []owner.Claim) {
	ctx, cancel := context.WithCancel(d.reads)
	d.cancelClaim = cancel
	d.background.Go(func() {
		out := &owner.Claimed{}
		for _, c := range claims {
			out.Partitions = append(out.Partitions, c.Partition)
		}
		out.Err = d.load(ctx, claims, out)
		d.claimed <- out
	})
}

// load claims partitions, reads what is open in them, and lets the inbox deliver them.
func (d *driver) load(ctx context.Context, claims []owner.Claim, out *owner.Claimed) error {
	checkpoints, err := d.Store.Claim(ctx, d.config.Node, out.Partitions)
	if err != nil {
		return err
	}
	if out.DeadLetters, err = d.Store.Count(ctx, eventstore.Query{Table: projection.DeadLetters}); err != nil {
		return fmt.Errorf("counting the dead letters: %w", err)
	}
	for i := range checkpoints {
		cp := &checkpoints[i]
		r, err := d.reader.Load(ctx, *cp)
		if err != nil {
			return err
		}
		out.Recovered = append(out.Recovered, r)
		if !slices.Contains(claims, owner.Claim{Partition: cp.Partition, Reading: true}) {
			out.From = append(out.From, positionOf(cp))
		}
	}
	return d.Inbox.Begin(ctx, out.From)
}

// positionOf is where the inbox continues a partition.
func positionOf(cp *eventstore.Checkpoint) bus.From {
	from := bus.From{Partition: cp.Partition, Published: cp.Relayed}
	for lane, p := range cp.Positions {
		from.Next[lane] = bus.Place{Topic: p.Topic, Offset: p.Offset}
	}
	return from
}

// onClaimed gives the owner the result of a claim, with the sessions and callers here. In a single process a failed first claim ends the engine: no other node can take over.
func (d *driver) onClaimed(c *owner.Claimed) {
	d.cancelClaim()
	d.cancelClaim = nil
	c.Canceled = errors.Is(c.Err, context.Canceled)
	newer := errors.Is(c.Err, rpc.ErrUnknownEvent)
	var lost *bus.LostError
	switch {
	case c.Err == nil:
		mine := func(p int32) bool { return slices.Contains(c.Partitions, p) }
		for _, s := range d.delivery.Local(mine) {
			c.Sessions = append(c.Sessions, s.LocalSession)
		}
		c.Callers = map[int32][]wire.Caller{}
		for _, one := range d.callers.In(mine) {
			c.Callers[one.Partition] = append(c.Callers[one.Partition], one.Caller)
		}
	case newer && d.members != nil:
		d.members.StandDown(membership.UnfitEvents, c.Err.Error())
	case !newer && d.members == nil && !d.owner.Status().Begun && !errors.As(c.Err, &lost) && !c.Canceled:
		d.failed = fmt.Errorf("claiming the partitions: %w", c.Err)
	}
	if d.members != nil {
		d.peersChanged()
	}
	d.owner.Claimed(instant(), c)
	d.begin(c)
}

// begin starts the relay and the followers at the checkpoints of newly owned partitions.
func (d *driver) begin(c *owner.Claimed) {
	var checkpoints []eventstore.Checkpoint
	for _, r := range c.Recovered {
		if c.Err == nil && d.owner.Epoch(r.Checkpoint.Partition) == r.Checkpoint.Epoch {
			checkpoints = append(checkpoints, r.Checkpoint)
		}
	}
	d.feed.committed(checkpoints)
	if d.relay != nil {
		d.relay.Begin(checkpoints)
	}
}
