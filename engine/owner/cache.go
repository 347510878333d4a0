package owner

import (
	"math"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// cache is an LRU cache bounded by weight. It exceeds the bound only for values of batches that are not stored yet: the store cannot
// return them.
type cache[K comparable, V any] struct {
	lru    *simplelru.LRU[K, cached[V]]
	weight int
	most   int
}

type cached[V any] struct {
	value  V
	weight int
	batch  uint64 // in which it was set
}

func newCache[K comparable, V any](most int) *cache[K, V] {
	c := &cache[K, V]{most: most}
	lru, err := simplelru.NewLRU(math.MaxInt32, func(_ K, gone cached[V]) { c.weight -= gone.weight })
	if err != nil {
		panic("owner: " + err.Error()) // the size is positive
	}
	c.lru = lru
	return c
}

func (c *cache[K, V]) get(k K) (V, bool) {
	one, ok := c.lru.Get(k)
	return one.value, ok
}

// set keeps a value as of a batch.
func (c *cache[K, V]) set(k K, v V, weight int, batch uint64) {
	if was, ok := c.lru.Peek(k); ok {
		c.weight -= was.weight
	}
	c.weight += weight
	c.lru.Add(k, cached[V]{v, weight, batch})
}

// trim drops what is beyond the weight, when all batches up to one are stored.
func (c *cache[K, V]) trim(stored uint64) {
	for c.weight > c.most {
		_, oldest, ok := c.lru.GetOldest()
		if !ok || oldest.batch > stored {
			return
		}
		c.lru.RemoveOldest()
	}
}

// drop drops a value, when all batches up to one are stored.
func (c *cache[K, V]) drop(k K, stored uint64) {
	if one, ok := c.lru.Peek(k); ok && one.batch <= stored {
		c.lru.Remove(k)
	}
}

// forget drops the values for which gone is true.
func (c *cache[K, V]) forget(gone func(v V, batch uint64) bool) {
	for _, k := range c.lru.Keys() {
		if one, _ := c.lru.Peek(k); gone(one.value, one.batch) {
			c.lru.Remove(k)
		}
	}
}
