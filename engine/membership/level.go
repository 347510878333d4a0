package membership

import (
	"time"

	"callchain/engine/cluster"
)

// Level is the newest feature level of all nodes that may live. It is the lowest at first, until all nodes must have sent heartbeats, and stays low while a
// node of a lower level may only be partitioned.
func (m *Membership) Level() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if m.began.IsZero() || now.Sub(m.began) < cluster.DeadAfter {
		return cluster.LevelFirst
	}
	return min(m.view.LowestLevel(), m.lowest.level(now))
}

// lowestFor is how long a node of a lower level counts after its last heartbeat.
const lowestFor = time.Hour

// lowestLevel is the lowest level below this program's in recent heartbeats.
type lowestLevel struct {
	lowest int
	until  time.Time
}

func (l *lowestLevel) receiveHeartbeat(level int, now time.Time) {
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
