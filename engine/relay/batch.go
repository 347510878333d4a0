package relay

import (
	"encoding/hex"
	"maps"
	"slices"
	"strconv"

	"callchain/engine/bus"
	"callchain/engine/observe"
	"callchain/engine/projection"
	"callchain/eventstore"

	"github.com/google/uuid"
)

// Headers of a record on the topic of events.
const (
	HeaderType        = "type"
	HeaderTypeVersion = "typeVersion"
	HeaderSeq         = "seq"
	HeaderTenant      = "tenant"
	HeaderDevice      = "device"
	HeaderTraceID     = "traceId"
)

// batch is published at once.
type batch struct {
	events  []*eventstore.Event
	records []bus.Record
	of      []int // index of each event's record; -1: none
	invalid error // why an event has no record
	bytes   int
}

// add adds an event.
func (b *batch) add(e *eventstore.Event) {
	b.events = append(b.events, e)
	rec, err := recordOf(e)
	if err != nil {
		b.of, b.invalid = append(b.of, -1), err
		return
	}
	b.of, b.records = append(b.of, len(b.records)), append(b.records, rec)
	b.bytes += len(rec.Value)
}

// recordOf is an event as others read it from the topic. Partition and seq identify repetitions.
func recordOf(e *eventstore.Event) (bus.Record, error) {
	value, err := projection.AppendEvent(nil, e)
	if err != nil {
		return bus.Record{}, err
	}
	h := map[string]string{HeaderType: e.Type, HeaderTypeVersion: strconv.Itoa(int(e.TypeVersion)), HeaderSeq: strconv.FormatInt(e.Seq, 10)}
	if e.Tenant != uuid.Nil {
		h[HeaderTenant] = e.Tenant.String()
	}
	if e.Device != uuid.Nil {
		h[HeaderDevice] = e.Device.String()
	}
	if e.Trace != [16]byte{} {
		h[HeaderTraceID] = hex.EncodeToString(e.Trace[:])
	}
	return bus.Record{Partition: e.Partition, Key: e.Stream, Headers: h, Value: value}, nil
}

// acknowledge moves the positions past published events, and past events that can never be published, so that these do not block later ones. It reports whether an
// event was missed.
func (r *Relay) acknowledge(b *batch, partly *bus.PartlyError) (missed bool) {
	ends, stuck := map[int32]int64{}, map[int32]bool{}
	for i, e := range b.events {
		rec := b.of[i]
		_, miss := slices.BinarySearch(partly.Missed, rec)
		if stuck[e.Partition] = stuck[e.Partition] || miss; stuck[e.Partition] {
			missed = true
			continue
		}
		ends[e.Partition] = e.Seq
		if rec < 0 {
			r.leaveOut(e, len(e.Data), observe.ReasonUnreadable, b.invalid)
		} else if _, refused := slices.BinarySearch(partly.Refused, rec); refused {
			r.leaveOut(e, len(b.records[rec].Value), observe.ReasonRefused, partly.Err)
		}
	}
	r.advance(ends)
	return missed
}

// leaveOut reports an event that can never be published. It stays in the store; readers of the topic see a gap at its seq.
func (r *Relay) leaveOut(e *eventstore.Event, bytes int, reason string, err error) {
	r.metrics.Unpublished.WithLabelValues(string(bus.Events), reason).Inc()
	r.log.Error("committed event left out of its topic; it stays in the store", "topic", bus.Events,
		"stream", e.Stream, "partition", e.Partition, "seq", e.Seq, "bytes", bytes, "reason", reason, "error", err)
}

// advance notes the published events.
func (r *Relay) advance(ends map[int32]int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, partition := range slices.Sorted(maps.Keys(ends)) {
		p := &r.parts[partition]
		p.upTo = max(p.upTo, ends[partition])
		p.stored = max(p.stored, p.upTo) // it was dropped while this was published
		gone := 0
		for gone < len(p.pending) && p.pending[gone].Seq <= p.upTo {
			gone++
		}
		r.release(p, gone)
	}
}
