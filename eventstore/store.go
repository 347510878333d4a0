// Package eventstore is the contract of the event log: what a database must promise so that a partition can be owned
// by one node at a time and nothing that was committed is ever lost, doubled or reordered.
//
// It knows streams, partitions, rows and hashes; it does not know calls, chains or devices. The suite that every
// implementation passes is eventstore/storetest.
package eventstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
)

var (
	// ErrFenced: the partition was claimed by somebody else, or is not where the caller thought it was. What the caller
	// holds of it in memory must be dropped.
	ErrFenced = errors.New("the partition is owned by another node")
	// ErrInUse: another process holds the store exclusively.
	ErrInUse = errors.New("the store is in use by another process")
	// ErrSingle: the database is one of a single process and cannot be shared.
	ErrSingle = errors.New("this database serves one process only; several nodes share PostgreSQL")
	// ErrForeign: the database holds tables that are not Callchain's.
	ErrForeign = errors.New("the database belongs to another program")
	// ErrNewer: the database was written by a newer Callchain.
	ErrNewer = errors.New("the database was written by a newer version")
)

// ConflictError: these streams already have an event at the version that the batch wanted to give. Nothing was stored.
type ConflictError struct{ Streams []string }

func (e *ConflictError) Error() string { return fmt.Sprintf("streams already exist: %v", e.Streams) }

// RefusedError: the database refuses the data itself (too large, not storable). The same batch will be refused again;
// nothing was stored.
type RefusedError struct{ Err error }

func (e *RefusedError) Error() string { return "the store refuses the data: " + e.Err.Error() }
func (e *RefusedError) Unwrap() error { return e.Err }

// Position is how far an inbox lane was consumed. Topic tells a recreated topic from the old one.
type Position struct {
	Topic  uuid.UUID
	Offset int64 // the next offset to read; 0 if the inbox has no memory
}

// Lanes is the number of inbox lanes: RPC and data.
const Lanes = 2

// Checkpoint is the state of one partition, kept in one row.
type Checkpoint struct {
	Partition int32
	Epoch     int64 // grows by one with each claim
	Node      string
	Seq       int64           // of the last stored event
	Head      Hash            // head of the partition's hash chain after Seq
	Positions [Lanes]Position // of the inbox lanes
	Indexed   int64           // rows that are written behind reflect the events up to this seq
	Relayed   int64           // events up to this seq were published
	Append    uuid.UUID       // the last append
}

// Batch is what one append stores: all of it for every partition that is not fenced.
type Batch struct {
	ID         uuid.UUID
	Partitions []PartitionBatch // each partition at most once
}

// PartitionBatch is the share of one partition in a Batch.
type PartitionBatch struct {
	Expect Checkpoint // Partition, Epoch and Seq must match the stored row
	Next   Checkpoint // takes its place; Partition and Epoch as in Expect
	Events []Event    // Seq from Expect.Seq+1 to Next.Seq, in order; AppendID is set by the store from Batch.ID
	Rows   []Row      // written in order, after the events
}

// Store keeps events and the rows that belong to them. All methods are safe for concurrent use.
type Store interface {
	// Exclusive makes this process the only one that may own partitions, until Close. ErrInUse if another lives.
	Exclusive(ctx context.Context) error
	// Shared makes this process one of many that own partitions of the store, and keeps others from Exclusive, until Close. ErrInUse if
	// one holds it exclusively, ErrSingle if the database cannot be shared.
	Shared(ctx context.Context) error

	// Claim takes over partitions in one transaction: each epoch grows by one (a partition without a row gets one, epoch 1).
	// From its return on, no append with an older epoch succeeds.
	Claim(ctx context.Context, node string, partitions []int32) ([]Checkpoint, error)

	// Append stores the batch in one transaction, durable when it returns. Partitions whose row does not match their Expect are
	// left out whole and returned, sorted; the others are stored. A row that carries the batch's own ID counts as stored: the
	// answer to an earlier try was lost. Errors store nothing: *ConflictError, *RefusedError, *OutageError, ctx's, or the database's.
	Append(ctx context.Context, b Batch) (fenced []int32, err error)

	// Stream reads the events of one stream with a version greater than after, in order, at most limit.
	Stream(ctx context.Context, stream string, after int64, limit int) ([]Event, error)

	// Streams hands all events of up to MaxStreams streams to each, one by one, so that they need not be in memory together: those of a stream
	// together, in the order of versions. Names that are not there have none; a name that is there twice counts once. It fails when each does; what
	// was handed over before an error counts for nothing.
	Streams(ctx context.Context, streams []string, each func(*Event) error) error

	// Partition reads the events of one partition with a seq greater than after, in order, at most limit. It never skips: once
	// an event was returned, no event with a lower seq appears.
	Partition(ctx context.Context, partition int32, after int64, limit int) ([]Event, error)

	// Page is Partition, but ends behind the event with which the data is larger than bytes. No events: there are no more.
	Page(ctx context.Context, partition int32, after int64, limit, bytes int) ([]Event, error)

	// Checkpoints reads the rows of all partitions that were ever claimed, by partition.
	Checkpoints(ctx context.Context) ([]Checkpoint, error)

	// Rows answers a query on one table; each row has the values of all columns in the table's order.
	Rows(ctx context.Context, q Query) ([][]any, error)
	// Count is the number of rows that q would give without Limit and Offset.
	Count(ctx context.Context, q Query) (int64, error)

	// Now is the time by the database's clock: this machine's if the database has no other.
	Now(ctx context.Context) (time.Time, error)
	// Size is the number of bytes the store takes on disk.
	Size(ctx context.Context) (int64, error)
	// Ping tells whether the database answers.
	Ping(ctx context.Context) error
	Close() error
}

// Scanner is what a Store offers beside if it keeps the events of all partitions in one log: who wants all of them reads them far
// cheaper in the order of commits than partition by partition.
type Scanner interface {
	// Places is the number of places in the log as of now. Events stand at places from 1 on; places may be empty.
	Places(ctx context.Context) (int64, error)
	// Scan reads the events at the places behind after up to and with last, in order: of each partition in the order of seqs. Up to
	// Places, nothing appears later.
	Scan(ctx context.Context, after, last int64) ([]Event, error)
}
