package memory

import (
	"context"
	"fmt"
	"sync"

	"callchain/engine/bus"
)

// Node is one process of the cluster. It lives until Close or Kill.
type Node struct {
	name    string
	c       *Cluster
	in      *Inbox
	closing sync.Once

	// The cluster's lock guards these.
	paused chan struct{} // nil, or closed when the pause is over
	killed bool
}

// Inbox is the inbox of this node.
func (n *Node) Inbox() bus.Inbox { return n.in }

// Topics are the topics beside the inbox.
func (n *Node) Topics() bus.Topics { return topics{n} }

// Group shares the partitions out among the nodes.
func (n *Node) Group() bus.Group { return member{n} }

// Pause freezes the node: it takes, writes, publishes and hears nothing. The others see it expelled at once; it learns of that when it
// goes on, and takes what was read for it before.
func (n *Node) Pause() {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	if n.paused == nil && !n.killed {
		n.paused = make(chan struct{})
		n.c.group.settle()
	}
}

// Resume lets a paused node go on.
func (n *Node) Resume() {
	n.c.mu.Lock()
	if n.paused != nil {
		close(n.paused)
		n.paused = nil
		n.c.wakeAll()
	}
	sync := n.c.Sync
	n.c.mu.Unlock()
	if sync {
		n.in.write()
	}
}

// Kill ends the node at once, as a signal that cannot be caught: what it had not written is lost, and nobody there is told. What runs on it
// goes on with an inbox that gives nothing, until its contexts end.
func (n *Node) Kill() {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.killed = true
	n.in.out = [bus.Lanes][]entry{}
	if n.paused != nil {
		close(n.paused)
		n.paused = nil
	}
	n.c.group.settle()
	n.c.wakeAll()
}

// Close ends the inbox when what waits is written; while it cannot be written, the senders are told that nobody knows.
func (n *Node) Close() {
	n.closing.Do(func() {
		n.in.Close()
		close(n.in.stop)
		<-n.in.done
		n.c.mu.Lock()
		defer n.c.mu.Unlock()
		delete(n.c.nodes, n)
		for l := range n.in.parts {
			clear(n.in.parts[l])
		}
	})
}

// works reports whether the node can do anything now. The cluster is locked.
func (n *Node) works() bool { return n.paused == nil && !n.killed }

// reach waits while the node is paused. It fails when the brokers are away, or nobody is there to ask them.
func (n *Node) reach(ctx context.Context) error {
	for {
		n.c.mu.Lock()
		paused, killed, away := n.paused, n.killed, n.c.away
		n.c.mu.Unlock()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case killed:
			return fmt.Errorf("node %s was killed: %w", n.name, bus.ErrAway)
		case paused == nil && away:
			return fmt.Errorf("the brokers are away: %w", bus.ErrAway)
		case paused == nil:
			return nil
		}
		select {
		case <-paused:
		case <-ctx.Done():
		}
	}
}
