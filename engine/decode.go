package engine

import (
	"fmt"

	"callchain/engine/step"
	"callchain/eventstore"
)

// decodeRun folds the stored events of a run.
func decodeRun(events []eventstore.Event) (step.Run, error) {
	var run step.Run
	for i := range events {
		f, err := step.DecodeRunFact(events[i].Type, events[i].TypeVersion, events[i].Data)
		if err != nil {
			return run, fmt.Errorf("%s version %d: not a fact of a run (%s): %w", events[i].Stream, events[i].Version, events[i].Type, err)
		}
		run = step.EvolveRun(run, f)
		run.Tenant, run.Device = events[i].Tenant, events[i].Device
	}
	return run, nil
}
