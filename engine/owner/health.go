package owner

import (
	"fmt"
	"time"

	"callchain/engine/bus"
	"callchain/engine/rpc"
)

// health is how the store is, and what keeps the owner from working.
type health struct {
	assigned bool           // it is known which partitions are this process's
	begun    bool           // partitions were loaded once
	pause    rpc.Instant    // until then the store is left in peace
	failures int            // since something succeeded
	outage   bool           // the store could not write, and nothing was stored since
	problem  string         // why nothing can be done, "" if nothing is wrong
	lost     *bus.LostError // what the inbox has lost
}

func (h *health) claimed() { h.begun, h.lost = true, nil }

func (h *health) appended() { h.failures, h.outage = 0, false }

// backOff leaves a store in peace that answers but does not append, longer each time.
func (h *health) backOff(now rpc.Instant) {
	const first, latest = 5 * time.Millisecond, 500 * time.Millisecond
	h.pause = now.Add(min(first<<min(h.failures, 10), latest))
	h.failures++
}

// Status is what keeps the owner from working, nothing if nothing does: what it cannot do anything about, and what it is doing.
type Status struct {
	Problem string         // "" if there is none
	Loading string         // likewise
	Begun   bool           // partitions were loaded once
	Lost    *bus.LostError // what the inbox lost before anything could be loaded, nil if it is not so
}

// OK tells whether nothing keeps the owner from working.
func (s *Status) OK() bool { return s.Problem == "" && s.Loading == "" }

// Status says how the owner is.
func (o *Owner) Status() (s Status) {
	var loading []int32
	for i := range o.mem.parts {
		if p := &o.mem.parts[i]; p.wanted && p.state != owned {
			loading = append(loading, p.number)
		}
	}
	if len(loading) > 0 {
		s.Loading = fmt.Sprintf("partitions are being loaded: %v", loading)
	}
	h := &o.health
	if s.Begun = h.begun; !s.Begun {
		s.Lost = h.lost
	}
	doubtful := h.outage && (o.appending != nil || o.queue.count > 0 || !o.rec.batch.empty() || o.mem.now < h.pause)
	if len(loading) == 0 && h.assigned && !doubtful {
		h.problem = ""
	}
	if s.Problem = h.problem; !h.assigned {
		s.Problem = "this node waits for its share of the partitions"
	}
	return s
}
