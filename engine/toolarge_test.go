package engine_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"callchain/engine"
	"callchain/engine/bus"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/transports"
)

// narrow is an inbox that takes no answer, and no call with the method "large".
type narrow struct{ bus.Inbox }

func (n narrow) Put(m bus.Message) error {
	cmd, _ := m.Value.(step.Command) // the engine puts nothing else
	_, call := cmd.Do.(step.Call)
	r, _ := cmd.Do.(step.RPC)
	if _, reply := r.Do.(rpc.Reply); reply || call && strings.Contains(fmt.Sprintf("%+v", cmd.Do), "large") {
		return fmt.Errorf("%w: it has 7 bytes", bus.ErrTooLarge)
	}
	return n.Inbox.Put(m)
}

// TestTooLargeForTheInbox: a message that is too large for the inbox is refused for good. With ErrBusy a device would resend it for ever.
func TestTooLargeForTheInbox(t *testing.T) {
	bubble(t, func(t *testing.T) bus.Inbox { return narrow{durableInbox(t)} }, func(r *rig) {
		d := r.connect("d1", "A")
		r.call("d1", func(q *engine.CallRequest) { q.Method = "large" }).want(engine.ErrTooLarge.Error() + ": " + bus.ErrTooLarge.Error() + ": it has 7 bytes")
		r.call("d1", nil)
		result := make(chan error, 1)
		r.engine.Inbound().Reply(d.session, d.one().Wire, []byte(`1`), func(err error) { result <- err })
		if err := <-result; !errors.Is(err, transports.ErrRefused) || errors.Is(err, transports.ErrBusy) {
			t.Errorf("the device got %v, want that it is refused", err)
		}
	})
}
