package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strings"

	modernc "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"callchain/eventstore"
)

// writer owns the connection that writes. It speaks to the driver without database/sql between: a batch binds some thousand values, and
// each would be converted and checked once more.
type writer struct {
	turn  chan struct{} // holds one token: who takes it may use the connection
	path  string
	conn  driver.Conn
	stmts map[string]*statement
	args  []driver.NamedValue // used again by every statement

	values      []driver.Value // of a statement of several rows, used again
	queries     map[statementKey]string
	sinceAnchor int // appends
}

// statementKey names a statement of several rows by what stands around the rows and their number.
type statementKey struct {
	begin, end string
	rows       int
}

type statement struct {
	driver.Stmt
	exec  driver.StmtExecContext
	query driver.StmtQueryContext
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

func (w *writer) connect(ctx context.Context) error {
	c, err := modernc.NewConnector(dsn(w.path, "synchronous(full)", "cache_size(-16384)"))
	if err != nil {
		return err
	}
	if w.conn, err = c.Connect(ctx); err != nil {
		return err
	}
	w.stmts = map[string]*statement{}
	return nil
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
	return w.hold(ctx, func() error {
		if err := ctx.Err(); err != nil { // both ways of the select may have been open
			return err
		}
		if w.conn == nil {
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
	})
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
	var errs []error
	for _, s := range w.stmts {
		errs = append(errs, s.Close())
	}
	errs = append(errs, w.conn.Close())
	w.conn, w.stmts = nil, nil
	return errors.Join(errs...)
}

func (w *writer) close() error {
	if _, open := <-w.turn; !open {
		return nil
	}
	defer close(w.turn)
	if w.conn == nil {
		return nil
	}
	return w.disconnect()
}

func (w *writer) prepare(query string) (*statement, error) {
	if s, ok := w.stmts[query]; ok {
		return s, nil
	}
	p, err := w.conn.Prepare(query)
	if err != nil {
		return nil, fmt.Errorf("preparing %s: %w", query, err)
	}
	s := &statement{Stmt: p}
	s.exec, _ = p.(driver.StmtExecContext)
	s.query, _ = p.(driver.StmtQueryContext)
	if s.exec == nil || s.query == nil {
		return nil, errors.Join(fmt.Errorf("preparing: the driver's statement is a %T without contexts", p), p.Close())
	}
	w.stmts[query] = s
	return s, nil
}

// exec runs a statement; the number of different statements is small and fixed by the tables, so all stay prepared.
func (w *writer) exec(query string, values ...driver.Value) (driver.Result, error) {
	s, err := w.prepare(query)
	if err != nil {
		return nil, err
	}
	return s.exec.ExecContext(background, w.named(values))
}

func (w *writer) named(values []driver.Value) []driver.NamedValue {
	for len(w.args) < len(values) {
		w.args = append(w.args, driver.NamedValue{Ordinal: len(w.args) + 1})
	}
	for i, v := range values {
		w.args[i].Value = v
	}
	return w.args[:len(values)]
}

// row runs a query and gives its first row, or nil if there is none.
func (w *writer) row(query string, values ...driver.Value) ([]driver.Value, error) {
	s, err := w.prepare(query)
	if err != nil {
		return nil, err
	}
	rows, err := s.query.QueryContext(background, w.named(values))
	if err != nil {
		return nil, err
	}
	dest := make([]driver.Value, len(rows.Columns()))
	err = rows.Next(dest)
	if errors.Is(err, io.EOF) {
		return nil, rows.Close()
	}
	if err != nil {
		return nil, errors.Join(err, rows.Close())
	}
	return dest, drain(rows, len(dest))
}

// each hands every row of a query to f; the row is only valid until f returns.
func (w *writer) each(query string, f func([]driver.Value) error, values ...driver.Value) error {
	s, err := w.prepare(query)
	if err != nil {
		return err
	}
	rows, err := s.query.QueryContext(background, w.named(values))
	if err != nil {
		return err
	}
	dest := make([]driver.Value, len(rows.Columns()))
	for {
		err := rows.Next(dest)
		if errors.Is(err, io.EOF) {
			return rows.Close()
		}
		if err == nil {
			err = f(dest)
		}
		if err != nil {
			return errors.Join(err, rows.Close())
		}
	}
}

// drain reads a query to its end, because a statement that returns rows does its work on the way.
func drain(rows driver.Rows, columns int) error {
	rest := make([]driver.Value, columns)
	for {
		err := rows.Next(rest)
		if errors.Is(err, io.EOF) {
			return rows.Close()
		}
		if err != nil {
			return errors.Join(err, rows.Close())
		}
	}
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

func unique(err error) bool {
	c := code(err)
	return c == sqlite3.SQLITE_CONSTRAINT_UNIQUE || c == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY
}
