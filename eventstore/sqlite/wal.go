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
// on; then the writer is held for the short rest, and the next commit begins the WAL from its start.
type checkpointer struct {
	db      *sql.DB
	conn    *sql.Conn
	hold    func(context.Context, func() error) error // keeps appends away
	pending atomic.Int64                              // events since the last look
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
	db, err := connect(path, "synchronous(full)", "busy_timeout(20)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	running, stop := context.WithCancel(context.Background())
	c := &checkpointer{db: db, conn: conn, hold: hold, wake: make(chan struct{}, 1), stop: stop, done: make(chan struct{})}
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
	if length, _, err := c.pragma(ctx, "NOOP"); err != nil || length < walFull {
		return err
	}
	length, copied, err := c.pragma(ctx, "PASSIVE")
	if err != nil || copied == length && c.restarted(ctx, length) {
		return err
	}
	return c.hold(ctx, func() error {
		_, _, err := c.pragma(ctx, "RESTART")
		return err
	})
}

// restarted tells whether a commit has begun the WAL anew since it was copied.
func (c *checkpointer) restarted(ctx context.Context, before int64) bool {
	length, _, err := c.pragma(ctx, "NOOP")
	return err == nil && length < before
}

// pragma runs a checkpoint and gives the frames in the WAL and those of them that are in the database.
func (c *checkpointer) pragma(ctx context.Context, mode string) (length, copied int64, err error) {
	var busy int64
	err = c.conn.QueryRowContext(ctx, "PRAGMA wal_checkpoint("+mode+")").Scan(&busy, &length, &copied)
	if err != nil {
		return 0, 0, fmt.Errorf("emptying the WAL (%s): %w", mode, err)
	}
	return length, copied, nil
}

func (c *checkpointer) close() error {
	c.stop()
	<-c.done
	return errors.Join(c.failed, c.conn.Close(), c.db.Close())
}
