package step_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"

	"callchain/chains"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/nodes"

	"github.com/google/uuid"
)

// began is the time at which every test begins.
const began = rpc.Instant(1_800_000_000_000_000)

var (
	tenant = named("tenant")
	device = named("device")
)

func named(name string) uuid.UUID { return uuid.NewSHA1(uuid.NameSpaceOID, []byte(name)) }

// stage is a partition with one device around step.Step: what an owner keeps, without its shell.
type stage struct {
	devices  map[uuid.UUID]rpc.Device
	parked   map[uuid.UUID]step.Run
	info     step.Info
	programs map[uuid.UUID]*chains.Program
	now      rpc.Instant
	values   nodes.Values // what the store holds
	fetched  map[nodes.Key]bool
	bodies   map[uuid.UUID]rpc.Body // what the store holds
	atHand   map[uuid.UUID]bool
	streams  map[step.Stream][]rpc.Event
	runs     map[uuid.UUID]step.Run // folded from the stored form
	read     map[step.Version]bool  // versions of chains that are gone, and are known to be
	ids      int
	fetches  []string
}

func newStage() *stage {
	return &stage{
		devices: map[uuid.UUID]rpc.Device{}, parked: map[uuid.UUID]step.Run{}, now: began, programs: map[uuid.UUID]*chains.Program{},
		info:   step.Info{Name: "Thermostat", Type: "thermostat", Settings: rpc.DefaultSettings()},
		values: nodes.Values{}, fetched: map[nodes.Key]bool{}, bodies: map[uuid.UUID]rpc.Body{}, atHand: map[uuid.UUID]bool{},
		streams: map[step.Stream][]rpc.Event{}, runs: map[uuid.UUID]step.Run{}, read: map[step.Version]bool{},
	}
}

func (s *stage) env() step.Env {
	return step.Env{
		Info: s.info, Chain: func(id uuid.UUID) *chains.Program { return s.programs[id] },
		Run: func(id uuid.UUID) (step.Run, bool) {
			run, ok := s.parked[id]
			return run, ok
		},
		Pinned: func(v step.Version) (*chains.Program, bool) {
			if p := s.programs[v.Chain]; p != nil && p.Version == v.Number {
				return p, true
			}
			return nil, s.read[v]
		},
		Values: s.valuesAtHand,
		Body: func(call uuid.UUID) (rpc.Body, bool) {
			return s.bodies[call], s.atHand[call]
		},
		Ended: func(call uuid.UUID) rpc.Call {
			return rpc.FoldCall(s.streams[step.Stream{Kind: step.CallStream, ID: call}], s.info.Settings)
		},
		NewID: func() uuid.UUID {
			s.ids++
			return named(fmt.Sprintf("#%d", s.ids))
		},
	}
}

func (s *stage) valuesAtHand(keys []nodes.Key) (nodes.Values, bool) {
	out := nodes.Values{}
	for _, k := range keys {
		if !s.fetched[k] {
			return nil, false
		}
		for have, v := range s.values {
			if have == k || k.Name == "" && have.Entity == k.Entity && have.Scope == k.Scope {
				out[have] = v
			}
		}
	}
	return out, true
}

// do steps one command, fetching what it needs as an owner does, and takes the result over. What must always hold is
// checked on the way.
func (s *stage) do(t *testing.T, action step.Action) step.Result {
	t.Helper()
	cmd := step.Command{Meta: rpc.Meta{At: s.now, Occurred: s.now, Actor: "test"}, Now: s.now, Tenant: tenant, Device: device, Do: action}
	s.fetches = nil
	for range 8 {
		before, ids := s.snapshot(), s.ids
		r := step.Step(s.devices[device], s.env(), cmd)
		if !reflect.DeepEqual(before, s.snapshot()) {
			t.Fatalf("Step(%T) changed the state", action)
		}
		if r.Needs.None() {
			s.take(t, r)
			return r
		}
		if len(r.Events)+len(r.Effects)+len(r.Writes)+len(r.Runs()) > 0 {
			t.Fatalf("a step that needs %+v has already done something", r.Needs)
		}
		s.ids = ids // the step is run again
		s.fetch(r)
	}
	t.Fatalf("Step(%T) needs ever more", action)
	return step.Result{}
}

