package engine_test

import (
	"flag"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"callchain/engine"
	"callchain/engine/bus"
	"callchain/engine/rpc"
	"callchain/transports"
)

var (
	everyFailure = flag.Bool("engine.failures", false, "let every operation fail in every way, also with the race detector or -short: without the flag every seventh does then")
	oneFailure   = flag.String("engine.failure", "", `only this failure, for example "append 3 fails"`)
)

// scenario is what users, devices and time do in a world.
type scenario struct {
	name      string
	chain     string
	processes int // on durable inboxes; 0: one
	change    func(*rpc.Settings)
	play      func(*world)
}

func (s *scenario) settings() rpc.Settings {
	out := rpc.DefaultSettings()
	if s.change != nil {
		s.change(&out)
	}
	return out
}

const (
	straightChain = `
name: Straight
nodes:
  - name: by type
    type: message type switch
    to:
      RPC Request to Device: send
  - name: send
    type: rpc call request
`
	delayChain = `
name: Sends later
nodes:
  - name: by type
    type: message type switch
    to:
      RPC Request to Device: wait
  - name: wait
    type: delay
    config: {periodInSeconds: 2}
    to:
      Success: send
  - name: send
    type: rpc call request
`
	serverChain = `
name: Answers
nodes:
  - name: by type
    type: message type switch
    to:
      RPC Request from Device: answer
  - name: answer
    type: rpc call reply
`
)

// answers is what most devices do: they acknowledge and answer.
func answers(l *link, c transports.Command) {
	l.count(c)
	l.written(c, true)
	l.d.w.pause(10 * time.Millisecond)
	l.acknowledge(c)
	l.d.w.pause(20 * time.Millisecond)
	l.answer(c)
}

// deafOnce gets nothing of the first delivery of the call with the wire id 0.
func deafOnce(l *link, c transports.Command) {
	if l.count(c) == 1 && c.Wire == 0 {
		l.written(c, true)
		return
	}
	answers(l, c)
}

func asLight(*engine.CallRequest)        {}
func asOneway(r *engine.CallRequest)     { r.Oneway = true }
func asPersistent(r *engine.CallRequest) { r.Persistent = true }
func quickly(s *rpc.Settings)            { s.AckTimeout = 2 * time.Second }
func ordered(o rpc.Order) func(*rpc.Settings) {
	return func(s *rpc.Settings) {
		quickly(s)
		s.Order, s.ResponseTimeout = o, 4*time.Second
	}
}

const soon = 500 * time.Millisecond

var scenarios = []*scenario{
	{name: "light", chain: straightChain, play: func(w *world) {
		w.device("d1", 0, answers)
		w.user("c1", soon, asLight)
		w.user("c2", soon+50*time.Millisecond, asOneway)
	}},
	{name: "persistent", chain: straightChain, play: func(w *world) {
		w.device("d1", 0, answers)
		w.user("c1", soon, asPersistent)
	}},
	{name: "retries", chain: straightChain, change: func(s *rpc.Settings) {
		quickly(s)
		s.Backoff = 500 * time.Millisecond
	}, play: func(w *world) {
		w.device("d1", 0, deafOnce)
		w.user("c1", soon, asPersistent)
	}},
	{name: "on-ack", chain: straightChain, change: ordered(rpc.OrderOnAck), play: func(w *world) {
		w.device("d1", 0, deafOnce)
		w.user("c1", soon, asPersistent)
		w.user("c2", soon+50*time.Millisecond, asPersistent)
	}},
	{name: "on-response", chain: straightChain, change: ordered(rpc.OrderOnResponse), play: func(w *world) {
		w.device("d1", 0, answers)
		w.user("c1", soon, asPersistent)
		w.user("c2", soon+10*time.Millisecond, asPersistent)
	}},
	{name: "delay", chain: delayChain, play: func(w *world) {
		w.device("d1", 0, answers)
		w.user("c1", soon, asLight)
		w.user("c2", soon, asPersistent)
	}},
	{name: "client-side", chain: serverChain, play: func(w *world) {
		w.device("d1", 0, answers).calls(1, "getTime")
	}},
	{name: "cancel", chain: straightChain, play: func(w *world) {
		w.user("c1", soon, asPersistent)
		w.cancels("c1", 2*soon)
	}},
	{name: "offline, then online", chain: straightChain, play: func(w *world) {
		w.user("c1", soon, asPersistent)
		w.device("d1", 2*time.Second, answers)
	}},
	{name: "takeover", chain: straightChain, processes: 2, change: quickly, play: func(w *world) {
		w.device("d1", 0, deafOnce)
		w.user("c1", soon, asPersistent)
		w.user("c2", soon+20*time.Millisecond, asLight)
		w.crashes("d1", soon+200*time.Millisecond)
	}},
}

// TestEverySingleFailure plays each scenario once, counts its I/O, and plays it again for each operation and each way in which it can fail. The promises hold
// each time, no deadline is kept later than a second after the fault was over, nothing waits for ever, and no goroutine is left.
func TestEverySingleFailure(t *testing.T) {
	for _, kind := range []struct {
		name    string
		durable bool
	}{{"in process", false}, {"durable", true}} {
		for _, s := range scenarios {
			t.Run(kind.name+"/"+s.name, func(t *testing.T) {
				t.Parallel()
				s.failEverywhere(t, kind.durable)
			})
		}
	}
}

func (s *scenario) failEverywhere(t *testing.T, durable bool) {
	var undisturbed *world
	synctest.Test(t, func(t *testing.T) { undisturbed = s.once(t, durable, nil) })
	if t.Failed() {
		return
	}
	plans, every := undisturbed.plans(), failuresEvery
	switch {
	case *oneFailure != "" || *everyFailure:
		every = 1
	case testing.Short():
		every = failuresQuick
	}
	for i, plan := range plans {
		if *oneFailure != "" && plan.String() != *oneFailure || i%every != 0 {
			continue
		}
		t.Run(plan.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { s.once(t, durable, &plan) })
		})
	}
	t.Logf("%d failures of %v", len(plans), undisturbed.faults.count)
}

// failuresQuick is which part of the failures is tried if that must be quick: 7 has no factor in common with the number of ways in which an operation fails.
const failuresQuick = 7

// once plays the scenario once.
func (s *scenario) once(t *testing.T, durable bool, plan *fault) *world {
	w := newWorld(t, s, durable, plan)
	s.play(w)
	w.finish()
	return w
}

// plans are all failures of what was counted.
func (w *world) plans() (out []fault) {
	for _, operation := range slices.Sorted(maps.Keys(w.faults.count)) {
		failures := []failure{failsOnce, failsThrice, failsAfterwards, crashesBefore, crashesAfter}
		if w.faults.reads[operation] {
			failures = []failure{failsOnce, failsThrice, crashesBefore}
		}
		count := w.faults.count[operation]
		if strings.HasSuffix(operation, string(bus.Nodes)) {
			count = min(count, heartbeatsMost)
		}
		for n := range count {
			for _, f := range failures {
				out = append(out, fault{operation, n + 1, f})
			}
		}
	}
	return out
}
