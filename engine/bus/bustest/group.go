package bustest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"callchain/engine/bus"
)

// GroupFixture is an implementation of bus.Group, as its suite needs it.
type GroupFixture struct {
	// Site makes a group of one test, without members.
	Site func(t *testing.T) *GroupSite
	// Partitions of each group.
	Partitions int32
	// Within runs a case, nil: as it is. A group without sockets has testing/synctest here.
	Within func(t *testing.T, run func(t *testing.T))
}

// GroupSite is a group.
type GroupSite struct {
	// Node makes a node that can join.
	Node func(t *testing.T, name string) *GroupNode
	// Down lets the brokers go away; up lets them come back. Nil: they cannot.
	Down func(t *testing.T) (up func())
	// Renew recreates the brokers' state of the partitions. Nil: there is none.
	Renew func(t *testing.T)
}

// GroupNode is one node.
type GroupNode struct {
	Group bus.Group
	// Hang suspends the node, as if its process was stopped; on resumes it.
	Hang func() (on func())
}

// leaveLong is how soon others must have what a node gave up that left. It is far below the time after which a node counts as lost.
const leaveLong = 2 * time.Second

// RunGroup runs the suite of groups.
func RunGroup(t *testing.T, f GroupFixture) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, *groupPlace)
	}{
		{"a node that hangs loses its partitions, and learns it when it is back", hangs},
		{"the brokers go away and come back", brokersRestart},
		{"a handover waits for the previous owner", handoverWaits},
		{"a node that leaves hands over at once", leaves},
		{"an owner that does not give up in time loses its partitions", stubborn},
		{"an arrival moves a fair part and no more", arrival},
		{"two arrive at the same moment", together},
		{"ten nodes", tenNodes},
		{"the brokers' state of the partitions is recreated", renewed},
	} {
		run := func(t *testing.T) {
			p := &groupPlace{GroupSite: f.Site(t), partitions: f.Partitions, owners: map[int32]*node{}}
			t.Cleanup(p.end)
			c.run(t, p)
		}
		t.Run(c.name, func(t *testing.T) {
			if f.Within != nil {
				f.Within(t, run)
			} else {
				run(t)
			}
		})
	}
}

// groupPlace is the state of a case. It checks that no partition has two owners.
type groupPlace struct {
	*GroupSite
	partitions int32

	mu     sync.Mutex
	owners map[int32]*node
	nodes  []*node
	broken []string
}

// node is a member that records its assignments.
type node struct {
	*GroupNode
	name  string
	place *groupPlace
	leave func() // it returns when Join has

	// The place's lock guards these.
	has      []int32
	assigned int       // Assigned was called
	revoked  [][]int32 // what Revoked was called with
	lost     bool      // the others need not wait for it
	hold     chan struct{}
}

// join lets a node join.
func (p *groupPlace) join(t *testing.T, name string) *node {
	t.Helper()
	n := &node{GroupNode: p.Node(t, name), name: name, place: p}
	ctx, cancel := context.WithCancel(context.Background())
	left := make(chan struct{})
	go func() {
		defer close(left)
		if err := n.Group.Join(ctx, n); err != nil {
			p.fail("%s: Join: %v", name, err)
		}
	}()
	n.leave = func() { cancel(); <-left }
	p.mu.Lock()
	p.nodes = append(p.nodes, n)
	p.mu.Unlock()
	return n
}

// end lets all leave.
func (p *groupPlace) end() {
	for _, n := range p.nodes {
		n.releaseRevoked()
		n.leave()
	}
}

func (p *groupPlace) fail(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.broken = append(p.broken, fmt.Sprintf(format, args...))
}

// Assigned implements bus.Member.
func (n *node) Assigned(partitions []int32) {
	p := n.place
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.IsSorted(partitions) {
		p.broken = append(p.broken, fmt.Sprintf("%s was assigned %v, which is not sorted", n.name, partitions))
	}
	for _, i := range n.has { // what is missing is gone
		if !slices.Contains(partitions, i) && p.owners[i] == n {
			delete(p.owners, i)
			if !n.lost {
				p.broken = append(p.broken, fmt.Sprintf("%s lost %d without a call of Revoked", n.name, i))
			}
		}
	}
	for _, i := range partitions {
		if other := p.owners[i]; other != nil && other != n && !other.lost {
			p.broken = append(p.broken, fmt.Sprintf("%s was assigned %d while %s had it", n.name, i, other.name))
		}
		p.owners[i] = n
	}
	n.has, n.assigned = slices.Clone(partitions), n.assigned+1
}

// Revoked implements bus.Member.
func (n *node) Revoked(ctx context.Context, partitions []int32) {
	p := n.place
	p.mu.Lock()
	n.revoked = append(n.revoked, slices.Clone(partitions))
	hold := n.hold
	for _, i := range partitions {
		if !slices.Contains(n.has, i) {
			p.broken = append(p.broken, fmt.Sprintf("%s is to give %d up, which it does not have", n.name, i))
		}
	}
	p.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, i := range partitions {
		if p.owners[i] == n {
			delete(p.owners, i)
		}
	}
	n.has = slices.DeleteFunc(n.has, func(i int32) bool { return slices.Contains(partitions, i) })
}

// holdRevoked lets Revoked wait until let is called.
func (n *node) holdRevoked() {
	n.place.mu.Lock()
	defer n.place.mu.Unlock()
	n.hold = make(chan struct{})
}

func (n *node) releaseRevoked() {
	n.place.mu.Lock()
	defer n.place.mu.Unlock()
	if n.hold != nil {
		close(n.hold)
		n.hold = nil
	}
}

// lose notes that others need not wait for the node any more, until found.
func (n *node) lose(lost bool) {
	n.place.mu.Lock()
	defer n.place.mu.Unlock()
	n.lost = lost
}

// notes are the partitions of a node, how often they were assigned, and all that were revoked.
func (n *node) notes() (has []int32, assigned int, revoked []int32) {
	n.place.mu.Lock()
	defer n.place.mu.Unlock()
	return slices.Clone(n.has), n.assigned, slices.Sorted(slices.Values(slices.Concat(n.revoked...)))
}

// shared waits until these nodes have all partitions, in fair parts, each partition once.
func (p *groupPlace) shared(t *testing.T, nodes ...*node) {
	t.Helper()
	until(t, fmt.Sprintf("%d nodes share %d partitions", len(nodes), p.partitions), func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		least, most, all := int(p.partitions), 0, map[int32]bool{}
		for _, n := range nodes {
			least, most = min(least, len(n.has)), max(most, len(n.has))
			for _, i := range n.has {
				all[i] = true
			}
		}
		return len(all) == int(p.partitions) && most-least <= 1 && sum(nodes) == len(all)
	})
	p.check(t)
}

// sum is how many partitions nodes have together. The place is locked.
func sum(nodes []*node) (sum int) {
	for _, n := range nodes {
		sum += len(n.has)
	}
	return sum
}

// check fails if a partition had two owners, or an assignment was wrong.
func (p *groupPlace) check(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.broken {
		t.Error(b)
	}
	p.broken = nil
}
