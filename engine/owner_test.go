package engine_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"callchain/engine"
	"callchain/engine/projection"
	"callchain/engine/rpc"
	"callchain/eventstore"
	"callchain/transports"

	"github.com/google/uuid"
)

func chosen(name string) func(*engine.CallRequest) {
	return func(r *engine.CallRequest) { r.ID, r.Chosen = named(name), true }
}

// gate lets batches with an event of a type wait until it is opened.
type gate struct {
	eventType string
	open      chan struct{}
	waiting   int
}

func (g *gate) before(_ context.Context, b eventstore.Batch) error {
	if holds(b, g.eventType) {
		g.waiting++
		<-g.open
	}
	return nil
}

// TestNothingLeavesBeforeItIsCommitted is promise P1, both ways.
func TestNothingLeavesBeforeItIsCommitted(t *testing.T) {
	inBubble(t, func(r *rig) {
		d := r.connect("d1", "A")
		g := &gate{eventType: "Queued", open: make(chan struct{})}
		r.store.Before = g.before
		c := r.call("d1", chosen("c1"))
		if got := d.commands(); len(got) > 0 || g.waiting != 1 {
			t.Fatalf("while Queued is being written (%d) the device was sent %+v", g.waiting, got)
		}
		close(g.open)
		cmd := d.one()
		answer := &gate{eventType: "Succeeded", open: make(chan struct{})}
		r.store.Before = answer.before
		acked := make(chan error, 2)
		r.engine.Inbound().Reply(d.session, cmd.Wire, []byte(`1`), func(err error) { acked <- err })
		if !c.waits() || len(acked) > 0 != r.inbox.Durable() {
			t.Fatalf("the caller was answered before the answer was committed, or the device too early or late (acknowledged: %d)", len(acked))
		}
		close(answer.open)
		c.want("succeeded  1")
		if err := <-acked; err != nil || len(acked) > 0 {
			t.Errorf("the device's answer is acknowledged with %v, %d times more", err, len(acked))
		}
		r.wantTypes(named("c1"), "Requested", "Queued", "Delivered", "Succeeded")
	})
}

func TestOneWayIsAnsweredWhenTheTransportTookIt(t *testing.T) {
	inBubble(t, func(r *rig) {
		d := r.connect("d1", "A")
		c := r.call("d1", func(q *engine.CallRequest) { q.Oneway = true })
		cmd := d.one()
		if !c.waits() {
			t.Fatal("the caller was answered before the transport took the command")
		}
		d.written(cmd)
		c.want("queued  ")
	})
}

// TestPoison: a command whose step panics is rejected, and later commands are processed.
func TestPoison(t *testing.T) {
	inBubble(t, func(r *rig) {
		d := r.connect("d1", "A")
		in := r.engine.Inbound()
		in.Attributes(d.session, []byte(`{"a":1}`), r.mustBe("poison", r.unlessDurable(transports.ErrRefused)))
		in.Telemetry(d.session, []byte(`{"a":1}`), r.mustBe("telemetry", nil))
		c := r.call("d1", nil)
		d.reply(d.one(), `"fine"`)
		c.want(`succeeded  "fine"`)
		rows, err := r.store.Open().Rows(context.Background(), eventstore.Query{Table: projection.DeadLetters})
		if err != nil || len(rows) != 1 {
			t.Fatalf("%d dead letters (%v), want 1", len(rows), err)
		}
		if reason := rows[0][projection.DeadLetters.Index("reason")]; reason != "command_rejected" {
			t.Errorf("the dead letter's reason is %v", reason)
		}
		if n := countEvents(t, r, "CommandRejected"); n != 1 {
			t.Errorf("%d events CommandRejected, want 1", n)
		}
	})
}

func countEvents(t *testing.T, r *rig, eventType string) int {
	t.Helper()
	n := 0
	for p := range int32(4) {
		events, err := r.store.Open().Partition(context.Background(), p, 0, 10_000)
		if err != nil {
			t.Fatal(err)
		}
		for i := range events {
			if events[i].Type == eventType {
				n++
			}
		}
	}
	return n
}

// TestCallIDs: an id belongs to one call. The same call again gets the same answer, another one is refused and does not
// disturb the first.
func TestCallIDs(t *testing.T) {
	inBubble(t, func(r *rig) {
		d := r.connect("d1", "A")
		r.connect("d2", "B")
		first := r.call("d1", chosen("c1"))
		cmd := d.one()
		otherContent := r.call("d1", func(q *engine.CallRequest) { chosen("c1")(q); q.Method = "format" })
		otherDevice := r.call("d2", chosen("c1"))
		same := r.call("d1", chosen("c1"))
		wantRefused(t, otherContent, rpc.CodeKnown)
		wantRefused(t, otherDevice, rpc.CodeKnown)
		if got := d.commands(); len(got) > 0 {
			t.Errorf("the repetition was sent to the device: %+v", got)
		}
		d.reply(cmd, `1`)
		first.want("succeeded  1")
		same.want("succeeded  1")
		r.wantTypes(named("c1"), "Requested", "Queued", "Delivered", "Succeeded")
		r.call("d1", chosen("c1")).want("succeeded  1")
		wantRefused(t, r.call("d2", chosen("c1")), rpc.CodeKnown)
		r.wantTypes(named("c1"), "Requested", "Queued", "Delivered", "Succeeded")
	})
}

