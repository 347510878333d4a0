package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"
)

// checkpointer copies the WAL into the database aside from the commits. SQLite's own auto-checkpoint would sit inside every n-th commit and
// be its worst latency.
//
// Below walFull nothing is done: a page that is changed by every commit is then copied once in a while and not all the time,
// and a WAL that is begun anew is written over blocks that exist, which makes its fsync cheap. Above it the WAL is copied while appends go
// on; then the writer is held for the short rest, and the next commit begins the WAL from its start. A transaction that reads for long, as a
// backup does, keeps the WAL from being begun anew; then it grows, and appends are held only once in a while to see whether that has ended.
type checkpointer struct {
	db      *sql.DB
	conn    *sql.Conn
	hold    func(context.Context, func() error) error // keeps appends away
	pending atomic.Int64                              // events since the last look
	full    int64                                     // walFull; a test has less
	next    int64                                     // below this length nothing is tried: somebody reads, and would be waited for in vain
	wake    chan struct{}
	stop    context.CancelFunc
	done    chan struct{}
	failed  error // of the last look; read after done
}

const (
	walFull = 16000 // pages of 4 KiB: 64 MiB
	walLook = 256   // events between two looks at the WAL's length
)

func newCheckpointer(ctx context.Context, path string, hold func(context.Context, func() error) error) (*checkpointer, error) {
	// A reader may keep the rest from being copied; then the next look tries again, and appends have waited 20 ms.
	db, err := connect(path, "synchronous(full)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	conn, err := db.Conn(ctx)
	if err == nil { // of two such pragmas in the name of the database the driver takes the first
		_, err = conn.ExecContext(ctx, "PRAGMA busy_timeout = 20")
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	running, stop := context.WithCancel(context.Background())
	c := &checkpointer{db: db, conn: conn, hold: hold, full: walFull, wake: make(chan struct{}, 1), stop: stop, done: make(chan struct{})}
	go c.run(running)
	return c, nil
}

// wrote counts events; now and then it wakes the checkpointer.
func (c *checkpointer) wrote(events int) {
	if c.pending.Add(int64(events)) < walLook {
		return
	}
	c.pending.Store(0)
	select {
	case c.wake <- struct{}{}:
	default: // it is at work
	}
}

func (c *checkpointer) run(ctx context.Context) {
	defer close(c.done)
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		}
		if err := c.empty(ctx); ctx.Err() == nil {
			c.failed = err // the WAL stays longer than it should; the next look tries again
		}
	}
}

func (c *checkpointer) empty(ctx context.Context) error {
	// NOOP tells the length without copying.
	at, err := c.pragma(ctx, "NOOP")
	if err != nil || at.length < max(c.full, c.next) {
		return err
	}
	if at, err = c.pragma(ctx, "PASSIVE"); err != nil || at.copied == at.length && c.restarted(ctx, at.length) {
		return err
	}
	return c.hold(ctx, func() error {
		at, err := c.pragma(ctx, "RESTART")
		c.next = 0
		if at.busy {
			c.next = at.length + c.full/4
		}
		return err
	})
}

// restarted tells whether a commit has begun the WAL anew since it was copied.
func (c *checkpointer) restarted(ctx context.Context, before int64) bool {
	at, err := c.pragma(ctx, "NOOP")
	return err == nil && at.length < before
}

// progress is what a checkpoint tells.
type progress struct {
	busy           bool  // a reader kept it from being ended
	length, copied int64 // frames in the WAL, and those of them that are in the database
}

func (c *checkpointer) pragma(ctx context.Context, mode string) (p progress, err error) {
	if err = c.conn.QueryRowContext(ctx, "PRAGMA wal_checkpoint("+mode+")").Scan(&p.busy, &p.length, &p.copied); err != nil {
		return p, fmt.Errorf("emptying the WAL (%s): %w", mode, err)
	}
	return p, nil
}

func (c *checkpointer) close() error {
	c.stop()
	<-c.done
	return errors.Join(c.failed, c.conn.Close(), c.db.Close())
}
