package serve

import "testing"

// TestCollectorPace: a small heap is collected after it has grown by growLeast, a large one when it has doubled.
func TestCollectorPace(t *testing.T) {
	for live, want := range map[uint64]int{0: 800, 16 << 20: 200, 32 << 20: 100, 1 << 30: 100} {
		if got := gcPercent(live); got != want {
			t.Errorf("with %d MB live the target is %d, want %d", live>>20, got, want)
		}
	}
}
