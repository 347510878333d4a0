package archive

import (
	"context"

	"callchain/eventstore"
)

// batch gathers rows of one table for a sink.
type batch struct {
	sink        sink
	table       *eventstore.Table
	rows        [][]any
	events      []eventstore.Event
	checkpoints []eventstore.Checkpoint
	bytes       int
}

// decode takes a row of a file.
func (b *batch) decode(row []any) error {
	switch b.table.Name {
	case events.Name:
		e, err := eventOf(row)
		b.events = append(b.events, e)
		return err
	case checkpoints.Name:
		c, err := checkpointOf(row)
		b.checkpoints = append(b.checkpoints, c)
		return err
	}
	b.rows = append(b.rows, row)
	return nil
}

// added hands over what there is when it is enough.
func (b *batch) added(ctx context.Context, bytes int) error {
	if b.bytes += bytes; b.bytes < batchBytes && len(b.rows)+len(b.events) < batchRows {
		return nil
	}
	return b.flush(ctx)
}

func (b *batch) flush(ctx context.Context) error {
	b.bytes = 0
	if len(b.checkpoints) > 0 { // they come in one block: there are few
		if err := b.sink.Checkpoints(ctx, b.checkpoints); err != nil {
			return err
		}
		b.checkpoints = nil
	}
	if len(b.events) > 0 {
		if err := b.sink.Events(ctx, b.events); err != nil {
			return err
		}
		b.events = b.events[:0]
	}
	if len(b.rows) > 0 {
		if err := b.sink.Rows(ctx, b.table, b.rows); err != nil {
			return err
		}
		b.rows = b.rows[:0]
	}
	return nil
}

// size is about how many bytes a row takes.
func size(row []any) int {
	n := 16 * len(row)
	for _, v := range row {
		switch v := v.(type) {
		case string:
			n += len(v)
		case []byte:
			n += len(v)
		}
	}
	return n
}

// pour hands a whole snapshot to a sink: checkpoints, rows, events.
func pour(ctx context.Context, from eventstore.Snapshot, to sink) error {
	list, err := from.Checkpoints(ctx)
	if err != nil {
		return err
	}
	if err := to.Checkpoints(ctx, list); err != nil {
		return err
	}
	for _, t := range rows() {
		b := batch{sink: to, table: t}
		err := from.Rows(ctx, t, func(row []any) error {
			b.rows = append(b.rows, row)
			return b.added(ctx, size(row))
		})
		if err != nil {
			return err
		}
		if err := b.flush(ctx); err != nil {
			return err
		}
	}
	b := batch{sink: to, table: events}
	err = from.Events(ctx, func(e *eventstore.Event) error {
		b.events = append(b.events, *e)
		return b.added(ctx, len(e.Data)+256)
	})
	if err != nil {
		return err
	}
	return b.flush(ctx)
}
