package kafka

import (
	"sync/atomic"
	"time"

	"callchain/engine/bus"
)

// Stats are the counters of the inbox by lane, since the start.
type Stats struct {
	Written      [bus.Lanes]int64         // messages that the brokers acknowledged
	Failed       [bus.Lanes]int64         // messages whose write failed
	Writes       [bus.Lanes]int64         // requests with batches
	WriteTime    [bus.Lanes]time.Duration // of all these requests together
	Unwritten    [bus.Lanes]int           // messages that wait to be acknowledged now
	Taken        [bus.Lanes]int64         // messages that the owner took, ephemeral ones included
	ReadErrors   [bus.Lanes]int64
	Lag          [bus.Lanes]int64 // messages in the topic that were not delivered yet, as of the last fetch
	Away         bool
	MessagesLost bool
}

type counts struct {
	written, failed, writes, writeTime, taken, readErrors [bus.Lanes]atomic.Int64
}

func (c *counts) wrote(lane bus.Lane, written, failed int, took time.Duration) {
	c.written[lane].Add(int64(written))
	c.failed[lane].Add(int64(failed))
	c.writes[lane].Add(1)
	c.writeTime[lane].Add(int64(took))
}

func (c *counts) read(in *Inbox) Stats {
	s := Stats{Away: in.health.away() != nil, MessagesLost: in.lost.Load() != nil}
	for lane := range bus.Lanes {
		s.Written[lane], s.Failed[lane], s.Writes[lane] = c.written[lane].Load(), c.failed[lane].Load(), c.writes[lane].Load()
		s.WriteTime[lane], s.Taken[lane], s.ReadErrors[lane] = time.Duration(c.writeTime[lane].Load()), c.taken[lane].Load(), c.readErrors[lane].Load()
		s.Unwritten[lane], s.Lag[lane] = in.writers[lane].pending(), in.readers[lane].lag()
	}
	return s
}
