package registry

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/google/uuid"
)

func TestCacheIsBoundedAndKeepsWhatIsUsed(t *testing.T) {
	c := newCache[int, int](10*cacheShards, func(int) uint8 { return 3 })
	hot := 1
	c.put(hot, 100, c.stamp(hot))
	for k := range 1000 {
		if _, ok := c.get(hot); !ok {
			t.Fatalf("the key that is in use was evicted after %d others", k)
		}
		c.put(k+2, k, c.stamp(k+2))
	}
	if n := c.len(); n != 10 {
		t.Errorf("%d keys in a shard of 10", n)
	}
}

// A reader that began before a write must not put what it read into the cache after it.
func TestOutdatedValueIsNotPut(t *testing.T) {
	c := newCache[int, string](100, func(int) uint8 { return 0 })
	stamp := c.stamp(1)
	c.drop(1) // the write
	c.put(1, "old", stamp)
	if v, ok := c.get(1); ok {
		t.Errorf("the cache has %q", v)
	}
	c.put(1, "new", c.stamp(1))
	c.dropIf(func(v string) bool { return v == "new" })
	if v, ok := c.get(1); ok {
		t.Errorf("the cache has %q", v)
	}
}

func TestCacheAgainstMap(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	c := newCache[int, int](4*cacheShards, func(k int) uint8 { return uint8(k) % cacheShards })
	truth := map[int]int{}
	for i := range 200_000 {
		k := rng.IntN(300)
		switch rng.IntN(10) {
		case 0:
			truth[k] = i
			c.drop(k)
		case 1:
			if rng.IntN(100) == 0 {
				c.dropIf(func(v int) bool { return v%2 == 0 })
			}
		default:
			if v, ok := c.get(k); ok && v != truth[k] {
				t.Fatalf("step %d: key %d is %d, want %d", i, k, v, truth[k])
			} else if !ok {
				c.put(k, truth[k], c.stamp(k))
			}
		}
	}
	for i := range c.shards {
		for at, e := range c.shards[i].ring {
			if e.at != at || c.shards[i].slots[e.key] != e {
				t.Fatalf("slot %d of shard %d is out of place", at, i)
			}
		}
	}
}

// Writers and readers at once: when all is quiet, the cache holds nothing that the truth does not.
func TestCacheIsCoherentUnderRaces(t *testing.T) {
	c := newCache[int, int](64, func(int) uint8 { return 0 })
	var mu sync.Mutex
	truth := map[int]int{}
	read := func(k int) int {
		mu.Lock()
		defer mu.Unlock()
		return truth[k]
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 20_000 {
				k := i % 7
				if _, ok := c.get(k); !ok {
					stamp := c.stamp(k)
					c.put(k, read(k), stamp)
				}
			}
		})
	}
	for w := range 2 {
		wg.Go(func() {
			for i := range 5_000 {
				k := i % 7
				mu.Lock()
				truth[k] = i*2 + w
				mu.Unlock()
				c.drop(k)
			}
		})
	}
	wg.Wait()
	for k, want := range truth {
		if v, ok := c.get(k); ok && v != want {
			t.Errorf("key %d is %d, want %d", k, v, want)
		}
	}
}

func TestRandomTextUsesAllCharactersEvenly(t *testing.T) {
	counts := map[rune]int{}
	for range 3100 {
		for _, c := range randomText(20) {
			counts[c]++
		}
	}
	if len(counts) != len(alphanumerics) {
		t.Errorf("%d different characters", len(counts))
	}
	for c, n := range counts {
		if n < 800 || n > 1200 { // 1,000 expected, 6 standard deviations
			t.Errorf("%c occurs %d times in 62,000", c, n)
		}
	}
}

func BenchmarkCached(b *testing.B) {
	r := &Registry{devices: newCache[uuid.UUID, *Facts](100_000, shardOfID)}
	ids := make([]uuid.UUID, 50_000)
	for i := range ids {
		ids[i] = newID()
		r.devices.put(ids[i], &Facts{}, r.devices.stamp(ids[i]))
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := rand.IntN(len(ids)); pb.Next(); i++ {
			if _, ok := r.Cached(ids[i%len(ids)]); !ok {
				b.Fail()
			}
		}
	})
}

// A commit whose outcome is unknown may have happened: memory must not answer from before it.
func TestUncertainCommitIsTold(t *testing.T) {
	r := &Registry{devices: newCache[uuid.UUID, *Facts](100, shardOfID)}
	told := 0
	r.OnChange(func(Change) { told++ })
	id := newID()
	r.devices.put(id, &Facts{}, r.devices.stamp(id))
	r.tell(ErrStale, Change{Kind: DeviceUpdated, Device: id})
	if _, ok := r.Cached(id); !ok || told != 0 {
		t.Error("a refused change was told")
	}
	r.tell(fmt.Errorf("saving: %w", errUncertain), Change{Kind: DeviceUpdated, Device: id})
	if _, ok := r.Cached(id); ok || told != 1 {
		t.Error("a change that may have happened was not told")
	}
}
