package postgres_test

import (
	"context"
	"errors"
	"testing"

	"callchain/engine/projection/projectiontest"
	"callchain/eventstore"
	"callchain/eventstore/pgtest"
	"callchain/eventstore/postgres"
	"callchain/eventstore/storetest"
	"callchain/migrations"
)

func database(t testing.TB) func() eventstore.Store {
	url := pgtest.Database(t)
	return func() eventstore.Store { return openAt(t, url) }
}

func openAt(t testing.TB, url string) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(context.WithoutCancel(t.Context()), postgres.Options{URL: url})
	if err != nil {
		t.Fatalf("opening: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	return s
}

func TestSuite(t *testing.T) { storetest.Run(t, projectiontest.Tables(), database) }

func TestVerifyFindsTampering(t *testing.T) {
	for _, x := range storetest.Tamperings() {
		t.Run(x.Name, func(t *testing.T) {
			url := pgtest.Database(t)
			storetest.Tampered(t, openAt(t, url), x, func(sql string) error { return pgtest.TryExec(t, url, sql) })
		})
	}
}

func TestForeignDatabaseIsRefused(t *testing.T) {
	url := pgtest.Database(t)
	pgtest.Exec(t, url, "CREATE TABLE photos (id int)")
	if _, err := postgres.Open(t.Context(), postgres.Options{URL: url}); !errors.Is(err, eventstore.ErrForeign) {
		t.Fatalf("Open = %v, want ErrForeign", err)
	}
	pgtest.Exec(t, url, "CREATE TABLE "+migrations.EventsTable+" (id int)") // fails if Open made it
}

func TestNewerDatabaseIsRefused(t *testing.T) {
	url := pgtest.Database(t)
	if err := openAt(t, url).Close(); err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, url, "INSERT INTO "+migrations.EventsTable+" (version_id, is_applied) VALUES (99, true)")
	if _, err := postgres.Open(t.Context(), postgres.Options{URL: url}); !errors.Is(err, eventstore.ErrNewer) {
		t.Fatalf("Open = %v, want ErrNewer", err)
	}
}

func Benchmark(b *testing.B) { storetest.Bench(b, projectiontest.Tables(), database) }
