package memory_test

import (
	"testing"
	"testing/synctest"

	"callchain/engine/bus"
	"callchain/engine/bus/bustest"
	"callchain/engine/bus/memory"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The bound of a lane, and the partitions, of the inboxes that tests open.
const (
	bound      = 300
	partitions = 4
)

func TestInbox(t *testing.T) {
	f := bustest.Fixture{Bound: bound, Partitions: partitions, Why: map[string]string{
		"a topic was removed while it was read": "the double has no topic that is not there",
	}}
	f.Site = func(t *testing.T) *bustest.Site {
		c := memory.New(partitions, bustest.Codec{})
		c.Most = bound
		return &bustest.Site{
			Open: func(t *testing.T) (bus.Inbox, func()) {
				n := c.Node("n")
				t.Cleanup(n.Close)
				return n.Inbox(), n.Close
			},
			Renew:   func(_ *testing.T, l bus.Lane) { c.Renew(l) },
			Trim:    func(_ *testing.T, l bus.Lane, partition int32, before int64) { c.Trim(l, partition, before) },
			Corrupt: func(_ *testing.T, l bus.Lane, partition int32, bytes []byte) { c.Corrupt(l, partition, bytes) },
			Down: func(*testing.T) func() {
				c.SetAway(true)
				return func() { c.SetAway(false) }
			},
		}
	}
	bustest.Run(t, f)
}

func TestGroup(t *testing.T) {
	f := bustest.GroupFixture{Partitions: 64, Within: synctest.Test}
	f.Site = func(t *testing.T) *bustest.GroupSite {
		c := memory.New(64, bustest.Codec{})
		t.Cleanup(c.Close)
		return &bustest.GroupSite{
			Node: func(_ *testing.T, name string) *bustest.GroupNode {
				n := c.Node(name)
				return &bustest.GroupNode{Group: n.Group(), Hang: func() func() {
					n.Pause()
					return n.Resume
				}}
			},
			Down: func(*testing.T) func() {
				c.SetAway(true)
				return func() { c.SetAway(false) }
			},
		}
	}
	bustest.RunGroup(t, f)
}
