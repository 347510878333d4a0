package membership

import (
	"time"

	"callchain/engine/cluster"
)

// Level is the newest feature level that all nodes have that may live: not before all of them must have been heard, and while one that is lower may only
// have been cut off, that one's.
func (m *Membership) Level() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if m.began.IsZero() || now.Sub(m.began) < cluster.Silent {
		return cluster.LevelFirst
	}
	return min(m.view.LowestLevel(), m.lowest.level(now))
}

// lowestFor is how long a node of a lower level counts after it was heard last.
const lowestFor = time.Hour

// lowestLevel is the lowest level below this program's that was heard lately.
type lowestLevel struct {
	lowest int
	until  time.Time
}

func (l *lowestLevel) hear(level int, now time.Time) {
	if level >= cluster.Level {
		return
	}
	l.lowest, l.until = min(level, l.level(now)), now.Add(lowestFor)
}

func (l *lowestLevel) level(now time.Time) int {
	if now.Before(l.until) {
		return l.lowest
	}
	return cluster.Level
}
