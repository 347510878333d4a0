package sim_test

import (
	"flag"
	"reflect"
	"testing"

	"callchain/engine/sim"
)

var (
	seeds = flag.Uint64("sim.seeds", 0, "how many worlds to let live; 0 is 300, 60 with -race, 30 with -short")
	first = flag.Uint64("sim.first", 1, "the first seed")
)

// TestWorlds runs worlds and checks the promises. A failure names its seed: -sim.first=SEED -sim.seeds=1.
func TestWorlds(t *testing.T) {
	n := *seeds
	if n == 0 {
		n = seedsDefault
		if testing.Short() {
			n = 30
		}
	}
	var sum sim.Report
	for seed := *first; seed < *first+n; seed++ {
		r, err := sim.Run(seed, sim.Sound)
		if err != nil {
			t.Fatal(err)
		}
		add(&sum, r)
	}
	t.Logf("%d worlds: %s", n, sum)
	if *seeds == 0 {
		wantEventful(t, sum)
	}
}

// add sums reports field by field.
func add(sum *sim.Report, r sim.Report) {
	to, from := reflect.ValueOf(sum).Elem(), reflect.ValueOf(r)
	for i := range to.NumField() {
		to.Field(i).SetInt(to.Field(i).Int() + from.Field(i).Int())
	}
}

// wantEventful fails if the worlds had no faults: they would prove nothing.
func wantEventful(t *testing.T, sum sim.Report) {
	t.Helper()
	v := reflect.ValueOf(sum)
	for i := range v.NumField() {
		if v.Field(i).Int() == 0 {
			t.Errorf("in all worlds together there were no %s", v.Type().Field(i).Name)
		}
	}
}

// TestSameSeedSameWorld: a failure can be reproduced.
func TestSameSeedSameWorld(t *testing.T) {
	a, err := sim.Run(7, sim.Sound)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := sim.Run(7, sim.Sound); err != nil || a != b {
		t.Errorf("seed 7 gives %v, then %v (%v)", a, b, err)
	}
}

// TestFaultsAreFound: each injected fault is found within a few worlds.
func TestFaultsAreFound(t *testing.T) {
	for name, fault := range sim.Faults() {
		t.Run(name, func(t *testing.T) {
			const most = 50
			for seed := uint64(1); seed <= most; seed++ {
				if _, err := sim.Run(seed, fault); err != nil {
					t.Logf("found with seed %d: %.200s", seed, err)
					return
				}
			}
			t.Errorf("not found in %d worlds", most)
		})
	}
}
