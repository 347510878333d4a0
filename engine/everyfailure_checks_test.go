package engine_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"callchain/engine/bus"
	"callchain/engine/projection"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/eventstore"
	"callchain/transports"

	"github.com/google/uuid"
)

// stream is the stored events of a stream.
type stream []eventstore.Event

func (w *world) callHistory(call uuid.UUID) stream {
	events, err := w.disk.Open().Stream(context.Background(), projection.CallStream(tenant, call), 0, 1_000)
	if err != nil {
		w.t.Error(err)
	}
	return events
}

// facts are what the events of a call say.
func (h stream) facts() (out []rpc.Event, err error) {
	for i := range h {
		e, err := projection.DecodeCall(&h[i])
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}

func (h stream) String() string {
	text := ""
	for i := range h {
		text += fmt.Sprintf("\n    %s %.8s %s %s", time.UnixMicro(h[i].At).UTC().Format("05.000"), h[i].Stream[strings.LastIndexByte(h[i].Stream, '/')+1:], h[i].Type, h[i].Data)
	}
	return text
}

func terminal(f rpc.Fact) bool {
	switch f.(type) {
	case rpc.Succeeded, rpc.Failed, rpc.Expired, rpc.Cancelled, rpc.Rejected:
		return true
	}
	return false
}

// sends checks promise P1 when a command goes to a device: what dispatches it is stored.
func (w *world) sends(l *link, c *transports.Command) {
	h := w.callHistory(c.Call)
	facts, err := h.facts()
	if err != nil {
		w.t.Error(err)
	}
	if !slices.ContainsFunc(facts, func(e rpc.Event) bool { q, ok := e.Fact.(rpc.Queued); return ok && q.Wire == c.Wire }) {
		w.t.Errorf("%s is sent call %s as %d, and stored is%s", l.d.name, c.Call, c.Wire, h)
	}
}

// answered checks promise P1 when a user gets an answer: what it says is stored.
func (w *world) answered(u *user) {
	if u.err != nil {
		w.t.Errorf("call %s is refused: %v", u.request.Method, u.err)
		return
	}
	h := w.callHistory(u.request.ID)
	facts, err := h.facts()
	if err != nil || len(facts) == 0 {
		w.t.Errorf("the user of call %s gets %s, and nothing is stored (%v)", u.request.Method, u.result.Phase, err)
		return
	}
	if u.result.Phase.Terminal() && !slices.ContainsFunc(facts, func(e rpc.Event) bool { return terminal(e.Fact) && phaseOf(e.Fact) == u.result.Phase }) {
		w.t.Errorf("the user of call %s gets %s, and stored is%s", u.request.Method, u.result.Phase, h)
	}
}

func phaseOf(f rpc.Fact) rpc.Phase {
	switch f.(type) {
	case rpc.Succeeded:
		return rpc.PhaseSucceeded
	case rpc.Failed:
		return rpc.PhaseFailed
	case rpc.Expired:
		return rpc.PhaseExpired
	case rpc.Cancelled:
		return rpc.PhaseCancelled
	default:
		return rpc.PhaseRejected
	}
}

// stored are the events of all partitions, and by stream.
func (w *world) stored() (all stream, streams map[string]stream) {
	streams = map[string]stream{}
	for p := range int32(partitions) {
		events, err := w.disk.Open().Partition(context.Background(), p, 0, math.MaxInt32)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, e := range events {
			streams[e.Stream] = append(streams[e.Stream], e)
		}
		all = append(all, events...)
	}
	return all, streams
}

// open are the calls that have not ended.
func (w *world) open() (out []string) {
	_, streams := w.stored()
	for name, h := range streams {
		if projection.KindOf(name) != projection.CallStreams {
			continue
		}
		if facts, err := h.facts(); err == nil && !slices.ContainsFunc(facts, func(e rpc.Event) bool { return terminal(e.Fact) }) {
			out = append(out, name)
		}
	}
	return out
}

// lateMost is how late something may be, counted from the end of the fault.
const lateMost = time.Second

// finish waits until nothing is open any more, and checks the promises.
func (w *world) finish() {
	limit := time.After(2 * time.Minute)
	for _, u := range w.users {
		select {
		case <-u.ended:
			w.answered(u)
		case <-limit:
			w.t.Errorf("the user of call %s waits for ever", u.request.Method)
		}
	}
	for waits := true; waits && len(w.open()) > 0; {
		select {
		case <-limit:
			waits = false
		case <-time.After(100 * time.Millisecond):
		}
	}
	<-time.After(4 * time.Second) // what is published, acknowledged and written behind
	for i := range w.processes {
		w.idle(i)
	}
	w.end()
	w.check()
}

// idle checks that a process lives, or comes again at once, and has nothing in its hands.
func (w *world) idle(number int) {
	p := w.at(number)
	for range 5 {
		if p != nil && p.number == number && len(p.engine.Ready()) == 0 {
			break
		}
		<-time.After(lateMost / 5)
		p = w.at(number)
	}
	if p == nil || p.number != number {
		w.t.Errorf("process %d does not live", number)
		return
	}
	if not := p.engine.Ready(); len(not) > 0 {
		w.t.Errorf("%s is not ready: %v", p.rig.node, not)
	}
	values := series(w.t, p.measured)
	for _, name := range []string{"waiting_callers", "open_calls", "relay_waiting_events"} {
		if values[name] != 0 {
			w.t.Errorf("%s has %v %s", p.rig.node, values[name], name)
		}
	}
}

// check holds what is stored against the promises.
func (w *world) check() {
	all, streams := w.stored()
	wires := map[string]string{}
	for name, h := range streams {
		switch projection.KindOf(name) {
		case projection.CallStreams:
			if err := w.checkCall(h, wires); err != nil {
				w.t.Errorf("%s: %v%s", name, err, h)
			}
		case projection.RunStreams:
			if err := w.checkRun(h); err != nil {
				w.t.Errorf("%s: %v%s", name, err, h)
			}
		}
	}
	for i := range w.users {
		if len(w.callHistory(w.users[i].request.ID)) == 0 {
			w.t.Errorf("call %s is not stored", w.users[i].request.Method)
		}
	}
	w.checkPublished(all)
	(&rig{t: w.t, store: w.disk}).rowsAreTheFold()
	if w.t.Failed() && w.faults.plan != nil {
		slices.SortStableFunc(all, func(a, b eventstore.Event) int { return cmp.Compare(a.At, b.At) })
		w.t.Logf("after %s; the disturbance was over at %s%s", w.faults.plan, w.faults.until.UTC().Format("05.000"), all)
	}
}

// checkCall checks promises P2, P6 and P7, and the deadlines of a call.
func (w *world) checkCall(h stream, wires map[string]string) error {
	facts, err := h.facts()
	if err != nil {
		return err
	}
	ends, requests, queued, attempt := 0, 0, 0, int16(0)
	var expires, due rpc.Instant
	for _, e := range facts {
		if due != 0 && w.late(e.At, due) {
			return fmt.Errorf("%s is %s late", e.Fact.Name(), e.At.Time().Sub(due.Time()))
		}
		switch f := e.Fact.(type) {
		case rpc.Requested:
			requests++
			expires = f.Expires
		case rpc.Queued:
			if !f.Again {
				queued++
			}
			key := fmt.Sprint(h[0].Device, f.Wire)
			if other, used := wires[key]; used && other != h[0].Stream {
				return fmt.Errorf("its wire id %d is that of %s", f.Wire, other)
			}
			wires[key] = h[0].Stream
			due = 0
		case rpc.Sent:
			if f.Attempt < attempt {
				return fmt.Errorf("attempt %d comes after attempt %d", f.Attempt, attempt)
			}
			attempt, due = f.Attempt, 0
			if f.Ack {
				due = e.At.Add(w.scenario.settings().AckTimeout)
			}
		case rpc.Delivered:
			if due = 0; !w.proved(h[0].Device, e.Call, f.Evidence) {
				return fmt.Errorf("it is delivered by %q, and its device gave no such evidence", f.Evidence)
			}
		case rpc.DeliveryFailed:
			due = f.RetryAt
		}
		if terminal(e.Fact) {
			ends++
			if w.late(e.At, expires) {
				return fmt.Errorf("it ends %s after its deadline", e.At.Time().Sub(expires.Time()))
			}
		}
	}
	if ends != 1 || requests != 1 || queued > 1 {
		return fmt.Errorf("it has %d beginnings, is dispatched %d times, and has %d ends", requests, queued, ends)
	}
	return nil
}

// late reports whether something came more than a second after it was due and the fault was over.
func (w *world) late(at, due rpc.Instant) bool {
	return at > max(due, rpc.At(w.faults.until)).Add(lateMost)
}

// proved reports whether a device gave evidence that it has a call.
func (w *world) proved(device, call uuid.UUID, evidence string) bool {
	return slices.ContainsFunc(w.devices, func(d *worldDevice) bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.id == device && d.did[call][evidence]
	})
}

