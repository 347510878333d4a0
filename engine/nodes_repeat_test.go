package engine_test

import (
	"fmt"
	"testing"
	"time"

	"callchain/engine"
	"callchain/transports"
)

// TestSubscribeUnderANewOwner: a device that connected under one owner and subscribes under the next, which does not know it yet, is not refused.
func TestSubscribeUnderANewOwner(t *testing.T) {
	elsewhere := 0
	for n := range 8 {
		inNodes(t, 3, func(c *nodesRig) {
			if subscribesWhileTheOwnerDies(c, fmt.Sprint("d", n)) {
				elsewhere++
			}
		})
	}
	if elsewhere == 0 {
		t.Error("each time the next owner was at the device's own node")
	}
}

// subscribesWhileTheOwnerDies reports whether the next owner is at another node than the device.
func subscribesWhileTheOwnerDies(c *nodesRig, name string) bool {
	owner, others := c.owner(name)
	at := others[0]
	d := &device{r: at.rig, id: named(name), session: named("A")}
	in := at.engine.Inbound()
	in.Connect(transports.Session{
		ID: d.session, Identity: transports.Identity{Tenant: tenant, Device: d.id, Partition: int32(d.id[15]) % partitions}, Transport: "mqtt", Link: d,
	}, nil)
	pass(time.Second)
	owner.hang()
	result := make(chan error, 1)
	in.Subscribe(d.session, func(err error) { result <- err })
	pass(100 * time.Millisecond)
	owner.kill()
	pass(5 * time.Second)
	if err := <-result; err != nil {
		c.t.Errorf("the device got %v", err)
	}
	d.wantAnswered(name)
	next, _ := c.owner(name)
	return next != at
}

// wantAnswered makes a call at the device's node and answers it.
func (d *device) wantAnswered(name string) {
	d.r.t.Helper()
	call := d.r.call(name, nil)
	pass(time.Second)
	d.reply(d.one(), `1`)
	pass(time.Second)
	call.want("succeeded  1")
}

// hang lets no append of a node come through any more.
func (n *node) hang() {
	n.pause.mu.Lock()
	n.pause.on, n.pause.appends = make(chan struct{}), true
	n.pause.mu.Unlock()
}

// TestRepeatedCallUnderANewOwner: a repeated call with a chosen id gets the end of the first, also from an owner that took over since.
func TestRepeatedCallUnderANewOwner(t *testing.T) {
	inNodes(t, 3, func(c *nodesRig) {
		owner, others := c.owner("d1")
		d := others[0].connect("d1", "A")
		pass(time.Second)
		first := others[1].call("d1", chosen("c1"))
		pass(time.Second)
		d.reply(d.one(), `1`)
		pass(time.Second)
		first.want("succeeded  1")
		c.blind.Store(true) // the sender has looked just before the call ended
		owner.kill()
		again := others[1].call("d1", chosen("c1"))
		other := others[1].call("d1", func(r *engine.CallRequest) { chosen("c1")(r); r.Method = "another" })
		pass(6 * time.Second)
		again.want("succeeded  1")
		if next, _ := c.owner("d1"); series(t, next.measured)["reloads_total"] > 0 {
			t.Error("the repetition was found by an append that failed")
		}
		if got := other.outcome(); got != "call_id_in_use: the id "+named("c1").String()+" belongs to another call" {
			t.Errorf("another call under the id got %q", got)
		}
		others[0].wantTypes(named("c1"), "Requested", "Queued", "Delivered", "Succeeded")
		if got := d.commands(); len(got) > 0 {
			t.Errorf("the device was sent %+v", got)
		}
	})
}

// TestAnswerBehindTheBarrier: a durable answer from while nobody owned the partition counts, although the previous owner had not recorded that the
// call was sent, and although its caller died with it.
func TestAnswerBehindTheBarrier(t *testing.T) {
	inNodes(t, 2, func(c *nodesRig) {
		owner, others := c.owner("d1")
		d := others[0].connect("d1", "A")
		pass(time.Second)
		owner.call("d1", chosen("c1"))
		pass(time.Second)
		cmd := d.one()
		owner.hang()
		d.reply(cmd, `1`)
		pass(100 * time.Millisecond)
		owner.kill()
		pass(5 * time.Second)
		others[0].wantTypes(named("c1"), "Requested", "Queued", "Delivered", "Succeeded")
	})
}
