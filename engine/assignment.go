package engine

import (
	"context"
	"slices"
	"sync"

	"callchain/engine/bus"
)

// assignment is which partitions this process is to own. The group that shares them out tells it; without a group it is all of them, for ever.
type assignment struct {
	mu      sync.Mutex
	wanted  []int32
	told    bool // the group has told it once
	changed chan struct{}
	revoked chan revocation
	ended   chan struct{} // the owner works no more: there is nothing to wait for
}

// revocation is a wish that the owner gives partitions up. It closes done when nothing of them is under way any more.
type revocation struct {
	partitions []int32
	done       chan struct{}
}

var _ bus.Member = (*assignment)(nil)

func newAssignment() *assignment {
	return &assignment{changed: make(chan struct{}, 1), revoked: make(chan revocation), ended: make(chan struct{})}
}

// Assigned implements bus.Member.
func (a *assignment) Assigned(partitions []int32) {
	a.mu.Lock()
	a.wanted, a.told = slices.Clone(partitions), true
	a.mu.Unlock()
	signal(a.changed)
}

// Revoked implements bus.Member: it waits until the owner has committed what it had stepped.
func (a *assignment) Revoked(ctx context.Context, partitions []int32) {
	a.mu.Lock()
	a.wanted = slices.DeleteFunc(slices.Clone(a.wanted), func(p int32) bool { return slices.Contains(partitions, p) })
	a.mu.Unlock()
	r := revocation{partitions: partitions, done: make(chan struct{})}
	select {
	case a.revoked <- r:
	case <-a.ended:
		return
	case <-ctx.Done():
		return
	}
	select {
	case <-r.done:
	case <-a.ended:
	case <-ctx.Done():
	}
}

// now is what is wanted, sorted, and whether that was told at all.
func (a *assignment) now() (wanted []int32, told bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.wanted, a.told
}
