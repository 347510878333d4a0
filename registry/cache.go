package registry

import (
	"sync"
	"sync/atomic"

	"github.com/google/uuid"
)

// cacheShards is a power of two; the shards only spread the locks.
const cacheShards = 16

// cache holds the newest value of at most a number of keys. A value read from the database is put in only if nothing was
// dropped since before the reading began, so a value that a write has outdated never stays.
type cache[K comparable, V any] struct {
	shards  [cacheShards]shard[K, V]
	shardOf func(K) uint8
}

type shard[K comparable, V any] struct {
	mu      sync.RWMutex
	slots   map[K]*slot[K, V]
	ring    []*slot[K, V] // the clock: a slot whose used flag is down when the hand comes is given to another key
	hand    int
	max     int
	dropped uint64 // grows with every drop
}

type slot[K comparable, V any] struct {
	key   K
	value V
	at    int // place in the ring
	used  atomic.Bool
}

func newCache[K comparable, V any](size int, shardOf func(K) uint8) *cache[K, V] {
	c := &cache[K, V]{shardOf: shardOf}
	for i := range c.shards {
		c.shards[i].slots = map[K]*slot[K, V]{}
		c.shards[i].max = max(1, size/cacheShards)
	}
	return c
}

// shardOfID takes the last byte: it is random in every version of UUID that is in use.
func shardOfID(id uuid.UUID) uint8 { return id[15] % cacheShards }

func (c *cache[K, V]) get(k K) (V, bool) {
	s := &c.shards[c.shardOf(k)]
	s.mu.RLock()
	defer s.mu.RUnlock()
	e := s.slots[k]
	if e == nil {
		var none V
		return none, false
	}
	if !e.used.Load() { // most often it is up already, and reading shares the cache line
		e.used.Store(true)
	}
	return e.value, true
}

// stamp is asked for before the database is read; put compares it.
func (c *cache[K, V]) stamp(k K) uint64 {
	s := &c.shards[c.shardOf(k)]
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.dropped
}

func (c *cache[K, V]) put(k K, v V, stamp uint64) {
	s := &c.shards[c.shardOf(k)]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dropped != stamp {
		return
	}
	if e := s.slots[k]; e != nil {
		e.value = v
		return
	}
	e := &slot[K, V]{key: k, value: v}
	if len(s.ring) < s.max {
		e.at = len(s.ring)
		s.ring = append(s.ring, e)
	} else {
		e.at = s.victim()
		delete(s.slots, s.ring[e.at].key)
		s.ring[e.at] = e
	}
	s.slots[k] = e
}

// victim turns the hand to a slot that was not used since the hand last came by. It ends: get cannot raise flags meanwhile,
// because the caller holds the lock.
func (s *shard[K, V]) victim() int {
	for {
		i := s.hand
		s.hand = (s.hand + 1) % len(s.ring)
		if !s.ring[i].used.Swap(false) {
			return i
		}
	}
}

func (c *cache[K, V]) drop(k K) {
	s := &c.shards[c.shardOf(k)]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropped++
	if e := s.slots[k]; e != nil {
		s.remove(e)
	}
}

// dropIf walks through all values: for changes that are rare and touch many keys.
func (c *cache[K, V]) dropIf(gone func(V) bool) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		s.dropped++
		for _, e := range s.slots {
			if gone(e.value) {
				s.remove(e)
			}
		}
		s.mu.Unlock()
	}
}

// remove fills the gap in the ring with the last slot.
func (s *shard[K, V]) remove(e *slot[K, V]) {
	last := len(s.ring) - 1
	s.ring[e.at] = s.ring[last]
	s.ring[e.at].at = e.at
	s.ring[last] = nil
	s.ring = s.ring[:last]
	if s.hand >= last {
		s.hand = 0
	}
	delete(s.slots, e.key)
}

func (c *cache[K, V]) len() int {
	n := 0
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.RLock()
		n += len(s.slots)
		s.mu.RUnlock()
	}
	return n
}
