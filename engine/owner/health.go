package owner

import (
	"fmt"
	"time"

	"callchain/engine/bus"
	"callchain/engine/rpc"
)

// health is the state of the store, and what keeps the owner from working.
type health struct {
	assigned bool           // it is known which partitions are this process's
	begun    bool           // partitions were loaded once
	pause    rpc.Instant    // no append before
	failures int            // since something succeeded
	outage   bool           // the store could not write, and nothing was stored since
	problem  string         // why nothing can be done, "" if nothing is wrong
	lost     *bus.LostError // what the inbox has lost
}

func (h *health) claimed() { h.begun, h.lost = true, nil }

func (h *health) appended() { h.failures, h.outage = 0, false }

// backOff delays the next append to a failing store, longer each time.
func (h *health) backOff(now rpc.Instant) {
	const first, latest = 5 * time.Millisecond, 500 * time.Millisecond
	h.pause = now.Add(min(first<<min(h.failures, 10), latest))
	h.failures++
}

// Status is what keeps the owner from working: a problem, or partitions that are being loaded. It is empty when nothing does.
type Status struct {
	Problem string         // "" if there is none
	Loading string         // likewise
	Begun   bool           // partitions were loaded once
	Lost    *bus.LostError // what the inbox lost before anything could be loaded, or nil
}

// OK reports whether nothing keeps the owner from working.
func (s *Status) OK() bool { return s.Problem == "" && s.Loading == "" }

// Status is the owner's status.
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
	stalled := h.outage && (o.appending != nil || o.queue.count > 0 || !o.rec.batch.empty() || o.mem.now < h.pause)
	if len(loading) == 0 && h.assigned && !stalled {
		h.problem = ""
	}
	if s.Problem = h.problem; !h.assigned {
		s.Problem = "this node waits for its share of the partitions"
	}
	return s
}
