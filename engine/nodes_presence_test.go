package engine_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"callchain/engine"
	"callchain/engine/bus"
	"callchain/engine/deadletter"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/transports"
)

// meddler injects faults between a node and its inbox and topics.
type meddler struct {
	mu sync.Mutex
	meddling
}

type meddling struct {
	put     func(step.Command) (drop bool) // before a command is put; nil: nothing
	receive func(bus.Topic) (drop bool)    // before a record is handed over; nil: nothing
	publish func(bus.Topic) error          // before records are published; an error is what becomes of them; nil: nothing
}

// meddle changes the faults.
func (m *meddler) meddle(change func(*meddler)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(m)
}

func (m *meddler) now() meddling {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.meddling
}

func (m *meddler) drops(cmd step.Command) bool {
	put := m.now().put
	return put != nil && put(cmd)
}

type meddledInbox struct {
	bus.Inbox
	m *meddler
}

func (i meddledInbox) Put(m bus.Message) error {
	if cmd, ok := m.Value.(step.Command); ok && i.m.drops(cmd) {
		return nil
	}
	return i.Inbox.Put(m)
}

type meddledTopics struct {
	bus.Topics
	m *meddler
}

func (t meddledTopics) Follow(ctx context.Context, topic bus.Topic, ready func(), handle func(bus.Record)) error {
	return t.Topics.Follow(ctx, topic, ready, func(r bus.Record) {
		if receive := t.m.now().receive; receive == nil || !receive(topic) {
			handle(r)
		}
	})
}

func (t meddledTopics) Publish(ctx context.Context, topic bus.Topic, records []bus.Record) error {
	if publish := t.m.now().publish; publish != nil {
		if err := publish(topic); err != nil {
			return err
		}
	}
	return t.Topics.Publish(ctx, topic, records)
}

// meddled runs a test with two nodes, of which the first owns everything, and a meddler for each.
func meddled(t *testing.T, test func(a, b byHand, at map[string]*meddler)) {
	t.Helper()
	at := map[string]*meddler{"node-0": {}, "node-1": {}}
	inHandsWith(t, func(n *node) {
		m := at[n.name()]
		n.inbox, n.topics = meddledInbox{n.inbox, m}, meddledTopics{n.topics, m}
	}, func(a, b byHand) { test(a, b, at) })
}

// rpcOf is what a command says of a device's connections and calls.
func rpcOf(cmd step.Command) rpc.Action {
	if r, ok := cmd.Do.(step.RPC); ok {
		return r.Do
	}
	return nil
}

// wantOffline makes a call that fails at once if the device is not connected.
func (n *node) wantOffline(device string) {
	n.t.Helper()
	call := n.call(device, func(r *engine.CallRequest) { r.FailOffline = true })
	pass(time.Second)
	call.want("rejected device_offline ")
}

// wantDisconnected expects that the last stored event of a device is the end of its connection.
func (n *node) wantDisconnected(device string) {
	n.t.Helper()
	events, err := n.store.Open().Stream(context.Background(), "device/"+named(device).String(), 0, 100)
	if err != nil || len(events) == 0 || events[len(events)-1].Type != "SessionClosed" {
		n.t.Errorf("of the device is stored %+v, %v", events, err)
	}
}

// TestConnectionEndsDuringItsReport: a connection that ends while its node reports it to a new owner does not count as live.
func TestConnectionEndsDuringItsReport(t *testing.T) {
	meddled(t, func(a, b byHand, at map[string]*meddler) {
		d := b.connect(in(1), "A")
		pass(time.Second)
		meddle := func(cmd step.Command) bool {
			if c, ok := rpcOf(cmd).(rpc.Connect); ok && c.Since != 0 {
				at["node-1"].meddle(func(m *meddler) { m.put = nil })
				b.engine.Inbound().Disconnect(d.session, "closed")
			}
			return false
		}
		at["node-1"].meddle(func(m *meddler) { m.put = meddle })
		a.revoke(1)
		a.Assigned(everything)
		pass(3 * time.Second)
		a.wantOffline(in(1))
	})
}

// TestConnectOfADeadNode: a Connect that is taken when its node is long gone does not make a device connected.
func TestConnectOfADeadNode(t *testing.T) {
	inHands(t, func(a, b byHand) {
		a.revoke(1)
		b.begin(in(1), "A")
		pass(time.Second)
		b.kill()
		pass(gone)
		a.Assigned(everything)
		pass(gone)
		a.wantDisconnected(in(1))
	})
}

