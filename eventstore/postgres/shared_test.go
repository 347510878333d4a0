package postgres_test

import (
	"errors"
	"strings"
	"testing"

	"callchain/eventstore"
	"callchain/eventstore/pgtest"
	"callchain/eventstore/storetest"
)

// killHolders ends the sessions that hold advisory locks.
var killHolders = strings.Replace(killOthers, "application_name = 'callchain'",
	"pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))", 1)

// TestALostSharedLockStopsNobody: the session that holds the shared lock ends. The epochs fence, so appends and claims go on, and the lock is taken
// again.
func TestALostSharedLockStopsNobody(t *testing.T) {
	database := pgtest.Database(t)
	w, through := newWire(t, database)
	s, lone := openAt(t, through), openAt(t, database)
	if err := s.Shared(t.Context()); err != nil {
		t.Fatal(err)
	}
	owner := storetest.Claim(t, s, 1)
	for range 5 {
		w.refuse(true) // no way back until it was seen that nobody is stopped
		pgtest.Exec(t, database, killHolders)
		for range 50 {
			owner.Append(t, s, "window/a")
		}
		storetest.Claim(t, s, 2)
		w.refuse(false)
		eventually(t, func() bool { return sharers(t, database) == 1 })
		if err := lone.Exclusive(t.Context()); !errors.Is(err, eventstore.ErrInUse) {
			t.Fatalf("Exclusive = %v, want ErrInUse: the lock was not taken again", err)
		}
	}
}

// sharers is the number of sessions that hold the lock together.
func sharers(t *testing.T, database string) (n int) {
	t.Helper()
	conn := connect(t, database)
	const query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock' AND granted" +
		" AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
	if err := conn.QueryRow(t.Context(), query).Scan(&n); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestAnExclusiveHolderStopsWhoLostTheSharedLock: another process took the store for itself while the session was away.
func TestAnExclusiveHolderStopsWhoLostTheSharedLock(t *testing.T) {
	database := pgtest.Database(t)
	w, through := newWire(t, database)
	s, lone := openAt(t, through), openAt(t, database)
	if err := s.Shared(t.Context()); err != nil {
		t.Fatal(err)
	}
	owner := storetest.Claim(t, s, 1)
	owner.Append(t, s, "window/a")

	w.refuse(true) // no way back for the first
	pgtest.Exec(t, database, killHolders)
	eventually(t, func() bool { return lone.Exclusive(t.Context()) == nil })
	w.refuse(false)
	eventually(t, func() bool {
		_, err := s.Append(t.Context(), storetest.Of(storetest.NewID(), owner.Batch()))
		return errors.Is(err, eventstore.ErrInUse)
	})
	if _, err := s.Claim(t.Context(), "n", []int32{1}); !errors.Is(err, eventstore.ErrInUse) {
		t.Errorf("Claim = %v, want ErrInUse", err)
	}
	if _, err := s.Partition(t.Context(), 1, 0, 10); err != nil {
		t.Errorf("Partition = %v: reads go on", err)
	}
	if err := lone.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool {
		fenced, err := s.Append(t.Context(), storetest.Of(storetest.NewID(), owner.Batch()))
		return err == nil && len(fenced) == 0
	})
}
