package storetest

import (
	"slices"
	"testing"

	"callchain/eventstore"
)

// Faults runs Verify and gives the faults it finds, in its order.
func Faults(t testing.TB, s eventstore.Store) []eventstore.Fault {
	t.Helper()
	var faults []eventstore.Fault
	_, err := eventstore.Verify(t.Context(), s, func(p eventstore.Problem) {
		t.Log(p)
		faults = append(faults, p.Fault)
	})
	if err != nil {
		t.Fatalf("Verify: %v", err)
	}
	return faults
}

func soundStoreVerifies(t testing.TB, at Site) {
	s := at.Open()
	a, b := Claim(t, s, 1), Claim(t, s, 2)
	Claim(t, s, 3)
	for range 5 {
		a.Append(t, s, "device/a", "device/b", "device/a", CallStream())
		b.Append(t, s, CallStreams(3)...)
	}
	sum, err := eventstore.Verify(t.Context(), s, func(p eventstore.Problem) { t.Error(p) })
	if want := (eventstore.Summary{Partitions: 3, Events: 35, Streams: 22}); err != nil || sum != want {
		t.Errorf("Verify = %+v, %v, want %+v", sum, err, want)
	}
}

// Tampering is a change of the database behind the store's back, in words that each adapter translates to SQL.
type Tampering struct {
	Name  string
	SQL   string // the event at seq 6 of partition 1 has a payload with "setGpio", version 2 of device/b
	Fault []eventstore.Fault
}

// Tamperings lists what Verify must find. The SQL is good for both databases.
func Tamperings() []Tampering {
	only := func(f ...eventstore.Fault) []eventstore.Fault { return f }
	const sixth = " WHERE partition = 1 AND seq = 6"
	return []Tampering{
		{"a byte of the data", `UPDATE events SET data = '{"method":"setGpiO"}'` + sixth, only(eventstore.FaultChanged)},
		{"a time", `UPDATE events SET at = at + 1, occurred = at + 1` + sixth, only(eventstore.FaultChanged)},
		{"the actor", `UPDATE events SET actor = 'user:other'` + sixth, only(eventstore.FaultChanged)},
		{"the type", `UPDATE events SET type = 'CallFailed'` + sixth, only(eventstore.FaultChanged)},
		{"a version", `UPDATE events SET version = 7` + sixth, only(eventstore.FaultVersion, eventstore.FaultVersion)},
		{"a missing event", `DELETE FROM events` + sixth, only(eventstore.FaultMissing, eventstore.FaultVersion)},
		{"a missing stream", `DELETE FROM events WHERE stream = (SELECT stream FROM events` + sixth + `)`, only(eventstore.FaultMissing, eventstore.FaultMissing, eventstore.FaultMissing)},
		{"a cut tail", `DELETE FROM events WHERE partition = 1 AND seq > 9`, only(eventstore.FaultMissing)},
		{"a partition emptied", `DELETE FROM events WHERE partition = 1`, only(eventstore.FaultMissing)},
		{"a cut tail and checkpoint", `UPDATE checkpoints SET seq = 10 WHERE partition = 1`, only(eventstore.FaultHead, eventstore.FaultSurplus)},
	}
}

// Tampered fills a store so that the tamperings have something to change, applies one and checks that Verify finds it.
func Tampered(t testing.TB, s eventstore.Store, x Tampering, exec func(sql string) error) {
	t.Helper()
	w := Claim(t, s, 1)
	for range 3 {
		w.Append(t, s, CallStream(), "device/b", "device/a", "device/a")
	}
	if faults := Faults(t, s); len(faults) > 0 {
		t.Fatalf("before the tampering Verify finds %v", faults)
	}
	if err := exec(x.SQL); err != nil {
		t.Fatalf("tampering: %v", err)
	}
	if faults := Faults(t, s); !slices.Equal(faults, x.Fault) {
		t.Errorf("Verify finds %v, want %v", faults, x.Fault)
	}
}
