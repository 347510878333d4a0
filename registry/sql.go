package registry

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"callchain/eventstore"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
)

// errUncertain: the connection broke while the transaction was committed; it may have happened.
var errUncertain = errors.New("committing to the registry")

// writeAttemptsMax bounds how often a transaction is tried that the database gave up for another one.
const writeAttemptsMax = 3

// querier is what *sql.DB and *sql.Tx have together.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// tx runs statements of one transaction, or one by one outside of any. Statements are written with $1, $2, …, which both
// databases take.
type tx struct {
	ctx     context.Context
	on      querier
	dialect Dialect
	changes []Change
}

func (r *Registry) query(ctx context.Context) *tx { return &tx{ctx: ctx, on: r.db, dialect: r.dialect} }

// tell notes what the transaction changes, for who is told when it is committed.
func (t *tx) tell(c Change) { t.changes = append(t.changes, c) }

func (t *tx) row(query string, args ...any) *sql.Row {
	return t.on.QueryRowContext(t.ctx, query, t.arguments(args)...)
}

// each calls scan for every row of the answer.
func (t *tx) each(query string, args []any, scan func(row) error) error {
	rows, err := t.on.QueryContext(t.ctx, query, t.arguments(args)...)
	if err != nil {
		return outage(err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return outage(rows.Err())
}

// exec tells how many rows it changed.
func (t *tx) exec(query string, args ...any) (int64, error) {
	res, err := t.on.ExecContext(t.ctx, query, t.arguments(args)...)
	if err != nil {
		return 0, classify(err)
	}
	return res.RowsAffected()
}

// places are the brackets of IN with so many places, at least one: ($1, $2, …).
func places(n int) string {
	out := []byte{'('}
	for i := 1; i <= n; i++ {
		out = append(strconv.AppendInt(append(out, '$'), int64(i), 10), ", "...)
	}
	return string(out[:len(out)-2]) + ")"
}

// row is *sql.Row or *sql.Rows.
type row interface{ Scan(into ...any) error }

// arguments puts values into the form that the dialect stores: the nil id as NULL, ids as bytes in SQLite, JSON as text.
func (t *tx) arguments(args []any) []any {
	for i, a := range args {
		switch a := a.(type) {
		case uuid.UUID:
			args[i] = t.id(a)
		case json.RawMessage:
			if args[i] = any(string(a)); len(a) == 0 {
				args[i] = nil
			}
		}
	}
	return args
}

func (t *tx) id(id uuid.UUID) any {
	switch {
	case id == uuid.Nil:
		return nil
	case t.dialect == SQLite:
		return id[:]
	}
	return id
}

// locking is appended to the SELECT of a row that the transaction is going to change or rely on. SQLite's write
// transactions exclude each other as a whole.
func (t *tx) locking() string {
	if t.dialect == Postgres {
		return " FOR UPDATE"
	}
	return ""
}

// lockingOnly is locking for one table of a join.
func (t *tx) lockingOnly(table string) string {
	if t.dialect == Postgres {
		return " FOR UPDATE OF " + table
	}
	return ""
}

// write runs fn in a transaction, and tells of its changes when it is committed. It is tried again when PostgreSQL chose it as the victim of a
// deadlock.
func (r *Registry) write(ctx context.Context, fn func(*tx) error) error {
	changes, err := r.writeInTurn(ctx, fn)
	for _, c := range changes {
		r.tell(err, c)
	}
	return err
}

func (r *Registry) writeInTurn(ctx context.Context, fn func(*tx) error) (changes []Change, err error) {
	select {
	case r.writing <- struct{}{}:
		defer func() { <-r.writing }()
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting to write to the registry: %w", ctx.Err())
	}
	for range writeAttemptsMax {
		if changes, err = r.writeOnce(ctx, fn); !isVictim(err) {
			r.leaveReadOnly(err)
			return changes, err
		}
	}
	return nil, err
}

func (r *Registry) writeOnce(ctx context.Context, fn func(*tx) error) ([]Change, error) {
	t, err := r.db.BeginTx(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("beginning a transaction: %w", outage(err))
	}
	work := &tx{ctx: ctx, on: t, dialect: r.dialect}
	if err = fn(work); err == nil {
		err = r.post(work)
	}
	if err != nil {
		return nil, errors.Join(err, ignoreDone(t.Rollback()))
	}
	if err := t.Commit(); err != nil {
		if rolledBack(ctx, err) {
			return nil, fmt.Errorf("committing to the registry: %w", err)
		}
		err = fmt.Errorf("%w: %w", errUncertain, outage(err))
		if isAway(err) {
			err = &eventstore.OutageError{Reason: eventstore.ReasonUncertain, Err: err}
		}
		return work.changes, err
	}
	return work.changes, nil
}

// rolledBack tells of an error of Commit whether the transaction has certainly not happened: its context had ended before it was sent.
func rolledBack(ctx context.Context, err error) bool {
	return errors.Is(err, sql.ErrTxDone) || ctx.Err() != nil && err == ctx.Err() //nolint:errorlint // a driver that had sent it wraps the error
}

// ignoreDone drops the error of a rollback of what the database has already rolled back.
func ignoreDone(err error) error {
	if errors.Is(err, sql.ErrTxDone) {
		return nil
	}
	return err
}

// Codes of the databases: PostgreSQL's SQLSTATE (appendix A of its manual) and SQLite's extended result codes.
const (
	pgUnique, pgReferenced, pgDeadlock, pgSerialization = "23505", "23503", "40P01", "40001"
	liteUnique, litePrimary, liteReferenced             = 2067, 1555, 787
)

// classify turns the databases' own errors into the sentinels of this package.
func classify(err error) error {
	var pg *pgconn.PgError
	var lite *sqlite.Error
	switch {
	case errors.As(err, &pg) && pg.Code == pgUnique,
		errors.As(err, &lite) && (lite.Code() == liteUnique || lite.Code() == litePrimary):
		return fmt.Errorf("%w: %w", ErrExists, err)
	case errors.As(err, &pg) && pg.Code == pgReferenced,
		errors.As(err, &lite) && lite.Code() == liteReferenced:
		return fmt.Errorf("%w: %w", ErrInUse, err)
	}
	return outage(err)
}

func isVictim(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == pgDeadlock || pg.Code == pgSerialization)
}

// missing names what a SELECT of one row did not find.
func missing(err error, what string, id any) error {
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("%w: %s %v", ErrNotFound, what, id)
	}
	if err != nil {
		return fmt.Errorf("reading %s %v: %w", what, id, outage(err))
	}
	return nil
}

// raw is a column of JSON text; NULL is nil.
type raw struct{ into *json.RawMessage }

// Scan takes what the driver read.
func (j raw) Scan(v any) error {
	switch v := v.(type) {
	case nil:
		*j.into = nil
	case string:
		*j.into = json.RawMessage(v)
	case []byte:
		*j.into = json.RawMessage(strings.Clone(string(v)))
	default:
		return fmt.Errorf("a column of JSON holds %T", v)
	}
	return nil
}

// isTaken is true of an error that says which name is taken; the text of the database stays behind.
func isTaken(err error) bool { return errors.Is(err, ErrExists) }
