package engine

import (
	"context"
	"slices"
	"time"

	"callchain/engine/bus"

	"github.com/google/uuid"
)

// revoke gives partitions up that are to go to another node: what was stepped is committed first, and what is written behind, so that the
// next owner has little to read.
func (o *owner) revoke(ctx context.Context, r revocation) {
	defer close(r.done)
	if o.loading != nil && slices.ContainsFunc(o.loading.partitions, func(p int32) bool { return slices.Contains(r.partitions, p) }) {
		o.cancelLoading()
	}
	o.giveUp(ctx, r.partitions)
	o.acquire(ctx)
	o.e.members.tell()
}

// giveUp commits what was stepped of partitions and forgets them.
func (o *owner) giveUp(ctx context.Context, partitions []int32) {
	const patience = 5 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	back := o.stopReading(partitions)
	for _, p := range partitions {
		if o.parts[p].held && o.broken == nil {
			o.releaseLingering(p)
			o.flushPartition(&o.parts[p])
		}
	}
	o.commit(ctx)
	lost := o.batch.without(partitions) // what there was no time for
	if len(lost) > 0 {
		o.e.bodies.clear() // some were stepped here only
	}
	o.drop(partitions)
	o.reroute(append(append(lost, back...), o.withdraw(partitions)...))
	o.mended()
}

// commit waits until everything that was stepped is stored, or an append has failed.
func (o *owner) commit(ctx context.Context) {
	for o.broken == nil && (o.busy || !o.batch.empty()) {
		if !o.busy {
			o.handOver()
			continue
		}
		select {
		case w := <-o.writer.written:
			o.settled(w)
		case <-ctx.Done():
			return
		}
	}
}

// releaseLingering steps the facts that were kept waiting for the devices of a partition.
func (o *owner) releaseLingering(partition int32) {
	for id, list := range o.linger.byDevice {
		if list[0].Partition == partition {
			o.release(id)
		}
	}
}

// stopReading ends what the inbox delivers of partitions, and answers what would be lost with it.
func (o *owner) stopReading(partitions []int32) []bus.Message {
	var read []int32
	for _, p := range partitions {
		o.parts[p].read = false
		read = append(read, p)
	}
	if len(read) == 0 {
		return nil
	}
	return o.e.inbox.End(read)
}

// withdraw takes the messages of partitions out of everything that waits here.
func (o *owner) withdraw(partitions []int32) (out []bus.Message) {
	for _, list := range [...]*[]bus.Message{&o.replay, &o.early, &o.gathered} {
		var stay []bus.Message
		for _, m := range *list {
			if slices.Contains(partitions, m.Partition) {
				out = append(out, m)
			} else {
				stay = append(stay, m)
			}
		}
		*list = stay
	}
	return out
}

// reroute sends on what a partition's owner elsewhere must have. What the inbox keeps, that owner reads by itself, and tells who waits here; what
// this owner has made for itself dies with its memory.
func (o *owner) reroute(messages []bus.Message) {
	for _, m := range messages {
		if m.Place != (bus.Place{}) || !m.Fleeting {
			continue
		}
		if err := o.e.putFleeting(m); err != nil && m.Done != nil {
			m.Done(o.e.refused(err))
		}
	}
}

// astray deals with a message of a partition that is not held: it waits until the partition is loaded, or goes to its owner.
func (o *owner) astray(m bus.Message) {
	if o.loads(m.Partition) {
		o.early = append(o.early, m)
		return
	}
	o.reroute([]bus.Message{m})
}

// drop forgets the memory of partitions.
func (o *owner) drop(partitions []int32) {
	gone := func(p int32) bool { return slices.Contains(partitions, p) }
	for id, run := range o.state.Runs {
		if dh := o.devices[run.Device]; dh == nil || gone(dh.partition) {
			delete(o.state.Runs, id)
			delete(o.runs, id)
		}
	}
	for id, dh := range o.devices {
		if gone(dh.partition) {
			o.dropDevice(id)
		}
	}
	for id, list := range o.linger.byDevice {
		if gone(list[0].Partition) {
			o.replay = append(o.replay, o.linger.take(id)...) // withdraw finds it there
		}
	}
	for _, p := range partitions {
		o.parts[p] = partition{read: o.parts[p].read}
		o.e.held.set(p, 0)
	}
	if o.e.relay != nil {
		o.e.relay.drop(partitions)
	}
}

func (o *owner) dropDevice(id uuid.UUID) {
	d := o.state.Devices[id]
	for _, c := range openCalls(&d) {
		delete(o.calls, c.ID)
		delete(o.traces, c.ID)
		delete(o.callers, c.ID)
		delete(o.asides, c.Session)
		o.timers.forget(c.ID)
		o.e.open.Delete(c.ID)
		o.e.bodies.forget(c.ID)
	}
	delete(o.state.Devices, id)
	delete(o.devices, id)
}

// fenced forgets partitions that somebody else has claimed. What was stepped of them since has not happened.
func (o *owner) fenced(w written) {
	if len(w.fenced) == 0 {
		return
	}
	o.e.log.Warn("another node has claimed partitions of this one", "partitions", w.fenced)
	o.e.metrics.fenced.Add(float64(len(w.fenced)))
	o.e.bodies.clear() // some were stepped here only
	lost := o.batch.without(w.fenced)
	for i := range w.batch.messages {
		if slices.Contains(w.fenced, w.batch.messages[i].Partition) {
			lost = append(lost, w.batch.messages[i])
		}
	}
	back := o.stopReading(w.fenced)
	o.drop(w.fenced)
	o.reroute(append(append(lost, back...), o.withdraw(w.fenced)...))
	until := o.e.now().Add(claimFenced)
	for _, p := range w.fenced {
		o.again = append(o.again, wait{p, until})
	}
	o.e.members.tell()
}

// without takes partitions out of a batch that was not handed over, and returns their messages.
func (b *batch) without(partitions []int32) (lost []bus.Message) {
	gone := func(p int32) bool { return slices.Contains(partitions, p) }
	for _, p := range partitions {
		if pb := b.parts[p]; pb != nil {
			b.events -= len(pb.Events)
			delete(b.parts, p)
		}
	}
	b.order = slices.DeleteFunc(b.order, gone)
	b.effects = slices.DeleteFunc(b.effects, func(fx effect) bool { return gone(fx.partition) })
	b.done = slices.DeleteFunc(b.done, func(f finished) bool { return gone(f.partition) })
	for id, c := range b.calls {
		if gone(c.Partition) {
			delete(b.calls, id)
		}
	}
	var stay []bus.Message
	for _, m := range b.messages {
		if gone(m.Partition) {
			lost = append(lost, m)
		} else {
			stay = append(stay, m)
		}
	}
	b.messages = stay
	return lost
}

// stored tells whether a batch is stored after all, of which nobody said so: its append is the last of its partitions. Those of which it is not are
// noted as fenced, and their messages returned.
func (o *owner) stored(b *batch) (yes bool, again []bus.Message) {
	b.fenced = nil
	for _, p := range b.order {
		if !o.parts[p].held || o.parts[p].cp.Append != b.id {
			b.fenced = append(b.fenced, p)
		}
	}
	if len(b.fenced) == len(b.order) {
		return false, nil
	}
	for _, m := range b.messages {
		if slices.Contains(b.fenced, m.Partition) {
			again = append(again, m)
		}
	}
	return true, again
}
