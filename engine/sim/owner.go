package sim

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"callchain/chains"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/eventstore"
	"callchain/nodes"

	"github.com/google/uuid"
)

// owner owns the world's partition: the engine's loop without goroutines. Its memory is lost in crashes.
type owner struct {
	w     *world
	store *Store
	chain *chains.Program

	state    *state
	cp       eventstore.Checkpoint
	versions map[string]int64
	calls    map[uuid.UUID]rpc.Call // every call, open or ended
	bodies   map[uuid.UUID]rpc.Body
	inbox    []step.Command
	lastAt   rpc.Instant
	alarm    rpc.Instant // the next turn that is planned for a deadline
}

func newOwner(w *world, chain *chains.Program) *owner {
	o := &owner{w: w, store: NewStore(), chain: chain}
	o.load()
	return o
}

func (o *owner) put(device uuid.UUID, do step.Action) {
	o.inbox = append(o.inbox, step.Command{Meta: rpc.Meta{Occurred: o.w.now, Actor: "sim"}, Device: device, Do: do})
}

func (o *owner) hasEnded(call uuid.UUID) bool {
	c := o.calls[call]
	return c.Phase.Terminal() && !c.Removed
}

// turn steps a part of what has arrived, and what is due if nothing has; then it commits. Another turn follows while
// something is left.
func (o *owner) turn() {
	const most = 10_000
	for n := 0; o.w.broken == nil; n++ {
		if n == most {
			o.w.fail("the owner steps for ever at one time: %+v", o.inbox)
			return
		}
		if len(o.inbox) == 0 {
			o.due()
		}
		if len(o.inbox) == 0 {
			o.setAlarm()
			return
		}
		some := 1 + o.w.rng.IntN(len(o.inbox))
		batch := o.inbox[:some:some]
		o.inbox = o.inbox[some:]
		o.commit(batch)
	}
}

// due puts the ticks of deadlines and the wakes of runs whose time has come.
func (o *owner) due() {
	for _, id := range sortedIDs(o.state.Devices) {
		d := o.state.Devices[id]
		for _, c := range openCalls(&d) {
			if d.NextDeadline(c) <= o.w.now {
				o.put(id, step.RPC{Do: rpc.Tick{Call: c.ID}})
			}
		}
	}
	for _, id := range sortedIDs(o.state.Runs) {
		run := o.state.Runs[id]
		for _, p := range run.Tokens {
			if p.Due != 0 && p.Due <= o.w.now {
				o.put(run.Device, step.Wake{Run: id, Token: p.Number})
			}
		}
	}
}

// setAlarm plans a turn at the next deadline.
func (o *owner) setAlarm() {
	var next rpc.Instant
	soonest := func(at rpc.Instant) {
		if at != 0 && (next == 0 || at < next) {
			next = at
		}
	}
	for _, d := range o.state.Devices {
		for _, c := range openCalls(&d) {
			soonest(d.NextDeadline(c))
		}
	}
	for _, run := range o.state.Runs {
		for _, p := range run.Tokens {
			soonest(p.Due)
		}
	}
	if next == 0 || o.alarm > o.w.now && o.alarm <= next {
		return
	}
	o.alarm = next
	o.w.after(time.Duration(next-o.w.now)*time.Microsecond, func() {})
}