func (s *stage) fetch(r step.Result) {
	for _, k := range r.Needs.Values {
		s.fetched[k] = true
		s.fetches = append(s.fetches, fmt.Sprintf("value %s %q", k.Scope, k.Name))
	}
	for _, id := range r.Needs.Bodies {
		s.atHand[id] = true
		s.fetches = append(s.fetches, "body of "+id.String())
	}
	for _, v := range r.Needs.Chains {
		s.read[v] = true
	}
}

// take applies a result, stores its events, and compares the state with the fold of the stored forms.
func (s *stage) take(t *testing.T, r step.Result) {
	t.Helper()
	s.devices[device] = r.After()
	for id, run := range r.Runs() {
		if s.parked[id] = run; len(run.Tokens) == 0 {
			delete(s.parked, id)
		}
	}
	for i := range r.Events {
		s.store(t, &r.Events[i])
	}
	for _, w := range r.Writes {
		if w.Delete {
			delete(s.values, w.Key)
			continue
		}
		s.values[w.Key] = w.Value
	}
	for _, c := range r.Calls {
		fold := rpc.FoldCall(s.streams[step.Stream{Kind: step.CallStream, ID: c.ID}], s.info.Settings)
		if fold.Phase != c.Phase || fold.Status != c.Status || fold.Reason != c.Reason || fold.Wire != c.Wire || fold.Removed != c.Removed {
			t.Fatalf("the call in the step's result differs from its fold:\n%+v\n%+v", c, fold)
		}
	}
	live := map[uuid.UUID]string{}
	for id, run := range s.parked {
		live[id] = asJSON(t, run)
	}
	folded := map[uuid.UUID]string{}
	for id, run := range s.runs {
		if len(run.Tokens) > 0 {
			folded[id] = asJSON(t, run)
		}
	}
	if !maps.Equal(live, folded) {
		t.Fatalf("the parked runs differ from their folds:\n%v\n%v", live, folded)
	}
}

// store puts an event through its stored form.
func (s *stage) store(t *testing.T, e *step.Event) {
	t.Helper()
	data, err := e.AppendData(nil)
	if err != nil {
		t.Fatalf("%s has no stored form: %v", e.Name(), err)
	}
	if e.Run != nil {
		f, err := step.DecodeRunFact(e.Name(), rpc.DataVersion, data)
		if err != nil {
			t.Fatalf("%s cannot be read again: %v", e.Name(), err)
		}
		run := step.EvolveRun(s.runs[e.Stream.ID], f)
		run.ID, run.Tenant, run.Device = e.Stream.ID, tenant, device
		s.runs[e.Stream.ID] = run
		return
	}
	f, err := rpc.DecodeFact(e.Name(), rpc.DataVersion, data)
	if err != nil {
		t.Fatal(err)
	}
	stored := e.Event
	stored.Fact = f
	s.streams[e.Stream] = append(s.streams[e.Stream], stored)
	if e.Stream.Kind == step.CallStream {
		s.bodies[e.Stream.ID] = rpc.EvolveBody(s.bodies[e.Stream.ID], f)
	}
}

// openCalls are the calls to the device and then those of it, each in order.
func openCalls(d rpc.Device) []*rpc.Call {
	return slices.Concat(slices.Collect(d.Open.All()), slices.Collect(d.Asked.All()))
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// snapshot is the state's content, apart from the memory it is in.
func (s *stage) snapshot() any {
	type content struct {
		devices map[uuid.UUID][]rpc.Call
		heads   map[uuid.UUID]rpc.Device
		runs    map[uuid.UUID][]byte
	}
	c := content{map[uuid.UUID][]rpc.Call{}, map[uuid.UUID]rpc.Device{}, map[uuid.UUID][]byte{}}
	for id, d := range s.devices {
		for _, call := range openCalls(d) {
			c.devices[id] = append(c.devices[id], *call)
		}
		d.Open, d.Asked = rpc.Queue{}, rpc.Queue{}
		c.heads[id] = d
	}
	for id, run := range s.parked {
		b, err := json.Marshal(run)
		if err != nil {
			b = []byte(err.Error())
		}
		c.runs[id] = bytes.Clone(b)
	}
	return c
}
