package engine_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"callchain/engine"
	"callchain/engine/bus"
	"callchain/transports"
)

// blockTopicOf lets nothing of a node through to node-1 until the function returned is called.
func (m *meddler) blockTopicOf(node string) (fix func()) {
	m.meddle(func(m *meddler) {
		m.publish = func(topic bus.Topic) error {
			if topic == bus.NodeTopic(node) {
				return errors.New("the topic takes nothing")
			}
			return nil
		}
	})
	return func() { m.meddle(func(m *meddler) { m.publish = nil }) }
}

// longCall makes a call that may take long.
func longCall(r *engine.CallRequest) { r.Expires = time.Now().Add(10 * time.Minute) }

// TestDeliveryIsRetriedUntilItsDeadline: the owner cannot reach the node of a device for longer than anybody would wait. A call that may take long is brought to the
// device afterwards; of one whose deadline has passed it hears nothing.
func TestDeliveryIsRetriedUntilItsDeadline(t *testing.T) {
	meddled(t, func(a, b byHand, at map[string]*meddler) {
		d := b.connect(in(1), "A")
		pass(time.Second)
		fix := at["node-0"].blockTopicOf("node-1")
		call, late := a.call(in(1), longCall), a.call(in(1), nil)
		pass(2 * time.Minute)
		late.want("expired device_offline ")
		if n := series(t, a.measured)["peer_messages_dropped_total"]; n != 1 {
			t.Errorf("%v messages were dropped, want the call whose deadline has passed", n)
		}
		fix()
		pass(40 * time.Second)
		d.reply(d.one(), `1`)
		pass(time.Second)
		call.want("succeeded  1")
	})
}

// TestCloseIsRetriedUntilDelivered: a connection on credentials that have changed does not outlive a topic that takes nothing.
func TestCloseIsRetriedUntilDelivered(t *testing.T) {
	meddled(t, func(a, b byHand, at map[string]*meddler) {
		d := b.connect(in(1), "A")
		pass(time.Second)
		fix := at["node-0"].blockTopicOf("node-1")
		a.call(in(1), nil)
		if err := a.engine.CloseDevice(d.id, 1, transports.ReasonCredentials); err != nil {
			t.Fatal(err)
		}
		pass(2 * time.Minute)
		fix()
		pass(40 * time.Second)
		if want := []transports.Reason{transports.ReasonCredentials}; !slices.Equal(d.closed, want) {
			t.Errorf("the connection was closed with %v, want %v", d.closed, want)
		}
	})
}

// TestCloseForANodeThatWasPartitioned: nobody hears the node of a connection that is to end, and it is given up; when it is back, the connection ends.
func TestCloseForANodeThatWasPartitioned(t *testing.T) {
	meddled(t, func(a, b byHand, at map[string]*meddler) {
		d := b.connect(in(1), "A")
		pass(time.Second)
		fix := at["node-0"].blockTopicOf("node-1")
		if err := a.engine.CloseDevice(d.id, 1, transports.ReasonCredentials); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		at["node-1"].meddle(func(m *meddler) {
			m.publish = func(bus.Topic) error { return errors.New("the network is away") }
		})
		pass(gone + 5*time.Second)
		at["node-1"].meddle(func(m *meddler) { m.publish = nil })
		fix()
		pass(40 * time.Second)
		if want := []transports.Reason{transports.ReasonCredentials}; !slices.Equal(d.closed, want) {
			t.Errorf("the connection was closed with %v, want %v", d.closed, want)
		}
	})
}
