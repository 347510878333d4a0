package rpc_test

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"callchain/engine/rpc"

	"github.com/google/uuid"
)

// began is the time at which every test begins; times in tests are counted from it.
const began = rpc.Instant(1_800_000_000_000_000)

// named makes the id that a test calls by a short name.
func named(name string) uuid.UUID { return uuid.NewSHA1(uuid.NameSpaceOID, []byte(name)) }

// world is one device, the history of its events, and a second state that is only ever folded from their stored form. Each
// command is checked against what must always hold. It is a value: a copy goes its own way.
type world struct {
	device  rpc.Device
	folded  rpc.Device
	now     rpc.Instant
	history []rpc.Event
}

func newWorld(s rpc.Settings) world {
	d := rpc.Device{ID: named("device"), Settings: s}
	return world{device: d, folded: d, now: began}
}

// do decides a command at the world's time and applies its events. The error names the broken invariant; a refusal is
// returned apart.
func (w *world) do(do rpc.Action) (events []rpc.Event, refusal, broken error) {
	cmd := rpc.Command{Meta: rpc.Meta{At: w.now, Occurred: w.now, Actor: "test"}, Now: w.now, Do: do}
	before := contentOf(w.device)
	events, after, refusal := rpc.Decide(w.device, cmd)
	again, _, refusedAgain := rpc.Decide(w.device, cmd)
	switch {
	case !reflect.DeepEqual(events, again) || !reflect.DeepEqual(refusal, refusedAgain):
		return nil, nil, fmt.Errorf("Decide(%T) gives other events the second time", do)
	case refusal != nil && len(events) > 0:
		return nil, nil, fmt.Errorf("Decide(%T) refuses and gives %d events", do, len(events))
	case !reflect.DeepEqual(before, contentOf(w.device)):
		return nil, nil, fmt.Errorf("Decide(%T) changed the device", do)
	}
	for _, e := range events {
		if broken = w.apply(e); broken != nil {
			return events, refusal, broken
		}
	}
	if !reflect.DeepEqual(contentOf(after), contentOf(w.device)) {
		return events, refusal, fmt.Errorf("Decide(%T) answers a state that its events do not give:\n%s\n%s", do, dump(after), dump(w.device))
	}
	return events, refusal, w.outstandingIsLive()
}

// apply evolves the live and the folded state by one event and compares them.
func (w *world) apply(e rpc.Event) error {
	if err := w.allowed(e); err != nil {
		return err
	}
	before := contentOf(w.device)
	next := rpc.Evolve(w.device, e)
	if !reflect.DeepEqual(before, contentOf(w.device)) {
		return fmt.Errorf("Evolve(%s) changed its argument", e.Fact.Name())
	}
	stored, err := throughStorage(e)
	if err != nil {
		return err
	}
	was := w.device
	w.device, w.folded = next, rpc.Evolve(w.folded, stored)
	w.history = append(w.history[:len(w.history):len(w.history)], stored)
	if !reflect.DeepEqual(contentOf(w.device), contentOf(w.folded)) {
		return fmt.Errorf("after %s the fold of the stored events differs from the live state:\n%s\n%s", e.Fact.Name(), dump(w.device), dump(w.folded))
	}
	return w.phasesGoOn(was, e)
}

// allowed reports whether the history of a call may go on with this fact: one terminal fact, and behind it only what a late
// answer and a removal add.
func (w *world) allowed(e rpc.Event) error {
	if e.Call == uuid.Nil {
		return nil
	}
	begun, ended := false, false
	for i := range w.history {
		if w.history[i].Call == e.Call {
			begun, ended = true, ended || terminal(w.history[i].Fact)
		}
	}
	name := e.Fact.Name()
	switch {
	case (name == "Requested") == begun:
		return fmt.Errorf("the stream of a call begins with %s or has two beginnings", name)
	case ended && name != "AnsweredLate" && name != "Removed":
		return fmt.Errorf("%s follows the end of its call", name)
	}
	return nil
}

func terminal(f rpc.Fact) bool {
	switch f.(type) {
	case rpc.Succeeded, rpc.Failed, rpc.Expired, rpc.Cancelled, rpc.Rejected:
		return true
	}
	return false
}

// phasesGoOn: a phase is followed by a later one; only an attempt that failed puts a call back into the queue.
func (w *world) phasesGoOn(was rpc.Device, e rpc.Event) error {
	old, now := was.Find(e.Call), w.device.Find(e.Call)
	if old == nil || now == nil {
		return w.foldOfCall(e.Call, now)
	}
	_, failed := e.Fact.(rpc.DeliveryFailed)
	if now.Phase < old.Phase && !(failed && old.Phase < rpc.PhaseDelivered && now.Phase == rpc.PhaseQueued) {
		return fmt.Errorf("%s takes a call from %s back to %s", e.Fact.Name(), old.Phase, now.Phase)
	}
	if now.Phase == rpc.PhaseDelivered && now.Status != rpc.StatusDelivered {
		return fmt.Errorf("%s lets a delivered call be shown as %s", e.Fact.Name(), now.Status)
	}
	if now.Wire != old.Wire && old.Phase >= rpc.PhaseQueued {
		return fmt.Errorf("%s gives a queued call another wire id", e.Fact.Name())
	}
	return w.foldOfCall(e.Call, now)
}