// checkRun checks that what a run waits for comes in time, and that it ends.
func (w *world) checkRun(h stream) error {
	due := map[int]rpc.Instant{}
	for i := range h {
		var fact struct {
			Number int
			Due    rpc.Instant
		}
		if err := json.Unmarshal(h[i].Data, &fact); err != nil {
			return err
		}
		switch h[i].Type {
		case step.RunParked{}.Name():
			due[fact.Number] = fact.Due
		case step.RunResumed{}.Name():
			if at := due[fact.Number]; at != 0 && w.late(rpc.Instant(h[i].At), at) {
				return fmt.Errorf("it goes on %s late", time.Duration(h[i].At-int64(at))*time.Microsecond)
			}
		}
	}
	if last := h[len(h)-1].Type; last != (step.RunEnded{}).Name() {
		return fmt.Errorf("its last event is %s", last)
	}
	return nil
}

// observe notes what is published of committed events.
func (w *world) observe() {
	if w.brokers == nil {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	ready := make(chan struct{})
	defer func() { <-ready }()
	w.running.Go(func() {
		<-w.over
		stop()
	})
	node := w.brokers.Node("observer")
	w.running.Go(func() {
		// It ends with the world.
		_ = node.Topics().Follow(ctx, bus.Events, func() { close(ready) }, func(r bus.Record) {
			seq, err := strconv.ParseInt(r.Headers["seq"], 10, 64)
			if err != nil {
				w.t.Errorf("a record has the headers %v", r.Headers)
			}
			if last := w.published[r.Partition]; seq > last+1 {
				w.t.Errorf("partition %d: event %d is published after event %d", r.Partition, seq, last)
			}
			w.published[r.Partition] = max(w.published[r.Partition], seq)
		})
	})
}

// checkPublished checks that all events were published.
func (w *world) checkPublished(all stream) {
	if w.brokers == nil {
		return
	}
	var last [partitions]int64
	for i := range all {
		last[all[i].Partition] = all[i].Seq
	}
	if w.published != last {
		w.t.Errorf("published are the events up to %v, and stored up to %v", w.published, last)
	}
}
