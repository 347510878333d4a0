package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"

	modernc "modernc.org/sqlite"
)

// connection speaks to the driver without database/sql between: a batch binds some thousand values and a page of events has more, and each
// would be converted and checked once more. It is used by one goroutine at a time, for one query at a time.
type connection struct {
	conn  driver.Conn
	stmts map[string]*statement
	args  []driver.NamedValue // used again by every statement
	dest  []driver.Value      // of the row in hand, used again
}

type statement struct {
	driver.Stmt
	exec  driver.StmtExecContext
	query driver.StmtQueryContext
}

// stmtsMax bounds the statements kept prepared. The program asks some dozen different queries; if it should ever ask more, all are
// prepared anew.
const stmtsMax = 256

func dial(ctx context.Context, path string, pragmas ...string) (*connection, error) {
	c, err := modernc.NewConnector(dsn(path, pragmas...))
	if err != nil {
		return nil, err
	}
	conn, err := c.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &connection{conn: conn, stmts: map[string]*statement{}}, nil
}

func (c *connection) close() error {
	return errors.Join(c.forget(), c.conn.Close())
}

// forget closes the prepared statements.
func (c *connection) forget() error {
	var errs []error
	for _, s := range c.stmts {
		errs = append(errs, s.Close())
	}
	clear(c.stmts)
	return errors.Join(errs...)
}

func (c *connection) prepare(query string) (*statement, error) {
	if s, ok := c.stmts[query]; ok {
		return s, nil
	}
	if len(c.stmts) >= stmtsMax {
		if err := c.forget(); err != nil {
			return nil, err
		}
	}
	p, err := c.conn.Prepare(query)
	if err != nil {
		return nil, fmt.Errorf("preparing %s: %w", query, err)
	}
	s := &statement{Stmt: p}
	s.exec, _ = p.(driver.StmtExecContext)
	s.query, _ = p.(driver.StmtQueryContext)
	if s.exec == nil || s.query == nil {
		return nil, errors.Join(fmt.Errorf("preparing: the driver's statement is a %T without contexts", p), p.Close())
	}
	c.stmts[query] = s
	return s, nil
}

// exec runs a statement to its end: what it does takes milliseconds.
func (c *connection) exec(query string, values ...driver.Value) (driver.Result, error) {
	s, err := c.prepare(query)
	if err != nil {
		return nil, err
	}
	return s.exec.ExecContext(background, c.named(values))
}

func (c *connection) named(values []driver.Value) []driver.NamedValue {
	for len(c.args) < len(values) {
		c.args = append(c.args, driver.NamedValue{Ordinal: len(c.args) + 1})
	}
	for i, v := range values {
		c.args[i].Value = v
	}
	return c.args[:len(values)]
}

// row runs a query and gives its first row, or nil if there is none. A statement that returns rows does its work on the way, so it is
// read to its end.
func (c *connection) row(query string, values ...driver.Value) (first []driver.Value, err error) {
	err = c.each(background, query, func(row []driver.Value) error {
		if first == nil {
			first = append(first, row...)
		}
		return nil
	}, values...)
	return first, err
}

// errEnough ends each early, without an error.
var errEnough = errors.New("enough rows")

// each hands every row of a query to f; the row is only valid until f returns, its values for ever. A context that ends interrupts the
// search for the first row, and ends the reading before the next one.
func (c *connection) each(ctx context.Context, query string, f func([]driver.Value) error, values ...driver.Value) error {
	s, err := c.prepare(query)
	if err != nil {
		return err
	}
	rows, err := s.query.QueryContext(ctx, c.named(values))
	if err != nil {
		return err
	}
	columns := len(rows.Columns())
	for len(c.dest) < columns {
		c.dest = append(c.dest, nil)
	}
	for {
		err := rows.Next(c.dest[:columns])
		if err == nil {
			err = f(c.dest[:columns])
		}
		if err == nil {
			err = ctx.Err()
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, errEnough):
			return rows.Close()
		case err != nil:
			return errors.Join(err, rows.Close())
		}
	}
}
