package registry

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"callchain/registry/password"

	"github.com/google/uuid"
)

// Dialect is the kind of database.
type Dialect string

// The dialects. Both run the same statements; they differ in how ids are stored and rows are locked.
const (
	SQLite   Dialect = "sqlite"
	Postgres Dialect = "postgres"
)

// Options are the settings of a registry. The zero value of each field but Partitions and Key takes its default.
type Options struct {
	Partitions   int              // fixed at install; another number than the stored one is refused
	Key          [32]byte         // auth.key: seals the keys that live in the store
	CacheDevices int              // devices held in memory, 100,000 by default
	Hasher       *password.Hasher // password.New(password.Default) by default
	Now          func() time.Time // time.Now by default
	Shared       bool             // other processes use the database, too: changes are kept in the outbox until they are told of
	RevokedFor   time.Duration    // how long a revoked token could still be used, 7 days (the life of refresh tokens) by default
}

// Registry answers who and what there is. Its methods may be used from many goroutines.
type Registry struct {
	db      *sql.DB
	dialect Dialect
	opt     Options
	devices *cache[uuid.UUID, *Facts]
	writing chan struct{} // SQLite has one writer; waiting here obeys the context, waiting in SQLite polls
	revoked revocations
	process uuid.UUID // this one, in the outbox

	generation atomic.Uint64

	listenersMu sync.Mutex
	listeners   atomic.Pointer[[]func(Change)]
}

// ErrPartitions: the number of partitions given is not the one that the registry was installed with.
var ErrPartitions = errors.New("the number of partitions is fixed at install")

// Open uses a database whose schema is up to date (package migrations, set "registry"). The pool stays the caller's to close.
// It fails with ErrPartitions, with ErrWrongKey, or with the database's error.
func Open(ctx context.Context, db *sql.DB, dialect Dialect, opt Options) (*Registry, error) {
	if dialect != SQLite && dialect != Postgres {
		return nil, fmt.Errorf("%w: database dialect %q: use %q or %q", ErrInvalid, dialect, SQLite, Postgres)
	}
	if opt.Partitions < 1 {
		return nil, fmt.Errorf("%w: partitions must be at least 1, is %d", ErrInvalid, opt.Partitions)
	}
	opt = opt.withDefaults()
	r := &Registry{
		db: db, dialect: dialect, opt: opt,
		devices: newCache[uuid.UUID, *Facts](opt.CacheDevices, shardOfID),
		writing: make(chan struct{}, writersOf(dialect)), process: newID(),
	}
	if err := r.install(ctx); err != nil {
		return nil, err
	}
	if err := r.checkKey(ctx); err != nil {
		return nil, err
	}
	if err := r.loadRevocations(ctx); err != nil {
		return nil, err
	}
	return r, nil
}

func (o Options) withDefaults() Options {
	if o.CacheDevices == 0 {
		o.CacheDevices = 100_000
	}
	if o.Hasher == nil {
		o.Hasher = password.New(password.Default)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.RevokedFor == 0 {
		o.RevokedFor = 7 * 24 * time.Hour
	}
	return o
}

// writersOf bounds the transactions at a time: one writes to a SQLite file; PostgreSQL gains nothing from more than its cores.
func writersOf(d Dialect) int {
	if d == SQLite {
		return 1
	}
	return 16
}

// install fixes the number of partitions at the first start and compares it at every later one.
func (r *Registry) install(ctx context.Context) error {
	err := r.write(ctx, func(tx *tx) error {
		_, err := tx.exec(`INSERT INTO install (id, partitions, created) VALUES (1, $1, $2) ON CONFLICT DO NOTHING`,
			r.opt.Partitions, r.now())
		return err
	})
	if err != nil {
		return fmt.Errorf("installing the registry: %w", err)
	}
	var stored int
	if err := r.query(ctx).row(`SELECT partitions FROM install WHERE id = 1`).Scan(&stored); err != nil {
		return fmt.Errorf("reading the number of partitions: %w", err)
	}
	if stored != r.opt.Partitions {
		return fmt.Errorf("%w: partitions is %d, this installation has %d: set partitions to %d",
			ErrPartitions, r.opt.Partitions, stored, stored)
	}
	return nil
}

// now is the time in the unit of the database, microseconds since 1970.
func (r *Registry) now() int64 { return r.opt.Now().UnixMicro() }

func fromMicros(us int64) time.Time { return time.UnixMicro(us).UTC() }
