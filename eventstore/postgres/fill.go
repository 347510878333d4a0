package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"callchain/eventstore"
	"callchain/eventstore/sqlgen"
	"callchain/migrations"
)

// filling writes in one transaction, with COPY.
type filling struct {
	conn   *pgx.Conn // holds the lock, too
	tx     pgx.Tx
	months map[time.Time]bool // that are there
}

// Fill takes an empty database, to be filled with what was saved at these versions of the schema. Errors: eventstore.ErrInUse,
// eventstore.ErrNotEmpty if one of Callchain's tables has rows, eventstore.ErrForeign, eventstore.ErrNewer if a version is not known.
func Fill(ctx context.Context, url string, schema ...migrations.At) (_ eventstore.Filling, err error) {
	conn, err := alone(ctx, url, "callchain restore")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, conn.Close(ctx))
		}
	}()
	var got bool
	if err := conn.QueryRow(ctx, exclusively.query, lockClass).Scan(&got); err != nil {
		return nil, fmt.Errorf("locking the database: %w", err)
	}
	if !got {
		return nil, fmt.Errorf("locking the database: %w", eventstore.ErrInUse)
	}
	if err := checkEmpty(ctx, conn); err != nil {
		return nil, err
	}
	if err := migrateTo(ctx, conn.Config(), schema); err != nil {
		return nil, err
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("beginning to fill the database: %w", err)
	}
	return &filling{conn: conn, tx: tx, months: map[time.Time]bool{}}, nil
}

// checkEmpty looks into every table that is there; what the schema says about itself does not count.
func checkEmpty(ctx context.Context, conn *pgx.Conn) error {
	rows, err := conn.Query(ctx, "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() AND tablename NOT IN ($1, $2, $3, $4) ORDER BY tablename",
		migrations.EventsTable, migrations.RegistryTable, migrations.OutboxTable, migrations.IndexesTable)
	if err != nil {
		return fmt.Errorf("listing the tables: %w", err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("listing the tables: %w", err)
	}
	for _, t := range tables {
		var has bool
		if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM "+sqlgen.Quote(t)+")").Scan(&has); err != nil {
			return fmt.Errorf("looking into table %s: %w", t, err)
		}
		if has {
			return fmt.Errorf("table %s has rows: %w", t, eventstore.ErrNotEmpty)
		}
	}
	return nil
}

func migrateTo(ctx context.Context, config *pgx.ConnConfig, schema []migrations.At) error {
	db := stdlib.OpenDB(*config)
	var errs []error
	for _, at := range schema {
		errs = append(errs, migrations.UpTo(ctx, db, migrations.Postgres, at))
	}
	return errors.Join(append(errs, db.Close())...)
}

func (f *filling) copy(ctx context.Context, table string, columns []string, n int, row func(int) ([]any, error)) error {
	if n == 0 {
		return nil
	}
	if _, err := f.tx.CopyFrom(ctx, pgx.Identifier{table}, columns, pgx.CopyFromSlice(n, row)); err != nil {
		return fmt.Errorf("writing rows of %s: %w", table, err)
	}
	return nil
}

// Checkpoints writes all checkpoints.
func (f *filling) Checkpoints(ctx context.Context, list []eventstore.Checkpoint) error {
	columns := []string{"partition", "epoch", "node", "seq", "head", "topic0", "offset0", "topic1", "offset1", "indexed", "relayed", "append_id"}
	return f.copy(ctx, "checkpoints", columns, len(list), func(i int) ([]any, error) {
		c := &list[i]
		return []any{
			c.Partition, c.Epoch, c.Node, c.Seq, c.Head[:], [16]byte(c.Positions[0].Topic), c.Positions[0].Offset, [16]byte(c.Positions[1].Topic),
			c.Positions[1].Offset, c.Indexed, c.Relayed, [16]byte(c.Append),
		}, nil
	})
}

// Events writes events, the streams that they begin, and the tables of their months.
func (f *filling) Events(ctx context.Context, list []eventstore.Event) error {
	var born []*eventstore.Event
	for i := range list {
		if list[i].Version == 1 {
			born = append(born, &list[i])
		}
		if err := f.month(ctx, &list[i]); err != nil {
			return err
		}
	}
	err := f.copy(ctx, "streams", []string{"stream", "began"}, len(born), func(i int) ([]any, error) {
		return []any{pack(born[i].Stream), born[i].Began}, nil
	})
	if err != nil {
		return err
	}
	columns := []string{
		"stream", "began", "version", "partition", "seq", "type", "type_version", "at", "occurred", "tenant", "device", "actor", "cause", "hops",
		"trace", "chain_version", "key_id", "data", "hash", "append_id",
	}
	return f.copy(ctx, "events", columns, len(list), func(i int) ([]any, error) {
		e := &list[i]
		var device, trace any
		if e.Device != uuid.Nil {
			device = [16]byte(e.Device)
		}
		if e.Trace != [16]byte{} {
			trace = e.Trace[:]
		}
		return []any{
			pack(e.Stream), e.Began, e.Version, e.Partition, e.Seq, e.Type, e.TypeVersion, e.At, e.Occurred, [16]byte(e.Tenant), device, e.Actor, e.Cause,
			e.Hops, trace, e.ChainVersion, e.KeyID, e.Data, e.Hash[:], [16]byte(e.AppendID),
		}, nil
	})
}

func (f *filling) month(ctx context.Context, e *eventstore.Event) error {
	month := monthOf(time.UnixMicro(e.Began))
	if f.months[month] {
		return nil
	}
	if y := month.Year(); y < firstYear || y > lastYear {
		return fmt.Errorf("event %s/%d: the stream began in the year %d", e.Stream, e.Version, y)
	}
	if err := attachMonth(ctx, f.tx, month); err != nil {
		return fmt.Errorf("making the table of %s: %w", month.Format("2006-01"), err)
	}
	f.months[month] = true
	return nil
}

// Rows writes rows of any table of the database.
func (f *filling) Rows(ctx context.Context, t *eventstore.Table, rows [][]any) error {
	columns := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		columns[i] = c.Name
	}
	return f.copy(ctx, t.Name, columns, len(rows), func(i int) ([]any, error) { return arguments(rows[i]), nil })
}

// Commit ends the transaction, and lets the server count what it has got, so that its first plans are good ones.
func (f *filling) Commit(ctx context.Context) error {
	if err := f.tx.Commit(ctx); err != nil {
		return fmt.Errorf("committing: %w", err)
	}
	if _, err := f.conn.Exec(ctx, "ANALYZE"); err != nil {
		return fmt.Errorf("all is written; counting it: %w", err)
	}
	return nil
}

// Close ends what was not committed and frees the lock. The server does both by itself when a connection ends, but some time after it: whoever
// comes at once would find the database in use.
func (f *filling) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = f.tx.Rollback(ctx)                                                                          // it may be over, or the connection broken
	_, _ = f.conn.Exec(ctx, "SELECT pg_advisory_unlock($1, hashtext(current_schema()))", lockClass) // as above
	return f.conn.Close(ctx)
}
