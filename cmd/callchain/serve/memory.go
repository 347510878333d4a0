package serve

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// growLeast is how much the heap may grow between two collections, in bytes, however little of it is live: a collection also scans the stacks of all
// connections, which costs more than a small heap.
const growLeast = 32 << 20

// gcPercent is the collector's target for a live heap: at least its default of 100.
func gcPercent(live uint64) int {
	const smallest = 4 << 20
	return int(max(100, growLeast*100/max(live, smallest)))
}

// giveBack returns memory to the system when the server has become quiet: after a storm of connections or a burst of calls, the runtime
// keeps what the burst took and would give it back over many minutes. It also paces the collector.
func giveBack(ctx context.Context) error {
	const (
		look  = 2 * time.Second
		worth = 8 << 20 // bytes that are free and still the process's
	)
	sample := []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"},
		{Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
	}
	tick := time.NewTicker(look)
	defer tick.Stop()
	var before uint64
	pace := os.Getenv("GOGC") == "" // else the operator has set it
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		metrics.Read(sample)
		allocated, live, objects := sample[0].Value.Uint64(), sample[3].Value.Uint64(), sample[4].Value.Uint64()
		spare := sample[1].Value.Uint64() + sample[2].Value.Uint64() + objects - min(objects, live)
		if allocated-before < worth/4 && spare > worth {
			debug.FreeOSMemory()
		}
		before = allocated
		if pace {
			debug.SetGCPercent(gcPercent(live))
		}
	}
}
