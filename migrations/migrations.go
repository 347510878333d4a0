// Package migrations holds the SQL of both databases and brings a database up to it.
//
// There are four sets: events (the event store), its later indexes, the registry and its outbox. On SQLite the event store has a file of its own, because SQLite has one
// writer a file; on PostgreSQL all share a database. Each set has its own version table.
package migrations

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"callchain/eventstore"
)

// Dialect names a database: its folder in a set.
type Dialect string

// The databases.
const (
	SQLite   Dialect = "sqlite"
	Postgres Dialect = "postgres"
)

// Set is the history of one schema.
type Set struct {
	Files fs.FS  // holds the folders sqlite and postgres with files 00001_name.sql, … in goose's format
	Table string // keeps the versions that were applied
}

//go:embed sqlite/*.sql postgres/*.sql
var events embed.FS

// The version tables. A database that has tables but neither of the first two belongs to somebody else.
const (
	EventsTable   = "callchain_schema"
	RegistryTable = "callchain_registry_schema"
	OutboxTable   = "callchain_outbox_schema"
	IndexesTable  = "callchain_indexes_schema"
)

// Events is the set of the event store.
func Events() Set { return Set{Files: events, Table: EventsTable} }

// Up applies what is missing of sets, one after the other. It stores nothing and fails with eventstore.ErrForeign if the database holds tables but neither set's
// version table, and with eventstore.ErrNewer if a newer program migrated it. Several nodes may call it at once on PostgreSQL; db must then
// allow two connections.
func Up(ctx context.Context, db *sql.DB, d Dialect, sets ...Set) error {
	if err := checkOwner(ctx, db, d); err != nil {
		return err
	}
	for _, s := range sets {
		if err := up(ctx, db, d, s); err != nil {
			return err
		}
	}
	return nil
}

func up(ctx context.Context, db *sql.DB, d Dialect, s Set) error {
	p, err := provider(db, d, s)
	if err != nil {
		return fmt.Errorf("preparing the migrations of %s: %w", s.Table, err)
	}
	sources := p.ListSources()
	current, err := p.GetDBVersion(ctx)
	if err != nil {
		return fmt.Errorf("reading the version in %s: %w", s.Table, err)
	}
	if newest := sources[len(sources)-1].Version; current > newest {
		return fmt.Errorf("%s is at version %d, this program knows %d: %w", s.Table, current, newest, eventstore.ErrNewer)
	}
	if _, err = p.Up(ctx); err != nil {
		return fmt.Errorf("migrating %s: %w", s.Table, err)
	}
	return nil
}

func provider(db *sql.DB, d Dialect, s Set) (*goose.Provider, error) {
	files, err := fs.Sub(s.Files, string(d))
	if err != nil {
		return nil, err
	}
	options := []goose.ProviderOption{goose.WithTableName(s.Table), goose.WithDisableGlobalRegistry(true)}
	switch d {
	case SQLite:
		return goose.NewProvider(goose.DialectSQLite3, db, files, options...)
	case Postgres:
		// Nodes that start together wait for one another: a try a second, for two minutes.
		locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 120))
		if err != nil {
			return nil, err
		}
		return goose.NewProvider(goose.DialectPostgres, db, files, append(options, goose.WithSessionLocker(locker))...)
	}
	return nil, errors.New("no such database: " + string(d))
}

func checkOwner(ctx context.Context, db *sql.DB, d Dialect) error {
	query := `SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\_%' ESCAPE '\' ORDER BY name`
	if d == Postgres {
		query = `SELECT tablename FROM pg_tables WHERE schemaname = current_schema() ORDER BY tablename`
	}
	tables, err := texts(ctx, db, query)
	if err != nil {
		return fmt.Errorf("listing the tables of the database: %w", err)
	}
	if len(tables) == 0 || slices.Contains(tables, EventsTable) || slices.Contains(tables, RegistryTable) {
		return nil
	}
	return fmt.Errorf("it holds the table %s and %d others, but no %s: name an empty database: %w",
		tables[0], len(tables)-1, EventsTable, eventstore.ErrForeign)
}

func texts(ctx context.Context, db *sql.DB, query string) ([]string, error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, rows.Err()
}
