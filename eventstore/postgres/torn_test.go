package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"callchain/engine/projection"
	"callchain/eventstore"
	"callchain/eventstore/pgtest"
	"callchain/eventstore/storetest"
)

// TestATornCommitIsStoredOnce: the answer to the commit is lost with the connection. The store finds its own append's id and reports success.
func TestATornCommitIsStoredOnce(t *testing.T) {
	database := pgtest.Database(t)
	w, through := newWire(t, database)
	s := openAt(t, through)
	owner := storetest.Claim(t, s, 1)
	owner.Append(t, s, "window/a") // the statement is prepared now, so that the next answer with a tag is the append's
	for n := range 10 {
		w.armed.Store(true)
		row := eventstore.Row{Table: projection.Latest, Values: []any{storetest.NewID(), "k", []byte(`1`), int64(n)}}
		owner.AppendRows(t, s, []eventstore.Row{row}, "window/a", storetest.CallStream())
	}
	if cuts := w.cut.Load(); cuts != 10 {
		t.Fatalf("%d connections were cut, want 10: the test did not do what it says", cuts)
	}
	events, err := s.Partition(t.Context(), 1, 0, 100)
	if err != nil || len(events) != 21 {
		t.Errorf("Partition = %d events, %v, want 21", len(events), err)
	}
	if n, err := s.Count(t.Context(), eventstore.Query{Table: projection.Latest}); err != nil || n != 10 {
		t.Errorf("Count = %d, %v, want 10 rows", n, err)
	}
	if faults := storetest.Faults(t, s); len(faults) > 0 {
		t.Errorf("Verify finds %v", faults)
	}
}

// TestKilledBackends: the server's processes are killed at any moment while an owner appends; each batch is stored once.
func TestKilledBackends(t *testing.T) {
	database := pgtest.Database(t)
	s := openAt(t, database)
	owner := storetest.Claim(t, s, 1)
	ctx, cancel := context.WithCancel(t.Context())
	killed := make(chan error, 1)
	go func() { killed <- killBackends(ctx, t, database) }()
	const batches = 100
	for range batches {
		id, p := storetest.NewID(), owner.Batch("window/a", storetest.CallStream())
		for try := 0; ; try++ {
			fenced, err := s.Append(t.Context(), storetest.Of(id, p))
			if err == nil && len(fenced) == 0 {
				break
			}
			if err == nil || try == 20 {
				t.Fatalf("Append = %v, %v", fenced, err)
			}
		}
		owner.Took(p, id)
	}
	cancel()
	if err := <-killed; err != nil {
		t.Fatal(err)
	}
	if faults := storetest.Faults(t, s); len(faults) > 0 {
		t.Errorf("Verify finds %v", faults)
	}
	if events, err := s.Partition(t.Context(), 1, 0, 1000); err != nil || len(events) != 2*batches {
		t.Errorf("Partition = %d events, %v, want %d", len(events), err, 2*batches)
	}
}

const killOthers = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'callchain'"

func killBackends(ctx context.Context, t *testing.T, database string) error {
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for kills := 0; ; kills++ {
		select {
		case <-ctx.Done():
			if kills == 0 {
				return errors.New("nothing was killed")
			}
			return nil
		case <-tick.C:
			if err := pgtest.TryExec(t, database, killOthers); err != nil {
				return fmt.Errorf("killing: %w", err)
			}
		}
	}
}

// TestALostExclusiveLockStopsAppends: the session that holds the lock is killed and another process takes the lock. Appends fail until it is free.
func TestALostExclusiveLockStopsAppends(t *testing.T) {
	database := pgtest.Database(t)
	w, through := newWire(t, database)
	s, other := openAt(t, through), openAt(t, database)
	if err := s.Exclusive(t.Context()); err != nil {
		t.Fatal(err)
	}
	owner := storetest.Claim(t, s, 1)
	owner.Append(t, s, "window/a")
	if err := other.Exclusive(t.Context()); !errors.Is(err, eventstore.ErrInUse) {
		t.Fatalf("Exclusive by another = %v, want ErrInUse", err)
	}

	w.refuse(true) // no way back for the first
	pgtest.Exec(t, database, strings.Replace(killOthers, "application_name = 'callchain'", "pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory')", 1))
	eventually(t, func() bool { return other.Exclusive(t.Context()) == nil })
	eventually(t, func() bool {
		_, err := s.Append(t.Context(), storetest.Of(storetest.NewID(), owner.Batch()))
		return err != nil
	})
	w.refuse(false)
	eventually(t, func() bool {
		_, err := s.Append(t.Context(), storetest.Of(storetest.NewID(), owner.Batch()))
		return errors.Is(err, eventstore.ErrInUse)
	})
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool {
		id, p := storetest.NewID(), owner.Batch("window/a")
		fenced, err := s.Append(t.Context(), storetest.Of(id, p))
		if err == nil && len(fenced) == 0 {
			owner.Took(p, id)
			return true
		}
		return false
	})
}

// eventually waits for a condition, ten seconds at most.
func eventually(t *testing.T, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-deadline.C:
			t.Fatal("it did not happen within 10 s")
		case <-tick.C:
		}
	}
}
