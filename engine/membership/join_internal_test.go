package membership

import (
	"testing"
	"time"
)

// TestClockOffset: the offset of a clock over a slow connection is its lower bound.
func TestClockOffset(t *testing.T) {
	at := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct{ took, ahead, want time.Duration }{
		{0, 0, 0},
		{time.Second, 500 * time.Millisecond, 0}, // it was read on the way
		{time.Second, 0, 0},
		{time.Second, 1500 * time.Millisecond, 500 * time.Millisecond},
		{time.Second, -2 * time.Second, 2 * time.Second},
		{10 * time.Millisecond, 7 * time.Second, 6990 * time.Millisecond},
	} {
		if got := clockOffset(at, at.Add(c.took), at.Add(c.ahead)); got != c.want {
			t.Errorf("asked for %s, the other clock %s ahead: off by %s, want %s", c.took, c.ahead, got, c.want)
		}
	}
}
