package engine_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"callchain/engine"
	"callchain/engine/bus"
	"callchain/engine/cluster"
	"callchain/transports"
)

// TestPausedOwner: an owner that was paused during an append, long enough to lose its partitions, changes nothing when it resumes.
func TestPausedOwner(t *testing.T) {
	inNodes(t, 2, func(c *nodesRig) {
		old, others := c.owner("d1")
		next := others[0]
		d := next.connect("d1", "A")
		old.freeze()
		first := next.call("d1", chosen("c1"))
		pass(time.Second)
		cmd := d.one()
		if cmd.Wire != 0 {
			t.Errorf("the new owner sends with wire id %d", cmd.Wire)
		}
		d.reply(cmd, `1`)
		first.want("succeeded  1")
		old.thaw()
		pass(gone)
		next.wantTypes(named("c1"), "Requested", "Queued", "Delivered", "Succeeded")
		if got := d.commands(); len(got) > 0 {
			t.Errorf("the device was sent %+v by the owner that was none any more", got)
		}
		if old.owned()+next.owned() != partitions || old.owned() == 0 {
			t.Errorf("after it is back, %d and %d partitions are owned", old.owned(), next.owned())
		}
		old.wantAnswered(d)
		next.wantAnswered(d)
	})
}

// TestAppendOfAPausedOwner: what an owner was about to store when it was stopped is not stored after another owner has claimed; its caller is
// answered by that one.
func TestAppendOfAPausedOwner(t *testing.T) {
	inNodes(t, 2, func(c *nodesRig) {
		old, others := c.owner("d1")
		next := others[0]
		d := next.connect("d1", "A")
		old.pause.mu.Lock()
		old.pause.on = make(chan struct{}) // the store first: the command is processed, and its append hangs
		old.pause.mu.Unlock()
		call := next.call("d1", chosen("c1"))
		pass(50 * time.Millisecond)
		old.place.Pause()
		pass(time.Second)
		d.reply(d.one(), `1`)
		call.want("succeeded  1")
		old.thaw()
		pass(gone)
		next.wantTypes(named("c1"), "Requested", "Queued", "Delivered", "Succeeded")
		if fenced := series(t, old.measured)["partitions_fenced_total"]; fenced == 0 {
			t.Error("the append of the owner before was not fenced")
		}
		old.wantAnswered(d)
	})
}

// wantAnswered makes a call through a node and answers it at the device.
func (n *node) wantAnswered(d *device) {
	n.t.Helper()
	call := n.call("d1", nil)
	pass(time.Second)
	d.reply(d.one(), `"again"`)
	pass(time.Second)
	call.want(`succeeded  "again"`)
}

// TestOwnerIsKilled: a call that is on its way when the owner dies goes on under the next: the device has it once, the caller at a third node gets the
// answer.
func TestOwnerIsKilled(t *testing.T) {
	inNodes(t, 3, func(c *nodesRig) {
		owner, others := c.owner("d1")
		d := others[0].connect("d1", "A")
		pass(time.Second)
		call := others[1].call("d1", chosen("c1"))
		pass(time.Second)
		cmd := d.one()
		d.written(cmd)
		pass(time.Second)
		owner.kill()
		pass(5 * time.Second)
		if again := d.commands(); len(again) > 0 {
			t.Errorf("the device was sent the call again: %+v", again)
		}
		d.reply(cmd, `1`)
		pass(time.Second)
		call.want("succeeded  1")
		others[0].wantTypes(named("c1"), "Requested", "Queued", "Sent", "Delivered", "Succeeded")
	})
}

// TestEverybodyIsServedEverywhere: calls of each kind through each node to devices at each node, whoever owns them.
func TestEverybodyIsServedEverywhere(t *testing.T) {
	inNodes(t, 3, func(c *nodesRig) {
		for i, at := range c.nodes {
			for j, from := range c.nodes {
				for k := range partitions {
					name := fmt.Sprint("d", i, j, k)
					d := at.connect(name, "session of "+name)
					pass(time.Second)
					from.wantEachKind(d, name)
				}
			}
		}
		for _, n := range c.nodes {
			if n.owned() == 0 {
				t.Errorf("%s owns nothing", n.name())
			}
		}
	})
}

