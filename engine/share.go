package engine

import (
	"context"
	"slices"
	"sync"

	"callchain/engine/bus"
)

// share is the partitions that the group assigns to this process.
type share struct {
	mu      sync.Mutex
	wanted  []int32
	changed chan struct{}
	revoked chan *revocation
	ended   chan struct{} // the owner has ended: revocations need not wait
}

// revocation asks the owner to give partitions up. done is closed when it has.
type revocation struct {
	partitions []int32
	done       chan struct{}
}

var _ bus.Member = (*share)(nil)

func newShare() *share {
	return &share{changed: make(chan struct{}, 1), revoked: make(chan *revocation), ended: make(chan struct{})}
}

// Assigned implements bus.Member.
func (s *share) Assigned(partitions []int32) {
	s.mu.Lock()
	s.wanted = slices.Clone(partitions)
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// Revoked implements bus.Member: it waits until the owner has stored what it had decided.
func (s *share) Revoked(ctx context.Context, partitions []int32) {
	s.mu.Lock()
	s.wanted = slices.DeleteFunc(slices.Clone(s.wanted), func(p int32) bool { return slices.Contains(partitions, p) })
	s.mu.Unlock()
	r := &revocation{partitions: slices.Clone(partitions), done: make(chan struct{})}
	select {
	case s.revoked <- r:
	case <-s.ended:
		return
	case <-ctx.Done():
		return
	}
	select {
	case <-r.done:
	case <-s.ended:
	case <-ctx.Done():
	}
}

// now are the partitions that this process should own.
func (s *share) now() []int32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wanted
}
