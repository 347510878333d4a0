package engine_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"callchain/engine/bus/memory"
	"callchain/engine/cluster"
	"callchain/engine/projection"
	"callchain/engine/wire"
	"callchain/eventstore"
	"callchain/eventstore/memstore"
)

// nodesRig is several engines over one store, in a bubble.
type nodesRig struct {
	t     *testing.T
	store *memstore.Store
	bus   *memory.Cluster
	nodes []*node
	blind atomic.Bool // no node sees the rows of calls
}

// blind is a store that may show no rows of calls, as they were a moment ago.
type blind struct {
	eventstore.Store
	on *atomic.Bool
}

// Rows implements eventstore.Store.
func (b blind) Rows(ctx context.Context, q eventstore.Query) ([][]any, error) {
	if b.on.Load() && q.Table == projection.Calls {
		return nil, nil
	}
	return b.Store.Rows(ctx, q)
}

// node is one of them.
type node struct {
	*rig
	place *memory.Node
	pause *pause
	dead  bool
}

// pause stops what a node does with the store.
type pause struct {
	mu      sync.Mutex
	on      chan struct{} // closed when it is over; nil: there is none
	appends bool          // only appends are stopped
	cut     error         // what comes after it
}

func (p *pause) wait(appends bool) error {
	p.mu.Lock()
	on := p.on
	if p.appends && !appends {
		on = nil
	}
	p.mu.Unlock()
	if on != nil {
		<-on
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cut
}

// inNodes runs a test with so many nodes, named node-0 and so on, that have shared the partitions out.
func inNodes(t *testing.T, count int, test func(*nodesRig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := &nodesRig{t: t, store: memstore.New(), bus: memory.New(partitions, wire.Codec{})}
		for range count {
			c.add()
		}
		pass(5 * time.Second)
		test(c)
		c.end()
	})
}

// end stops those who live, and holds what is stored against the promises.
func (c *nodesRig) end() {
	c.t.Helper()
	for _, n := range c.nodes {
		if n.dead {
			continue
		}
		if err := n.stop(); err != nil {
			c.t.Errorf("%s ends with %v", n.name(), err)
		}
	}
	c.bus.Close()
	(&rig{t: c.t, store: c.store}).rowsAreTheFold()
}

// add starts one more node.
func (c *nodesRig) add() *node {
	n := c.prepared(func(*node) {})
	n.start()
	return n
}

// prepared is one more node that is not started yet.
func (c *nodesRig) prepared(change func(*node)) *node {
	place := c.bus.Node(fmt.Sprint("node-", len(c.nodes)))
	n := &node{place: place, pause: &pause{}}
	store := c.store.Open()
	store.Before = func(context.Context, eventstore.Batch) error { return n.pause.wait(true) }
	store.Reading = func() error { return n.pause.wait(false) }
	n.rig = unstarted(c.t, store, place.Inbox())
	n.rig.node, n.group, n.topics = fmt.Sprint("node-", len(c.nodes)), place.Group(), place.Topics()
	change(n)
	n.over = func(s eventstore.Store) eventstore.Store { return blind{s, &c.blind} }
	c.nodes = append(c.nodes, n)
	return n
}

func (n *node) name() string { return n.rig.node }

// owned is the number of partitions that a node owns.
func (n *node) owned() int { return int(series(n.t, n.measured)["partitions_owned"]) }

// kill ends a node as a power cut does.
func (n *node) kill() {
	n.dead = true
	n.place.Kill()
	n.pause.mu.Lock()
	n.pause.cut = errors.New("there is no power")
	if n.pause.on != nil {
		close(n.pause.on)
		n.pause.on = nil
	}
	n.pause.mu.Unlock()
	_ = n.stop() // what it says does not reach anybody
	synctest.Wait()
}

// freeze stops a node, as SIGSTOP does.
func (n *node) freeze() {
	n.pause.mu.Lock()
	n.pause.on = make(chan struct{})
	n.pause.mu.Unlock()
	n.place.Pause()
	synctest.Wait()
}

// thaw lets it go on.
func (n *node) thaw() {
	n.pause.mu.Lock()
	close(n.pause.on)
	n.pause.on = nil
	n.pause.mu.Unlock()
	n.place.Resume()
	synctest.Wait()
}

// owner is the node that owns the partition of a device, and others are the others that live.
func (c *nodesRig) owner(device string) (owner *node, others []*node) {
	c.t.Helper()
	checkpoints, err := c.store.Open().Checkpoints(context.Background())
	if err != nil {
		c.t.Fatal(err)
	}
	for _, n := range c.nodes {
		switch {
		case n.dead:
		case checkpoints[named(device)[15]%partitions].Node == n.name():
			owner = n
		default:
			others = append(others, n)
		}
	}
	if owner == nil {
		c.t.Fatalf("nobody owns the partition of %s", device)
	}
	return owner, others
}

// gone is how long it takes until the others are sure that a node is gone.
const gone = cluster.DeadAfter + 2*cluster.HeartbeatPeriod
