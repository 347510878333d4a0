package eventstore

import (
	"context"
	"fmt"
	"slices"
	"testing"
)

// history is a store that can only be read: one partition.
type history struct {
	Store
	checkpoint Checkpoint
	events     []Event
}

func (h *history) Checkpoints(context.Context) ([]Checkpoint, error) {
	return []Checkpoint{h.checkpoint}, nil
}

func (h *history) Partition(_ context.Context, _ int32, after int64, limit int) (out []Event, err error) {
	for _, e := range h.events {
		if e.Seq > after && len(out) < limit {
			out = append(out, e)
		}
	}
	return out, nil
}

func (h *history) Stream(_ context.Context, stream string, after int64, limit int) (out []Event, err error) {
	for _, e := range h.events {
		if e.Stream == stream && e.Version > after && len(out) < limit {
			out = append(out, e)
		}
	}
	return out, nil
}

// newHistory has rounds events in each of ten streams.
func newHistory(rounds int) *history {
	h := &history{}
	heads := map[string]Hash{}
	for i := range rounds * 10 {
		e := Event{Stream: fmt.Sprint("window/", i%10), Version: int64(i/10) + 1, Seq: int64(i) + 1, Data: []byte(`{}`)}
		e.Hash = e.Digest(heads[e.Stream])
		heads[e.Stream] = e.Hash
		h.checkpoint.Seq, h.checkpoint.Head = e.Seq, Link(h.checkpoint.Head, e.Hash)
		h.events = append(h.events, e)
	}
	return h
}

func faultsOf(t *testing.T, h *history) (faults []Fault) {
	t.Helper()
	if _, err := Verify(t.Context(), h, func(p Problem) { faults = append(faults, p.Fault) }); err != nil {
		t.Fatal(err)
	}
	return faults
}

// A verification that forgot its heads finds the same by asking the store for the event before.
func TestVerifyFindsTheSameAfterItForgot(t *testing.T) {
	h := newHistory(5)
	h.events[27].Data = []byte(`{"changed":true}`)
	h.events[33].Version += 2
	for _, forget := range []bool{false, true} {
		var faults []Fault
		v := verification{store: h, checkpoint: h.checkpoint, sum: &Summary{}, heads: map[string]head{}, report: func(p Problem) { faults = append(faults, p.Fault) }}
		for i := range h.events {
			if forget {
				clear(v.heads)
				v.forgot = true
			}
			if err := v.event(t.Context(), &h.events[i]); err != nil {
				t.Fatal(err)
			}
		}
		if !slices.Contains(faults, FaultChanged) || !forget && !slices.Contains(faults, FaultVersion) {
			t.Errorf("forgetting %v: Verify finds %v", forget, faults)
		}
		if v.chain != h.checkpoint.Head {
			t.Errorf("forgetting %v: the chain ends elsewhere", forget)
		}
	}
}

func TestVerifyFindsHashesMadeAnew(t *testing.T) {
	h := newHistory(3)
	if faults := faultsOf(t, h); len(faults) > 0 {
		t.Fatalf("Verify finds %v in a sound history", faults)
	}
	// Somebody changes the last event of a stream and its hash, but cannot change a head that is kept elsewhere.
	last := &h.events[29]
	last.Data = []byte(`{"forged":true}`)
	last.Hash = last.Digest(h.events[19].Hash)
	if faults := faultsOf(t, h); !slices.Equal(faults, []Fault{FaultHead}) {
		t.Errorf("Verify finds %v, want the head", faults)
	}
}

func TestVerifyFindsAnEventOfAnotherPartition(t *testing.T) {
	h := newHistory(1)
	h.events[4].Partition = 9
	if faults := faultsOf(t, h); !slices.Equal(faults, []Fault{FaultPlace, FaultChanged}) {
		t.Errorf("Verify finds %v", faults)
	}
}

func TestVerifyTellsThatItCouldNotRead(t *testing.T) {
	h := newHistory(1)
	broken := &failing{history: h}
	if _, err := Verify(t.Context(), broken, func(Problem) {}); err == nil {
		t.Error("Verify hides that it could not read")
	}
}

// failing cannot read events.
type failing struct{ *history }

func (failing) Partition(context.Context, int32, int64, int) ([]Event, error) {
	return nil, context.Canceled
}
