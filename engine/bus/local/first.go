package local

import "callchain/engine/bus"

var _ bus.Peeker = (*Inbox)(nil)

// First implements bus.Peeker.
func (in *Inbox) First(lane bus.Lane) (bus.Message, bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	q := &in.lanes[lane]
	if q.len == 0 {
		return bus.Message{}, false
	}
	return q.buf[q.head], true
}
