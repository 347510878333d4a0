package engine

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"callchain/engine/bus"
	"callchain/engine/projection"
	"callchain/eventstore"

	"github.com/google/uuid"
)

// The bounds of the relay: what it holds in memory, and what it publishes at once.
const (
	relayHeld   = 20_000 // events; those beyond are read from the store again
	relayBatch  = 1_000
	relayBytes  = 4 << 20
	relayAgain  = 100 * time.Millisecond // first wait after a failure; it doubles up to
	relayLatest = time.Second
)

// Headers of a record on the topic of events.
const (
	HeaderType        = "type"
	HeaderTypeVersion = "typeVersion"
	HeaderSeq         = "seq"
	HeaderTenant      = "tenant"
	HeaderEventDevice = "device"
	HeaderTraceID     = "traceId"
)

// relay publishes every committed event, in the order of each partition, at least once. What it has published goes into the
// checkpoint with the next append; after a restart it goes on there.
type relay struct {
	e      *Engine
	topics bus.Topics
	first  int // the partition that is served first

	mu    sync.Mutex
	parts []relayed
	held  int
	wake  chan struct{}

	letters outbox
}

// relayed is how far a partition is published, and what follows.
type relayed struct {
	upTo    int64 // published
	stored  int64 // committed
	pending []eventstore.Event
}

func newRelay(e *Engine, t bus.Topics) *relay {
	return &relay{e: e, topics: t, parts: make([]relayed, e.config.Partitions), wake: make(chan struct{}, 1), letters: outbox{wake: make(chan struct{}, 1)}}
}

// begin tells where the checkpoints stand; it may be called again after a takeover.
func (r *relay) begin(checkpoints []eventstore.Checkpoint) {
	r.mu.Lock()
	for i := range checkpoints {
		cp, p := &checkpoints[i], &r.parts[checkpoints[i].Partition]
		p.upTo, p.stored = max(p.upTo, cp.Relayed), max(p.stored, cp.Seq)
	}
	r.mu.Unlock()
	signal(r.wake)
}

// drop leaves partitions to their next owner: it goes on where the checkpoint says.
func (r *relay) drop(partitions []int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range partitions {
		p := &r.parts[n]
		r.held -= len(p.pending)
		p.pending, p.stored = nil, p.upTo
	}
}

// committed takes what an append has stored.
func (r *relay) committed(batch []eventstore.PartitionBatch) {
	r.mu.Lock()
	for i := range batch {
		pb := &batch[i]
		if len(pb.Events) == 0 {
			continue
		}
		p := &r.parts[pb.Next.Partition]
		if p.stored+1 == pb.Events[0].Seq && r.held < relayHeld && len(p.pending) == int(p.stored-p.upTo) {
			p.pending = append(p.pending, pb.Events...)
			r.held += len(pb.Events)
		}
		p.stored = max(p.stored, pb.Next.Seq)
	}
	r.mu.Unlock()
	signal(r.wake)
}

func signal(wake chan<- struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}

// upTo is how far a partition is published.
func (r *relay) upTo(partition int32) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.parts[partition].upTo
}

// lag is the number of committed events that were not published yet.
func (r *relay) lag() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	var n int64
	for i := range r.parts {
		n += r.parts[i].stored - r.parts[i].upTo
	}
	return n
}

// run publishes events until ctx ends.
func (r *relay) run(ctx context.Context) {
	insist(ctx, r.wake, r.publish, func(again time.Duration, err error) {
		r.e.log.Warn("committed events cannot be published now; they wait in the store", "waiting", r.lag(), "again", again, "error", err)
	})
}

// insist publishes whenever something is there, until ctx ends. After a failure it waits, and tells.
func insist(ctx context.Context, wake <-chan struct{}, publish func(context.Context) (more bool, err error), failed func(again time.Duration, err error)) {
	wait := relayAgain
	for {
		more, err := publish(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			failed(wait, err)
			again := time.NewTimer(wait)
			select {
			case <-again.C:
			case <-ctx.Done():
				again.Stop()
			}
			wait = min(2*wait, relayLatest)
			continue
		}
		wait = relayAgain
		if more {
			continue
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return
		}
	}
}

// drain publishes what is left, as far as ctx allows.
func drain(ctx context.Context, publish func(context.Context) (more bool, err error)) {
	for {
		more, err := publish(ctx)
		if err != nil || !more {
			return
		}
	}
}

// dispatch is what is published at once.
type dispatch struct {
	events  []*eventstore.Event
	records []bus.Record
	of      []int // the record of each event; -1: it has none
	why     error // why an event has no record
}

// publish sends one batch of every partition; more tells that there is more to send.
func (r *relay) publish(ctx context.Context) (more bool, err error) {
	d, more, err := r.gather(ctx)
	if err != nil || len(d.events) == 0 {
		return err != nil, err
	}
	if len(d.records) > 0 {
		err = r.topics.Publish(ctx, bus.Events, d.records)
	}
	partly := &bus.PartlyError{}
	if err != nil && !errors.As(err, &partly) {
		return true, err
	}
	if r.settle(&d, partly) {
		return true, err
	}
	return more, nil
}

