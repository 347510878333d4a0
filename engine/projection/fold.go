package projection

import (
	"fmt"
	"strings"

	"callchain/engine/rpc"
	"callchain/eventstore"

	"github.com/google/uuid"
)

// The lengths of a call's stream name, rpc/<tenant>/<call>, in bytes.
const (
	callPrefix = "rpc/"
	idLength   = 36
	callAt     = len(callPrefix) + idLength + 1
)

// IsCall tells whether a stream is that of a call.
func IsCall(stream string) bool { return strings.HasPrefix(stream, callPrefix) }

// StreamOf is the name of a call's stream.
func StreamOf(tenant, call uuid.UUID) string {
	name := make([]byte, 0, callAt+idLength)
	name = append(append(name, callPrefix...), tenant.String()...)
	return string(append(append(name, '/'), call.String()...))
}

// DecodeCall reads a stored event of a call or of a device. Errors: the stream's name holds no id, or rpc.DecodeFact's.
func DecodeCall(e *eventstore.Event) (rpc.Event, error) {
	ev := rpc.Event{Meta: rpc.Meta{
		At: rpc.Instant(e.At), Occurred: rpc.Instant(e.Occurred), Actor: e.Actor, Cause: e.Cause, Hops: e.Hops, Trace: e.Trace, Chain: e.ChainVersion,
	}}
	if IsCall(e.Stream) && len(e.Stream) == callAt+idLength {
		call, err := uuid.Parse(e.Stream[callAt:])
		if err != nil {
			return ev, fmt.Errorf("stream name %q: %w", e.Stream, err)
		}
		ev.Call = call
	}
	fact, err := rpc.DecodeFact(e.Type, e.TypeVersion, e.Data)
	ev.Fact = fact
	return ev, err
}

// Apply brings a call forward by the next event of its stream, fact being what DecodeCall made of it. Of the zero Call it begins at the
// first event. What is only due (rpc.Settings decide that) is no part of a row and is not kept right.
func (c *Call) Apply(e *eventstore.Event, fact rpc.Event) {
	c.Tenant, c.Device, c.Partition, c.Version, c.State.ID = e.Tenant, e.Device, e.Partition, e.Version, fact.Call
	c.State = rpc.EvolveCall(c.State, fact, rpc.Settings{})
	c.Body = rpc.EvolveBody(c.Body, fact.Fact)
	if c.Ended == 0 && c.State.Phase.Terminal() {
		c.Ended = fact.At
	}
}

// HasRow tells whether a call has a row of Calls: a persistent one from its first event on, a light one from its end on.
func (c *Call) HasRow() bool { return c.State.Persistent || c.State.Phase.Terminal() }
