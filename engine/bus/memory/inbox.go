package memory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"callchain/engine/bus"
	"callchain/engine/bus/local"

	"github.com/google/uuid"
)

// Inbox is a durable bus.Inbox. Messages that were read, and ephemeral ones, wait in queues of the node.
type Inbox struct {
	n       *Node
	waiting *local.Inbox
	lost    atomic.Pointer[bus.LostError]

	// The cluster's lock guards these.
	out    [bus.Lanes][]entry
	count  [bus.Lanes]int // messages without a result
	parts  [bus.Lanes]map[int32]*part
	begun  bool
	closed bool

	wake, stop, done chan struct{}
}

var (
	_ bus.Inbox  = (*Inbox)(nil)
	_ bus.Peeker = (*Inbox)(nil)
)

// entry is a message that waits to be written.
type entry struct {
	partition int32
	record    record
	priority  bool
	done      func(error)
}

// part is a partition that is read.
type part struct {
	next, target int64 // target is the end of the log when reading began or resumed
}

const (
	bytesMax     = 20 << 20 // of a message, as on Kafka
	writeTimeout = 5 * time.Second
)

// Put implements bus.Inbox.
func (in *Inbox) Put(m bus.Message) error {
	if m.Ephemeral {
		return in.waiting.Put(m)
	}
	value, _, err := in.n.c.codec.Encode(m.Value)
	if err != nil {
		return fmt.Errorf("encoding a message: %w", err)
	}
	if err := in.add(m, value); err != nil || !in.n.c.Sync {
		return err
	}
	in.write()
	return nil
}

// add lets a message wait to be written.
func (in *Inbox) add(m bus.Message, value []byte) error {
	bound := in.n.c.Most
	if m.Priority {
		bound *= 2
	}
	in.n.c.mu.Lock()
	defer in.n.c.mu.Unlock()
	switch {
	case in.closed:
		return bus.ErrClosed
	case m.Partition < 0 || m.Partition >= in.n.c.partitions:
		return fmt.Errorf("the inbox has no partition %d, it has %d", m.Partition, in.n.c.partitions)
	case len(value) > bytesMax:
		return bus.ErrTooLarge
	case !m.Priority && in.failure() != nil, in.n.killed:
		return bus.ErrAway
	case in.count[m.Lane] >= bound:
		return bus.ErrFull
	}
	in.count[m.Lane]++
	in.out[m.Lane] = append(in.out[m.Lane], entry{m.Partition, record{m.Key, value}, m.Priority, m.Done})
	signal(in.wake)
	return nil
}

// run writes what was put, until the node ends.
func (in *Inbox) run() {
	defer close(in.done)
	late := time.NewTimer(writeTimeout)
	late.Stop()
	defer late.Stop()
	waits := false
	for {
		select {
		case <-in.wake:
			switch was := waits; {
			case in.write():
				late.Stop()
				waits = false
			case !was:
				late.Reset(writeTimeout)
				waits = true
			}
		case <-late.C:
			waits = false
			in.abandon(func(e *entry) bool { return !e.priority })
		case <-in.stop:
			in.write()
			in.abandon(func(*entry) bool { return true })
			return
		}
	}
}

// write appends the waiting messages to the log, and completes them; false: that is not possible now.
func (in *Inbox) write() bool {
	c := in.n.c
	c.mu.Lock()
	if c.away || !in.n.running() {
		c.mu.Unlock()
		return false
	}
	written := in.out
	in.out = [bus.Lanes][]entry{}
	for l, of := range written {
		for i := range of {
			k := &c.lanes[l].parts[of[i].partition]
			k.records = append(k.records, of[i].record)
		}
		in.count[l] -= len(of)
	}
	for n := range c.nodes {
		n.in.read()
	}
	c.mu.Unlock()
	for _, of := range written {
		complete(of, nil)
	}
	return true
}

// complete calls Done of messages.
func complete(of []entry, outcome error) {
	for i := range of {
		if of[i].done != nil {
			of[i].done(outcome)
		}
	}
}

// abandon fails messages that could not be written in time. A paused node does nothing, except when it closes.
func (in *Inbox) abandon(which func(*entry) bool) {
	var lost [bus.Lanes][]entry
	in.n.c.mu.Lock()
	ends := in.closed
	for l, of := range in.out {
		if in.n.paused != nil && !ends {
			break
		}
		in.out[l] = nil
		for i := range of {
			if which(&of[i]) {
				lost[l] = append(lost[l], of[i])
			} else {
				in.out[l] = append(in.out[l], of[i])
			}
		}
		in.count[l] -= len(lost[l])
	}
	in.n.c.mu.Unlock()
	for _, of := range lost {
		complete(of, fmt.Errorf("%w: it was not written", bus.ErrAway))
	}
}

// read moves messages of the partitions into the node's queues, while there is room. The cluster is locked.
func (in *Inbox) read() {
	if in.n.c.away || !in.n.running() || in.lost.Load() != nil {
		return
	}
	for l := range in.parts {
		lane := in.n.c.lanes[l]
		for n := range in.n.c.partitions {
			p := in.parts[l][n]
			if p == nil {
				continue
			}
			k := &lane.parts[n]
			if p.next < k.first {
				in.lose(bus.Lane(l), n, fmt.Sprintf("partition %d lost messages that were not taken", n))
				return
			}
			for p.next < k.end() {
				m := in.message(k.records[p.next-k.first])
				m.Partition, m.Lane, m.Place = n, bus.Lane(l), bus.Place{Topic: lane.id, Offset: p.next}
				if in.waiting.Put(m) != nil { // no room now: Take makes some
					break
				}
				p.next++
			}
		}
		in.waiting.Take(bus.Lane(l), 0, nil) // signals what waits
	}
}

