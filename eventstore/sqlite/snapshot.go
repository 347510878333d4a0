package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"callchain/eventstore"
	"callchain/eventstore/sqlgen"
)

// snapshot reads in one transaction on a connection of its own. The WAL keeps what the transaction sees, so it grows as long as it lasts.
type snapshot struct{ *connection }

// OpenSnapshot begins a snapshot of the event store in the first file and of the tables in the files beside. No transaction spans files:
// the first is seen as of no later than the second, and so on.
func OpenSnapshot(ctx context.Context, path string, beside ...string) (_ eventstore.Snapshot, err error) {
	for _, p := range append([]string{path}, beside...) { // opening a file that is not there would make it
		if _, err := os.Stat(p); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s: no database: %w", p, fs.ErrNotExist)
		}
	}
	if err := checkFinished(path); err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	c, err := dial(ctx, path, "cache_size(-16384)")
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.close())
		}
	}()
	if err := c.attach(beside); err != nil {
		return nil, err
	}
	if _, err := c.exec("BEGIN"); err != nil {
		return nil, fmt.Errorf("beginning to read %s: %w", path, err)
	}
	for i := range len(beside) + 1 { // the first read fixes what is seen of a file
		if _, err := c.row("SELECT count(*) FROM " + schemaOf(i) + ".sqlite_schema"); err != nil {
			return nil, fmt.Errorf("beginning to read %s: %w", path, err)
		}
	}
	return &snapshot{c}, nil
}

// schemaOf is SQLite's name for the i-th file of a connection.
func schemaOf(i int) string {
	if i == 0 {
		return "main"
	}
	return "beside" + strconv.Itoa(i)
}

func (c *connection) attach(beside []string) error {
	for i, p := range beside {
		if _, err := c.exec("ATTACH ? AS "+schemaOf(i+1), p); err != nil {
			return fmt.Errorf("opening %s: %w", p, err)
		}
	}
	return nil
}

// Checkpoints reads all checkpoints by partition.
func (s *snapshot) Checkpoints(ctx context.Context) (out []eventstore.Checkpoint, err error) {
	err = s.each(ctx, "SELECT "+checkpointColumns+" FROM main.checkpoints ORDER BY partition", func(row []driver.Value) error {
		c, err := checkpoint(row)
		out = append(out, c)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the checkpoints: %w", err)
	}
	return out, nil
}

// snapshotPage is how many places of the log are read at once.
const snapshotPage = 512

// Events hands over the events in the order of the commits.
func (s *snapshot) Events(ctx context.Context, f func(*eventstore.Event) error) error {
	row, err := s.row("SELECT max(pos) FROM main.events")
	if err != nil {
		return fmt.Errorf("finding the end of the log: %w", err)
	}
	for at, end := int64(0), number(row[0]); at < end; at += snapshotPage {
		events, err := s.scan(ctx, at, min(at+snapshotPage, end))
		if err != nil {
			return fmt.Errorf("reading the events behind place %d: %w", at, err)
		}
		for i := range events {
			if err := f(&events[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// Rows hands over a table.
func (s *snapshot) Rows(ctx context.Context, t *eventstore.Table, f func([]any) error) error {
	query, _, err := sqlgen.SQLite.Select(eventstore.Query{Table: t})
	if err != nil {
		return err
	}
	err = s.each(ctx, query, func(stored []driver.Value) (err error) {
		row, err := decodeRow(t, stored)
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

// Close ends the transaction.
func (s *snapshot) Close() error {
	_, err := s.exec("ROLLBACK")
	return errors.Join(err, s.close())
}