func (n *node) wantEachKind(d *device, name string) {
	n.t.Helper()
	two := n.call(name, nil)
	pass(time.Second)
	d.reply(d.one(), `1`)
	pass(time.Second)
	two.want("succeeded  1")
	one := n.call(name, func(r *engine.CallRequest) { r.Oneway = true })
	pass(time.Second)
	if !one.waits() {
		n.t.Errorf("the caller of a one-way call got %s before it has left", one.outcome())
	}
	d.written(d.one())
	pass(time.Second)
	one.want("queued  ")
	persistent := n.call(name, func(r *engine.CallRequest) { r.Persistent = true })
	pass(time.Second)
	persistent.want("queued  ")
	d.reply(d.one(), `2`)
	id := d.session
	asked := make(chan error, 1)
	d.r.engine.Inbound().Call(id, 7, "getTime", nil, func(err error) { asked <- err })
	pass(61 * time.Second)
	if err := <-asked; err != nil || len(d.answers) != 1 || string(d.answers[0].Body) != `{"error":"timeout"}` {
		n.t.Errorf("the device's own call: %v, answers %+v", err, d.answers)
	}
}

// TestUnsentCallsAndTheirCallers: an unsent light call survives its owner while its caller waits, at whichever node, and ends with its
// caller.
func TestUnsentCallsAndTheirCallers(t *testing.T) {
	inNodes(t, 3, func(c *nodesRig) {
		owner, others := c.owner("d1")
		lives := others[0].call("d1", chosen("lives"))
		dies := owner.call("d1", chosen("dies"))
		pass(time.Second)
		owner.kill()
		pass(5 * time.Second)
		if dies.waits() {
			t.Error("the dead node did not even answer with an error")
		}
		others[0].wantTypes(named("dies"), "Requested", "Queued", "Failed")
		d := others[1].connect("d1", "A")
		pass(time.Second)
		d.reply(d.one(), `1`)
		pass(time.Second)
		lives.want("succeeded  1")
	})
}

// TestNoDeviceIsOfflineBeforeAllNodesReport: a new owner does not fail a call as offline before it knows.
func TestNoDeviceIsOfflineBeforeAllNodesReport(t *testing.T) {
	inNodes(t, 3, func(c *nodesRig) {
		owner, others := c.owner("d1")
		d := others[0].connect("d1", "A")
		pass(time.Second)
		owner.kill()
		for range 40 {
			pass(50 * time.Millisecond)
			call := others[1].call("d1", func(r *engine.CallRequest) { r.FailOffline, r.Oneway = true, true })
			pass(20 * time.Millisecond)
			for _, cmd := range d.commands() {
				d.written(cmd)
			}
			pass(20 * time.Millisecond)
			if got := call.outcome(); got != "queued  " && got != "waits" && got != engine.ErrUnready.Error() {
				t.Fatalf("the caller got %q while the device is connected", got)
			}
		}
	})
}

// TestConnectionsMoveAndEnd: the newest connection wins at whichever node it is, one of a dead node ends, and one of a node that was only stopped goes on.
func TestConnectionsMoveAndEnd(t *testing.T) {
	inNodes(t, 3, func(c *nodesRig) {
		owner, others := c.owner("d1")
		first, second := others[0].connect("d1", "A"), others[1].connect("d1", "B")
		pass(time.Second)
		if want := []transports.Reason{transports.ReasonTakenOver}; !slices.Equal(first.closed, want) || len(second.closed) > 0 {
			t.Errorf("the first connection was closed with %v, the second with %v", first.closed, second.closed)
		}
		owner.wantAnswered(second)
		others[1].kill()
		pass(gone)
		waits := owner.call("d1", nil)
		pass(time.Second)
		third := others[0].connect("d1", "C")
		pass(time.Second)
		third.reply(third.one(), `3`)
		pass(time.Second)
		waits.want("succeeded  3")
	})
}

// TestCredentialsChangedElsewhere: a change of credentials at any node ends the device's connection.
func TestCredentialsChangedElsewhere(t *testing.T) {
	inNodes(t, 3, func(c *nodesRig) {
		_, others := c.owner("d1")
		d := others[0].connect("d1", "A")
		pass(time.Second)
		if err := others[1].engine.CloseDevice(d.id, int32(d.id[15])%partitions, transports.ReasonCredentials); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		if want := []transports.Reason{transports.ReasonCredentials}; !slices.Equal(d.closed, want) {
			t.Errorf("the connection was closed with %v, want %v", d.closed, want)
		}
	})
}

