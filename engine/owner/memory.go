package owner

import (
	"callchain/chains"
	"callchain/engine/bus"
	"callchain/engine/rpc"
	"callchain/engine/step"

	"github.com/google/uuid"
)

// memory holds everything that is open in the partitions, and a cache of the rest.
type memory struct {
	config   Config
	now      rpc.Instant
	registry uint64 // generation: rows that were read in an earlier one may have changed
	parts    []partition
	tables   tables
	recent   recent
	number   uint64   // of the open batch
	stored   uint64   // of the last batch that is stored
	notices  []Notice // to be handed out
}

func newMemory(c Config) *memory {
	mem := &memory{config: c, parts: make([]partition, c.Partitions), tables: newTables(), recent: newRecent()}
	for p := range mem.parts {
		mem.parts[p].number = int32(p)
	}
	return mem
}

// notice adds a notice for the operator or the metrics.
func (mem *memory) notice(n Notice) { mem.notices = append(mem.notices, n) }

// stamp moves the time of a partition on to now. It never goes back.
func (mem *memory) stamp(part *partition) { part.lastAt = max(part.lastAt, mem.now) }

// processed reports whether the position says that a message was processed before, by this owner or another.
func (mem *memory) processed(m *bus.Message) bool {
	at := mem.parts[m.Partition].cp.Positions[m.Lane]
	return durable(m) && at.Topic == m.Place.Topic && m.Place.Offset < at.Offset
}

// parked implements step.Env: a run that waits.
func (mem *memory) parked(run uuid.UUID) (step.Run, bool) {
	r := mem.tables.runs[run]
	if r == nil {
		return step.Run{}, false
	}
	return r.run, true
}

// pinned implements step.Env: a version of a chain.
func (mem *memory) pinned(v step.Version) (*chains.Program, bool) {
	if p := mem.config.Chain(v.Chain); p != nil && p.Version == v.Number {
		return p, true
	}
	return mem.recent.chains.get(v)
}

// awaitedBy notes that a caller in a process waits for the end of a call.
func (mem *memory) awaitedBy(c *openCall, process string) {
	switch {
	case process == "" && mem.config.Shared:
	case process == "" || process == mem.config.Process:
		c.awaitedHere = true
	default:
		c.addCaller(process)
	}
}

// awaitedOf are the calls of a device that still have a caller.
func (mem *memory) awaitedOf(d *device) (keep []uuid.UUID) {
	for call := range d.state.Open.All() {
		if c := mem.tables.calls[call.ID]; call.Waiting && c != nil && c.awaited() {
			keep = append(keep, call.ID)
		}
	}
	return keep
}

// dueAt is when a call is due, 0 if it is not open. A tick handles everything due by the clock, so its call must not end before the waiting answers are processed.
func (mem *memory) dueAt(t *timer, upTo rpc.Instant) rpc.Instant {
	c := t.device.state.Find(t.id)
	if c == nil {
		return 0
	}
	at := t.device.state.NextDeadline(c)
	if at <= upTo && c.Expires > upTo && c.Expires <= mem.now {
		at = c.Expires
	}
	return at
}
