package replay

import (
	"context"
	"fmt"

	"callchain/engine/projection"
	"callchain/eventstore"

	"github.com/google/uuid"
)

// Rebuilt is what Rebuild did.
type Rebuilt struct {
	Summary
	Written int64 // rows, each counted once
	Removed int64 // rows without a call
}

// rebuildRows is how many rows one append writes.
const rebuildRows = 400

// Rebuild writes every row of projection.Calls from the events, and removes rows without a call. No server may own the store: it is
// taken exclusively and its partitions are claimed for node; both end with Close of the store. Calls that cannot be folded keep the rows they
// have. Errors: eventstore.ErrInUse, eventstore.ErrFenced, the store's. An interrupted rebuild is begun again.
func Rebuild(ctx context.Context, store eventstore.Store, node string, o Options) (Rebuilt, error) {
	var out Rebuilt
	if err := store.Exclusive(ctx); err != nil {
		return out, fmt.Errorf("taking the store for the rebuild: %w", err)
	}
	w, err := newRowWriter(ctx, store, node)
	if err != nil {
		return out, err
	}
	out.Summary, err = Calls(ctx, store, o, func(c *projection.Call, again bool) error {
		if !c.HasRow() {
			return nil
		}
		row, err := c.Row()
		if err != nil {
			return err
		}
		if !again {
			out.Written++
		}
		return w.put(ctx, row)
	})
	if err == nil {
		err = w.flush(ctx)
	}
	if err == nil {
		out.Removed, err = w.prune(ctx)
	}
	if err != nil {
		return out, fmt.Errorf("rebuilding the rows of calls: %w", err)
	}
	return out, nil
}

// rowWriter appends rows without events. All go with one partition, so that they are written in the order in which they come.
type rowWriter struct {
	store eventstore.Store
	at    eventstore.Checkpoint
	rows  []eventstore.Row
}

// newRowWriter claims all partitions, so that their previous owners are fenced.
func newRowWriter(ctx context.Context, store eventstore.Store, node string) (*rowWriter, error) {
	stored, err := store.Checkpoints(ctx)
	if err != nil {
		return nil, err
	}
	partitions := make([]int32, 0, len(stored))
	for _, c := range stored {
		partitions = append(partitions, c.Partition)
	}
	if len(partitions) == 0 {
		partitions = []int32{0} // a new store
	}
	claimed, err := store.Claim(ctx, node, partitions)
	if err != nil {
		return nil, err
	}
	return &rowWriter{store: store, at: claimed[0]}, nil
}

// put buffers a row.
func (w *rowWriter) put(ctx context.Context, row eventstore.Row) error {
	w.rows = append(w.rows, row)
	if len(w.rows) < rebuildRows {
		return nil
	}
	return w.flush(ctx)
}

func (w *rowWriter) flush(ctx context.Context) error {
	if len(w.rows) == 0 {
		return nil
	}
	next := w.at
	next.Append = uuid.New()
	fenced, err := w.store.Append(ctx, eventstore.Batch{ID: next.Append, Partitions: []eventstore.PartitionBatch{{Expect: w.at, Next: next, Rows: w.rows}}})
	if err == nil && len(fenced) > 0 {
		err = fmt.Errorf("partitions %v: %w", fenced, eventstore.ErrFenced)
	}
	w.at, w.rows = next, w.rows[:0]
	return err
}

// prune removes the rows that no call has.
func (w *rowWriter) prune(ctx context.Context) (removed int64, err error) {
	err = walk(ctx, w.store, func(row []any) error {
		k, founded, err := hasRow(ctx, w.store, row)
		if err != nil || founded {
			return err
		}
		removed++
		return w.put(ctx, eventstore.Row{Table: projection.Calls, Delete: true, Values: []any{k.tenant, k.call}})
	})
	if err != nil {
		return removed, err
	}
	return removed, w.flush(ctx)
}
