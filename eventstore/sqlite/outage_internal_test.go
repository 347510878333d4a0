package sqlite

import (
	"errors"
	"path/filepath"
	"testing"

	"callchain/eventstore"
	"callchain/eventstore/storetest"
)

// TestAReadOnlyDatabaseIsAnOutage: the data is not refused, what is read is served, and the next append is stored when the database takes it.
func TestAReadOnlyDatabaseIsAnOutage(t *testing.T) {
	s, err := Open(t.Context(), Options{Path: filepath.Join(t.TempDir(), "events.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	w := storetest.Claim(t, s, 1)
	w.Append(t, s, "window/a")
	if _, err := s.writer.exec("PRAGMA query_only(true)"); err != nil {
		t.Fatal(err)
	}
	_, err = s.Append(t.Context(), storetest.Of(storetest.NewID(), w.Batch("window/a")))
	var outage *eventstore.OutageError
	var refused *eventstore.RefusedError
	if !errors.As(err, &outage) || outage.Reason != eventstore.ReasonReadOnly || errors.As(err, &refused) {
		t.Errorf("Append = %v, want an outage", err)
	}
	if _, err := s.Claim(t.Context(), "n", []int32{2}); !errors.As(err, &outage) {
		t.Errorf("Claim = %v, want an outage", err)
	}
	if events, err := s.Partition(t.Context(), 1, 0, 10); err != nil || len(events) != 1 {
		t.Errorf("Partition = %d events, %v", len(events), err)
	}
	if _, err := s.writer.exec("PRAGMA query_only(false)"); err != nil {
		t.Fatal(err)
	}
	w.Append(t, s, "window/a")
}
