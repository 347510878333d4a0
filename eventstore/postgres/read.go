package postgres

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"callchain/eventstore"
	"callchain/eventstore/sqlgen"
)

// inBinary asks for all columns in the binary format, which for json is its text.
var inBinary = pgx.QueryResultFormats{pgx.BinaryFormatCode}

const readColumns = eventColumns + ", append_id"

// Stream reads a stream; see eventstore.Store. The stream's row tells in which month to look.
func (s *Store) Stream(ctx context.Context, stream string, after int64, limit int) ([]eventstore.Event, error) {
	const query = "SELECT " + readColumns + " FROM events WHERE stream = $1 AND began = (SELECT began FROM streams WHERE stream = $1) AND version > $2" +
		" ORDER BY version LIMIT $3"
	events, err := s.events(ctx, limit, query, pack(stream), after, int64(limit))
	if err != nil {
		return nil, fmt.Errorf("reading stream %s: %w", stream, err)
	}
	return events, nil
}

// Streams reads streams; see eventstore.Store. OFFSET 0 keeps the planner from turning the query inside out: whatever it believes of the
// tables' sizes, each stream is looked up by the index of its own month.
func (s *Store) Streams(ctx context.Context, streams []string, each func(*eventstore.Event) error) error {
	const query = "SELECT e.* FROM unnest($1::bytea[]) AS k(stream) CROSS JOIN LATERAL (SELECT " + readColumns +
		" FROM events WHERE stream = k.stream AND began = (SELECT began FROM streams WHERE stream = k.stream) ORDER BY version OFFSET 0) e"
	names, err := eventstore.StreamNames(streams)
	if err != nil || len(names) == 0 {
		return err
	}
	keys := make([][]byte, 0, len(names))
	for _, name := range names {
		keys = append(keys, pack(name))
	}
	if err := s.each(ctx, each, query, keys); err != nil {
		return fmt.Errorf("reading %d streams: %w", len(names), err)
	}
	return nil
}

// each hands the events of a query over one by one. A torn connection begins it again only while the reader has none of them.
func (s *Store) each(ctx context.Context, each func(*eventstore.Event) error, query string, args ...any) error {
	var failed error // what ends it for good
	err := s.retry(ctx, func() error {
		given := false
		err := eachRow(ctx, s.pool, func(raw [][]byte) error {
			var e eventstore.Event
			if failed = decodeEvent(&e, raw); failed == nil {
				given = true
				failed = each(&e)
			}
			return failed
		}, query, args)
		if given && failed == nil {
			failed = outage(err)
		}
		if failed != nil {
			return nil
		}
		return err
	})
	return errors.Join(failed, err)
}

// partitionQuery reads a partition. Each append compares the seq of the one before, so commits are in the order of seqs.
const partitionQuery = "SELECT " + readColumns + " FROM events WHERE partition = $1 AND seq > $2 ORDER BY seq LIMIT $3"

// Partition reads a partition; see eventstore.Store.
func (s *Store) Partition(ctx context.Context, partition int32, after int64, limit int) ([]eventstore.Event, error) {
	events, err := s.events(ctx, limit, partitionQuery, partition, after, int64(limit))
	if err != nil {
		return nil, fmt.Errorf("reading partition %d: %w", partition, err)
	}
	return events, nil
}

// Page reads a part of a partition; see eventstore.Store. What is left of the answer is not kept.
func (s *Store) Page(ctx context.Context, partition int32, after int64, limit, bytes int) (out []eventstore.Event, err error) {
	err = s.each(ctx, func(e *eventstore.Event) error {
		out = append(out, *e)
		if bytes -= len(e.Data); bytes < 0 {
			return errEnough
		}
		return nil
	}, partitionQuery, partition, after, int64(limit))
	if err != nil && !errors.Is(err, errEnough) {
		return nil, fmt.Errorf("reading partition %d: %w", partition, err)
	}
	return out, nil
}

var errEnough = errors.New("enough was read")

const eventsGuess = 512 // events for which room is made before a read

func (s *Store) events(ctx context.Context, limit int, query string, args ...any) ([]eventstore.Event, error) {
	if limit <= 0 {
		return nil, nil
	}
	return collect(ctx, s, min(limit, eventsGuess), decodeEvent, query, args)
}

// collect runs a query and decodes its rows; a torn connection begins it again.
func collect[T any](ctx context.Context, s *Store, guess int, decode func(*T, [][]byte) error, query string, args []any) (out []T, err error) {
	err = s.retry(ctx, func() error {
		out, err = read(ctx, s.pool, guess, decode, query, args)
		return err
	})
	return out, err
}

// asked is the pool or one connection of it.
type asked interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// read runs a query once and decodes its rows.
func read[T any](ctx context.Context, from asked, guess int, decode func(*T, [][]byte) error, query string, args []any) ([]T, error) {
	out := make([]T, 0, guess)
	err := eachRow(ctx, from, func(raw [][]byte) error {
		out = append(out, *new(T))
		if err := decode(&out[len(out)-1], raw); err != nil {
			return malformed{err}
		}
		return nil
	}, query, args)
	if err != nil {
		return nil, err
	}
	return out, nil
}

// eachRow runs a query once and hands its rows over until each fails.
func eachRow(ctx context.Context, from asked, each func(raw [][]byte) error, query string, args []any) error {
	rows, err := from.Query(ctx, query, append([]any{inBinary}, args...)...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows.RawValues()); err != nil {
			return err
		}
	}
	return rows.Err()
}

