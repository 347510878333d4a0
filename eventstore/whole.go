package eventstore

import (
	"context"
	"errors"
)

// ErrNotEmpty: the database that was to be filled holds something.
var ErrNotEmpty = errors.New("the database is not empty")

// Snapshot is a whole database as of one moment, whatever is written meanwhile. One goroutine uses it.
type Snapshot interface {
	// Checkpoints reads all checkpoints by partition.
	Checkpoints(ctx context.Context) ([]Checkpoint, error)
	// Events hands every event to f, of each partition in the order of seqs; the event is f's to keep.
	Events(ctx context.Context, f func(*Event) error) error
	// Rows hands every row of a table to f, in no order: the values of all columns, f's to keep. The table may be one that is not of the
	// event store but lies in the same database.
	Rows(ctx context.Context, t *Table, f func([]any) error) error
	// Close ends it; a database keeps what it has replaced until then.
	Close() error
}

// Filling is a database that was empty and gets everything at once: nothing is in it before Commit has returned, and nobody else may use it
// until Close. One goroutine uses it; after an error only Close.
type Filling interface {
	// Checkpoints writes all of them.
	Checkpoints(ctx context.Context, list []Checkpoint) error
	// Events writes events as they are, with their append ids: of each partition in the order of seqs, over all calls.
	Events(ctx context.Context, list []Event) error
	// Rows writes rows, each with the values of all columns of the table.
	Rows(ctx context.Context, t *Table, rows [][]any) error
	// Commit makes what was written last.
	Commit(ctx context.Context) error
	// Close without a Commit before leaves an empty database.
	Close() error
}
