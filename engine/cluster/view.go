package cluster

import (
	"slices"
	"time"
)

// View is what one node knows of all. It is not safe for concurrent use.
type View struct {
	self   string // process
	nodes  map[string]*node
	owners []owner // by partition
	heard  time.Time
}

// node is another process, or this one.
type node struct {
	beat  Beat
	heard time.Time
}

// owner is the newest claim of a partition that was heard of.
type owner struct {
	process string
	epoch   int64
}

// NewView is the view of a process of an installation with so many partitions.
func NewView(self string, partitions int32) *View {
	return &View{self: self, nodes: map[string]*node{}, owners: make([]owner, partitions)}
}

// News is what a beat or the passing of time changed.
type News struct {
	Claimed []Claim  // by other processes: these partitions have a new owner
	Gone    []string // processes that live no more
	Back    bool     // this process was not heard for a while, by itself or by others: they may have given it up
}

// Hear takes a beat that came at a time. A process hears its own beats, too: so it knows whether it would hear others.
func (v *View) Hear(b Beat, now time.Time) (news News) {
	if b.Process == v.self {
		v.hearSelf(now, &news)
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
	n.beat, n.heard = b, now
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

// older reports whether a process of a node began before another of the same node: runs are named in the order of time.
func older(process, than string) bool { return process < than }

// hearSelf notes that what is said is heard. After a silence nobody is judged by it.
func (v *View) hearSelf(now time.Time, news *News) {
	if !v.heard.IsZero() && now.Sub(v.heard) > Fresh {
		for _, n := range v.nodes {
			n.heard = now
		}
		news.Back = true
	}
	v.heard = now
}

// Tick lets time pass: who was not heard for long is gone. While this process does not hear itself, it cannot tell.
func (v *View) Tick(now time.Time) (news News) {
	if v.heard.IsZero() || now.Sub(v.heard) > Fresh {
		return news
	}
	for process, n := range v.nodes {
		if process != v.self && now.Sub(n.heard) > Silent {
			v.drop(process, &news)
		}
	}
	slices.Sort(news.Gone)
	return news
}

func (v *View) drop(process string, news *News) {
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

// Lives reports whether a process is known and not gone.
func (v *View) Lives(process string) bool { return v.nodes[process] != nil }

// Owner is the process that claimed a partition last, as far as is known, and the epoch of its claim; "" if nobody did.
func (v *View) Owner(partition int32) (process string, epoch int64) {
	if partition < 0 || int(partition) >= len(v.owners) {
		return "", 0
	}
	o := v.owners[partition]
	return o.process, o.epoch
}

// Waiting is the age of the oldest command of the lane RPC that waits for the owner of a partition, as the owner told lately; 0 if it did not.
func (v *View) Waiting(partition int32, now time.Time) time.Duration {
	return v.told(partition, now, func(b *Beat) int64 { return b.Waiting })
}

// Data is likewise the age of the oldest of the lane for data.
func (v *View) Data(partition int32, now time.Time) time.Duration {
	return v.told(partition, now, func(b *Beat) int64 { return b.Data })
}

func (v *View) told(partition int32, now time.Time, what func(*Beat) int64) time.Duration {
	process, _ := v.Owner(partition)
	n := v.nodes[process]
	if n == nil || now.Sub(n.heard) > Fresh {
		return 0
	}
	return time.Duration(what(&n.beat)) * time.Millisecond
}

// LowestLevel is the newest level that all live processes have: that of the lowest.
func (v *View) LowestLevel() int {
	level := Level
	for _, n := range v.nodes {
		level = min(level, n.beat.Level)
	}
	return level
}
