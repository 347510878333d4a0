package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"

	modernc "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"callchain/eventstore"
)

// writer owns the connection that writes.
type writer struct {
	turn        chan struct{} // holds one token: who takes it may use the connection
	path        string
	*connection // nil after it was given up

	values      []driver.Value // of a statement of several rows, used again
	queries     map[statementKey]string
	sinceAnchor int // appends
}

// statementKey names a statement of several rows by what stands around the rows and their number.
type statementKey struct {
	begin, end string
	rows       int
}

var (
	errClosed  = errors.New("the store is closed")
	errBroken  = errors.New("the connection lost track of its transaction")
	background = context.Background() // a transaction that has begun is finished: it takes milliseconds
)

func newWriter(ctx context.Context, path string) (*writer, error) {
	w := &writer{turn: make(chan struct{}, 1), path: path, queries: map[statementKey]string{}, sinceAnchor: anchorEvery}
	if err := w.connect(ctx); err != nil {
		return nil, err
	}
	w.turn <- struct{}{}
	return w, nil
}

func (w *writer) connect(ctx context.Context) (err error) {
	w.connection, err = dial(ctx, w.path, "synchronous(full)", "cache_size(-4096)")
	return err
}

// hold runs f while nobody writes.
func (w *writer) hold(ctx context.Context, f func() error) error {
	select {
	case _, open := <-w.turn:
		if !open {
			return errClosed
		}
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { w.turn <- struct{}{} }()
	return f()
}

// transaction runs f between BEGIN and COMMIT; an error of f or of the commit leaves nothing behind.
func (w *writer) transaction(ctx context.Context, f func() error) error {
	return outage(w.hold(ctx, func() error {
		if err := ctx.Err(); err != nil { // both ways of the select may have been open
			return err
		}
		if w.connection == nil {
			if err := w.connect(ctx); err != nil {
				return fmt.Errorf("connecting again: %w", err)
			}
		}
		if _, err := w.exec("BEGIN IMMEDIATE"); err != nil {
			return fmt.Errorf("beginning: %w", err)
		}
		err := f()
		if err == nil {
			if _, err = w.exec("COMMIT"); err == nil {
				return nil
			}
			err = fmt.Errorf("committing: %w", err)
		}
		return w.rollback(err)
	}))
}

// rollback ends the transaction after err. SQLite may have ended it by itself (OR ROLLBACK, a full disk): that is what its answer "no transaction"
// means. After any other answer the connection is given up, and the next transaction opens another.
func (w *writer) rollback(err error) error {
	_, again := w.exec("ROLLBACK")
	if again == nil || strings.Contains(again.Error(), "no transaction is active") {
		return err
	}
	return errors.Join(err, errBroken, again, w.disconnect())
}

func (w *writer) disconnect() error {
	c := w.connection
	w.connection = nil
	return c.close()
}

func (w *writer) close() error {
	if _, open := <-w.turn; !open {
		return nil
	}
	defer close(w.turn)
	if w.connection == nil {
		return nil
	}
	return w.disconnect()
}

// code is SQLite's extended result code of err, 0 if it is none.
func code(err error) int {
	var e *modernc.Error
	if errors.As(err, &e) {
		return e.Code()
	}
	return 0
}

// refused wraps the errors that say that the data cannot be stored.
func refused(err error) error {
	switch c := code(err); {
	case c == sqlite3.SQLITE_TOOBIG, c == sqlite3.SQLITE_MISMATCH, c&0xff == sqlite3.SQLITE_CONSTRAINT && !unique(err):
		return &eventstore.RefusedError{Err: err}
	}
	return err
}

// outage marks an error that is the state of the disk and nobody's data.
func outage(err error) error {
	var reason string
	switch c := code(err); c & 0xff {
	case sqlite3.SQLITE_FULL:
		reason = eventstore.ReasonFull
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM:
		reason = eventstore.ReasonReadOnly
	case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN:
		reason = eventstore.ReasonDisk
		if c == sqlite3.SQLITE_IOERR_SHMSIZE { // the file beside the WAL could not be made longer
			reason = eventstore.ReasonFull
		}
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_NOMEM:
		reason = eventstore.ReasonRoom
	default:
		return err
	}
	return &eventstore.OutageError{Reason: reason, Err: err}
}

func unique(err error) bool {
	c := code(err)
	return c == sqlite3.SQLITE_CONSTRAINT_UNIQUE || c == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY
}
