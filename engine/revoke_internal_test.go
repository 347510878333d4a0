package engine

import (
	"testing"
	"time"

	"callchain/transports"

	"github.com/google/uuid"
)

// TestRevocations: the newest version counts, in whatever order they are heard, and each for a while only.
func TestRevocations(t *testing.T) {
	at := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	r, device, other := newRevocations(), uuid.New(), uuid.New()
	covers := func(device uuid.UUID, credentials int64, at time.Time) bool {
		return r.covers(&transports.Identity{Device: device, Credentials: credentials}, at)
	}
	if covers(device, 0, at) {
		t.Error("credentials of which nothing is known are void")
	}
	for _, version := range []int64{3, 2, 0} {
		r.add(device, version, at)
	}
	for credentials, want := range map[int64]bool{1: true, 2: true, 3: false, 4: false} {
		if got := covers(device, credentials, at); got != want {
			t.Errorf("version %d is void: %v, want %v", credentials, got, want)
		}
	}
	if covers(other, 1, at) {
		t.Error("the credentials of another device are void")
	}
	if late := at.Add(revokedFor); covers(device, 1, late) {
		t.Error("credentials are void for ever, also of a change that did not come about")
	} else if r.add(device, 2, late); covers(device, 2, late) || !covers(device, 1, late) {
		t.Error("what is over counts")
	}
}
