package kafka

import "callchain/engine/bus"

var _ bus.Peeker = (*Inbox)(nil)

// First implements bus.Peeker: of what was read and not taken.
func (in *Inbox) First(lane bus.Lane) (bus.Message, bool) { return in.waiting.First(lane) }
