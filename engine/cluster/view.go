package cluster

import (
	"slices"
	"time"
)

// View is one node's knowledge of all nodes. It is not safe for concurrent use.
type View struct {
	self     string // process
	nodes    map[string]*node
	owners   []owner // by partition
	lastSeen time.Time
}

// node is another process, or this one.
type node struct {
	heartbeat Heartbeat
	lastSeen  time.Time
}

// owner is the newest known claim of a partition.
type owner struct {
	process string
	epoch   int64
}

// NewView is the view of a process in an installation with a number of partitions.
func NewView(self string, partitions int32) *View {
	return &View{self: self, nodes: map[string]*node{}, owners: make([]owner, partitions)}
}

// Changes are the effects of a heartbeat or of time.
type Changes struct {
	Claimed []Claim  // by other processes: these partitions have a new owner
	Gone    []string // processes that have died
	Back    bool     // this process's heartbeats were lost for a while: others may have declared it dead
}

// Receive takes a heartbeat that came at a time. A process receives its own heartbeats, too: so it knows whether it would receive others.
func (v *View) Receive(b Heartbeat, now time.Time) (news Changes) {
	if b.Process == v.self {
		v.receiveOwn(now, &news)
	}
	for process := range v.nodes { // a node that was started again
		if process != b.Process && NodeOf(process) == NodeOf(b.Process) && older(process, b.Process) {
			v.drop(process, &news)
		}
	}
	if b.Leaving {
		v.drop(b.Process, &news)
		return news
	}
	n := v.nodes[b.Process]
	if n == nil {
		n = &node{}
		v.nodes[b.Process] = n
	}
	n.heartbeat, n.lastSeen = b, now
	for _, c := range b.Owns {
		if c.Partition < 0 || int(c.Partition) >= len(v.owners) || c.Epoch < v.owners[c.Partition].epoch {
			continue
		}
		o := &v.owners[c.Partition]
		if o.epoch == c.Epoch && o.process == b.Process {
			continue
		}
		*o = owner{b.Process, c.Epoch}
		if b.Process != v.self {
			news.Claimed = append(news.Claimed, c)
		}
	}
	return news
}

// older reports whether a process started before another of the same node: the names of runs are in the order of time.
func older(process, than string) bool { return process < than }

// receiveOwn notes that heartbeats arrive. A silence of all heartbeats, the own ones included, declares no node dead.
func (v *View) receiveOwn(now time.Time, news *Changes) {
	if !v.lastSeen.IsZero() && now.Sub(v.lastSeen) > FreshFor {
		for _, n := range v.nodes {
			n.lastSeen = now
		}
		news.Back = true
	}
	v.lastSeen = now
}

// Tick sets the time: processes without heartbeats are dead after DeadAfter. While this process misses its own heartbeats, it declares none dead.
func (v *View) Tick(now time.Time) (news Changes) {
	if v.lastSeen.IsZero() || now.Sub(v.lastSeen) > FreshFor {
		return news
	}
	for process, n := range v.nodes {
		if process != v.self && now.Sub(n.lastSeen) > DeadAfter {
			v.drop(process, &news)
		}
	}
	slices.Sort(news.Gone)
	return news
}

func (v *View) drop(process string, news *Changes) {
	if _, known := v.nodes[process]; known {
		delete(v.nodes, process)
		news.Gone = append(news.Gone, process)
	}
}

// Others are the other processes that live, sorted.
func (v *View) Others() []string {
	var out []string
	for process := range v.nodes {
		if process != v.self {
			out = append(out, process)
		}
	}
	slices.Sort(out)
	return out
}

// Alive reports whether a process is known and not dead.
func (v *View) Alive(process string) bool { return v.nodes[process] != nil }

// Owner is the last known process that claimed a partition, and the epoch of its claim; "" without one.
func (v *View) Owner(partition int32) (process string, epoch int64) {
	if partition < 0 || int(partition) >= len(v.owners) {
		return "", 0
	}
	o := v.owners[partition]
	return o.process, o.epoch
}

// Waiting is the age of the oldest command of the lane RPC that waits for the owner of a partition, as its owner last reported; 0 without a fresh report.
func (v *View) Waiting(partition int32, now time.Time) time.Duration {
	return v.reported(partition, now, func(b *Heartbeat) int64 { return b.Waiting })
}

// Data is likewise the age of the oldest of the lane for data.
func (v *View) Data(partition int32, now time.Time) time.Duration {
	return v.reported(partition, now, func(b *Heartbeat) int64 { return b.Data })
}

func (v *View) reported(partition int32, now time.Time, what func(*Heartbeat) int64) time.Duration {
	process, _ := v.Owner(partition)
	n := v.nodes[process]
	if n == nil || now.Sub(n.lastSeen) > FreshFor {
		return 0
	}
	return time.Duration(what(&n.heartbeat)) * time.Millisecond
}

// LowestLevel is the newest level that all live processes have: that of the lowest.
func (v *View) LowestLevel() int {
	level := Level
	for _, n := range v.nodes {
		level = min(level, n.heartbeat.Level)
	}
	return level
}
