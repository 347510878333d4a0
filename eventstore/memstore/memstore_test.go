package memstore_test

import (
	"testing"

	"callchain/engine/projection/projectiontest"
	"callchain/eventstore"
	"callchain/eventstore/memstore"
	"callchain/eventstore/storetest"
)

// TestStore: the store in memory keeps what the real ones keep.
func TestStore(t *testing.T) {
	storetest.Run(t, projectiontest.Tables(), func(testing.TB) func() eventstore.Store {
		s := memstore.New()
		return func() eventstore.Store { return s.Open() }
	})
}