// gather collects what is published next.
func (r *relay) gather(ctx context.Context) (d dispatch, more bool, err error) {
	bytes := 0
	r.first++ // so that no partition is always served last
	for i := range len(r.parts) {
		p := int32((r.first + i) % len(r.parts))
		room := relayBatch - len(d.events)
		if room <= 0 || bytes >= relayBytes {
			return d, true, nil
		}
		events, left, err := r.next(ctx, p, room)
		if err != nil {
			return d, true, err
		}
		more = more || left
		for j := range events {
			if bytes >= relayBytes {
				more = true
				break
			}
			bytes += d.add(&events[j])
		}
	}
	return d, more, nil
}

// add adds an event, and answers the size of its record.
func (d *dispatch) add(e *eventstore.Event) int {
	d.events = append(d.events, e)
	rec, err := eventRecord(e)
	if err != nil {
		d.of, d.why = append(d.of, -1), err
		return 0
	}
	d.of, d.records = append(d.of, len(d.records)), append(d.records, rec)
	return len(rec.Value)
}

// settle moves the cursors over what was published, and over what never can be: one such event must not keep back all that follow. It tells
// whether anything was missed.
func (r *relay) settle(d *dispatch, partly *bus.PartlyError) (missed bool) {
	ends, stuck := map[int32]int64{}, map[int32]bool{}
	for i, e := range d.events {
		rec := d.of[i]
		_, miss := slices.BinarySearch(partly.Missed, rec)
		if stuck[e.Partition] = stuck[e.Partition] || miss; stuck[e.Partition] {
			missed = true
			continue
		}
		ends[e.Partition] = e.Seq
		if rec < 0 {
			r.setAside(e, len(e.Data), reasonUnreadable, d.why)
		} else if _, refused := slices.BinarySearch(partly.Refused, rec); refused {
			r.setAside(e, len(d.records[rec].Value), reasonRefused, partly.Err)
		}
	}
	r.passed(ends)
	return missed
}

// Why something is not published at all.
const (
	reasonRefused    = "refused"    // the topic takes nothing of that size
	reasonUnreadable = "unreadable" // no record can be made of it
	reasonNoRoom     = "no_room"    // too many letters wait
)

// setAside tells of an event that will never be on its topic. It is in the store; readers of the topic miss its seq.
func (r *relay) setAside(e *eventstore.Event, bytes int, reason string, err error) {
	r.e.metrics.unpublished.WithLabelValues(string(bus.Events), reason).Inc()
	r.e.log.Error("a committed event cannot be published and is left out of the topic; it stays in the store", "topic", bus.Events,
		"stream", e.Stream, "partition", e.Partition, "seq", e.Seq, "bytes", bytes, "reason", reason, "error", err)
}

// next are the events that follow what is published of a partition: from memory, or from the store if memory does not reach back.
func (r *relay) next(ctx context.Context, partition int32, most int) (events []eventstore.Event, left bool, err error) {
	r.mu.Lock()
	p := &r.parts[partition]
	upTo, stored := p.upTo, p.stored
	events = p.pending[:min(most, len(p.pending))]
	r.mu.Unlock()
	if upTo >= stored {
		return nil, false, nil
	}
	if len(events) > 0 && events[0].Seq == upTo+1 {
		return events, stored > events[len(events)-1].Seq, nil
	}
	events, err = r.e.store.Partition(ctx, partition, upTo, most)
	if err != nil {
		return nil, false, fmt.Errorf("reading partition %d for the topic of events: %w", partition, err)
	}
	return events, len(events) == most, nil
}

// passed notes what was published.
func (r *relay) passed(ends map[int32]int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, partition := range slices.Sorted(maps.Keys(ends)) {
		p := &r.parts[partition]
		p.upTo = max(p.upTo, ends[partition])
		gone := 0
		for gone < len(p.pending) && p.pending[gone].Seq <= p.upTo {
			gone++
		}
		r.held -= gone
		if p.pending = p.pending[gone:]; len(p.pending) == 0 {
			p.pending = nil
		}
	}
}

// eventRecord is an event as others read it from the topic. Partition and seq tell a repetition from news.
func eventRecord(e *eventstore.Event) (bus.Record, error) {
	value, err := projection.AppendEvent(nil, e)
	if err != nil {
		return bus.Record{}, err
	}
	h := map[string]string{HeaderType: e.Type, HeaderTypeVersion: strconv.Itoa(int(e.TypeVersion)), HeaderSeq: strconv.FormatInt(e.Seq, 10)}
	if e.Tenant != uuid.Nil {
		h[HeaderTenant] = e.Tenant.String()
	}
	if e.Device != uuid.Nil {
		h[HeaderEventDevice] = e.Device.String()
	}
	if e.Trace != [16]byte{} {
		h[HeaderTraceID] = hex.EncodeToString(e.Trace[:])
	}
	return bus.Record{Partition: e.Partition, Key: e.Stream, Headers: h, Value: value}, nil
}
