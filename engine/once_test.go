package engine_test

import (
	"testing"
	"testing/synctest"
	"time"

	"callchain/engine"
	"callchain/engine/rpc"
	"callchain/transports"
)

// TestSessionThatPolls: each subscription of a session with Once brings one call, the first that is open, and an offline device
// in between.
func TestSessionThatPolls(t *testing.T) {
	inBubble(t, func(r *rig) {
		d := &device{r: r, id: named("d1"), session: named("A")}
		in := r.engine.Inbound()
		in.Connect(transports.Session{ID: d.session, Identity: transports.Identity{
			Tenant: tenant, Device: d.id, Partition: int32(d.id[15]) % 4,
		}, Transport: "http", Link: d, Once: true}, r.mustBe("connect", nil))
		poll := func() { in.Subscribe(d.session, r.mustBe("subscribe", nil)); synctest.Wait() }
		poll()
		first, second := r.call("d1", nil), r.call("d1", nil)
		cmd := d.one()
		d.written(cmd)
		poll()
		if again := d.one(); again.Wire != cmd.Wire {
			t.Fatalf("the poll without an answer brought call %d, want %d again", again.Wire, cmd.Wire)
		}
		d.reply(cmd, `1`)
		first.want("succeeded  1")
		if got := d.commands(); len(got) > 0 || !second.waits() {
			t.Fatalf("without a poll came %+v", got)
		}
		poll()
		d.reply(d.one(), `2`)
		second.want("succeeded  2")
	})
}

// TestPollsSurviveTheStore: after the memory was loaded again a session with Once still takes one call only.
func TestPollsSurviveTheStore(t *testing.T) {
	inBubble(t, func(r *rig) {
		d := &device{r: r, id: named("d1"), session: named("A")}
		in := r.engine.Inbound()
		in.Connect(transports.Session{ID: d.session, Identity: transports.Identity{
			Tenant: tenant, Device: d.id, Partition: int32(d.id[15]) % 4,
		}, Transport: "http", Link: d, Once: true}, r.mustBe("connect", nil))
		in.Subscribe(d.session, r.mustBe("subscribe", nil))
		synctest.Wait()
		r.store.Before = (&down{eventType: "Queued", left: 1}).before
		r.call("d1", nil)
		pass(time.Second)
		late := r.call("d1", nil)
		if got := d.commands(); len(got) != 1 {
			t.Fatalf("the poll brought %d calls, want 1", len(got))
		}
		if !late.waits() {
			t.Fatalf("the second call: %s", late.outcome())
		}
		offline := r.call("d1", func(c *engine.CallRequest) { c.FailOffline = true })
		offline.want("rejected " + string(rpc.CodeOffline) + " ")
	})
}
