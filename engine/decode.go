package engine

import (
	"fmt"
	"strings"

	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/eventstore"

	"github.com/google/uuid"
)

// DecodeCall reads a stored event of a call or a device.
func DecodeCall(e *eventstore.Event) (rpc.Event, error) {
	ev := rpc.Event{Meta: metaOf(e)}
	if rest, ok := strings.CutPrefix(e.Stream, "rpc/"); ok && len(rest) == 73 {
		call, err := uuid.Parse(rest[37:])
		if err != nil {
			return ev, fmt.Errorf("stream name %q: %w", e.Stream, err)
		}
		ev.Call = call
	}
	fact, err := rpc.DecodeFact(e.Type, e.TypeVersion, e.Data)
	ev.Fact = fact
	return ev, err
}

func metaOf(e *eventstore.Event) rpc.Meta {
	return rpc.Meta{
		At: rpc.Instant(e.At), Occurred: rpc.Instant(e.Occurred), Actor: e.Actor, Cause: e.Cause, Hops: e.Hops, Trace: e.Trace, Chain: e.ChainVersion,
	}
}

// decodeRun folds the stored events of a run.
func decodeRun(events []eventstore.Event) (step.Run, error) {
	var run step.Run
	for i := range events {
		f, ok, err := step.DecodeRunFact(events[i].Type, events[i].Data)
		if err != nil || !ok {
			return run, fmt.Errorf("%s version %d: not a fact of a run (%s): %w", events[i].Stream, events[i].Version, events[i].Type, err)
		}
		run = step.EvolveRun(run, f)
		run.Tenant, run.Device = events[i].Tenant, events[i].Device
	}
	return run, nil
}
