package recovery_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"callchain/engine/owner"
	"callchain/engine/projection"
	"callchain/engine/recovery"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/eventstore"
	"callchain/eventstore/memstore"

	"github.com/google/uuid"
)

func named(name string) uuid.UUID { return uuid.NewSHA1(uuid.NameSpaceOID, []byte(name)) }

var tenant = named("tenant")

// stored is a store with one partition whose open streams a test makes when they are read. It counts what is read.
type stored struct {
	eventstore.Store
	names    []string
	indexed  int // so many of the names are in the index; the others were opened after it
	event    func(stream string, version int64) *eventstore.Event
	events   int64 // of each stream
	read     int   // bytes of data
	rows     map[string]int
	after    func()
	pageMost int
}

func (s *stored) Rows(_ context.Context, q eventstore.Query) ([][]any, error) {
	s.rows[q.Table.Name]++
	if q.Table != projection.OpenStreams {
		return nil, nil
	}
	var out [][]any
	for _, name := range s.names[:s.indexed] {
		out = append(out, []any{int64(0), name})
	}
	return out, nil
}

func (s *stored) Streams(_ context.Context, names []string, each func(*eventstore.Event) error) error {
	for _, name := range names {
		for v := int64(1); v <= s.events; v++ {
			e := s.event(name, v)
			s.read += len(e.Data)
			if err := each(e); err != nil {
				return err
			}
			if s.after != nil {
				s.after()
			}
		}
	}
	return nil
}

func (s *stored) Page(_ context.Context, _ int32, after int64, _, bytes int) ([]eventstore.Event, error) {
	s.pageMost = max(s.pageMost, bytes)
	if after >= int64(len(s.names)-s.indexed) {
		return nil, nil
	}
	e := s.event(s.names[s.indexed+int(after)], 1)
	e.Seq = after + 1
	return []eventstore.Event{*e}, nil
}

func (s *stored) Partition(context.Context, int32, int64, int) ([]eventstore.Event, error) {
	return []eventstore.Event{{At: 4711}}, nil
}

// registry counts how often rows are read.
type registry struct {
	devices int
	fail    error
}

func (r *registry) Device(_ context.Context, id uuid.UUID) (owner.Device, error) {
	r.devices++
	return owner.Device{ID: id, Tenant: tenant, Info: step.Info{Settings: rpc.DefaultSettings()}}, r.fail
}

func (r *registry) Version(context.Context, step.Version) (*owner.Program, error) { return nil, nil }
func (r *registry) Generation() uint64                                            { return 7 }

func event(stream, name string, version int64, fact any) *eventstore.Event {
	data, err := json.Marshal(fact)
	if err != nil {
		panic(err)
	}
	return &eventstore.Event{Stream: stream, Type: name, TypeVersion: 1, Version: version, At: version, Occurred: version, Tenant: tenant, Device: named("d"), Data: data}
}

// queued is a call of which so many bytes are asked for.
func queued(bodies int) func(string, int64) *eventstore.Event {
	params := json.RawMessage(`"` + strings.Repeat("x", bodies) + `"`)
	return func(stream string, version int64) *eventstore.Event {
		if version == 1 {
			return event(stream, "Requested", 1, rpc.Requested{Method: "m", Params: bytes.Clone(params), Persistent: true, Expires: 1 << 60})
		}
		return event(stream, "Queued", version, rpc.Queued{Wire: 7})
	}
}

func streams(n int) (out []string) {
	for i := range n {
		out = append(out, projection.CallStream(tenant, named(fmt.Sprint("call", i))))
	}
	return out
}

func newStored(names []string, events int64, of func(string, int64) *eventstore.Event) *stored {
	return &stored{Store: memstore.New(), names: names, indexed: len(names), events: events, event: of, rows: map[string]int{}}
}

var checkpoint = eventstore.Checkpoint{Partition: 0, Epoch: 3, Seq: 1 << 40}

