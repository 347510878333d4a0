package postgres

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"callchain/eventstore"
)

// months makes the partitions of the events table: one a calendar month (UTC) in which streams began.
type months struct {
	pool *pgxpool.Pool

	mu    sync.Mutex
	known map[int64]bool // by the µs at which the month begins
}

func newMonths(pool *pgxpool.Pool) *months { return &months{pool: pool, known: map[int64]bool{}} }

// The years in which a stream can begin: a wild time must not make thousands of tables.
const firstYear, lastYear = 1970, 2199

func monthOf(t time.Time) time.Time {
	t = t.UTC()
	return time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC)
}

// ahead makes this month and the next, so that no append waits for one at midnight.
func (m *months) ahead(ctx context.Context, now time.Time) error {
	for _, month := range []time.Time{monthOf(now), monthOf(now).AddDate(0, 1, 0)} {
		if err := m.ensure(ctx, month); err != nil {
			return err
		}
	}
	return nil
}

// cover makes the months that a batch needs.
func (m *months) cover(ctx context.Context, b *eventstore.Batch) error {
	var from, to int64 // of the month looked at last: nearly all events are of one
	for i := range b.Partitions {
		for j := range b.Partitions[i].Events {
			e := &b.Partitions[i].Events[j]
			if from <= e.Began && e.Began < to {
				continue
			}
			month := monthOf(time.UnixMicro(e.Began))
			if y := month.Year(); y < firstYear || y > lastYear {
				return &eventstore.RefusedError{Err: fmt.Errorf("event %s/%d: the stream began in the year %d", e.Stream, e.Version, y)}
			}
			if err := m.ensure(ctx, month); err != nil {
				return err
			}
			from, to = month.UnixMicro(), month.AddDate(0, 1, 0).UnixMicro()
		}
	}
	return nil
}

func (m *months) ensure(ctx context.Context, month time.Time) error {
	from := month.UnixMicro()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known[from] {
		return nil
	}
	if err := m.create(ctx, month); err != nil {
		return fmt.Errorf("making the table of %s: %w", month.Format("2006-01"), err)
	}
	m.known[from] = true
	return nil
}

// forget looks again which months exist, because another node may have detached one.
func (m *months) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.known)
}

// create attaches a table made aside: that lets appends go on, where CREATE TABLE … PARTITION OF would wait for them and keep others waiting.
func (m *months) create(ctx context.Context, month time.Time) error {
	return pgx.BeginFunc(ctx, m.pool, func(tx pgx.Tx) error { return attachMonth(ctx, tx, month) })
}

func attachMonth(ctx context.Context, tx pgx.Tx, month time.Time) error {
	name := "events_" + month.Format("2006_01")
	if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1, hashtext(current_schema()))", lockClass+1); err != nil {
		return err
	}
	var attached bool
	err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_inherits WHERE inhparent = 'events'::regclass AND inhrelid = to_regclass($1))", name).Scan(&attached)
	if err != nil || attached {
		return err
	}
	_, err = tx.Exec(ctx, fmt.Sprintf("CREATE TABLE %s (LIKE events INCLUDING ALL); ALTER TABLE events ATTACH PARTITION %s FOR VALUES FROM (%d) TO (%d)",
		name, name, month.UnixMicro(), month.AddDate(0, 1, 0).UnixMicro()), pgx.QueryExecModeSimpleProtocol)
	return err
}
