package engine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"callchain/engine"
	"callchain/eventstore"
	"callchain/transports"

	"github.com/google/uuid"
)

var errDown = errors.New("the database is down")

// down lets the next appends fail that hold an event of a type; nothing of them is stored.
type down struct {
	eventType string
	left      int
}

func (d *down) before(_ context.Context, b eventstore.Batch) error {
	if d.left > 0 && holds(b, d.eventType) {
		d.left--
		return errDown
	}
	return nil
}

// TestStoreFailsAndComesBack: no success is reported before it is stored, and a retry stores nothing twice.
func TestStoreFailsAndComesBack(t *testing.T) {
	inBubble(t, func(r *rig) {
		d := r.connect("d1", "A")
		r.store.Before = (&down{eventType: "Queued", left: 3}).before
		c := r.call("d1", chosen("c1"))
		pass(time.Second)
		got := d.commands()
		if len(got) == 0 {
			t.Fatal("the call was not sent after the store came back")
		}
		for _, cmd := range got {
			if cmd.Wire != got[0].Wire || cmd.Call != named("c1") {
				t.Errorf("the device was sent %+v, then %+v", got[0], cmd)
			}
		}
		d.reply(got[0], `1`)
		c.want("succeeded  1")
		r.wantTypes(named("c1"), "Requested", "Queued", "Delivered", "Succeeded")
		if not := r.engine.Ready(); len(not) > 0 {
			t.Errorf("the engine is not ready: %v", not)
		}
	})
}

// TestAnswerWhileTheStoreFails: the device's answer is acknowledged once, when it is stored or durable.
func TestAnswerWhileTheStoreFails(t *testing.T) {
	inBubble(t, func(r *rig) {
		d := r.connect("d1", "A")
		c := r.call("d1", chosen("c1"))
		cmd := d.one()
		r.store.Before = (&down{eventType: "Succeeded", left: 2}).before
		acks := 0
		r.engine.Inbound().Reply(d.session, cmd.Wire, []byte(`1`), func(err error) {
			acks++
			if stored := len(r.types(named("c1"))) == 4; err != nil || !stored && !r.inbox.Durable() {
				t.Errorf("the answer is acknowledged with %v while the store holds %v", err, r.types(named("c1")))
			}
		})
		pass(time.Second)
		c.want("succeeded  1")
		if acks != 1 {
			t.Errorf("the answer was acknowledged %d times", acks)
		}
		r.wantTypes(named("c1"), "Requested", "Queued", "Delivered", "Succeeded")
	})
}

// TestTornConnection: the batch is stored, the answer of the store is lost. Its effects happen, its events are there once.
func TestTornConnection(t *testing.T) {
	inBubble(t, func(r *rig) {
		d := r.connect("d1", "A")
		torn := 1
		r.store.After = func(_ context.Context, b eventstore.Batch) error {
			if holds(b, "Queued") && torn > 0 {
				torn--
				return errDown
			}
			return nil
		}
		c := r.call("d1", chosen("c1"))
		pass(time.Second)
		got := d.commands()
		if len(got) == 0 {
			t.Fatal("the call was not sent")
		}
		d.reply(got[len(got)-1], `1`)
		c.want("succeeded  1")
		r.wantTypes(named("c1"), "Requested", "Queued", "Delivered", "Succeeded")
	})
}

// TestFenced: another owner has claimed the partitions meanwhile; what was decided on the old state is decided again.
func TestFenced(t *testing.T) {
	inBubble(t, func(r *rig) {
		d := r.connect("d1", "A")
		if _, err := r.store.Open().Claim(context.Background(), "other", []int32{0, 1, 2, 3}); err != nil {
			t.Fatal(err)
		}
		c := r.call("d1", chosen("c1"))
		pass(time.Second)
		got := d.commands()
		if len(got) == 0 {
			t.Fatal("the call was not sent after the partitions were claimed again")
		}
		d.reply(got[len(got)-1], `1`)
		c.want("succeeded  1")
		r.wantTypes(named("c1"), "Requested", "Queued", "Delivered", "Succeeded")
	})
}

// TestRefusedBatch: the store refuses the data of one command; those that were in its batch are stored all the same.
func TestRefusedBatch(t *testing.T) {
	inBubble(t, func(r *rig) {
		d := r.connect("d1", "A")
		bad := r.connect("d2", "B")
		c := r.call("d1", chosen("c1"))
		poison := r.call("d2", chosen("c2"))
		cmd, badCmd := d.one(), bad.one()
		bad.written(badCmd) // it lingers, and must not hide the rejected command
		hold := &gate{eventType: "SessionOpened", open: make(chan struct{})}
		r.store.Before = func(ctx context.Context, b eventstore.Batch) error {
			if err := hold.before(ctx, b); err != nil {
				return err
			}
			if has(b, named("c2"), "Succeeded") {
				return &eventstore.RefusedError{Err: errors.New("this cannot be stored")}
			}
			return nil
		}
		r.begin("d3", "C")
		refused := 0
		d.reply(cmd, `1`)
		r.engine.Inbound().Reply(bad.session, badCmd.Wire, []byte(`2`), func(err error) {
			if refused++; errors.Is(err, transports.ErrRefused) == r.inbox.Durable() { // an inbox that keeps it has acknowledged it
				t.Errorf("the rejected command got %v", err)
			}
		})
		close(hold.open)
		pass(time.Second)
		c.want("succeeded  1")
		if refused != 1 || countEvents(t, r, "CommandRejected") != 1 {
			t.Errorf("the rejected command was refused %d times, %d events CommandRejected", refused, countEvents(t, r, "CommandRejected"))
		}
		pass(time.Minute)
		poison.want("expired response_timeout ")
	})
}

