package postgres_test

import (
	"errors"
	"net/url"
	"os"
	"strings"
	"testing"

	"callchain/eventstore"
	"callchain/eventstore/pgtest"
	"callchain/eventstore/storetest"
)

// TestAReadOnlyDatabaseIsAnOutage: the data is not refused, what is read is served, and the next append is stored when the database takes it,
// although sessions that began meanwhile would stay read-only.
func TestAReadOnlyDatabaseIsAnOutage(t *testing.T) {
	database := pgtest.Database(t)
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	alter := "ALTER DATABASE " + strings.TrimPrefix(u.Path, "/")
	s := openAt(t, database)
	w := storetest.Claim(t, s, 1)
	w.Append(t, s, "window/a")
	pgtest.Exec(t, os.Getenv(pgtest.Variable), alter+" SET default_transaction_read_only = on")
	pgtest.Exec(t, database, killOthers)
	for range 20 {
		_, err := s.Append(t.Context(), storetest.Of(storetest.NewID(), w.Batch("window/a")))
		var outage *eventstore.OutageError
		var refused *eventstore.RefusedError
		if !errors.As(err, &outage) || outage.Reason != eventstore.ReasonReadOnly || errors.As(err, &refused) {
			t.Fatalf("Append = %v, want an outage", err)
		}
		if _, err := s.Claim(t.Context(), "n", []int32{2}); !errors.As(err, &outage) {
			t.Fatalf("Claim = %v, want an outage", err)
		}
		if events, err := s.Partition(t.Context(), 1, 0, 10); err != nil || len(events) != 1 {
			t.Fatalf("Partition = %d events, %v", len(events), err)
		}
	}
	pgtest.Exec(t, os.Getenv(pgtest.Variable), alter+" RESET default_transaction_read_only")
	eventually(t, func() bool {
		id, p := storetest.NewID(), w.Batch("window/a")
		fenced, err := s.Append(t.Context(), storetest.Of(id, p))
		return err == nil && len(fenced) == 0
	})
}
