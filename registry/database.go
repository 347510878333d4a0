package registry

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"callchain/migrations"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// The bounds of the connection pools. Readers of a SQLite file do not disturb each other; more than this many gain nothing.
const (
	sqliteConnections   = 4
	postgresConnections = 8
	statementTimeout    = 30 * time.Second
)

// OpenSQLite opens the registry's file (made with mode 0600), brings its schema up to date and opens the registry on it.
// Close the returned pool last.
func OpenSQLite(ctx context.Context, path string, opt Options) (*Registry, *sql.DB, error) {
	db, err := sqliteFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("opening the registry's database %s: %w", path, err)
	}
	return openOn(ctx, db, SQLite, migrations.SQLite, opt)
}

// OpenPostgres does the same with a PostgreSQL server, named by a URL of the form postgres://user:password@host:port/name.
func OpenPostgres(ctx context.Context, serverURL string, opt Options) (*Registry, *sql.DB, error) {
	config, err := pgx.ParseConfig(serverURL)
	if err != nil {
		return nil, nil, errors.New("opening the registry's database: store.url is no URL of a PostgreSQL server: use postgres://user:password@host:5432/name")
	}
	config.RuntimeParams["statement_timeout"] = fmt.Sprint(statementTimeout.Milliseconds())
	config.RuntimeParams["idle_in_transaction_session_timeout"] = fmt.Sprint(statementTimeout.Milliseconds())
	db := stdlib.OpenDB(*config)
	db.SetMaxOpenConns(postgresConnections)
	db.SetMaxIdleConns(postgresConnections)
	return openOn(ctx, db, Postgres, migrations.Postgres, opt)
}

func openOn(ctx context.Context, db *sql.DB, dialect Dialect, set migrations.Dialect, opt Options) (*Registry, *sql.DB, error) {
	if err := migrations.Up(ctx, db, set, migrations.Registry(), migrations.Outbox()); err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	r, err := Open(ctx, db, dialect, opt)
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return r, db, nil
}

func sqliteFile(path string) (*sql.DB, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	// SQLite would make the file readable by all; its -wal and -shm files take the mode of this one.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	query := url.Values{
		"_txlock": {"immediate"}, // a transaction that reads first must not find at its first write that it is outdated
		"_pragma": {"journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)", "busy_timeout(5000)", "temp_store(memory)"},
	}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: path, RawQuery: query.Encode()}).String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(sqliteConnections)
	db.SetMaxIdleConns(sqliteConnections)
	return db, nil
}
