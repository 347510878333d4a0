// Package postgres keeps the event store in PostgreSQL 13 or later: the store of a cluster.
//
// An append is one statement: it is sent whole before the server begins, so that no lock is held while a client pauses.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"callchain/eventstore"
	"callchain/migrations"
)

// Options says where the database is.
type Options struct {
	URL      string // postgres://user:password@host:port/database?sslmode=…; search_path may name a schema
	MaxConns int32  // of the pool; 0 = 8. Exclusive or Shared takes one more
}

// Store is an eventstore.Store on PostgreSQL.
type Store struct {
	pool    *pgxpool.Pool
	months  *months
	hold    hold
	closing sync.Once
	closed  atomic.Bool
}

var errClosed = errors.New("the store is closed")

var _ eventstore.Store = (*Store)(nil)

const maxConnsDefault = 8

// The server ends a statement or an idle transaction of ours after these times in ms, and a connection whose client is gone after half a
// minute, so that a node that was stopped in mid-air holds nothing up.
var runtimeParams = map[string]string{
	"application_name":                    "callchain",
	"statement_timeout":                   "30000",
	"idle_in_transaction_session_timeout": "10000",
	"tcp_keepalives_idle":                 "10",
	"tcp_keepalives_interval":             "5",
	"tcp_keepalives_count":                "4",
}

// Open connects and brings the tables up to date. Errors: eventstore.ErrForeign, eventstore.ErrNewer, or what kept it from connecting (the
// URL's password is not in them).
func Open(ctx context.Context, o Options) (*Store, error) {
	config, err := pgxpool.ParseConfig(o.URL)
	if err != nil {
		return nil, fmt.Errorf("reading the PostgreSQL URL: %w", err)
	}
	where := fmt.Sprintf("%s:%d/%s", config.ConnConfig.Host, config.ConnConfig.Port, config.ConnConfig.Database)
	config.MaxConns = maxConnsDefault
	if o.MaxConns > 0 {
		config.MaxConns = o.MaxConns
	}
	if err := migrate(ctx, *config.ConnConfig); err != nil {
		return nil, fmt.Errorf("opening %s: %w", where, err)
	}
	for name, value := range runtimeParams {
		if _, set := config.ConnConfig.RuntimeParams[name]; !set {
			config.ConnConfig.RuntimeParams[name] = value
		}
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", where, err)
	}
	s := &Store{pool: pool, months: newMonths(pool)}
	s.hold.config = config.ConnConfig
	if err := s.months.ahead(ctx, time.Now()); err != nil {
		pool.Close()
		return nil, fmt.Errorf("opening %s: %w", where, err)
	}
	return s, nil
}

// migrate uses connections of its own: a migration may take longer than a statement, and no prepared statement outlives it.
func migrate(ctx context.Context, config pgx.ConnConfig) error {
	db := stdlib.OpenDB(config)
	return errors.Join(migrations.Up(ctx, db, migrations.Postgres, migrations.Events(), migrations.Indexes()), db.Close())
}

// Exclusive takes a session's advisory lock on a connection of its own. If that connection ends, appends and claims fail until the lock
// was taken again.
func (s *Store) Exclusive(ctx context.Context) error {
	if err := s.hold.take(ctx, exclusively); err != nil {
		return fmt.Errorf("locking the database: %w", err)
	}
	return nil
}

// Shared takes the same lock together with others, on a connection of its own. If that connection ends, it is taken again while appends and
// claims go on; they fail only while somebody is seen to hold the store exclusively.
func (s *Store) Shared(ctx context.Context) error {
	if err := s.hold.take(ctx, together); err != nil {
		return fmt.Errorf("locking the database: %w", err)
	}
	return nil
}

// Now asks the server's clock once: a try that failed would be counted as the way of the answer.
func (s *Store) Now(ctx context.Context) (now time.Time, err error) {
	if err = s.pool.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&now); err != nil {
		return time.Time{}, fmt.Errorf("reading the database's clock: %w", err)
	}
	return now.UTC(), nil
}

// Size is the size of the database in bytes, whatever else is in it.
func (s *Store) Size(ctx context.Context) (n int64, err error) {
	if err = s.pool.QueryRow(ctx, "SELECT pg_database_size(current_database())").Scan(&n); err != nil {
		return 0, fmt.Errorf("measuring the database: %w", err)
	}
	return n, nil
}

// Ping asks the server.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.pool.Ping(ctx); err != nil {
		return fmt.Errorf("pinging PostgreSQL: %w", err)
	}
	return nil
}

// Close waits for the calls in progress and frees the lock.
func (s *Store) Close() error {
	s.closing.Do(func() {
		s.closed.Store(true)
		s.hold.release()
		s.pool.Close()
	})
	return nil
}