// TestCredentialsRevoked: each node ends the connections on older credentials, and accepts none that was being made with them.
func TestCredentialsRevoked(t *testing.T) {
	inNodes(t, 2, func(c *nodesRig) {
		owner, others := c.owner("d1")
		for _, n := range []*node{owner, others[0]} {
			old := n.connectWith("d1", "old"+n.name(), 1, nil)
			pass(time.Second)
			for _, each := range c.nodes {
				each.engine.Revoke(old.id, 2)
			}
			pass(time.Second)
			if want := []transports.Reason{transports.ReasonCredentials}; !slices.Equal(old.closed, want) {
				t.Errorf("on %s the connection was closed with %v, want %v", n.name(), old.closed, want)
			}
			owner.wantOffline("d1")
			owner.wantDisconnected("d1")
			n.connectWith("d1", "late"+n.name(), 1, transports.ErrUnauthorized)
			owner.wantOffline("d1")
			d := n.connectWith("d1", "new"+n.name(), 2, nil)
			pass(time.Second)
			for _, each := range c.nodes {
				each.engine.Revoke(d.id, 2) // the notice comes twice
				each.engine.Revoke(d.id, 0) // by a node that does not know versions
			}
			pass(time.Second)
			n.wantAnswered(d)
			n.connectWith("d1", "later"+n.name(), 1, transports.ErrUnauthorized)
			for _, each := range c.nodes {
				each.engine.Deleted(d.id)
			}
			pass(time.Second)
			if want := []transports.Reason{transports.ReasonDeviceDeleted}; !slices.Equal(d.closed, want) {
				t.Errorf("on %s the connection of the deleted device was closed with %v, want %v", n.name(), d.closed, want)
			}
			owner.wantOffline("d1")
			n.connectWith("d1", "after"+n.name(), 2, transports.ErrUnauthorized)
			pass(2 * time.Minute) // what is remembered of it is over
		}
	})
}

// TestLevelIsThatOfWhoMayLive: not before all nodes must have been heard, and while one of a lower level may only have been cut off, a later level is in use.
func TestLevelIsThatOfWhoMayLive(t *testing.T) {
	inNodes(t, 2, func(c *nodesRig) {
		n := c.nodes[0]
		want := func(level int, when string) {
			t.Helper()
			if got := n.engine.Level(); got != level {
				t.Errorf("%s the level is %d, want %d", when, got, level)
			}
		}
		want(cluster.LevelFirst, "just after the start")
		pass(cluster.DeadAfter)
		want(cluster.Level, "when all have been heard")
		old := cluster.Heartbeat{Process: "old/run", Level: cluster.LevelFirst}
		value, err := old.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := n.topics.Publish(t.Context(), bus.Nodes, []bus.Record{{Key: "old", Value: value}}); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		want(cluster.LevelFirst, "beside an older node")
		pass(50 * time.Minute)
		want(cluster.LevelFirst, "when that is not heard any more")
		pass(11 * time.Minute)
		want(cluster.Level, "when it was not heard for an hour")
	})
}

// TestNodesComeAndGo: partitions go to a node that comes, and come back at once when it leaves; calls wait for that moment only.
func TestNodesComeAndGo(t *testing.T) {
	inNodes(t, 1, func(c *nodesRig) {
		one := c.nodes[0]
		d := one.connect("d1", "A")
		one.wantAnswered(d)
		two := c.add()
		pass(3 * time.Second)
		if one.owned() != partitions/2 || two.owned() != partitions/2 {
			t.Errorf("with a second node %d and %d partitions are owned", one.owned(), two.owned())
		}
		two.wantAnswered(d)
		one.wantAnswered(d)
		two.dead = true
		if err := two.stop(); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		pass(time.Second)
		if one.owned() != partitions {
			t.Errorf("after the second has left, the first owns %d", one.owned())
		}
		one.wantAnswered(d)
		if got := d.commands(); len(got) > 0 || len(d.closed) > 0 {
			t.Errorf("the device was sent %+v and closed with %v", got, d.closed)
		}
	})
}