func sortedIDs[V any](m map[uuid.UUID]V) []uuid.UUID {
	return slices.SortedFunc(maps.Keys(m), func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
}

// commit steps commands and appends their events in one batch; then, and only then, effects go out. Anything may fail in
// between.
func (o *owner) commit(commands []step.Command) {
	b := eventstore.Batch{ID: o.w.id(), Partitions: []eventstore.PartitionBatch{{Expect: o.cp}}}
	pb := &b.Partitions[0]
	var effects []step.Effect
	for _, cmd := range commands {
		effects = append(effects, o.step(cmd, pb)...)
	}
	pb.Next = o.cp
	if o.w.rule == EffectsFirst {
		o.perform(effects)
	}
	if o.w.chance(2) {
		o.crash("before an append")
		return
	}
	switch err := o.append(b); {
	case errors.Is(err, errTorn):
		o.w.report.TornAppends++
		o.again("stored, but the answer was lost", nil)
	case errors.Is(err, errNotStored):
		o.w.report.FailedAppends++
		o.again("an append failed", commands)
		return
	case err != nil:
		o.w.fail("the store refuses a batch: %w", err)
		return
	case o.w.chance(2):
		o.crash("between an append and its effects")
		return
	}
	o.w.promise.committed()
	if o.w.rule != EffectsFirst {
		o.perform(effects)
	}
}

var (
	errNotStored = errors.New("the store did not answer")
	errTorn      = errors.New("the connection was torn")
)

func (o *owner) append(b eventstore.Batch) error {
	if o.w.chance(3) {
		return errNotStored
	}
	fenced, err := o.store.Append(context.Background(), b)
	switch {
	case err != nil:
		return err
	case len(fenced) > 0:
		return eventstore.ErrFenced
	case o.w.chance(2):
		return errTorn
	}
	return nil
}

// step judges one command and gives its events their places.
func (o *owner) step(cmd step.Command, pb *eventstore.PartitionBatch) []step.Effect {
	o.w.report.Commands++
	o.lastAt = max(o.lastAt, o.w.now)
	cmd.At, cmd.Now = o.lastAt, o.w.now
	if call, ok := cmd.Do.(step.Call); ok && o.calls[call.ID].Phase.Terminal() {
		return nil // the engine answers it with the end it had
	}
	if r, ok := cmd.Do.(step.RPC); ok && o.w.rule == DoublesAnswers {
		if a, ok := r.Do.(rpc.Reply); ok && a.Late != uuid.Nil {
			o.place(pb, cmd.Device, &step.Event{Stream: step.Stream{ID: a.Late}, Event: rpc.Event{Meta: cmd.Meta, Call: a.Late, Fact: rpc.Succeeded{Response: a.Response}}})
		}
	}
	r := step.Step(o.state.Devices[cmd.Device], o.env(), cmd)
	o.state.apply(cmd.Device, &r)
	for i := range r.Events {
		o.place(pb, cmd.Device, &r.Events[i])
	}
	for _, c := range r.Calls {
		o.calls[c.ID] = c
	}
	return r.Effects
}

func (o *owner) env() step.Env {
	return step.Env{
		Info:   step.Info{Name: "d", Type: "t", Chain: o.chain, Settings: settings()},
		Chain:  func(uuid.UUID) *chains.Program { return o.chain },
		Run:    o.state.run,
		Pinned: func(step.Version) (*chains.Program, bool) { return o.chain, true },
		Values: func([]nodes.Key) (nodes.Values, bool) { return nodes.Values{}, true },
		Body:   func(call uuid.UUID) (rpc.Body, bool) { return o.bodies[call], true },
		Ended:  func(call uuid.UUID) rpc.Call { return o.calls[call] },
		NewID:  o.w.id,
	}
}

func settings() rpc.Settings {
	s := rpc.DefaultSettings()
	s.MaxRetries = 2
	return s
}

func (o *owner) place(pb *eventstore.PartitionBatch, device uuid.UUID, e *step.Event) {
	data, err := e.AppendData(nil)
	if err != nil {
		o.w.fail("%s has no stored form: %w", e.Name(), err)
		return
	}
	stream := [...]string{"rpc/", "device/", "run/"}[e.Stream.Kind] + e.Stream.ID.String()
	o.versions[stream]++
	o.cp.Seq++
	pb.Events = append(pb.Events, eventstore.Event{
		Stream: stream, Version: o.versions[stream], Seq: o.cp.Seq, Type: e.Name(), TypeVersion: rpc.DataVersion, Device: device,
		At: int64(e.Event.At), Occurred: int64(e.Event.Occurred), Data: data,
	})
	if e.Stream.Kind == step.CallStream {
		o.bodies[e.Stream.ID] = rpc.EvolveBody(o.bodies[e.Stream.ID], e.Event.Fact)
	}
	o.w.report.Events++
	o.w.tell("  %.12s %s %s", stream[strings.IndexByte(stream, '/')+1:], e.Name(), shortened(string(data)))
}

func shortened(text string) string {
	if len(text) > 120 {
		return text[:120] + "…"
	}
	return text
}

// perform lets effects out; some are lost on the way.
func (o *owner) perform(effects []step.Effect) {
	for _, e := range effects {
		switch e := e.(type) {
		case step.Deliver:
			for _, d := range o.w.devices {
				if d.id == e.Device && !o.w.chance(5) {
					o.w.after(o.w.within(20*time.Millisecond), func() { d.receive(e.Delivery) })
				}
			}
		case step.Settle:
			o.w.promise.told(e)
		case step.CloseSession:
			for _, d := range o.w.devices {
				if d.session == e.Session && d.session != uuid.Nil {
					d.cut("closed by the server: " + e.Why)
				}
			}
		}
	}
}

// crash loses the memory, the inbox and every connection; the next owner loads what is stored.
func (o *owner) crash(when string) {
	o.w.report.Crashes++
	o.w.tell("CRASH %s", when)
	o.inbox = nil
	for _, d := range o.w.devices {
		if d.session != uuid.Nil {
			d.session = uuid.Nil
			o.w.after(time.Second+o.w.within(10*time.Second), func() {
				if d.session == uuid.Nil {
					d.connect()
				}
			})
		}
	}
	o.load()
	for _, id := range sortedIDs(o.state.Devices) {
		o.put(id, step.RPC{Do: rpc.Recover{}})
	}
}

// again loads the memory anew while the process lives: connections stay, commands that were not stored are stepped once more.
func (o *owner) again(why string, commands []step.Command) {
	o.w.tell("RELOAD: %s", why)
	rest := o.inbox
	o.inbox = nil
	o.load()
	for _, d := range o.w.devices {
		if d.session != uuid.Nil {
			o.put(d.id, step.RPC{Do: rpc.Connect{Session: d.session}})
			o.put(d.id, step.RPC{Do: rpc.Subscribe{Session: d.session}})
		}
	}
	o.inbox = slices.Concat(o.inbox, commands, rest)
}

// load claims the partition and folds its events.
func (o *owner) load() {
	claimed, err := o.store.Claim(context.Background(), "sim", []int32{0})
	if err != nil {
		o.w.fail("claiming: %w", err)
		return
	}
	o.cp = claimed[0]
	f, err := fold(o.store)
	if err != nil {
		o.w.fail("loading: %w", err)
		return
	}
	o.state, o.versions, o.calls, o.bodies = f.state, f.versions, f.calls, f.bodies
	if o.w.rule == NewWireIDs {
		for id, d := range o.state.Devices {
			d.NextWire = 0
			o.state.Devices[id] = d
		}
	}
	if o.w.rule == ForgetsOpen {
		clear(o.state.Devices)
	}
}
