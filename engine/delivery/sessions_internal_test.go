package delivery

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"callchain/transports"

	"github.com/google/uuid"
)

// TestSessionsOfADevice compares what is found by device with a list, while connections come and go.
func TestSessionsOfADevice(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	id := func(n int) uuid.UUID { return uuid.UUID{15: byte(random.IntN(n))} }
	s, all := newSessions(), map[uuid.UUID]transports.Session{}
	for range 5000 {
		if random.IntN(2) == 0 {
			one := transports.Session{ID: id(40), Secondary: random.IntN(3) == 0, Transport: "mqtt"}
			one.Identity.Device, one.Identity.Credentials = id(6), int64(random.IntN(3))
			s.add(one)
			all[one.ID] = one
		} else {
			gone := id(40)
			_, had := all[gone]
			if found := s.remove(gone); (found != nil) != had {
				t.Fatalf("removing %s gives %v", gone, found)
			}
			delete(all, gone)
		}
		device, version := id(6), int64(random.IntN(4))
		want := map[uuid.UUID]bool{}
		placed := 0
		for _, one := range all {
			if one.Identity.Device == device && one.Identity.Credentials < version {
				want[one.ID] = true
			}
			if !one.Secondary {
				placed++
			}
		}
		got := map[uuid.UUID]bool{}
		for _, one := range s.olderThan(device, version) {
			got[one.ID] = true
		}
		if !maps.Equal(got, want) {
			t.Fatalf("of the device are found %v, want %v", slices.Collect(maps.Keys(got)), slices.Collect(maps.Keys(want)))
		}
		if s.count("mqtt") != placed || len(s.byID) != len(all) {
			t.Fatalf("%d devices are counted in %d connections, want %d in %d", s.count("mqtt"), len(s.byID), placed, len(all))
		}
	}
	for one := range all {
		s.remove(one)
	}
	if len(s.byDevice) > 0 {
		t.Errorf("without connections, %d devices are left", len(s.byDevice))
	}
}