func (in *Inbox) message(r record) bus.Message {
	value, err := in.n.c.codec.Decode(r.bytes)
	if err != nil {
		value = bus.Malformed{Bytes: r.bytes, Err: err}
	}
	return bus.Message{Key: r.key, Value: value}
}

func (in *Inbox) lose(l bus.Lane, partition int32, detail string) {
	in.lost.CompareAndSwap(nil, &bus.LostError{Topic: laneTopics[l], Partition: partition, Detail: detail})
}

// lookAhead sets the targets to the current ends. The cluster is locked.
func (in *Inbox) lookAhead() {
	for l := range in.parts {
		for n, p := range in.parts[l] {
			p.target = in.n.c.lanes[l].parts[n].end()
		}
	}
}

// Ready implements bus.Inbox.
func (in *Inbox) Ready() <-chan struct{} { return in.waiting.Ready() }

// Take implements bus.Inbox.
func (in *Inbox) Take(l bus.Lane, most int, into []bus.Message) []bus.Message {
	in.n.c.mu.Lock()
	defer in.n.c.mu.Unlock()
	if !in.n.running() {
		return into
	}
	was := len(into)
	if into = in.waiting.Take(l, most, into); len(into) > was {
		in.read()
	}
	return into
}

// First implements bus.Peeker.
func (in *Inbox) First(l bus.Lane) (bus.Message, bool) {
	in.n.c.mu.Lock()
	defer in.n.c.mu.Unlock()
	if !in.n.running() {
		return bus.Message{}, false
	}
	return in.waiting.First(l)
}

// Len implements bus.Inbox.
func (in *Inbox) Len(l bus.Lane) int {
	in.n.c.mu.Lock()
	defer in.n.c.mu.Unlock()
	if !in.n.running() {
		return 0
	}
	return in.waiting.Len(l)
}

// Close implements bus.Inbox.
func (in *Inbox) Close() {
	in.n.c.mu.Lock()
	in.closed = true
	in.n.c.mu.Unlock()
	in.waiting.Close()
}

// Durable implements bus.Inbox.
func (in *Inbox) Durable() bool { return true }

// Begin implements bus.Inbox. While the node is paused, it waits.
func (in *Inbox) Begin(ctx context.Context, from []bus.From) error {
	if err := in.n.reach(ctx); err != nil {
		return err
	}
	in.n.c.mu.Lock()
	defer in.n.c.mu.Unlock()
	starts := make([][bus.Lanes]part, len(from))
	for i := range from {
		for l := range bus.Lanes {
			start, err := in.start(l, &from[i])
			if err != nil {
				return err
			}
			starts[i][l] = start
		}
	}
	in.begun = true
	for i, f := range from {
		for l := range bus.Lanes {
			if in.parts[l][f.Partition] == nil && !in.closed {
				in.parts[l][f.Partition] = &starts[i][l]
			}
		}
	}
	in.read()
	return nil
}

// start finds where the reading of a partition begins.
func (in *Inbox) start(l bus.Lane, f *bus.From) (part, error) {
	if f.Partition < 0 || f.Partition >= in.n.c.partitions {
		return part{}, fmt.Errorf("the inbox has no partition %d, it has %d", f.Partition, in.n.c.partitions)
	}
	lane, at := in.n.c.lanes[l], f.Next[l]
	k := &lane.parts[f.Partition]
	detail := ""
	switch {
	case at.Topic == uuid.Nil:
		return part{next: k.first, target: k.end()}, nil
	case at.Topic != lane.id:
		detail = "the topic was made anew"
	case at.Offset < k.first:
		detail = fmt.Sprintf("the offsets %d to %d of partition %d were removed before they were taken", at.Offset, k.first-1, f.Partition)
	case at.Offset > k.end():
		detail = fmt.Sprintf("partition %d ends before offset %d, but offset %d was taken already", f.Partition, k.end(), at.Offset-1)
	default:
		return part{next: at.Offset, target: k.end()}, nil
	}
	return part{}, &bus.LostError{Topic: laneTopics[l], Partition: f.Partition, Detail: detail}
}

// End implements bus.Inbox.
func (in *Inbox) End(partitions []int32) []bus.Message {
	in.n.c.mu.Lock()
	defer in.n.c.mu.Unlock()
	for l := range in.parts {
		for _, n := range partitions {
			delete(in.parts[l], n)
		}
	}
	out := in.waiting.End(partitions)
	in.read() // there is room for others
	return slices.DeleteFunc(out, func(m bus.Message) bool { return !m.Ephemeral })
}

// CatchingUp implements bus.Inbox.
func (in *Inbox) CatchingUp() bool {
	in.n.c.mu.Lock()
	defer in.n.c.mu.Unlock()
	if !in.begun || in.n.c.away || in.n.killed {
		return true
	}
	for _, p := range in.parts[bus.RPC] {
		if p.next < p.target {
			return true
		}
	}
	return false
}

// Err implements bus.Inbox.
func (in *Inbox) Err() error {
	in.n.c.mu.Lock()
	defer in.n.c.mu.Unlock()
	return in.failure()
}

func (in *Inbox) failure() error {
	if lost := in.lost.Load(); lost != nil {
		return lost
	}
	if in.n.c.away || in.n.killed {
		return errors.New("the brokers are away")
	}
	return nil
}
