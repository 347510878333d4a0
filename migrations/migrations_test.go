package migrations_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"testing/fstest"

	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"callchain/eventstore"
	"callchain/eventstore/pgtest"
	"callchain/migrations"
)

func open(t *testing.T, driver, source string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, source)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// databases runs a test on an empty database of each kind.
func databases(t *testing.T, test func(t *testing.T, db *sql.DB, d migrations.Dialect)) {
	t.Run("sqlite", func(t *testing.T) {
		db := open(t, "sqlite", filepath.Join(t.TempDir(), "x.db"))
		db.SetMaxOpenConns(1)
		test(t, db, migrations.SQLite)
	})
	t.Run("postgres", func(t *testing.T) { test(t, open(t, "pgx", pgtest.Database(t)), migrations.Postgres) })
}

func TestAllSetsLiveInOneDatabase(t *testing.T) {
	databases(t, func(t *testing.T, db *sql.DB, d migrations.Dialect) {
		for range 2 { // the second time there is nothing to do
			for _, set := range []migrations.Set{migrations.Registry(), migrations.Outbox(), migrations.Events()} {
				if err := migrations.Up(t.Context(), db, d, set); err != nil {
					t.Fatalf("Up of %s: %v", set.Table, err)
				}
			}
		}
		for _, table := range []string{"events", "checkpoints", "calls", "registry_outbox", migrations.EventsTable, migrations.RegistryTable, migrations.OutboxTable} {
			var n int
			if err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM "+table).Scan(&n); err != nil {
				t.Errorf("table %s: %v", table, err)
			}
		}
	})
}

func TestAForeignDatabaseStaysAsItWas(t *testing.T) {
	databases(t, func(t *testing.T, db *sql.DB, d migrations.Dialect) {
		if _, err := db.ExecContext(t.Context(), "CREATE TABLE photos (id integer)"); err != nil {
			t.Fatal(err)
		}
		if err := migrations.Up(t.Context(), db, d, migrations.Events()); !errors.Is(err, eventstore.ErrForeign) {
			t.Errorf("Up = %v, want ErrForeign", err)
		}
		if _, err := db.ExecContext(t.Context(), "CREATE TABLE "+migrations.EventsTable+" (id integer)"); err != nil {
			t.Errorf("Up left something behind: %v", err)
		}
	})
}

// TestAnOlderProgramRefuses runs a longer history, then a shorter one.
func TestAnOlderProgramRefuses(t *testing.T) {
	files := fstest.MapFS{}
	for _, d := range []string{"sqlite", "postgres"} {
		files[d+"/00001_a.sql"] = &fstest.MapFile{Data: []byte("-- +goose Up\nCREATE TABLE a (id integer);\n")}
		files[d+"/00002_b.sql"] = &fstest.MapFile{Data: []byte("-- +goose Up\nCREATE TABLE b (id integer);\n")}
	}
	newer := migrations.Set{Files: files, Table: migrations.EventsTable}
	older := migrations.Set{Files: fstest.MapFS{"sqlite/00001_a.sql": files["sqlite/00001_a.sql"], "postgres/00001_a.sql": files["postgres/00001_a.sql"]}, Table: migrations.EventsTable}
	databases(t, func(t *testing.T, db *sql.DB, d migrations.Dialect) {
		for _, set := range []migrations.Set{older, newer} {
			if err := migrations.Up(t.Context(), db, d, set); err != nil {
				t.Fatal(err)
			}
		}
		if err := migrations.Up(t.Context(), db, d, older); !errors.Is(err, eventstore.ErrNewer) {
			t.Errorf("Up of the older program = %v, want ErrNewer", err)
		}
	})
}

// TestAFailedMigrationLeavesNothing: a migration is a transaction; mended, it runs.
func TestAFailedMigrationLeavesNothing(t *testing.T) {
	set := func(second string) migrations.Set {
		files := fstest.MapFS{}
		for _, d := range []string{"sqlite", "postgres"} {
			files[d+"/00001_a.sql"] = &fstest.MapFile{Data: []byte("-- +goose Up\nCREATE TABLE a (id integer);\n" + second + "\n")}
		}
		return migrations.Set{Files: files, Table: migrations.EventsTable}
	}
	databases(t, func(t *testing.T, db *sql.DB, d migrations.Dialect) {
		if err := migrations.Up(t.Context(), db, d, set("CREATE TABLE a (id integer);")); err == nil {
			t.Fatal("a migration that makes a table twice succeeds")
		}
		if err := migrations.Up(t.Context(), db, d, set("CREATE TABLE b (id integer);")); err != nil {
			t.Errorf("Up of the mended migration: %v", err)
		}
	})
}

// TestNodesThatStartTogether migrate one after the other.
func TestNodesThatStartTogether(t *testing.T) {
	url := pgtest.Database(t)
	var wg sync.WaitGroup
	errs := make([]error, 3)
	for i := range errs {
		db := open(t, "pgx", url)
		wg.Go(func() {
			errs[i] = migrations.Up(context.WithoutCancel(t.Context()), db, migrations.Postgres, migrations.Events())
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}
