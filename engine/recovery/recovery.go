// Package recovery reads the store and the registry for an owner: a whole partition when it is claimed (Load), and single reads
// afterwards (Answer). It returns values and caches nothing.
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

// Registry provides devices and chains.
type Registry interface {
	// Device is the row of a device. An unknown device is Deleted.
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

// Load folds the open streams of a partition, and updates its write-behind state. It fails if the store or the registry does not answer, and with
// rpc.ErrUnknownEvent if only a newer program can read the events; a damaged stream is only quarantined.
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

// catchUp reads the events after the watermark: they show which streams were opened since, the wire counters, and the heads of the devices' streams.
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
	switch projection.KindOf(e.Stream) { //nolint:exhaustive // system streams are not folded
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
	case err != nil: // its stream is quarantined later. Its call may have had the next wire id; skipping one is harmless
		ev.Fact = rpc.Queued{Wire: d.State.NextWire}
	}
	d.State.NextWire, d.Changed = rpc.CatchUp(d.State.NextWire, ev.Fact), true
	return nil
}

// lastEvent reads the time of the partition's last event.
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

// streams folds the open streams, without the bodies of calls.
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

// fold applies an event to its stream. It fails only if the stream is not to blame.
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

// keep adds a folded stream to the result; a stream that has ended since the watermark leaves the index.
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

// state is the stored row of a device, nil without one.
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
