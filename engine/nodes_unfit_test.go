package engine_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"callchain/eventstore"
)

// newer is a store as a node sees it that is older than the events in it.
type newer struct {
	eventstore.Store
	unreadable *atomic.Bool
}

func (n newer) Streams(ctx context.Context, streams []string, each func(*eventstore.Event) error) error {
	return n.Store.Streams(ctx, streams, func(e *eventstore.Event) error {
		if n.unreadable.Load() {
			e.Type = "FromTheFuture"
		}
		return each(e)
	})
}

// wantUnfit says that a node owns nothing and says why, and that the other one answers for all partitions.
func (n *node) wantUnfit(other *node, d *device, why string) {
	n.t.Helper()
	if said := strings.Join(n.engine.Ready(), "; "); !strings.Contains(said, why) {
		n.t.Errorf("%s says %q of itself, want %q", n.name(), said, why)
	}
	if n.owned() != 0 || other.owned() != partitions {
		n.t.Errorf("%s owns %d partitions, and the other one %d", n.name(), n.owned(), other.owned())
	}
	other.wantAnswered(d)
}

// TestNodeWithAWrongClockOwnsNothing: its deadlines would pass too early or too late. Its connections stay open, and it rejoins
// when its clock is set.
func TestNodeWithAWrongClockOwnsNothing(t *testing.T) {
	inNodes(t, 2, func(c *nodesRig) {
		one, two := c.nodes[0], c.nodes[1]
		d := two.connect("d1", "A")
		for _, ahead := range []time.Duration{6 * time.Second, -6 * time.Second} {
			two.store.Ahead.Store(int64(ahead))
			pass(10 * time.Second)
			two.wantUnfit(one, d, "its clock is 6s off the database's: set it")
			two.store.Ahead.Store(int64(4 * time.Second)) // which is warned of
			pass(10 * time.Second)
			if two.owned() != partitions/2 || len(two.engine.Ready()) > 0 {
				t.Errorf("with its clock set the node owns %d partitions, and says %q", two.owned(), two.engine.Ready())
			}
			two.wantAnswered(d)
		}
	})
}

// TestNodeThatMeetsUnknownEvents gives its partitions back to those that can read them, and tries again later.
func TestNodeThatMeetsUnknownEvents(t *testing.T) {
	inNodes(t, 1, func(c *nodesRig) {
		one := c.nodes[0]
		d := one.connect("d1", "A")
		for i := range partitions {
			one.call(in(int32(i)), nil) // something is open in every partition
		}
		pass(time.Second)
		d.commands()
		two := c.prepared(func(*node) {})
		var unreadable atomic.Bool
		unreadable.Store(true)
		before := two.over
		two.over = func(s eventstore.Store) eventstore.Store { return newer{before(s), &unreadable} }
		two.start()
		pass(10 * time.Second)
		two.wantUnfit(one, d, "FromTheFuture")
		unreadable.Store(false)
		pass(40 * time.Second)
		if two.owned() != partitions/2 || len(two.engine.Ready()) > 0 {
			t.Errorf("when it can read them the node owns %d partitions, and says %q", two.owned(), two.engine.Ready())
		}
		two.wantAnswered(d)
	})
}