// TestConnectWithUncertainResult: a device whose Connect timed out is not connected when its Connect is taken later.
func TestConnectWithUncertainResult(t *testing.T) {
	inHands(t, func(a, b byHand) {
		a.revoke(1)
		result := make(chan error, 1)
		b.engine.Inbound().Connect(transports.Session{
			ID: named("A"), Identity: transports.Identity{Tenant: tenant, Device: named(in(1)), Partition: 1}, Transport: "mqtt", Link: &device{r: b.rig},
		}, func(err error) { result <- err })
		pass(31 * time.Second)
		if err := <-result; !errors.Is(err, engine.ErrUncertain) {
			t.Errorf("the device got %v", err)
		}
		a.Assigned(everything)
		pass(3 * time.Second)
		a.wantDisconnected(in(1))
	})
}

// TestConnectionsOfAKilledNodeEnd: the owner closes them when the node is silent for long enough.
func TestConnectionsOfAKilledNodeEnd(t *testing.T) {
	inHands(t, func(a, b byHand) {
		b.connect(in(1), "A")
		pass(time.Second)
		b.kill()
		pass(gone)
		a.wantOffline(in(1))
	})
}

// TestStaleConnectionIsReportedLate: a node that reports a stale connection to a new owner does not replace the device's newer connection at another
// node.
func TestStaleConnectionIsReportedLate(t *testing.T) {
	meddled(t, func(a, b byHand, at map[string]*meddler) {
		b.connect(in(1), "old")
		pass(time.Second)
		at["node-1"].meddle(func(m *meddler) { m.receive = func(topic bus.Topic) bool { return topic == bus.NodeTopic("node-1") } })
		d := a.connect(in(1), "new")
		pass(time.Second)
		at["node-1"].meddle(func(m *meddler) { m.receive = nil })
		a.revoke(1)
		a.Assigned(everything)
		pass(3 * time.Second)
		call := a.call(in(1), nil)
		pass(time.Second)
		d.reply(d.one(), `1`)
		pass(time.Second)
		call.want("succeeded  1")
	})
}

// TestOfflineCallWaitsForTheBarrier: while a node has not reported its connections, a call that fails when its device is offline is refused as unready.
func TestOfflineCallWaitsForTheBarrier(t *testing.T) {
	meddled(t, func(a, b byHand, at map[string]*meddler) {
		b.connect(in(1), "A")
		pass(time.Second)
		at["node-1"].meddle(func(m *meddler) { m.receive = func(topic bus.Topic) bool { return topic == bus.Nodes } })
		a.revoke(1)
		a.Assigned(everything)
		pass(500 * time.Millisecond)
		call := a.call(in(1), func(r *engine.CallRequest) { r.FailOffline = true })
		pass(500 * time.Millisecond)
		call.want(engine.ErrUnready.Error())
		pass(2 * time.Second)
		a.wantOffline(in(1)) // two seconds are the most
		at["node-1"].meddle(func(m *meddler) { m.receive = nil })
		pass(gone)
	})
}

// TestDeliveryForAConnectionThatIsNotThere: the end of a connection found no room in the inbox. The node, remote or the owner's own, reports it at the next
// delivery, and the owner marks the device offline.
func TestDeliveryForAConnectionThatIsNotThere(t *testing.T) {
	for _, where := range []string{"node-1", "node-0"} {
		t.Run(where, func(t *testing.T) {
			meddled(t, func(a, b byHand, at map[string]*meddler) {
				n := map[string]byHand{"node-0": a, "node-1": b}[where]
				d := n.connect(in(1), "A")
				pass(time.Second)
				meddle := func(cmd step.Command) bool {
					end, ends := rpcOf(cmd).(rpc.Disconnect)
					return ends && end.Why == "closed"
				}
				at[where].meddle(func(m *meddler) { m.put = meddle })
				n.engine.Inbound().Disconnect(d.session, "closed")
				pass(time.Second)
				call := a.call(in(1), nil)
				pass(time.Second)
				a.wantOffline(in(1))
				if !call.waits() {
					t.Errorf("the call ended with %s", call.outcome())
				}
			})
		})
	}
}

