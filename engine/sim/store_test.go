package sim_test

import (
	"testing"

	"callchain/engine/sim"
	"callchain/eventstore"
	"callchain/eventstore/storetest"
)

// TestStore: the simulation's store keeps what the real ones keep.
func TestStore(t *testing.T) {
	storetest.Run(t, func(testing.TB) func() eventstore.Store {
		s := sim.NewStore()
		return func() eventstore.Store { return s.Open() }
	})
}
