package rpc_test

import (
	"flag"
	"fmt"
	"strings"
	"testing"
	"time"

	"callchain/engine/rpc"
)

var depth = flag.Int("orders.depth", 0, "how many commands the exhaustive orders have; 0 is 6, 4 with -race or -short")

// TestEveryOrder plays every order of up to six of the things that may happen to a call, for each kind of call and each submit
// order, with a second call behind it. The invariants of world are checked after each event; at the end of each order,
// ticks alone must end what is open. Orders share their beginnings: a world is a value.
func TestEveryOrder(t *testing.T) {
	for _, order := range []rpc.Order{rpc.OrderBurst, rpc.OrderOnAck, rpc.OrderOnResponse} {
		for _, oneway := range []bool{true, false} {
			for _, persistent := range []bool{true, false} {
				t.Run(fmt.Sprintf("order=%d,oneway=%t,persistent=%t", order, oneway, persistent), func(t *testing.T) {
					t.Parallel()
					s := rpc.DefaultSettings()
					s.Order, s.MaxRetries = order, 1
					tr := &trial{t: t}
					tr.extend(tr.begin(s, oneway, persistent), nil, moves())
					t.Logf("%d commands", tr.steps)
				})
			}
		}
	}
}

// TestEveryOrderWithBackoff is the same with retries that come by themselves, and with sessions that are closed.
func TestEveryOrderWithBackoff(t *testing.T) {
	s := rpc.DefaultSettings()
	s.MaxRetries, s.Backoff, s.CloseOnTimeout = 1, time.Second, true
	tr := &trial{t: t}
	tr.extend(tr.begin(s, false, true), nil, moves())
}

// trial walks the tree of orders.
type trial struct {
	t     *testing.T
	steps int
}

// move is one event of the environment.
type move struct {
	name string
	do   func(*world) error
}

func moves() []move {
	reply := func(w *world) error {
		return w.try(rpc.Reply{Wire: 0, Response: rpc.NewPayload([]byte(`1`)), Late: w.latest(0)})
	}
	return []move{
		{"reply", reply},
		{"duplicate", reply},
		{"late reply", func(w *world) error {
			w.now = max(w.now, began.Add(2*time.Minute))
			return reply(w)
		}},
		{"ack", func(w *world) error {
			return w.try(rpc.Acknowledged{Call: named("c1"), Evidence: "puback"})
		}},
		{"reconnect", reconnect},
		{"tick", func(w *world) error { return w.tick() }},
		{"cancel", func(w *world) error { return w.try(rpc.Cancel{Call: named("c1")}) }},
		{"crash", func(w *world) error {
			w.crash()
			return w.try(rpc.Recover{})
		}},
	}
}

// reconnect loses the connection if there is one; else the device comes back, and what is owed to it leaves.
func reconnect(w *world) error {
	if session := w.device.Session.ID; session == named("A") {
		return w.try(rpc.Disconnect{Session: session, Why: "closed"})
	}
	if err := w.try(rpc.Connect{Session: named("B")}); err != nil {
		return err
	}
	if err := w.try(rpc.Subscribe{Session: named("B")}); err != nil {
		return err
	}
	return w.write()
}

// write reports everything owed as written.
func (w *world) write() error {
	for {
		owed := rpc.Outstanding(w.device)
		if len(owed) == 0 {
			return nil
		}
		o := owed[0]
		if err := w.try(rpc.Written{Session: o.Session.ID, Call: o.Call.ID, Attempt: o.Call.Attempt, Ack: true}); err != nil {
			return err
		}
	}
}

// try is do where a refusal is no surprise.
func (w *world) try(do rpc.Action) error {
	_, _, broken := w.do(do)
	return broken
}

// tick lets time come to the next deadline.
func (w *world) tick() error {
	due, c := w.deadline()
	if c == nil {
		return nil
	}
	w.now = max(w.now, due)
	events, refusal, broken := w.do(rpc.Tick{Call: c.ID})
	switch {
	case broken != nil:
		return broken
	case refusal != nil:
		return fmt.Errorf("a tick at the deadline is refused: %w", refusal)
	case len(events) == 0:
		return fmt.Errorf("a tick at the deadline of %s changes nothing", c.ID)
	}
	return nil
}

// begin is a device with two calls, the first of which has left.
func (tr *trial) begin(s rpc.Settings, oneway, persistent bool) world {
	w := newWorld(s)
	for _, do := range []rpc.Action{rpc.Connect{Session: named("A")}, rpc.Subscribe{Session: named("A")}} {
		w.must(tr.t, do)
	}
	for _, name := range []string{"c1", "c2"} {
		w.must(tr.t, rpc.Request{ID: named(name), Oneway: oneway, Persistent: persistent, Waiting: !persistent, Expires: began.Add(time.Minute)})
		w.must(tr.t, rpc.Dispatch{Call: named(name)})
	}
	if err := w.write(); err != nil {
		tr.t.Fatal(err)
	}
	return w
}

// extend plays every order of the moves that are left.
func (tr *trial) extend(w world, done []string, left []move) {
	tr.finish(w, done)
	most := *depth
	if most == 0 {
		most = depthDefault
		if testing.Short() {
			most = 4
		}
	}
	if len(done) == most {
		return
	}
	for i, one := range left {
		next := w
		next.after(time.Millisecond)
		tr.steps++
		order := append(done[:len(done):len(done)], one.name)
		if err := one.do(&next); err != nil {
			tr.t.Fatalf("%s: %v", strings.Join(order, ", "), err)
		}
		rest := append(append(make([]move, 0, len(left)), left[:i]...), left[i+1:]...)
		tr.extend(next, order, rest)
	}
}

// finish lets time pass until nothing is open.
func (tr *trial) finish(w world, done []string) {
	for range 20 {
		if _, c := w.deadline(); c == nil {
			return
		}
		if err := w.tick(); err != nil {
			tr.t.Fatalf("%s, then ticks: %v", strings.Join(done, ", "), err)
		}
		if err := w.write(); err != nil {
			tr.t.Fatalf("%s, then ticks: %v", strings.Join(done, ", "), err)
		}
	}
	tr.t.Fatalf("%s: still open after 20 ticks:\n%s", strings.Join(done, ", "), dump(w.device))
}
