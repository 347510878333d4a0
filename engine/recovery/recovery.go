// Package recovery reads what an owner must know of the store and the registry: a whole partition when it is claimed (Load), and one thing at a time
// afterwards (Answer). What it gives are values; it keeps nothing.
package recovery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"callchain/engine/owner"
	"callchain/engine/projection"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/eventstore"

	"github.com/google/uuid"
)

// Registry is what is read of devices and chains.
type Registry interface {
	// Device is the row of a device. If there is none, it is Deleted.
	Device(ctx context.Context, id uuid.UUID) (owner.Device, error)
	// Version is a version of a chain, nil if it is gone.
	Version(ctx context.Context, v step.Version) (*owner.Program, error)
	// Generation changes when rows may have changed.
	Generation() uint64
}

// Reader reads for owners. It is safe for concurrent use.
type Reader struct {
	Store    eventstore.Store
	Registry Registry
}

// The bounds of what is read at once.
const (
	streamsAtOnce = 500
	eventsAtOnce  = 2_000
	bytesAtOnce   = 4 << 20
)

// Load folds what is open in a partition, and brings up to date what is written behind. It fails if the store or the registry does not answer, and with
// rpc.ErrUnknownEvent if only a newer program can read what is stored; a stream that is damaged is quarantined alone.
func (r *Reader) Load(ctx context.Context, cp eventstore.Checkpoint) (*owner.Recovered, error) {
	l := &load{
		Reader: r, out: &owner.Recovered{Checkpoint: cp, Generation: r.Registry.Generation()}, indexed: map[string]bool{}, devices: map[uuid.UUID]*owner.RecoveredDevice{},
	}
	for _, part := range []func(context.Context) error{l.index, l.catchUp, l.lastEvent, l.streams} {
		if err := part(ctx); err != nil {
			return nil, fmt.Errorf("loading partition %d: %w", cp.Partition, err)
		}
	}
	for _, id := range slices.SortedFunc(maps.Keys(l.devices), func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) }) {
		l.out.Devices = append(l.out.Devices, *l.devices[id])
	}
	return l.out, nil
}

// load is a partition that is being loaded.
type load struct {
	*Reader
	out     *owner.Recovered
	indexed map[string]bool // open streams; true: it is in the index
	devices map[uuid.UUID]*owner.RecoveredDevice
}

// index reads the index of open streams.
func (l *load) index(ctx context.Context) error {
	rows, err := l.Store.Rows(ctx, eventstore.Query{
		Table: projection.OpenStreams, Where: []eventstore.Cond{{Column: "partition", Op: eventstore.Eq, Value: int64(l.out.Checkpoint.Partition)}},
	})
	if err != nil {
		return fmt.Errorf("reading the open streams: %w", err)
	}
	for _, row := range rows {
		stream, _ := row[1].(string)
		l.indexed[stream] = true
		l.out.Indexed = append(l.out.Indexed, stream)
	}
	return nil
}

// catchUp reads the events after the watermark: they tell which streams were opened since, how far the wire counters have come, and where the streams of devices end.
func (l *load) catchUp(ctx context.Context) error {
	for after := l.out.Checkpoint.Indexed; ; {
		events, err := l.Store.Page(ctx, l.out.Checkpoint.Partition, after, eventsAtOnce, bytesAtOnce)
		if err != nil || len(events) == 0 {
			return err
		}
		for i := range events {
			if err := l.catchUpWith(ctx, &events[i]); err != nil {
				return err
			}
		}
		after = events[len(events)-1].Seq
	}
}

func (l *load) catchUpWith(ctx context.Context, e *eventstore.Event) error {
	switch projection.KindOf(e.Stream) { //nolint:exhaustive // facts of the system are folded by nobody
	case projection.DeviceStreams:
		d, err := l.device(ctx, e.Device)
		if err != nil {
			return err
		}
		d.State.Head, d.State.Stream, d.Changed = projection.HeadAfter(e), e.Stream, true
	case projection.CallStreams, projection.RunStreams:
		if _, known := l.indexed[e.Stream]; !known {
			l.indexed[e.Stream] = false
			l.out.Opened = append(l.out.Opened, e.Stream)
		}
	}
	if e.Type != (rpc.Queued{}).Name() {
		return nil
	}
	d, err := l.device(ctx, e.Device)
	if err != nil {
		return err
	}
	ev, err := projection.DecodeCall(e)
	switch {
	case errors.Is(err, rpc.ErrUnknownEvent):
		return err
	case err != nil: // its stream is quarantined alone. Its call had the next wire id, most likely; one that is left out does no harm
		ev.Fact = rpc.Queued{Wire: d.State.NextWire}
	}
	d.State.NextWire, d.Changed = rpc.CatchUp(d.State.NextWire, ev.Fact), true
	return nil
}

// lastEvent reads how far the time of the partition has come.
func (l *load) lastEvent(ctx context.Context) error {
	cp := &l.out.Checkpoint
	if cp.Seq == 0 {
		return nil
	}
	events, err := l.Store.Partition(ctx, cp.Partition, cp.Seq-1, 1)
	if err == nil && len(events) > 0 {
		l.out.LastAt = rpc.Instant(events[0].At)
	}
	return err
}

