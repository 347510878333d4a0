package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"callchain/eventstore"
	"callchain/eventstore/sqlgen"
)

// alone connects without a pool, for work that takes as long as it takes: the server ends no statement and no transaction of it by time.
func alone(ctx context.Context, url, name string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, errors.New("the URL of the PostgreSQL server cannot be read: use postgres://user:password@host:5432/name")
	}
	for key, value := range runtimeParams {
		config.RuntimeParams[key] = value
	}
	config.RuntimeParams["application_name"] = name
	config.RuntimeParams["statement_timeout"] = "0"
	config.RuntimeParams["idle_in_transaction_session_timeout"] = "0"
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s:%d/%s: %w", config.Host, config.Port, config.Database, err)
	}
	return conn, nil
}

// snapshot is one transaction that sees what was committed when it began.
type snapshot struct {
	conn *pgx.Conn
	tx   pgx.Tx
}

// OpenSnapshot begins a snapshot of the database, of which the event store is a part. Meanwhile the server keeps rows that were replaced.
func OpenSnapshot(ctx context.Context, url string) (eventstore.Snapshot, error) {
	conn, err := alone(ctx, url, "callchain snapshot")
	if err != nil {
		return nil, err
	}
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err == nil {
		_, err = tx.Exec(ctx, "SELECT 1") // the first statement fixes what is seen
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("beginning the snapshot: %w", err), conn.Close(ctx))
	}
	return &snapshot{conn, tx}, nil
}

// each hands the raw values of every row of an answer to f, while it arrives.
func (s *snapshot) each(ctx context.Context, query string, f func([][]byte) error) error {
	rows, err := s.tx.Query(ctx, query, inBinary)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows.RawValues()); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Checkpoints reads all checkpoints by partition.
func (s *snapshot) Checkpoints(ctx context.Context) (out []eventstore.Checkpoint, err error) {
	err = s.each(ctx, "SELECT "+checkpointColumns+" FROM checkpoints ORDER BY partition", func(raw [][]byte) error {
		out = append(out, eventstore.Checkpoint{})
		return decodeCheckpoint(&out[len(out)-1], raw)
	})
	if err != nil {
		return nil, fmt.Errorf("reading the checkpoints: %w", err)
	}
	return out, nil
}

// Events hands over one partition after the other.
func (s *snapshot) Events(ctx context.Context, f func(*eventstore.Event) error) error {
	err := s.each(ctx, "SELECT "+readColumns+" FROM events ORDER BY partition, seq", func(raw [][]byte) error {
		e := &eventstore.Event{}
		if err := decodeEvent(e, raw); err != nil {
			return err
		}
		return f(e)
	})
	if err != nil {
		return fmt.Errorf("reading the events: %w", err)
	}
	return nil
}

// Rows hands over a table. Whole numbers of any width are read as int8.
func (s *snapshot) Rows(ctx context.Context, t *eventstore.Table, f func([]any) error) error {
	columns := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		if columns[i] = sqlgen.Quote(c.Name); c.Kind == eventstore.Int {
			columns[i] += "::int8"
		}
	}
	query := "SELECT " + strings.Join(columns, ", ") + " FROM " + sqlgen.Quote(t.Name)
	err := s.each(ctx, query, func(raw [][]byte) error {
		row, err := decodeRow(t, raw)
		if err != nil {
			return err
		}
		return f(row)
	})
	if err != nil {
		return fmt.Errorf("reading the rows of %s: %w", t.Name, err)
	}
	return nil
}

// Close ends the transaction with its connection; it has changed nothing.
func (s *snapshot) Close() error { return s.conn.Close(context.Background()) }
