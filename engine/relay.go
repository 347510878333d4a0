package engine

import (
	"context"
	"encoding/hex"
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

	mu      sync.Mutex
	parts   []relayed
	held    int
	letters []bus.Record
	wake    chan struct{}
}

// relayed is how far a partition is published, and what follows.
type relayed struct {
	upTo    int64 // published
	stored  int64 // committed
	pending []eventstore.Event
}

// letterMost bounds the dead letters that wait to be published; the rows are what counts.
const letterMost = 1_000

func newRelay(e *Engine, t bus.Topics) *relay {
	return &relay{e: e, topics: t, parts: make([]relayed, e.config.Partitions), wake: make(chan struct{}, 1)}
}

// begin tells where the checkpoints stand; it may be called again after a takeover.
func (r *relay) begin(checkpoints []eventstore.Checkpoint) {
	r.mu.Lock()
	for i := range checkpoints {
		cp, p := &checkpoints[i], &r.parts[checkpoints[i].Partition]
		p.upTo, p.stored = max(p.upTo, cp.Relayed), max(p.stored, cp.Seq)
	}
	r.mu.Unlock()
	r.signal()
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
	r.signal()
}

// deadLetters publishes dead letters. Those beyond the bound are not: their rows are what counts.
func (r *relay) deadLetters(letters []bus.Record) {
	if len(letters) == 0 {
		return
	}
	r.mu.Lock()
	r.letters = append(r.letters, letters[:min(len(letters), letterMost-len(r.letters))]...)
	r.mu.Unlock()
	r.signal()
}

func (r *relay) signal() {
	select {
	case r.wake <- struct{}{}:
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

// run publishes until ctx ends.
func (r *relay) run(ctx context.Context) {
	wait := relayAgain
	for {
		more, err := r.publish(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			r.e.log.Warn("committed events cannot be published now; they wait in the store", "waiting", r.lag(), "again", wait, "error", err)
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
		case <-r.wake:
		case <-ctx.Done():
			return
		}
	}
}

// drain publishes what is left, as far as ctx allows.
func (r *relay) drain(ctx context.Context) {
	for {
		more, err := r.publish(ctx)
		if err != nil || !more {
			return
		}
	}
}

// publish sends one batch of every partition; more tells that there is more to send.
func (r *relay) publish(ctx context.Context) (more bool, err error) {
	if err := r.publishLetters(ctx); err != nil {
		return true, err
	}
	var records []bus.Record
	ends := map[int32]int64{}
	bytes := 0
	r.first++ // so that no partition is always served last
	for i := range len(r.parts) {
		p := int32((r.first + i) % len(r.parts))
		room := relayBatch - len(records)
		if room <= 0 || bytes >= relayBytes {
			more = true
			break
		}
		events, left, err := r.next(ctx, p, room)
		if err != nil {
			return true, err
		}
		more = more || left
		for j := range events {
			rec, err := eventRecord(&events[j])
			if err != nil {
				return true, err
			}
			records = append(records, rec)
			bytes += len(rec.Value)
			ends[p] = events[j].Seq
		}
	}
	if len(records) == 0 {
		return false, nil
	}
	if err := r.topics.Publish(ctx, bus.Events, records); err != nil {
		return true, err
	}
	r.passed(ends)
	return more, nil
}

func (r *relay) publishLetters(ctx context.Context) error {
	r.mu.Lock()
	letters := r.letters
	r.letters = nil
	r.mu.Unlock()
	if len(letters) == 0 {
		return nil
	}
	err := r.topics.Publish(ctx, bus.DeadLetters, letters)
	if err != nil {
		r.mu.Lock()
		r.letters = append(letters, r.letters...)
		r.letters = r.letters[:min(len(r.letters), letterMost)]
		r.mu.Unlock()
	}
	return err
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