// streams folds the open streams. Bodies pass by: they are not kept.
func (l *load) streams(ctx context.Context) error {
	for names := range slices.Chunk(slices.Sorted(maps.Keys(l.indexed)), streamsAtOnce) {
		folds := map[string]*fold{}
		err := l.Store.Streams(ctx, names, func(e *eventstore.Event) error {
			f := folds[e.Stream]
			if f == nil {
				f = &fold{}
				folds[e.Stream] = f
			}
			return l.fold(ctx, f, e)
		})
		if err != nil {
			return fmt.Errorf("reading the open streams: %w", err)
		}
		for _, stream := range names {
			if err := l.keep(ctx, stream, folds[stream]); err != nil {
				return err
			}
		}
	}
	return nil
}

// fold is an open stream that is being folded.
type fold struct {
	call     projection.Call
	run      step.Run
	head     projection.Head
	accepted rpc.Instant
	trace    [16]byte
	tenant   uuid.UUID
	device   uuid.UUID
	settings rpc.Settings
	damaged  error
}

// fold brings a stream forward by an event. It fails if that is not the stream's fault.
func (l *load) fold(ctx context.Context, f *fold, e *eventstore.Event) error {
	f.tenant, f.device = e.Tenant, e.Device
	if f.damaged != nil {
		return nil
	}
	if f.head.Version == 0 {
		d, err := l.device(ctx, e.Device)
		if err != nil {
			return err
		}
		f.accepted, f.trace, f.settings = rpc.Instant(min(e.Occurred, e.At)), e.Trace, d.Row.Info.Settings
	}
	var err error
	if f.head = projection.HeadAfter(e); projection.KindOf(e.Stream) == projection.RunStreams {
		f.run, err = projection.FoldRun(f.run, e)
	} else {
		err = f.call.Fold(e, f.settings)
		f.call.Body = rpc.Body{}
	}
	if errors.Is(err, rpc.ErrUnknownEvent) {
		return fmt.Errorf("stream %s version %d: %w", e.Stream, e.Version, err)
	}
	if err != nil {
		f.damaged = fmt.Errorf("version %d: %w", e.Version, err)
	}
	return nil
}

// keep brings a folded stream into what is loaded; what has ended since the watermark leaves the index.
func (l *load) keep(ctx context.Context, stream string, f *fold) error {
	switch {
	case f == nil:
		l.out.Ended = append(l.out.Ended, stream)
		return nil
	case f.damaged != nil:
		l.out.Quarantined = append(l.out.Quarantined, owner.Quarantined{Stream: stream, Tenant: f.tenant, Device: f.device, Err: f.damaged})
		return nil
	}
	if projection.KindOf(stream) == projection.RunStreams {
		if len(f.run.Tokens) == 0 {
			l.out.Ended = append(l.out.Ended, stream)
		} else {
			l.out.Runs = append(l.out.Runs, owner.RecoveredRun{Run: f.run, Head: f.head})
		}
		return nil
	}
	if f.call.State.Phase.Terminal() {
		l.out.Ended = append(l.out.Ended, stream)
		return nil
	}
	d, err := l.device(ctx, f.device)
	if err != nil {
		return err
	}
	d.Calls = append(d.Calls, owner.RecoveredCall{Call: f.call.State, Head: f.head, Accepted: f.accepted, Trace: f.trace})
	return nil
}

// device is a device of the partition, read when it is first asked for.
func (l *load) device(ctx context.Context, id uuid.UUID) (*owner.RecoveredDevice, error) {
	if d := l.devices[id]; d != nil {
		return d, nil
	}
	row, err := l.Registry.Device(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("reading device %s: %w", id, err)
	}
	if row.Deleted {
		row.ID, row.Info.Settings = id, rpc.DefaultSettings()
	}
	row.Partition = l.out.Checkpoint.Partition
	state, err := l.state(ctx, id)
	if err != nil {
		return nil, err
	}
	d := &owner.RecoveredDevice{Row: row}
	if state != nil {
		d.State = *state
	}
	l.devices[id] = d
	return d, nil
}

// state is the row of a device in the store, nil if it has none.
func (r *Reader) state(ctx context.Context, device uuid.UUID) (*owner.DeviceState, error) {
	rows, err := r.Store.Rows(ctx, eventstore.Query{
		Table: projection.Devices, Where: []eventstore.Cond{{Column: "device", Op: eventstore.Eq, Value: device}},
	})
	if err != nil {
		return nil, fmt.Errorf("reading the state of device %s: %w", device, err)
	}
	if len(rows) == 0 {
		return nil, nil
	}
	row := rows[0]
	s := &owner.DeviceState{
		NextWire: int32(number(row[2])), Head: projection.Head{Began: number(row[4]), Version: number(row[5])},
		LastConnect: rpc.Instant(number(row[7])), LastDisconnect: rpc.Instant(number(row[8])),
	}
	s.Stream, _ = row[3].(string)
	hash, _ := row[6].([]byte)
	copy(s.Head.Hash[:], hash)
	return s, nil
}

func number(v any) int64 {
	n, _ := v.(int64)
	return n
}
