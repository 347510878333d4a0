package rpc

import (
	"bytes"
	"cmp"
	"iter"

	"github.com/google/uuid"
)

// Queue holds the open calls of a device in the order in which they are sent. It is a value: a method that changes it
// returns another Queue and leaves the old one unchanged. Finding, adding, replacing and removing a call take time and
// memory in proportion to the logarithm of the length. The zero Queue is empty.
type Queue struct {
	calls *branch // in order of Place
	ids   *branch // the same calls by id; nil while there are few
	wires *branch // the same calls by wire id; nil while there are few
}

// A queue has its two indexes from indexedFrom calls on, and drops them below indexedUntil. Fewer calls are searched one by
// one, which is what nearly every device needs.
const (
	indexedFrom  = 48
	indexedUntil = 16
)

// Len is the number of calls.
func (q Queue) Len() int {
	if q.calls == nil {
		return 0
	}
	return int(q.calls.sum.calls)
}

// All are the calls in order.
func (q Queue) All() iter.Seq[*Call] {
	return func(yield func(*Call) bool) { q.calls.each(yield) }
}

func (q Queue) find(id uuid.UUID) *Call {
	if q.ids == nil {
		for c := range q.All() {
			if c.ID == id {
				return c
			}
		}
		return nil
	}
	return q.ids.find(func(c *Call) int { return bytes.Compare(id[:], c.ID[:]) })
}

// withWire are the calls with a wire id, in order.
func (q Queue) withWire(wire int32) iter.Seq[*Call] {
	return func(yield func(*Call) bool) {
		if q.wires == nil {
			q.calls.each(func(c *Call) bool { return c.Wire != wire || yield(c) })
			return
		}
		q.wires.between(func(c *Call) int { return cmp.Compare(wire, c.Wire) }, yield)
	}
}

// with adds a call.
func (q Queue) with(c *Call) Queue {
	q.calls = q.calls.with(c, inOrder)
	switch n := q.Len(); {
	case q.ids != nil:
		q.ids, q.wires = q.ids.with(c, byID), q.wires.with(c, byWire)
	case n >= indexedFrom:
		for one := range q.All() {
			q.ids, q.wires = q.ids.with(one, byID), q.wires.with(one, byWire)
		}
	}
	return q
}

// without removes a call that is in the queue.
func (q Queue) without(c *Call) Queue {
	q.calls = q.calls.without(c, inOrder)
	if q.ids != nil {
		q.ids, q.wires = q.ids.without(c, byID), q.wires.without(c, byWire)
		if q.Len() < indexedUntil {
			q.ids, q.wires = nil, nil
		}
	}
	return q
}

// replaced puts a later state of a call in the place of the earlier one, which is in the queue.
func (q Queue) replaced(was, is *Call) Queue {
	q.calls = q.calls.replaced(was, is, inOrder)
	if q.ids != nil {
		q.ids, q.wires = q.ids.replaced(was, is, byID), q.wires.replaced(was, is, byWire)
	}
	return q
}

// mapped puts change(c) in the place of every call c. It must leave id, wire id and order alone.
func (q Queue) mapped(change func(*Call) *Call) Queue {
	q.calls = q.calls.mapped(change)
	if q.ids != nil {
		now := func(c *Call) *Call { return q.calls.find(func(at *Call) int { return inOrder(c, at) }) }
		q.ids, q.wires = q.ids.mapped(now), q.wires.mapped(now)
	}
	return q
}

func inOrder(a, b *Call) int { return cmp.Compare(a.Place, b.Place) }

func byID(a, b *Call) int { return bytes.Compare(a.ID[:], b.ID[:]) }

func byWire(a, b *Call) int { return cmp.Or(cmp.Compare(a.Wire, b.Wire), inOrder(a, b)) }

// branch is a node of a persistent AVL tree: what is reachable from it never changes.
type branch struct {
	call        *Call
	left, right *branch
	sum         summary
}

// summary counts the calls at and below a branch, so that those for which nothing is to be done need not be visited.
type summary struct {
	height      int32
	calls       int32
	queued      int32       // dispatched
	undelivered int32       // dispatched, and the device does not have them
	outstanding int32       // issued to a session, and not written
	waiting     [4][2]int32 // dispatched, and to be issued when it is their turn; by Order, and whether they were delivered before
}

func (s *summary) add(o *summary) {
	s.calls += o.calls
	s.queued += o.queued
	s.undelivered += o.undelivered
	s.outstanding += o.outstanding
	for i := range s.waiting {
		s.waiting[i][0] += o.waiting[i][0]
		s.waiting[i][1] += o.waiting[i][1]
	}
}

