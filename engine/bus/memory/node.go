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

// Topics are the topics other than the inbox.
func (n *Node) Topics() bus.Topics { return topics{n} }

// Group shares the partitions out among the nodes.
func (n *Node) Group() bus.Group { return member{n} }

// Pause freezes the node: it takes, writes, publishes and receives nothing. It is expelled at once, and learns it when it
// resumes; then it still takes what was read before.
func (n *Node) Pause() {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	if n.paused == nil && !n.killed {
		n.paused = make(chan struct{})
		n.c.group.rebalance()
	}
}

// Resume resumes a paused node.
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

// Kill ends the node at once, as SIGKILL does: what it had not written is lost, and no Done is called. Goroutines of the node see
// an empty inbox until their contexts end.
func (n *Node) Kill() {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.killed = true
	n.in.out = [bus.Lanes][]entry{}
	if n.paused != nil {
		close(n.paused)
		n.paused = nil
	}
	n.c.group.rebalance()
	n.c.wakeAll()
}

// Close closes the inbox when the waiting messages are written; if they cannot be written, their senders get ErrAway.
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

// running reports whether the node is neither paused nor killed. The cluster is locked.
func (n *Node) running() bool { return n.paused == nil && !n.killed }

// reach waits while the node is paused. It fails when the brokers are away, or the node was killed.
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