// TestConnectionThatIsRevokedWhileItBegins: its end does not stand before its beginning.
func TestConnectionThatIsRevokedWhileItBegins(t *testing.T) {
	meddled(t, func(a, b byHand, at map[string]*meddler) {
		meddle := func(cmd step.Command) bool {
			if _, ok := rpcOf(cmd).(rpc.Connect); ok {
				at["node-1"].meddle(func(m *meddler) { m.put = nil })
				b.engine.Revoke(named(in(1)), 1)
			}
			return false
		}
		at["node-1"].meddle(func(m *meddler) { m.put = meddle })
		b.begin(in(1), "A")
		pass(time.Second)
		a.wantOffline(in(1))
		a.wantDisconnected(in(1))
	})
}

// TestDeliveryOfAPreviousOwner: a delivery of a previous owner does not reach the device when a newer owner is known.
func TestDeliveryOfAPreviousOwner(t *testing.T) {
	meddled(t, func(a, b byHand, at map[string]*meddler) {
		d := b.connect(in(1), "A")
		pass(time.Second)
		slow := make(chan struct{})
		meddle := func(topic bus.Topic) error {
			if topic == bus.NodeTopic("node-1") {
				<-slow
			}
			return nil
		}
		at["node-0"].meddle(func(m *meddler) { m.publish = meddle })
		call := b.call(in(1), chosen("c1"))
		pass(100 * time.Millisecond)
		a.revoke(1)
		b.Assigned([]int32{1})
		pass(2 * time.Second)
		d.reply(d.one(), `1`)
		pass(time.Second)
		call.want("succeeded  1")
		b.engine.Inbound().Subscribe(d.session, nil) // it has no memory of what it was given now
		pass(time.Second)
		close(slow)
		pass(time.Second)
		if got := d.commands(); len(got) > 0 {
			t.Errorf("the device was sent %+v", got)
		}
		if n := series(t, b.measured)["stale_deliveries_total epoch"]; n != 1 {
			t.Errorf("%v deliveries of the owner before were refused", n)
		}
	})
}

// TestLocalDeliveryOfAPreviousOwner: the same for a device that is connected to the node of that owner, which has read the body of a call for too long.
func TestLocalDeliveryOfAPreviousOwner(t *testing.T) {
	inHands(t, func(a, b byHand) {
		call := b.call(in(1), nil)
		pass(time.Second)
		a.revoke(1)
		a.Assigned(everything) // the body of the call is not in memory any more
		pass(2 * time.Second)
		read := make(chan struct{})
		before := a.store.Reading
		a.store.Reading = func() error {
			<-read
			return before()
		}
		d := a.connect(in(1), "A")
		pass(time.Second)
		if got := d.commands(); len(got) > 0 {
			t.Fatalf("the body was at hand: %+v", got)
		}
		a.revoke(1)
		b.Assigned([]int32{1})
		pass(2 * time.Second)
		d.reply(d.one(), `1`)
		pass(time.Second)
		call.want("succeeded  1")
		a.engine.Inbound().Subscribe(d.session, nil)
		pass(time.Second)
		close(read)
		pass(time.Second)
		if got := d.commands(); len(got) > 0 {
			t.Errorf("the device was sent %+v", got)
		}
		if n := series(t, a.measured)["stale_deliveries_total epoch"]; n != 1 {
			t.Errorf("%v deliveries of the owner before were refused", n)
		}
	})
}

// TestDeliveryTooLargeForItsTopic: a call too large for the node topic ends with an error, and later messages are delivered.
func TestDeliveryTooLargeForItsTopic(t *testing.T) {
	meddled(t, func(a, b byHand, at map[string]*meddler) {
		d := b.connect(in(1), "A")
		pass(time.Second)
		refused := false
		at["node-0"].meddle(func(m *meddler) {
			m.publish = func(topic bus.Topic) error {
				if topic != bus.NodeTopic("node-1") || refused {
					return nil
				}
				refused = true
				return &bus.PartlyError{Topic: topic, Refused: []int{0}, Err: errors.New("it is too large")}
			}
		})
		large := a.call(in(1), nil)
		pass(time.Second)
		large.want("failed transport_error ") // not the device: the call is not queued for it
		next := a.call(in(1), nil)
		pass(time.Second)
		d.reply(d.one(), `1`)
		pass(time.Second)
		next.want("succeeded  1")
		if n := series(t, a.measured)["peer_messages_dropped_total"]; n != 1 {
			t.Errorf("%v messages to other nodes were dropped", n)
		}
	})
}