// TestBodiesAreNotHeld (fault g): loading calls with large bodies takes the memory of one of them, not of all.
func TestBodiesAreNotHeld(t *testing.T) {
	if testing.Short() {
		t.Skip("20 bodies of 12 MB take a second")
	}
	const calls, bodies = 20, 12 << 20
	var largest uint64
	s := newStored(streams(calls), 2, queued(bodies))
	s.after = func() {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		largest = max(largest, m.HeapAlloc)
	}
	r := recovery.Reader{Store: s, Registry: &registry{}}
	out, err := r.Load(t.Context(), checkpoint)
	if err != nil || len(out.Devices) != 1 || len(out.Devices[0].Calls) != calls {
		t.Fatalf("loaded are %+v, %v", out, err)
	}
	if largest > 6*bodies {
		t.Errorf("at its largest the memory held %d MB, with bodies of %d MB", largest>>20, bodies>>20)
	}
}

// TestRowsAreReadOnce: of a device with 1,000 open calls, its rows in the registry and in the store are read once; every event is read once; and what was opened since
// the index was written is read by pages of bounded bytes.
func TestRowsAreReadOnce(t *testing.T) {
	s, g := newStored(streams(1_000), 2, queued(10)), &registry{}
	s.indexed = 600
	r := recovery.Reader{Store: s, Registry: g}
	out, err := r.Load(t.Context(), checkpoint)
	if err != nil {
		t.Fatal(err)
	}
	if g.devices != 1 || s.rows["devices_state"] != 1 || s.rows["open_streams"] != 1 {
		t.Errorf("the device is read %d times, its state %d times, the index %d times", g.devices, s.rows["devices_state"], s.rows["open_streams"])
	}
	if len(out.Devices[0].Calls) != 1_000 || len(out.Indexed) != 600 || len(out.Opened) != 400 || out.LastAt != 4711 || out.Generation != 7 {
		t.Errorf("%d calls, %d indexed, %d opened, last at %d, generation %d", len(out.Devices[0].Calls), len(out.Indexed), len(out.Opened), out.LastAt, out.Generation)
	}
	if s.pageMost == 0 || s.pageMost > 16<<20 {
		t.Errorf("pages have up to %d bytes", s.pageMost)
	}
}

// TestLoadFails: a damaged stream is quarantined; any other error fails the load.
func TestLoadFails(t *testing.T) {
	away := errors.New("the registry is away")
	damaged := func(stream string, version int64) *eventstore.Event {
		e := queued(10)(stream, version)
		if version == 2 && stream == streams(2)[1] {
			e.Data = []byte(`{"wire":"x"}`)
		}
		return e
	}
	newer := func(name string, version int16) func(string, int64) *eventstore.Event {
		return func(stream string, v int64) *eventstore.Event {
			e := queued(10)(stream, v)
			if v == 2 {
				e.Type, e.TypeVersion = name, version
			}
			return e
		}
	}
	run := projection.RunStream(named("run"))
	for _, c := range []struct {
		name        string
		names       []string
		event       func(string, int64) *eventstore.Event
		fail        error
		want        error
		quarantined int
	}{
		{"registry away", streams(2), queued(10), away, away, 0},
		{"damaged stream", streams(2), damaged, nil, nil, 1},
		{"newer version of a fact", streams(2), newer("Queued", 2), nil, rpc.ErrUnknownEvent, 0},
		{"unknown fact", streams(2), newer("Teleported", 1), nil, rpc.ErrUnknownEvent, 0},
		{"newer version of a fact of a run", []string{run}, func(stream string, v int64) *eventstore.Event {
			e := event(stream, "RunParked", v, map[string]int{"number": 1})
			e.TypeVersion = 2
			return e
		}, nil, rpc.ErrUnknownEvent, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := recovery.Reader{Store: newStored(c.names, 2, c.event), Registry: &registry{fail: c.fail}}
			out, err := r.Load(t.Context(), checkpoint)
			if !errors.Is(err, c.want) || err == nil && len(out.Quarantined) != c.quarantined {
				t.Errorf("Load = %+v, %v, want %v and %d quarantined", out, err, c.want, c.quarantined)
			}
		})
	}
}

// TestRegistryErrors (fault h): a failed read of the registry does not mean that the device does not exist.
func TestRegistryErrors(t *testing.T) {
	away := errors.New("the registry is away")
	r := recovery.Reader{Store: newStored(nil, 0, nil), Registry: &registry{fail: away}}
	a := r.Answer(t.Context(), &owner.Read{ID: 1, Registry: true, State: true, Device: named("d")})
	if !errors.Is(a.Err, away) || a.Registry != nil {
		t.Errorf("Answer = %+v", a)
	}
}