// TestCallIDsInOneBatch: the race of two devices for one id is decided before the store sees it.
func TestCallIDsInOneBatch(t *testing.T) {
	inBubble(t, func(r *rig) {
		hold := &gate{eventType: "SessionOpened", open: make(chan struct{})}
		r.store.Before = hold.before
		r.begin("d9", "Z") // the writer is busy: what follows gathers in one batch
		expired := func(q *engine.CallRequest) { chosen("c1")(q); q.Expires = time.Now() }
		first, second := r.call("d1", expired), r.call("d2", expired)
		third := r.call("d1", func(q *engine.CallRequest) { expired(q); q.Method = "other" })
		close(hold.open)
		first.want("expired response_timeout ")
		wantRefused(t, second, rpc.CodeKnown)
		wantRefused(t, third, rpc.CodeKnown)
		r.wantTypes(named("c1"), "Requested", "Expired")
	})
}

func wantRefused(t *testing.T, c *caller, code rpc.Code) {
	t.Helper()
	if c.waits() {
		t.Errorf("the caller waits, want it to be refused with %s", code)
		return
	}
	var refusal *rpc.Refusal
	if !errors.As(c.err, &refusal) || refusal.Code != code {
		t.Errorf("the caller got %q, want the refusal %s", c.outcome(), code)
	}
}

func TestUnknownDevice(t *testing.T) {
	inBubble(t, func(r *rig) {
		wantRefused(t, r.call("nobody", nil), rpc.CodeUnknown)
		wantRefused(t, r.call("d1", func(q *engine.CallRequest) { q.Tenant = uuid.New() }), rpc.CodeUnknown)
	})
}

// TestDeletedDevice: what is open of a device that was deleted ends at its deadline, also after a restart.
func TestDeletedDevice(t *testing.T) {
	inBubble(t, func(r *rig) {
		c := r.call("d1", chosen("c1"))
		r.call("d1", func(q *engine.CallRequest) {
			q.ID, q.Chosen, q.Persistent, q.Expires = named("c2"), true, true, time.Now().Add(time.Hour)
		})
		synctest.Wait()
		r.gone.Store(named("d1"), nil)
		pass(time.Minute)
		c.want("expired device_offline ")
		r = r.again()
		pass(time.Hour)
		synctest.Wait()
		r.wantTypes(named("c2"), "Requested", "Queued", "Expired")
	})
}

// TestWrittenLingers: that a command left is stored with the next fact of its device, 50 ms later at the latest.
func TestWrittenLingers(t *testing.T) {
	inBubble(t, func(r *rig) {
		d := r.connect("d1", "A")
		c := r.call("d1", chosen("c1"))
		cmd := d.one()
		d.written(cmd)
		synctest.Wait()
		r.wantTypes(named("c1"), "Requested", "Queued")
		pass(49 * time.Millisecond)
		synctest.Wait()
		r.wantTypes(named("c1"), "Requested", "Queued")
		pass(time.Millisecond)
		synctest.Wait()
		r.wantTypes(named("c1"), "Requested", "Queued", "Sent")
		d.reply(cmd, `1`)
		c.want("succeeded  1")

		appends := 0
		r.store.Before = func(context.Context, eventstore.Batch) error { appends++; return nil }
		second := r.call("d1", chosen("c2"))
		cmd = d.one()
		d.written(cmd)
		d.reply(cmd, `2`)
		second.want("succeeded  2")
		r.wantTypes(named("c2"), "Requested", "Queued", "Sent", "Delivered", "Succeeded")
		if appends != 2 {
			t.Errorf("the call took %d appends, want 2", appends)
		}
	})
}

// TestDeadlines: what is open ends at its deadline, not before, and the caller gets the end.
func TestDeadlines(t *testing.T) {
	inBubble(t, func(r *rig) {
		c := r.call("d1", chosen("c1"))
		pass(time.Minute - time.Millisecond)
		if !c.waits() {
			t.Fatalf("the call ended before its deadline: %s", c.outcome())
		}
		pass(time.Millisecond)
		c.want("expired device_offline ")
		d := r.connect("d1", "A")
		r.engine.Inbound().Call(d.session, 7, "getTime", nil, r.mustBe("call", nil))
		pass(time.Minute)
		synctest.Wait()
		if len(d.answers) != 1 || d.answers[0].Request != 7 || string(d.answers[0].Body) != `{"error":"timeout"}` {
			t.Errorf("the device's own call is answered with %+v", d.answers)
		}
	})
}
