package replay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"callchain/engine/projection"
	"callchain/engine/rpc"
	"callchain/eventstore"

	"github.com/google/uuid"
)

// Difference is a column in which a row of the projection differs from the fold of its events.
type Difference struct {
	Tenant uuid.UUID
	Call   uuid.UUID
	Column string // empty: it is about the whole row
	Row    string // what the row has; "no row" without a column
	Fold   string // what the events give; "no row" if they give none
}

const noRow = "no row"

func (d Difference) String() string {
	if d.Column == "" {
		return fmt.Sprintf("call %s of tenant %s: the table has %s, the events give %s", d.Call, d.Tenant, d.Row, d.Fold)
	}
	return fmt.Sprintf("call %s of tenant %s: column %s is %s, the events give %s", d.Call, d.Tenant, d.Column, d.Row, d.Fold)
}

// Checked is what Check found.
type Checked struct {
	Summary
	Rows      int64 // that equal the fold
	Different int64 // calls whose row is wrong, missing or too many
}

// Check compares every row of projection.Calls with the fold of its call's events, and reports what differs, one report at a time.
// A server may be running: a call that seems to differ is compared again until its events are stable. Errors are the store's.
func Check(ctx context.Context, store eventstore.Store, o Options, report func(Difference)) (Checked, error) {
	c := checker{store: store, report: report, reported: map[key]struct{}{}}
	sum, err := c.all(ctx, o)
	c.result.Summary = sum
	if err == nil {
		err = c.surplus(ctx)
	}
	c.result.Rows = c.found - c.wrong
	if err != nil {
		return c.result, fmt.Errorf("comparing the rows with the events: %w", err)
	}
	return c.result, nil
}

// checker compares.
type checker struct {
	store eventstore.Store

	mu       sync.Mutex
	report   func(Difference)
	reported map[key]struct{} // calls reported, at most brokenMost
	found    int64            // rows that were found for a call
	wrong    int64            // of them, those that differ in a column
	result   Checked
}

// folded is a call to be compared.
type folded struct {
	call  *projection.Call
	again bool
}

const compareAtOnce = 64 // calls that go to a comparing goroutine together

// all compares the rows of all calls of the log, while the log is folded.
func (c *checker) all(ctx context.Context, o Options) (Summary, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	workers := o.filled().Workers
	batches := make(chan []folded, workers)
	var comparing sync.WaitGroup
	for range workers {
		comparing.Go(func() {
			for batch := range batches {
				if err := c.batch(ctx, batch); err != nil {
					stop(err)
				}
			}
		})
	}
	var batch []folded
	put := func() error {
		select {
		case batches <- batch:
			batch = nil
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	sum, err := Calls(ctx, c.store, o, func(call *projection.Call, again bool) error {
		batch = append(batch, folded{call, again})
		if len(batch) < compareAtOnce {
			return nil
		}
		return put()
	})
	if err == nil {
		err = put()
	}
	close(batches)
	comparing.Wait()
	return sum, errors.Join(err, context.Cause(ctx))
}

func (c *checker) batch(ctx context.Context, batch []folded) error {
	for _, f := range batch {
		if ctx.Err() != nil {
			return nil // another goroutine has reported why
		}
		if err := c.one(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

// one compares a call with its row.
func (c *checker) one(ctx context.Context, f folded) error {
	if !f.call.HasRow() {
		return nil // surplus finds a row that it should not have
	}
	row, err := c.row(ctx, f.call.Tenant, f.call.State.ID)
	if err != nil {
		return err
	}
	differences, err := compare(f.call, row)
	if err != nil {
		return err
	}
	if len(differences) > 0 {
		differences, err = c.compareStable(ctx, f.call.Tenant, f.call.State.ID)
	}
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if row != nil && !f.again {
		c.found++
	}
	c.reportOnce(differences)
	return nil
}

// reportOnce reports the differences of a call, once. The lock is held.
func (c *checker) reportOnce(differences []Difference) {
	if len(differences) == 0 {
		return
	}
	k := key{differences[0].Tenant, differences[0].Call}
	if _, ok := c.reported[k]; ok {
		return
	}
	if len(c.reported) < brokenMost {
		c.reported[k] = struct{}{}
	}
	c.result.Different++
	if differences[0].Column != "" {
		c.wrong++
	}
	for _, d := range differences {
		c.report(d)
	}
}

func (c *checker) row(ctx context.Context, tenant, call uuid.UUID) ([]any, error) {
	rows, err := c.store.Rows(ctx, eventstore.Query{Table: projection.Calls, Limit: 1, Where: []eventstore.Cond{
		{Column: "tenant", Op: eventstore.Eq, Value: tenant}, {Column: "id", Op: eventstore.Eq, Value: call},
	}})
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	return rows[0], nil
}

// stableTries bounds the comparisons of a call that gets facts meanwhile; a call has far fewer facts.
const stableTries = 1000

// compareStable compares a call with its row between two equal folds: row and facts are written together, so that the row is neither older nor
// newer.
func (c *checker) compareStable(ctx context.Context, tenant, id uuid.UUID) ([]Difference, error) {
	stream := projection.CallStream(tenant, id)
	before, err := Call(ctx, c.store, stream, rpc.Settings{})
	for range stableTries {
		if errors.Is(err, ErrFold) {
			return nil, nil // reported as broken
		}
		if err != nil {
			return nil, err
		}
		row, failed := c.row(ctx, tenant, id)
		if failed != nil {
			return nil, failed
		}
		after, failed := Call(ctx, c.store, stream, rpc.Settings{})
		if failed == nil && after.Version == before.Version {
			after.Tenant, after.State.ID = tenant, id // also of a stream without events
			return compare(&after, row)
		}
		before, err = after, failed
	}
	return nil, fmt.Errorf("call %s gets facts faster than they can be read", id)
}

// compare lists the columns in which a row is not that of the call; a nil row is none.
func compare(c *projection.Call, row []any) ([]Difference, error) {
	d := Difference{Tenant: c.Tenant, Call: c.State.ID}
	switch has := c.HasRow(); {
	case !has && row == nil:
		return nil, nil
	case !has:
		d.Row, d.Fold = "a row", noRow
		return []Difference{d}, nil
	case row == nil:
		d.Row, d.Fold = noRow, "a row"
		return []Difference{d}, nil
	}
	want, err := c.Row()
	if err != nil {
		return nil, err
	}
	var out []Difference
	for i, column := range projection.Calls.Columns {
		if !equal(row[i], want.Values[i]) {
			d.Column, d.Row, d.Fold = column.Name, shown(row[i]), shown(want.Values[i])
			out = append(out, d)
		}
	}
	return out, nil
}

func equal(a, b any) bool {
	x, ok := a.([]byte)
	y, also := b.([]byte)
	if ok && also {
		return bytes.Equal(x, y)
	}
	return ok == also && a == b
}

const shownMost = 200 // bytes of a value in a report

// shown is a value for people; a long one is cut.
func shown(v any) string {
	var text string
	switch v := v.(type) {
	case nil:
		return "NULL"
	case []byte:
		text = fmt.Sprintf("%q", v[:min(len(v), shownMost)])
	default:
		text = fmt.Sprint(v)
	}
	if len(text) > shownMost {
		return text[:shownMost] + "…"
	}
	return text
}
