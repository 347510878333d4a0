package engine_test

import (
	"testing"

	"callchain/transports"
)

// TestSecondarySessionReplacesNoConnection: a device's secondary session leaves its connection open, and gets no calls.
func TestSecondarySessionReplacesNoConnection(t *testing.T) {
	inBubble(t, func(r *rig) {
		d := r.connect("d1", "A")
		secondary := &device{r: r, id: d.id, session: named("B")}
		in := r.engine.Inbound()
		in.Connect(transports.Session{ID: secondary.session, Identity: transports.Identity{
			Tenant: tenant, Device: d.id, Partition: int32(d.id[15]) % 4,
		}, Transport: "coap", Link: secondary, Secondary: true}, r.mustBe("connect secondary", nil))
		c := r.call("d1", nil)
		cmd := d.one()
		if got := secondary.commands(); len(got) > 0 || len(d.closed) > 0 {
			t.Fatalf("the secondary session got %+v, and the connection was closed for %v", got, d.closed)
		}
		in.Reply(secondary.session, cmd.Wire, []byte(`1`), r.mustBe("reply on the secondary session", nil))
		c.want("succeeded  1")
		in.Disconnect(secondary.session, "idle")
		again := r.call("d1", nil)
		d.reply(d.one(), `2`)
		again.want("succeeded  2")
		in.Reply(secondary.session, cmd.Wire, []byte(`1`), r.mustBe("reply after the end", transports.ErrGone))
	})
}
