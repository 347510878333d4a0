// Package memory is the bus of several nodes in one process, a test double for Kafka. It behaves as
// real brokers do: commands travel as bytes, the inbox is durable and has places, nodes can be paused and killed, and the brokers can go away.
// It has no sockets and waits for channels only, so testing/synctest can drive it.
package memory

import (
	"cmp"
	"slices"
	"sync"

	"callchain/engine/bus"
	"callchain/engine/bus/local"

	"github.com/google/uuid"
)

// Cluster is the brokers, and their nodes.
type Cluster struct {
	// Most bounds the messages of a lane that wait to be taken, and those that wait to be written, at each node. It is set before a node is made.
	Most int
	// Sync lets Put write at once, without goroutines, for simulations. It is set before a node is made.
	Sync bool

	partitions int32
	codec      bus.Codec

	mu        sync.Mutex
	away      bool
	lanes     [bus.Lanes]*lane
	made      int // topics
	nodes     map[*Node]struct{}
	followers map[*follower]struct{}
	topics    map[bus.Topic]bool // of nodes: made when they were followed first
	group     group
}

// New makes a cluster whose inbox has that many partitions, empty. Its nodes write and read commands with the codec.
func New(partitions int32, codec bus.Codec) *Cluster {
	c := &Cluster{
		Most: 10_000, partitions: partitions, codec: codec,
		nodes: map[*Node]struct{}{}, followers: map[*follower]struct{}{}, topics: map[bus.Topic]bool{},
	}
	for l := range c.lanes {
		c.lanes[l] = c.makeLane()
	}
	c.group = group{c: c, all: map[*membership]struct{}{}, owner: make([]*membership, partitions), moving: make([]bool, partitions)}
	return c
}

// lane is the topic of a bus.Lane.
type lane struct {
	id    uuid.UUID
	parts []log
}

// log is the records of a partition, from an offset on.
type log struct {
	first   int64
	records []record
}

func (k *log) end() int64 { return k.first + int64(len(k.records)) }

type record struct {
	key   uuid.UUID
	bytes []byte
}

// makeLane makes an empty lane. Its id is another than that of all before.
func (c *Cluster) makeLane() *lane {
	c.made++
	return &lane{id: uuid.NewSHA1(uuid.NameSpaceOID, []byte{byte(c.made >> 8), byte(c.made)}), parts: make([]log, c.partitions)}
}

// SetAway lets the brokers go away and come back. While they are away, nothing is written, read, published or assigned, and nobody is
// expelled; that happens when they are back.
func (c *Cluster) SetAway(away bool) {
	c.mu.Lock()
	if c.away = away; !away {
		for n := range c.nodes {
			n.in.lookAhead()
		}
		c.group.rebalance()
	}
	c.wakeAll()
	waiting := c.waitingSync()
	c.mu.Unlock()
	for _, in := range waiting {
		in.write()
	}
}

// waitingSync are the inboxes that no goroutine writes for.
func (c *Cluster) waitingSync() (out []*Inbox) {
	for n := range c.nodes {
		if c.Sync && !n.killed {
			out = append(out, n.in)
		}
	}
	slices.SortFunc(out, func(a, b *Inbox) int { return cmp.Compare(a.n.name, b.n.name) })
	return out
}

// wakeAll wakes all inboxes, followers and members.
func (c *Cluster) wakeAll() {
	for n := range c.nodes {
		signal(n.in.wake)
		n.in.read()
	}
	for f := range c.followers {
		signal(f.wake)
	}
	for m := range c.group.all {
		signal(m.wake)
	}
}

// Close ends the nodes. Follow and Join end with their contexts.
func (c *Cluster) Close() {
	c.mu.Lock()
	nodes := make([]*Node, 0, len(c.nodes))
	for n := range c.nodes {
		nodes = append(nodes, n)
	}
	c.mu.Unlock()
	for _, n := range nodes {
		n.Close()
	}
}

// Node adds a node to the cluster, as a process that starts. Names need not differ.
func (c *Cluster) Node(name string) *Node {
	n := &Node{name: name, c: c}
	n.in = &Inbox{n: n, waiting: local.New(c.Most), wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	for l := range n.in.parts {
		n.in.parts[l] = map[int32]*part{}
	}
	c.mu.Lock()
	c.nodes[n] = struct{}{}
	c.mu.Unlock()
	if c.Sync {
		close(n.in.done)
	} else {
		go n.in.run()
	}
	return n
}

func signal(to chan struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}