// foldOfCall compares an open call with the fold of its own stream. The stream does not say to which session the next
// attempt was issued, because that is derived from the device.
func (w *world) foldOfCall(id uuid.UUID, live *rpc.Call) error {
	if live == nil {
		return nil
	}
	fold := rpc.FoldCall(w.stream(id), w.device.Settings)
	if want := lasting(*live); !reflect.DeepEqual(lasting(fold), want) {
		return fmt.Errorf("the fold of the call's stream differs from the live call:\n%+v\n%+v", lasting(fold), want)
	}
	return nil
}

// lasting is a call without what is derived from the device's session.
func lasting(c rpc.Call) rpc.Call {
	if c.Direction == rpc.ToDevice {
		c.Session = uuid.Nil
	}
	c.Attempt, c.AckDue, c.Place = 0, 0, 0
	return c
}

func (w *world) stream(call uuid.UUID) []rpc.Event {
	var out []rpc.Event
	for _, e := range w.history {
		if e.Call == call {
			out = append(out, e)
		}
	}
	return out
}

func (w *world) outstandingIsLive() error {
	for _, o := range rpc.Outstanding(w.device) {
		switch {
		case o.Session != w.device.Session || !o.Session.Subscribed:
			return fmt.Errorf("a delivery is owed to a session that is not live: %+v", o.Session)
		case w.device.Find(o.Call.ID) != o.Call || o.Call.Phase < rpc.PhaseQueued:
			return fmt.Errorf("a delivery is owed of a call that is not open: %+v", *o.Call)
		}
	}
	return nil
}

// crash drops the device and builds it up again from the stored events, as an owner does that takes the partition over.
func (w *world) crash() {
	d := rpc.Device{ID: w.device.ID, Settings: w.device.Settings}
	seen := map[uuid.UUID]bool{}
	var open []rpc.Call
	for _, e := range w.history {
		d.NextWire = rpc.CatchUp(d.NextWire, e.Fact)
		if e.Call == uuid.Nil || seen[e.Call] {
			continue
		}
		seen[e.Call] = true
		if c := rpc.FoldCall(w.stream(e.Call), d.Settings); !c.Phase.Terminal() {
			open = append(open, c)
		}
	}
	d = rpc.Restore(d, open)
	w.device, w.folded = d, d
}

// latest is what an owner adds to an answer: the call that had this wire id last, if it has ended.
func (w *world) latest(wire int32) uuid.UUID {
	for i := len(w.history) - 1; i >= 0; i-- {
		if q, ok := w.history[i].Fact.(rpc.Queued); ok && q.Wire == wire && w.device.Find(w.history[i].Call) == nil {
			return w.history[i].Call
		}
	}
	return uuid.Nil
}

// deadline is the next time at which a call is to be ticked, and which.
func (w *world) deadline() (rpc.Instant, *rpc.Call) {
	var first *rpc.Call
	for _, c := range openCalls(w.device) {
		if first == nil || w.device.NextDeadline(c) < w.device.NextDeadline(first) {
			first = c
		}
	}
	if first == nil {
		return 0, nil
	}
	return w.device.NextDeadline(first), first
}

func throughStorage(e rpc.Event) (rpc.Event, error) {
	data, err := rpc.AppendData(nil, e.Fact)
	if err != nil {
		return e, err
	}
	e.Fact, err = rpc.DecodeFact(e.Fact.Name(), rpc.DataVersion, data)
	return e, err
}

// openCalls are the calls to the device and then those of it, each in order.
func openCalls(d rpc.Device) []*rpc.Call {
	return slices.Concat(slices.Collect(d.Open.All()), slices.Collect(d.Asked.All()))
}

// deviceContent is what a device holds, apart from the memory it is in.
type deviceContent struct {
	device rpc.Device
	calls  []rpc.Call
}

func contentOf(d rpc.Device) deviceContent {
	c := deviceContent{device: d}
	for _, call := range openCalls(d) {
		c.calls = append(c.calls, *call)
	}
	c.device.Open, c.device.Asked = rpc.Queue{}, rpc.Queue{}
	return c
}

func dump(d rpc.Device) string {
	text := fmt.Sprintf("session %+v next wire %d", d.Session, d.NextWire)
	for _, c := range openCalls(d) {
		text += fmt.Sprintf("\n  %+v", *c)
	}
	return text
}

// must fails the test when a command is refused or breaks an invariant.
func (w *world) must(t *testing.T, do rpc.Action) []rpc.Event {
	t.Helper()
	events, refusal, broken := w.do(do)
	if broken != nil {
		t.Fatal(broken)
	}
	if refusal != nil {
		t.Fatalf("%T is refused: %v", do, refusal)
	}
	return events
}

func (w *world) after(d time.Duration) { w.now = w.now.Add(d) }
