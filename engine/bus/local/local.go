// Package local is the inbox of a single process: bounded queues in memory. A crash loses only messages that were not committed, and so
// not acknowledged.
package local

import (
	"context"
	"slices"
	"sync"

	"callchain/engine/bus"
)

// Inbox is an in-process bus.Inbox.
type Inbox struct {
	mu     sync.Mutex
	lanes  [bus.Lanes]ring
	most   int
	closed bool
	ready  chan struct{}
}

// New makes an inbox that holds at most most messages a lane.
func New(most int) *Inbox { return &Inbox{most: most, ready: make(chan struct{}, 1)} }

var _ bus.Inbox = (*Inbox)(nil)

// Put implements bus.Inbox.
func (in *Inbox) Put(m bus.Message) error {
	in.mu.Lock()
	bound := in.most
	if m.Priority {
		bound *= 2
	}
	lane := &in.lanes[m.Lane]
	switch {
	case in.closed:
		in.mu.Unlock()
		return bus.ErrClosed
	case lane.len >= bound:
		in.mu.Unlock()
		return bus.ErrFull
	}
	first := lane.len == 0
	lane.push(m)
	in.mu.Unlock()
	if first {
		in.signal()
	}
	return nil
}

func (in *Inbox) signal() {
	select {
	case in.ready <- struct{}{}:
	default:
	}
}

// Ready implements bus.Inbox.
func (in *Inbox) Ready() <-chan struct{} { return in.ready }

// Take implements bus.Inbox.
func (in *Inbox) Take(lane bus.Lane, most int, into []bus.Message) []bus.Message {
	in.mu.Lock()
	q := &in.lanes[lane]
	for range min(most, q.len) {
		into = append(into, q.pop())
	}
	left := q.len
	in.mu.Unlock()
	if left > 0 {
		in.signal() // the rest must not wait for the next Put
	}
	return into
}

// Len implements bus.Inbox.
func (in *Inbox) Len(lane bus.Lane) int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.lanes[lane].len
}

// Close implements bus.Inbox.
func (in *Inbox) Close() {
	in.mu.Lock()
	in.closed = true
	in.mu.Unlock()
}

// Durable implements bus.Inbox.
func (in *Inbox) Durable() bool { return false }

// Begin implements bus.Inbox.
func (in *Inbox) Begin(context.Context, []bus.From) error { return nil }

// End implements bus.Inbox.
func (in *Inbox) End(partitions []int32) (out []bus.Message) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for lane := range in.lanes {
		q := &in.lanes[lane]
		for range q.len {
			if m := q.pop(); slices.Contains(partitions, m.Partition) {
				out = append(out, m)
			} else {
				q.push(m)
			}
		}
	}
	return out
}

// CatchingUp implements bus.Inbox.
func (in *Inbox) CatchingUp() bool { return false }

// Err implements bus.Inbox.
func (in *Inbox) Err() error { return nil }

// ring is a queue that grows by doubling; its memory is bounded by the inbox's bound.
type ring struct {
	buf       []bus.Message
	head, len int
}

func (r *ring) push(m bus.Message) {
	if r.len == len(r.buf) {
		bigger := make([]bus.Message, max(64, 2*len(r.buf)))
		for i := range r.len {
			bigger[i] = r.buf[(r.head+i)%len(r.buf)]
		}
		r.buf, r.head = bigger, 0
	}
	r.buf[(r.head+r.len)%len(r.buf)] = m
	r.len++
}

func (r *ring) pop() bus.Message {
	m := r.buf[r.head]
	r.buf[r.head] = bus.Message{}
	r.head = (r.head + 1) % len(r.buf)
	r.len--
	return m
}