// TestAttemptIsHandedOverOnce: a new owner repeats a delivery that the previous one had not recorded; the device gets it once.
func TestAttemptIsHandedOverOnce(t *testing.T) {
	inNodes(t, 3, func(c *nodesRig) {
		owner, others := c.owner("d1")
		d := others[0].connect("d1", "A")
		pass(time.Second)
		call := others[1].call("d1", nil)
		pass(time.Second)
		cmd := d.one()
		owner.kill()
		pass(5 * time.Second)
		if again := d.commands(); len(again) > 0 {
			t.Errorf("the device was sent the call again: %+v", again)
		}
		d.reply(cmd, `1`)
		pass(time.Second)
		call.want("succeeded  1")
	})
}

// TestConnectThatWasFenced: an ephemeral message about a connection that a fenced owner dropped goes to the next owner.
func TestConnectThatWasFenced(t *testing.T) {
	inHands(t, func(a, b byHand) {
		release := a.holdAppends()
		first := b.call(in(0), nil)
		pass(50 * time.Millisecond)
		result := make(chan error, 1)
		a.engine.Inbound().Connect(transports.Session{
			ID: named("A"), Identity: transports.Identity{Tenant: tenant, Device: named(in(1)), Partition: 1}, Transport: "mqtt", Link: &device{r: a.rig},
		}, func(err error) { result <- err })
		pass(50 * time.Millisecond)
		b.Assigned(everything)
		pass(3 * time.Second)
		release()
		pass(time.Second)
		select {
		case err := <-result:
			if err != nil {
				t.Errorf("the device got %v", err)
			}
		default:
			t.Error("the device got no answer")
		}
		if !first.waits() {
			t.Errorf("the call ended with %s", first.outcome())
		}
	})
}

// TestAttributesAcrossNodes: a device gets attributes and their changes at whichever node it is.
func TestAttributesAcrossNodes(t *testing.T) {
	inHands(t, func(a, b byHand) {
		d := b.connect(in(1), "A")
		pass(time.Second)
		err := b.engine.ChangeAttributes(context.Background(), engine.AttributeChange{
			Tenant: tenant, Device: d.id, Scope: "SHARED_SCOPE", Set: map[string][]byte{"x": []byte(`1`)}, Actor: "test",
		})
		if err != nil {
			t.Error(err)
		}
		b.engine.Inbound().RequestAttributes(d.session, 7, nil, []string{"x"}, nil)
		pass(time.Second)
		synctest.Wait()
		if len(d.pushed) != 1 || string(d.pushed[0]["x"]) != `1` {
			t.Errorf("the device got changes %v", d.pushed)
		}
		if len(d.given) != 1 || d.given[0].Request != 7 || string(d.given[0].Shared["x"]) != `1` {
			t.Errorf("the device was given %+v", d.given)
		}
	})
}

// TestDeadLettersAcrossNodes: a node that does not own a dead letter can rerun or drop it.
func TestDeadLettersAcrossNodes(t *testing.T) {
	inHands(t, func(a, b byHand) {
		d := b.connect(in(1), "A")
		pass(time.Second)
		for _, again := range []bool{true, false} {
			b.engine.Inbound().Attributes(d.session, []byte(`{"x":1}`), nil)
			pass(time.Second)
			l := a.deadLetter("command_rejected")
			if again {
				_, err := b.engine.RerunDeadLetter(context.Background(), tenant, l.id, "user:u")
				var failed *deadletter.RerunError
				if !errors.As(err, &failed) || !strings.Contains(failed.Detail, "panicked") {
					t.Errorf("run again while the chain is broken: %v", err)
				}
				a.chain = compiled(t, fixedChain)
				_, err = b.engine.RerunDeadLetter(context.Background(), tenant, l.id, "user:u")
				if err != nil {
					t.Errorf("run again: %v", err)
				}
				a.chain = compiled(t, rootChain)
			} else if err := b.engine.DropDeadLetter(context.Background(), tenant, l.id, "user:u"); err != nil {
				t.Errorf("dropped: %v", err)
			}
			a.noDeadLetter()
		}
		if err := b.engine.DropDeadLetter(context.Background(), tenant, named("none"), "user:u"); !errors.Is(err, deadletter.ErrUnknown) {
			t.Errorf("one that is not there: %v", err)
		}
	})
}