func summaryOf(c *Call) summary {
	s := summary{calls: 1}
	if c.Phase < PhaseQueued {
		return s
	}
	s.queued = 1
	delivered := 1
	if c.Phase < PhaseDelivered {
		s.undelivered, delivered = 1, 0
	}
	switch {
	case c.RetryAt != 0:
	case c.Session == uuid.Nil:
		s.waiting[c.Order&3][delivered] = 1
	case c.unwritten():
		s.outstanding = 1
	}
	return s
}

func newBranch(c *Call, left, right *branch) *branch {
	b := &branch{call: c, left: left, right: right, sum: summaryOf(c)}
	if left != nil {
		b.sum.add(&left.sum)
		b.sum.height = left.sum.height + 1
	}
	if right != nil {
		b.sum.add(&right.sum)
		b.sum.height = max(b.sum.height, right.sum.height+1)
	}
	return b
}

// height is 0 of a single branch, -1 of none.
func (b *branch) height() int32 {
	if b == nil {
		return -1
	}
	return b.sum.height
}

// balanced makes a branch whose sides may differ by two levels.
func balanced(c *Call, left, right *branch) *branch {
	switch {
	case left.height() > right.height()+1:
		if left.left.height() >= left.right.height() {
			return newBranch(left.call, left.left, newBranch(c, left.right, right))
		}
		middle := left.right
		return newBranch(middle.call, newBranch(left.call, left.left, middle.left), newBranch(c, middle.right, right))
	case right.height() > left.height()+1:
		if right.right.height() >= right.left.height() {
			return newBranch(right.call, newBranch(c, left, right.left), right.right)
		}
		middle := right.left
		return newBranch(middle.call, newBranch(c, left, middle.left), newBranch(right.call, middle.right, right.right))
	}
	return newBranch(c, left, right)
}

func (b *branch) with(c *Call, order func(a, b *Call) int) *branch {
	if b == nil {
		return newBranch(c, nil, nil)
	}
	switch at := order(c, b.call); {
	case at < 0:
		return balanced(b.call, b.left.with(c, order), b.right)
	case at > 0:
		return balanced(b.call, b.left, b.right.with(c, order))
	}
	return newBranch(c, b.left, b.right)
}

func (b *branch) without(c *Call, order func(a, b *Call) int) *branch {
	if b == nil {
		return nil
	}
	switch at := order(c, b.call); {
	case at < 0:
		return balanced(b.call, b.left.without(c, order), b.right)
	case at > 0:
		return balanced(b.call, b.left, b.right.without(c, order))
	case b.left == nil:
		return b.right
	case b.right == nil:
		return b.left
	}
	next := b.right.first()
	return balanced(next, b.left, b.right.without(next, order))
}

func (b *branch) replaced(was, is *Call, order func(a, b *Call) int) *branch {
	if order(was, is) != 0 {
		return b.without(was, order).with(is, order)
	}
	return b.with(is, order)
}

func (b *branch) first() *Call {
	for b.left != nil {
		b = b.left
	}
	return b.call
}

// find is the call for which probe answers 0. It answers less than that if the one sought is before a call.
func (b *branch) find(probe func(*Call) int) *Call {
	for b != nil {
		switch at := probe(b.call); {
		case at < 0:
			b = b.left
		case at > 0:
			b = b.right
		default:
			return b.call
		}
	}
	return nil
}

// at is the branch that holds a call or, in the same place, another state of it.
func (b *branch) at(c *Call) *branch {
	for b != nil {
		switch at := inOrder(c, b.call); {
		case at < 0:
			b = b.left
		case at > 0:
			b = b.right
		default:
			return b
		}
	}
	return nil
}

func (b *branch) each(yield func(*Call) bool) bool {
	return b == nil || b.left.each(yield) && yield(b.call) && b.right.each(yield)
}

// between yields the calls for which probe answers 0; they stand side by side.
func (b *branch) between(probe func(*Call) int, yield func(*Call) bool) bool {
	if b == nil {
		return true
	}
	switch at := probe(b.call); {
	case at < 0:
		return b.left.between(probe, yield)
	case at > 0:
		return b.right.between(probe, yield)
	}
	return b.left.between(probe, yield) && yield(b.call) && b.right.between(probe, yield)
}

func (b *branch) mapped(change func(*Call) *Call) *branch {
	if b == nil {
		return nil
	}
	left, c, right := b.left.mapped(change), change(b.call), b.right.mapped(change)
	if left == b.left && c == b.call && right == b.right {
		return b
	}
	return newBranch(c, left, right)
}