// malformed marks what was read and cannot be understood: reading it again does not help.
type malformed struct{ error }

func (m malformed) Unwrap() error { return m.error }

func int8of(raw []byte) int64 { return int64(binary.BigEndian.Uint64(raw)) }
func int4of(raw []byte) int32 { return int32(binary.BigEndian.Uint32(raw)) }
func int2of(raw []byte) int16 { return int16(binary.BigEndian.Uint16(raw)) }

// decodeEvent takes readColumns. Of bytes that were changed from outside, as many as fit are taken: the digest will not match, which is for
// Verify to tell.
func decodeEvent(e *eventstore.Event, raw [][]byte) (err error) {
	if e.Stream, err = unpack(raw[0]); err != nil {
		return err
	}
	e.Began, e.Version, e.Partition, e.Seq = int8of(raw[1]), int8of(raw[2]), int4of(raw[3]), int8of(raw[4])
	e.Type, e.TypeVersion = string(raw[5]), int2of(raw[6])
	e.At, e.Occurred = int8of(raw[7]), int8of(raw[8])
	copy(e.Tenant[:], raw[9])
	copy(e.Device[:], raw[10])
	e.Actor, e.Cause, e.Hops = string(raw[11]), string(raw[12]), int2of(raw[13])
	copy(e.Trace[:], raw[14])
	e.ChainVersion, e.KeyID, e.Data = string(raw[15]), string(raw[16]), bytes.Clone(raw[17])
	copy(e.Hash[:], raw[18])
	copy(e.AppendID[:], raw[19])
	return nil
}

const checkpointColumns = "partition, epoch, node, seq, head, topic0, offset0, topic1, offset1, indexed, relayed, append_id"

// Checkpoints reads all checkpoints by partition.
func (s *Store) Checkpoints(ctx context.Context) ([]eventstore.Checkpoint, error) {
	out, err := collect(ctx, s, 0, decodeCheckpoint, "SELECT "+checkpointColumns+" FROM checkpoints ORDER BY partition", nil)
	if err != nil {
		return nil, fmt.Errorf("reading the checkpoints: %w", err)
	}
	return out, nil
}

func decodeCheckpoint(c *eventstore.Checkpoint, raw [][]byte) error {
	*c = eventstore.Checkpoint{
		Partition: int4of(raw[0]), Epoch: int8of(raw[1]), Node: string(raw[2]), Seq: int8of(raw[3]), Indexed: int8of(raw[9]), Relayed: int8of(raw[10]),
	}
	copy(c.Head[:], raw[4])
	copy(c.Positions[0].Topic[:], raw[5])
	copy(c.Positions[1].Topic[:], raw[7])
	c.Positions[0].Offset, c.Positions[1].Offset = int8of(raw[6]), int8of(raw[8])
	copy(c.Append[:], raw[11])
	return nil
}

// Rows answers a query; see eventstore.Store.
func (s *Store) Rows(ctx context.Context, q eventstore.Query) ([][]any, error) {
	query, args, err := sqlgen.Postgres.Select(q)
	if err != nil {
		return nil, err
	}
	out, err := collect(ctx, s, 0, func(row *[]any, raw [][]byte) (err error) {
		*row, err = decodeRow(q.Table, raw)
		return err
	}, query, arguments(args))
	if err != nil {
		return nil, fmt.Errorf("reading rows of %s: %w", q.Table.Name, err)
	}
	return out, nil
}

func decodeRow(t *eventstore.Table, raw [][]byte) (row []any, err error) {
	row = make([]any, len(raw))
	for i := range raw {
		if row[i], err = decode(t.Columns[i].Kind, raw[i]); err != nil {
			return nil, fmt.Errorf("column %s: %w", t.Columns[i].Name, err)
		}
	}
	return row, nil
}

// Count counts rows; see eventstore.Store.
func (s *Store) Count(ctx context.Context, q eventstore.Query) (int64, error) {
	query, args, err := sqlgen.Postgres.Count(q)
	if err != nil {
		return 0, err
	}
	counted, err := collect(ctx, s, 1, func(n *int64, raw [][]byte) error { *n = int8of(raw[0]); return nil }, query, arguments(args))
	if err != nil {
		return 0, fmt.Errorf("counting rows of %s: %w", q.Table.Name, err)
	}
	return counted[0], nil
}

// arguments gives UUIDs in the form that the driver knows.
func arguments(values []any) []any {
	out := make([]any, len(values))
	for i, v := range values {
		out[i] = v
		if id, ok := v.(uuid.UUID); ok {
			out[i] = [16]byte(id)
		}
	}
	return out
}

var errKind = errors.New("the stored value is not of the column's kind")

// decode gives the Go value of a column in binary format; nil is NULL.
func decode(k eventstore.Kind, raw []byte) (any, error) {
	if raw == nil {
		return nil, nil
	}
	switch {
	case k == eventstore.Int && len(raw) == 8:
		return int8of(raw), nil
	case k == eventstore.Text:
		return string(raw), nil
	case k == eventstore.Bytes, k == eventstore.JSON:
		return append([]byte{}, raw...), nil
	case k == eventstore.UUID && len(raw) == 16:
		return uuid.UUID(raw), nil
	case k == eventstore.Bool && len(raw) == 1:
		return raw[0] == 1, nil
	}
	return nil, errKind
}
