package engine

import (
	"time"

	"callchain/engine/bus"
)

// oldestMost is how old the oldest waiting command of a partition's owner may be before new calls are refused, and data is shed. Answers and
// acknowledgements are always taken: they end what is open.
const oldestMost = time.Second

// overloaded tells whether the owner of a partition is so far behind that new calls are refused.
func (e *Engine) overloaded(partition int32) bool { return e.behindBy(partition, bus.RPC) > oldestMost }

// behindBy is the age of the oldest command of a lane that waits for the owner of a partition.
func (e *Engine) behindBy(partition int32, lane bus.Lane) time.Duration {
	if e.members == nil || e.held.has(partition) {
		return e.oldest(lane)
	}
	return e.members.waiting(partition, lane, e.now())
}

// Overloaded tells whether the owners of all partitions are so far behind that no new call would be taken. It costs next to nothing, so that
// what is refused anyhow is refused before work is done for it.
func (e *Engine) Overloaded() bool {
	if len(e.troubles()) > 0 {
		return false // Call says what is wrong
	}
	if e.members == nil {
		return e.oldest(bus.RPC) > oldestMost
	}
	for p := range e.held {
		if !e.overloaded(int32(p)) {
			return false
		}
	}
	return true
}
