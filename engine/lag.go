package engine

import (
	"sync/atomic"
	"time"

	"callchain/engine/bus"
	"callchain/engine/rpc"
	"callchain/engine/step"
)

// inHand is, by lane, when the oldest command that the owner has taken and not committed was sent: microseconds since 1970, 0 if there is
// none.
type inHand [bus.Lanes]atomic.Int64

// note takes over what a batch holds.
func (h *inHand) note(oldest [bus.Lanes]rpc.Instant) {
	for lane := range oldest {
		h[lane].Store(int64(oldest[lane]))
	}
}

// oldest is how long the oldest command of a lane has been waiting to be committed.
func (e *Engine) oldest(lane bus.Lane) time.Duration {
	since := rpc.Instant(e.inHand[lane].Load())
	if p, ok := e.inbox.(bus.Peeker); ok {
		if m, ok := p.First(lane); ok {
			if cmd, ok := m.Value.(step.Command); ok && (since == 0 || cmd.Occurred < since) {
				since = cmd.Occurred
			}
		}
	}
	if since == 0 {
		return 0
	}
	return max(0, e.now().Sub(since.Time()))
}

// notes takes down when the first command of a lane in the batch was sent.
func (b *batch) notes(lane bus.Lane, cmd *step.Command) {
	if b.oldest[lane] == 0 {
		b.oldest[lane] = cmd.Occurred
	}
}
