package serve

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// giveBack returns memory to the system when the server has become quiet: after a storm of connections or a burst of calls, the runtime
// keeps what the burst took and would give it back over many minutes. Under load nothing is done.
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
	}
}
