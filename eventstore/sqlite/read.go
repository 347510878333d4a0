package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/google/uuid"

	"callchain/eventstore"
	"callchain/eventstore/sqlgen"
	"callchain/eventstore/streamkey"
)

// reader owns the connections that read.
type reader struct {
	path   string
	free   chan *connection // an entry for each connection that is not in use; nil: it was not dialed yet
	closed chan struct{}

	mu    sync.Mutex
	stops map[int32]stop // where the last reader of each partition stopped
}

func newReader(path string, connections int) *reader {
	r := &reader{path: path, free: make(chan *connection, connections), closed: make(chan struct{}), stops: map[int32]stop{}}
	for range connections {
		r.free <- nil
	}
	return r
}

// close waits for the reads in progress; use fails from now on.
func (r *reader) close() error {
	close(r.closed)
	var errs []error
	for range cap(r.free) {
		if c := <-r.free; c != nil {
			errs = append(errs, c.close())
		}
	}
	return errors.Join(errs...)
}

// use runs f on a connection of its own; f asks one query after the other.
func (r *reader) use(ctx context.Context, f func(*connection) error) (err error) {
	if err := ctx.Err(); err != nil {
		return err // also if a connection is free
	}
	var c *connection
	select {
	case c = <-r.free:
	case <-r.closed:
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { r.free <- c }()
	if c == nil {
		if c, err = dial(ctx, r.path, "query_only(true)", "cache_size(-2048)"); err != nil {
			return outage(err)
		}
	}
	return outage(f(c))
}

// readColumns gives an event, but for what tells its append. Data comes as bytes, so that it is not copied twice.
const readColumns = "e.stream, e.began, e.version, e.partition, e.seq, e.type, e.type_version, e.at, e.occurred, e.tenant, e.device," +
	" e.actor, e.cause, e.hops, e.trace, e.chain_version, e.key_id, CAST(e.data AS BLOB), e.hash"

// appendOf is the id of the append that an event came with.
const appendOf = "(SELECT a.id FROM appends a WHERE a.pos <= e.pos ORDER BY a.pos DESC LIMIT 1)"

const streamQuery = "SELECT " + readColumns + ", " + appendOf +
	" FROM events e WHERE e.stream = ? AND e.version > ? ORDER BY e.version LIMIT ?"

// Stream reads a stream; see eventstore.Store.
func (s *Store) Stream(ctx context.Context, stream string, after int64, limit int) (out []eventstore.Event, err error) {
	if limit <= 0 {
		return nil, nil
	}
	err = s.reader.use(ctx, func(c *connection) (err error) {
		out, err = c.events(ctx, nil, min(limit, streamGuess), streamQuery, streamkey.Pack(stream), after, int64(limit))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading stream %s: %w", stream, err)
	}
	return out, nil
}

// streamChunks are the numbers of names in the statements of Streams: a list is filled up with its last name, so that few statements are kept.
var streamChunks = [...]int{8, 64, eventstore.MaxStreams / 2, eventstore.MaxStreams}

// Streams reads streams; see eventstore.Store.
func (s *Store) Streams(ctx context.Context, streams []string, each func(*eventstore.Event) error) error {
	names, err := eventstore.StreamNames(streams)
	if err != nil || len(names) == 0 {
		return err
	}
	at, _ := slices.BinarySearch(streamChunks[:], len(names))
	keys := make([]driver.Value, streamChunks[at])
	for i := range keys {
		keys[i] = streamkey.Pack(names[min(i, len(names)-1)])
	}
	query := "SELECT " + readColumns + ", " + appendOf + " FROM events e WHERE e.stream IN " + places(len(keys)) + " ORDER BY e.stream, e.version"
	err = s.reader.use(ctx, func(c *connection) (err error) {
		return c.eachEvent(ctx, nil, query, each, keys...)
	})
	if err != nil {
		return fmt.Errorf("reading %d streams: %w", len(names), err)
	}
	return nil
}

// Room that is made before a read, in events.
const (
	streamGuess = 16
)

// origin is an append: what stands at pos and behind it, up to the next one, came with it.
type origin struct {
	pos int64
	id  uuid.UUID
}

// events reads events as eachEvent does.
func (c *connection) events(ctx context.Context, origins []origin, room int, query string, args ...driver.Value) ([]eventstore.Event, error) {
	out := make([]eventstore.Event, 0, room)
	err := c.eachEvent(ctx, origins, query, func(e *eventstore.Event) error {
		out = append(out, *e)
		return nil
	}, args...)
	return out, err
}

// eachEvent reads readColumns and a last column that tells the append: its id, or the event's pos among origins.
func (c *connection) eachEvent(ctx context.Context, origins []origin, query string, each func(*eventstore.Event) error, args ...driver.Value) error {
	at := 0
	return c.each(ctx, query, func(row []driver.Value) (err error) {
		var e eventstore.Event
		switch last := row[len(row)-1].(type) {
		case []byte:
			copy(e.AppendID[:], last)
		case int64:
			for at+1 < len(origins) && origins[at+1].pos <= last {
				at++
			}
			if at < len(origins) {
				e.AppendID = origins[at].id
			}
		}
		if err := scanEvent(row, &e); err != nil {
			return err
		}
		return each(&e)
	}, args...)
}

// scanEvent takes readColumns. Of what was changed from outside, as much as fits is taken: the digest will not match, which is for
// Verify to tell.
func scanEvent(row []driver.Value, e *eventstore.Event) (err error) {
	stream, _ := row[0].([]byte)
	e.Began, e.Version, e.Partition, e.Seq = number(row[1]), number(row[2]), int32(number(row[3])), number(row[4])
	e.Type, e.TypeVersion, e.At = word(row[5]), int16(number(row[6])), number(row[7])
	e.Occurred = e.At
	if row[8] != nil {
		e.Occurred = number(row[8])
	}
	fill(e.Tenant[:], row[9])
	fill(e.Device[:], row[10])
	e.Actor, e.Cause, e.Hops = word(row[11]), word(row[12]), int16(number(row[13]))
	fill(e.Trace[:], row[14])
	e.ChainVersion, e.KeyID = word(row[15]), word(row[16])
	e.Data, _ = row[17].([]byte)
	fill(e.Hash[:], row[18])
	e.Stream, err = streamkey.Unpack(stream)
	return err
}

// number, word and fill read a column of a STRICT table, of which NULL stands for nothing.
func number(v driver.Value) int64 {
	n, _ := v.(int64)
	return n
}

func word(v driver.Value) string {
	s, _ := v.(string)
	return s
}

func fill(dest []byte, v driver.Value) {
	b, _ := v.([]byte)
	copy(dest, b)
}

// Checkpoints reads all checkpoints by partition.
func (s *Store) Checkpoints(ctx context.Context) (out []eventstore.Checkpoint, err error) {
	err = s.reader.use(ctx, func(c *connection) error {
		return c.each(ctx, "SELECT "+checkpointColumns+" FROM checkpoints ORDER BY partition", func(row []driver.Value) error {
			cp, err := checkpoint(row)
			out = append(out, cp)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("reading the checkpoints: %w", err)
	}
	return out, nil
}

// checkpoint makes a Checkpoint of checkpointColumns.
func checkpoint(row []driver.Value) (c eventstore.Checkpoint, err error) {
	count := func(i int) int64 {
		n, ok := row[i].(int64)
		if !ok {
			err = fmt.Errorf("reading a checkpoint: column %d is %T, want a number", i, row[i])
		}
		return n
	}
	bytes := func(dest []byte, i int) {
		b, ok := row[i].([]byte)
		if !ok || copy(dest, b) != len(b) {
			err = fmt.Errorf("reading a checkpoint: column %d is %T, want %d bytes", i, row[i], len(dest))
		}
	}
	c.Partition, c.Epoch, c.Seq = int32(count(0)), count(1), count(3)
	c.Node = word(row[2])
	bytes(c.Head[:], 4)
	bytes(c.Positions[0].Topic[:], 5)
	bytes(c.Positions[1].Topic[:], 7)
	c.Positions[0].Offset, c.Positions[1].Offset = count(6), count(8)
	c.Indexed, c.Relayed = count(9), count(10)
	bytes(c.Append[:], 11)
	return c, err
}

// Rows answers a query; see eventstore.Store.
func (s *Store) Rows(ctx context.Context, q eventstore.Query) (out [][]any, err error) {
	query, args, err := sqlgen.SQLite.Select(q)
	if err != nil {
		return nil, err
	}
	err = s.reader.use(ctx, func(c *connection) error {
		return c.each(ctx, query, func(stored []driver.Value) error {
			row, err := decodeRow(q.Table, stored)
			out = append(out, row)
			return err
		}, arguments(args)...)
	})
	if err != nil {
		return nil, fmt.Errorf("reading rows of %s: %w", q.Table.Name, err)
	}
	return out, nil
}

func decodeRow(t *eventstore.Table, stored []driver.Value) (row []any, err error) {
	row = make([]any, len(stored))
	for i, c := range t.Columns {
		if row[i], err = decode(c.Kind, stored[i]); err != nil {
			return nil, fmt.Errorf("column %s: %w", c.Name, err)
		}
	}
	return row, nil
}

// Count counts rows; see eventstore.Store.
func (s *Store) Count(ctx context.Context, q eventstore.Query) (n int64, err error) {
	query, args, err := sqlgen.SQLite.Count(q)
	if err != nil {
		return 0, err
	}
	err = s.reader.use(ctx, func(c *connection) error {
		return c.each(ctx, query, func(row []driver.Value) error {
			n = number(row[0])
			return nil
		}, arguments(args)...)
	})
	if err != nil {
		return 0, fmt.Errorf("counting rows of %s: %w", q.Table.Name, err)
	}
	return n, nil
}

func arguments(values []any) []driver.Value {
	out := make([]driver.Value, len(values))
	for i, v := range values {
		out[i] = v
		switch v := v.(type) {
		case uuid.UUID:
			out[i] = v[:]
		case bool:
			out[i] = flag(v)
		}
	}
	return out
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// encode gives what SQLite keeps for a value of a checked row.
func encode(k eventstore.Kind, v any) any {
	switch v := v.(type) {
	case uuid.UUID:
		return v[:]
	case bool:
		return flag(v)
	case []byte:
		if k == eventstore.JSON {
			return string(v)
		}
	}
	return v
}

var errKind = errors.New("the stored value is not of the column's kind")

// decode reverses encode.
func decode(k eventstore.Kind, v any) (any, error) {
	if v == nil {
		return nil, nil
	}
	switch v := v.(type) {
	case int64:
		switch k {
		case eventstore.Int:
			return v, nil
		case eventstore.Bool:
			return v != 0, nil
		}
	case string:
		switch k {
		case eventstore.Text:
			return v, nil
		case eventstore.JSON:
			return []byte(v), nil
		}
	case []byte:
		switch k {
		case eventstore.Bytes:
			return v, nil
		case eventstore.UUID:
			if id, err := uuid.FromBytes(v); err == nil {
				return id, nil
			}
		}
	}
	return nil, errKind
}
