package engine

import "sync"

// generations is a bounded cache of two generations: what was used lately survives when the older one is dropped. The
// entries set last, up to half the bound, are always found; so is what is not committed yet.
type generations[K comparable, V any] struct {
	mu         sync.Mutex
	young, old map[K]V
	cost, most int
}

// newGenerations makes a cache whose entries cost most in sum, in whatever unit set is given.
func newGenerations[K comparable, V any](most int) *generations[K, V] {
	return &generations[K, V]{young: map[K]V{}, most: most / 2}
}

func (g *generations[K, V]) get(k K) (V, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	v, ok := g.young[k]
	if !ok {
		v, ok = g.old[k]
	}
	return v, ok
}

func (g *generations[K, V]) set(k K, v V, cost int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cost += cost; g.cost > g.most {
		g.old, g.young, g.cost = g.young, make(map[K]V, len(g.young)/4), cost
	}
	g.young[k] = v
}

func (g *generations[K, V]) forget(k K) {
	g.mu.Lock()
	delete(g.young, k)
	delete(g.old, k)
	g.mu.Unlock()
}

func (g *generations[K, V]) clear() {
	g.mu.Lock()
	g.young, g.old, g.cost = map[K]V{}, nil, 0
	g.mu.Unlock()
}