func has(b eventstore.Batch, call uuid.UUID, eventType string) bool {
	stream := "rpc/" + tenant.String() + "/" + call.String()
	for i := range b.Partitions {
		for j := range b.Partitions[i].Events {
			if e := &b.Partitions[i].Events[j]; e.Stream == stream && e.Type == eventType {
				return true
			}
		}
	}
	return false
}

// TestFloodDelaysNoCall: a call that arrives behind a flood of data is in the next batch, whatever waits before it.
func TestFloodDelaysNoCall(t *testing.T) {
	inBubble(t, func(r *rig) {
		d := r.connect("d1", "A")
		hold := &gate{eventType: "SessionOpened", open: make(chan struct{})}
		r.store.Before = hold.before
		r.begin("d2", "B")
		var batches []eventstore.Batch
		in := r.engine.Inbound()
		for i := range 1_900 {
			in.Telemetry(d.session, fmt.Appendf(nil, `{"t":%d}`, i), nil)
		}
		c := r.call("d1", chosen("c1"))
		r.store.Before = func(_ context.Context, b eventstore.Batch) error { batches = append(batches, b); return nil }
		close(hold.open)
		d.reply(d.one(), `1`)
		c.want("succeeded  1")
		if i := slices.IndexFunc(batches, func(b eventstore.Batch) bool { return has(b, named("c1"), "Queued") }); i > 1 {
			t.Errorf("the call was dispatched in batch %d behind the flood of %d batches", i, len(batches))
		}
	})
}

// TestStop: waiting callers get ErrStopping, new ones are refused, what was accepted is stored.
func TestStop(t *testing.T) {
	inBubble(t, func(r *rig) {
		d := r.connect("d1", "A")
		c := r.call("d1", chosen("c1"))
		d.written(d.one())
		r.engine.Stop()
		c.want(engine.ErrStopping.Error())
		r.call("d1", nil).want(engine.ErrStopping.Error())
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		r.wantTypes(named("c1"), "Requested", "Queued", "Sent")
		r.engine.Inbound().Telemetry(d.session, []byte(`{}`), r.mustBe("telemetry after the end", transports.ErrBusy))
	})
}

// TestRestart: what was promised is found again in the store: open calls, wire ids, deadlines. The caller of a light call that
// had not left is gone.
func TestRestart(t *testing.T) {
	inBubble(t, func(r *rig) {
		persistent := func(q *engine.CallRequest) { q.Persistent = true }
		r.call("d1", func(q *engine.CallRequest) { chosen("c1")(q); persistent(q) }).want("queued  ")
		light := r.call("d1", chosen("c2"))
		d := r.connect("d2", "B")
		sent := r.call("d2", chosen("c3"))
		d.written(d.one())
		next := r.again()
		light.want(engine.ErrStopping.Error())
		sent.want(engine.ErrStopping.Error())
		pass(time.Second)
		next.wantTypes(named("c2"), "Requested", "Queued", "Failed")
		d1 := next.connect("d1", "A2")
		if cmd := d1.one(); cmd.Call != named("c1") || cmd.Wire != 0 {
			t.Errorf("after the restart the device is sent %+v", cmd)
		}
		after := next.call("d1", chosen("c4"))
		cmd := d1.one()
		if cmd.Wire != 2 {
			t.Errorf("the wire ids go on with %d, want 2", cmd.Wire)
		}
		d1.reply(cmd, `4`)
		after.want("succeeded  4")
		d2 := next.connect("d2", "B2")
		d2.reply(d2.one(), `3`)
		synctest.Wait()
		next.wantTypes(named("c3"), "Requested", "Queued", "Sent", "Delivered", "Succeeded")
		next.call("d2", chosen("c3")).want("succeeded  3")
		pass(time.Minute)
		next.wantTypes(named("c1"), "Requested", "Queued", "Expired")
		if err := next.stop(); err != nil {
			t.Error(err)
		}
	})
}

const brokenFacts = `
name: Broken behind everything
nodes:
  - name: by type
    type: message type switch
    to:
      RPC Request to Device: send
      RPC Expired: boom
  - name: send
    type: rpc call request
    to:
      Success: boom
      Failure: boom
  - name: boom
    type: broken
`

// TestBrokenChainKeepsNoCallOpen: a call ends, even if the chain that it re-enters breaks.
func TestBrokenChainKeepsNoCallOpen(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.chain = compiled(t, brokenFacts)
		d := r.connect("d1", "A")
		answered, silent := r.call("d1", chosen("c1")), r.call("d1", chosen("c2"))
		got := d.commands()
		d.written(got[1])
		d.reply(got[0], `1`)
		answered.want("succeeded  1")
		pass(time.Minute)
		silent.want("expired response_timeout ")
		if n := countEvents(t, r, "CommandRejected"); n != 2 {
			t.Errorf("%d events CommandRejected, want 2", n)
		}
	})
}
