package storetest_test

import (
	"runtime"
	"slices"
	"sync/atomic"
	"testing"

	"callchain/engine/projection/projectiontest"
	"callchain/eventstore"
	"callchain/eventstore/storetest"
)

func memoryWith(f faults) storetest.Database {
	return func(testing.TB) func() eventstore.Store {
		s := &shared{
			faults: f, checkpoints: map[int32]eventstore.Checkpoint{}, events: map[int32][]eventstore.Event{},
			rows: map[*eventstore.Table][][]any{}, sharing: map[*memory]bool{},
		}
		return func() eventstore.Store { return &memory{shared: s} }
	}
}

func TestTheSuitePassesASoundStore(t *testing.T) {
	storetest.Run(t, projectiontest.Tables(), memoryWith(faults{}))
}

// verdict is a test that may fail without failing ours.
type verdict struct {
	testing.TB
	failed atomic.Bool
}

func (v *verdict) Error(...any)          { v.failed.Store(true) }
func (v *verdict) Errorf(string, ...any) { v.failed.Store(true) }
func (v *verdict) Log(...any)            {}
func (v *verdict) Logf(string, ...any)   {}
func (v *verdict) Fatal(...any)          { v.failed.Store(true); runtime.Goexit() }
func (v *verdict) Fatalf(string, ...any) { v.failed.Store(true); runtime.Goexit() }

// TestTheSuiteFailsABrokenStore plants one mistake at a time and names the case that must find it.
func TestTheSuiteFailsABrokenStore(t *testing.T) {
	for _, c := range []struct {
		name    string
		planted faults
	}{
		{"a zombie appends between claim and load", faults{noFence: true}},
		{"a batch that was stored is appended again", faults{noRetry: true}},
		{"claims grow epochs", faults{noFence: true}},
		{"one fenced partition among eight", faults{allOrNothing: true}},
		{"one fenced partition among eight", faults{rowsOfFenced: true}},
		{"two writers begin the same stream", faults{noConflict: true}},
		{"a conflict leaves nothing behind", faults{partialRefusal: true}},
		{"events come back byte for byte", faults{dropsOccurred: true}},
		{"rows are written in their last state", faults{firstRow: true}},
		{"exclusive refuses a second holder", faults{freeForAll: true}},
		{"those who share keep an exclusive holder out", faults{freeForAll: true}},
		{"those who share keep an exclusive holder out", faults{sharedBeside: true}},
		{"many streams are read at once", faults{oneStream: true}},
		{"many streams are read at once", faults{twiceStream: true}},
		{"many streams are read at once", faults{deafStreams: true}},
		{"the store is read while streams are read", faults{locksStreams: true}},
		{"pages are bounded by bytes", faults{pageByCount: true}},
		{"readers miss nothing while thirty-two write", faults{skips: true}},
		{"a reader misses nothing", faults{skips: true}},
		{"a stale owner of the same epoch is fenced", faults{noSeq: true}},
		{"the caller may use its slices after the append", faults{keepsSlices: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cases := storetest.Cases()
			at := slices.IndexFunc(cases, func(k storetest.Case) bool { return k.Name == c.name })
			if at < 0 {
				t.Fatal("the suite has no such case")
			}
			v := &verdict{TB: t}
			done := make(chan struct{})
			go func() {
				defer close(done)
				cases[at].Run(v, storetest.Site{Open: memoryWith(c.planted)(t), Tables: projectiontest.Tables()})
			}()
			<-done
			if !v.failed.Load() {
				t.Errorf("the case passes a store with %+v", c.planted)
			}
		})
	}
}
