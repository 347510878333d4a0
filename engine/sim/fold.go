package sim

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/eventstore"

	"github.com/google/uuid"
)

// folded is what stored events say.
type folded struct {
	state    *state // wire counters and parked runs; open calls after restore
	versions map[string]int64
	calls    map[uuid.UUID]rpc.Call
	devices  map[uuid.UUID]uuid.UUID // of calls
	bodies   map[uuid.UUID]rpc.Body
	ends     map[uuid.UUID]int // terminal facts a call
}

func newFolded() folded {
	return folded{
		state: newState(), versions: map[string]int64{}, calls: map[uuid.UUID]rpc.Call{}, devices: map[uuid.UUID]uuid.UUID{},
		bodies: map[uuid.UUID]rpc.Body{}, ends: map[uuid.UUID]int{},
	}
}

// fold reads the whole partition, as an owner does that takes it over.
func fold(store *Store) (folded, error) {
	f := newFolded()
	if err := f.readOn(store, 0); err != nil {
		return f, err
	}
	open := map[uuid.UUID][]rpc.Call{}
	for id, c := range f.calls {
		if !c.Phase.Terminal() {
			open[f.devices[id]] = append(open[f.devices[id]], c)
		}
	}
	for device, calls := range open {
		d := f.state.Devices[device]
		d.ID = device
		f.state.Devices[device] = rpc.Restore(d, calls)
	}
	return f, nil
}

// readOn folds what is stored behind a seq.
func (f *folded) readOn(store *Store, after int64) error {
	events, err := store.Partition(context.Background(), 0, after, 1<<30)
	if err != nil {
		return err
	}
	for i := range events {
		if err := f.add(&events[i]); err != nil {
			return fmt.Errorf("event %d (%s): %w", events[i].Seq, events[i].Type, err)
		}
	}
	return nil
}

func (f *folded) add(e *eventstore.Event) error {
	f.versions[e.Stream] = e.Version
	kind, text, _ := strings.Cut(e.Stream, "/")
	id, err := uuid.Parse(text)
	switch {
	case err != nil:
		return err
	case kind == "run":
		return f.addRun(id, e)
	case kind == "device":
		return nil
	}
	fact, err := rpc.DecodeFact(e.Type, e.TypeVersion, e.Data)
	if err != nil {
		return err
	}
	ev := rpc.Event{Meta: rpc.Meta{At: rpc.Instant(e.At), Occurred: rpc.Instant(e.Occurred)}, Call: id, Fact: fact}
	was := f.calls[id]
	was.ID = id
	is := rpc.EvolveCall(was, ev, settings())
	if was.Phase >= rpc.PhaseQueued && is.Wire != was.Wire {
		return fmt.Errorf("call %s had wire id %d and gets %d", id, was.Wire, is.Wire)
	}
	switch fact.(type) {
	case rpc.Succeeded, rpc.Failed, rpc.Expired, rpc.Cancelled, rpc.Rejected:
		f.ends[id]++
	}
	f.calls[id], f.devices[id] = is, e.Device
	f.bodies[id] = rpc.EvolveBody(f.bodies[id], fact)
	d := f.state.Devices[e.Device]
	d.ID = e.Device
	f.state.Devices[e.Device] = rpc.CatchUp(d, ev)
	return nil
}

func (f *folded) addRun(id uuid.UUID, e *eventstore.Event) error {
	fact, err := step.DecodeRunFact(e.Type, e.TypeVersion, e.Data)
	if err != nil {
		return err
	}
	run := step.EvolveRun(f.state.Runs[id], fact)
	run.ID, run.Device = id, e.Device
	f.state.Runs[id] = run
	if _, over := fact.(step.RunEnded); over || len(run.Tokens) == 0 && e.Type == "RunEnded" {
		delete(f.state.Runs, id)
	}
	return nil
}

// state is the memory of one or more partitions: the devices with something open, and the runs that are parked.
type state struct {
	Devices map[uuid.UUID]rpc.Device
	Runs    map[uuid.UUID]step.Run
}

func newState() *state {
	return &state{Devices: map[uuid.UUID]rpc.Device{}, Runs: map[uuid.UUID]step.Run{}}
}

// apply takes over what a step answered.
func (s *state) apply(device uuid.UUID, r *step.Result) {
	s.Devices[device] = r.After()
	for id, run := range r.Runs() {
		if len(run.Tokens) == 0 {
			delete(s.Runs, id)
		} else {
			s.Runs[id] = run
		}
	}
}

// run is a parked run.
func (s *state) run(id uuid.UUID) (step.Run, bool) {
	r, ok := s.Runs[id]
	return r, ok
}

// openCalls are the calls to a device and then those of it, each in order.
func openCalls(d *rpc.Device) []*rpc.Call {
	return slices.Concat(slices.Collect(d.Open.All()), slices.Collect(d.Asked.All()))
}
