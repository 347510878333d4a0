package engine_test

import (
	"testing"

	"callchain/transports"
)

// TestSessionAsideTakesNoPlace: a device that posts without being connected keeps its connection, and gets no calls aside.
func TestSessionAsideTakesNoPlace(t *testing.T) {
	inBubble(t, func(r *rig) {
		d := r.connect("d1", "A")
		aside := &device{r: r, id: d.id, session: named("B")}
		in := r.engine.Inbound()
		in.Connect(transports.Session{ID: aside.session, Identity: transports.Identity{
			Tenant: tenant, Device: d.id, Partition: int32(d.id[15]) % 4,
		}, Transport: "coap", Link: aside, Secondary: true}, r.mustBe("connect aside", nil))
		c := r.call("d1", nil)
		cmd := d.one()
		if got := aside.commands(); len(got) > 0 || len(d.closed) > 0 {
			t.Fatalf("aside came %+v, and the connection was closed for %v", got, d.closed)
		}
		in.Reply(aside.session, cmd.Wire, []byte(`1`), r.mustBe("reply aside", nil))
		c.want("succeeded  1")
		in.Disconnect(aside.session, "idle")
		again := r.call("d1", nil)
		d.reply(d.one(), `2`)
		again.want("succeeded  2")
		in.Reply(aside.session, cmd.Wire, []byte(`1`), r.mustBe("reply after the end", transports.ErrGone))
	})
}
