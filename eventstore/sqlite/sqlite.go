// Package sqlite keeps the event store in one SQLite file, without C: the store of a single node.
//
// WAL with synchronous=FULL: what Append returned is on the disk. One connection writes, several read, one empties the WAL into the database aside
// from the commits.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	driver "modernc.org/sqlite"

	"callchain/eventstore"
	"callchain/migrations"
)

// Options says where the database is.
type Options struct {
	Path    string // of the database file; its folder is created with mode 0700
	Readers int    // connections that read; 0 = 4
}

// Store is an eventstore.Store on SQLite.
type Store struct {
	path   string
	writer *writer
	reader *reader
	wal    *checkpointer

	lockMu sync.Mutex
	lock   *os.File // held by Exclusive until Close

	closing sync.Once
	closed  error
}

var _ eventstore.Store = (*Store)(nil)

const readersDefault = 4

// Open opens the database, creates it if it does not exist and brings its tables up to date. Errors: eventstore.ErrForeign,
// eventstore.ErrNewer, ErrUnfinished, or what kept the file from being opened.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.Path == "" {
		return nil, errors.New("sqlite: the path is empty: name a file")
	}
	if o.Readers <= 0 {
		o.Readers = readersDefault
	}
	if err := os.MkdirAll(filepath.Dir(o.Path), 0o700); err != nil {
		return nil, fmt.Errorf("creating the folder of %s: %w", o.Path, err)
	}
	if err := checkFinished(o.Path); err != nil {
		return nil, fmt.Errorf("opening %s: %w", o.Path, err)
	}
	if err := migrate(ctx, o.Path); err != nil {
		return nil, fmt.Errorf("opening %s: %w", o.Path, err)
	}
	return open(ctx, o)
}

func open(ctx context.Context, o Options) (_ *Store, err error) {
	s := &Store{path: o.Path}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("opening %s: %w", o.Path, err), s.Close())
		}
	}()
	if s.writer, err = newWriter(ctx, o.Path); err != nil {
		return nil, err
	}
	s.reader = newReader(o.Path, o.Readers)
	if s.wal, err = newCheckpointer(ctx, o.Path, s.writer.hold); err != nil {
		return nil, err
	}
	return s, nil
}

// migrate uses a connection of its own, so that no statement outlives a change of the schema.
func migrate(ctx context.Context, path string) error {
	db, err := connect(path, "synchronous(full)")
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	return errors.Join(migrations.Up(ctx, db, migrations.SQLite, migrations.Events(), migrations.Indexes()), db.Close())
}

// dsn names the database file and the pragmas that every connection begins with. Waiting for another process's lock ends after 5 s.
func dsn(path string, pragmas ...string) string {
	q := url.Values{}
	for _, p := range append([]string{"busy_timeout(5000)", "journal_mode(wal)", "temp_store(memory)", "wal_autocheckpoint(0)"}, pragmas...) {
		q.Add("_pragma", p)
	}
	return "file:" + (&url.URL{Path: filepath.ToSlash(path)}).EscapedPath() + "?" + q.Encode()
}

func connect(path string, pragmas ...string) (*sql.DB, error) {
	c, err := driver.NewConnector(dsn(path, pragmas...))
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(c), nil
}

// Exclusive locks the file <path>.lock; the operating system frees the lock when the process ends.
func (s *Store) Exclusive(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.lockMu.Lock()
	defer s.lockMu.Unlock()
	if s.lock != nil {
		return nil
	}
	f, err := lockFile(s.path + ".lock")
	if err != nil {
		return fmt.Errorf("locking %s.lock: %w", s.path, err)
	}
	s.lock = f
	return nil
}

// Shared fails: a file that nodes share over a network has no locks that hold.
func (s *Store) Shared(context.Context) error {
	return fmt.Errorf("sharing %s: %w", s.path, eventstore.ErrSingle)
}

// Now is this machine's time: no other machine uses the file.
func (s *Store) Now(ctx context.Context) (time.Time, error) { return time.Now().UTC(), ctx.Err() }

// Size is the length of the database and of its WAL in bytes.
func (s *Store) Size(context.Context) (int64, error) {
	var total int64
	for _, name := range []string{s.path, s.path + "-wal"} {
		info, err := os.Stat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // no WAL until the first write
		}
		if err != nil {
			return 0, fmt.Errorf("measuring the database: %w", err)
		}
		total += info.Size()
	}
	return total, nil
}

// Ping reads from the database.
func (s *Store) Ping(ctx context.Context) error {
	err := s.reader.use(ctx, func(c *connection) error {
		_, err := c.row("SELECT count(*) FROM sqlite_schema")
		return err
	})
	if err != nil {
		return fmt.Errorf("pinging %s: %w", s.path, err)
	}
	return nil
}

// Close waits for the append in progress, empties the WAL and frees the lock. What is called later fails.
func (s *Store) Close() error {
	s.closing.Do(func() {
		var errs []error
		if s.wal != nil {
			errs = append(errs, s.wal.close())
		}
		if s.reader != nil {
			errs = append(errs, s.reader.close())
		}
		if s.writer != nil {
			errs = append(errs, s.writer.close()) // the last connection: SQLite empties the WAL
		}
		s.lockMu.Lock()
		if s.lock != nil {
			errs = append(errs, s.lock.Close())
		}
		s.lockMu.Unlock()
		s.closed = errors.Join(errs...)
	})
	return s.closed
}
