package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"

	"github.com/google/uuid"

	"callchain/eventstore"
	"callchain/eventstore/sqlgen"
	"callchain/eventstore/streamkey"
)

// reader owns the connections that read and their prepared statements.
type reader struct {
	db *sql.DB

	mu    sync.Mutex
	stmts map[string]*sql.Stmt
	stops map[int32]stop // where the last reader of each partition stopped
}

// stmtsMax bounds the statements kept prepared. The program asks some dozen different queries; if it should ever ask more, the first
// ones stay prepared and the others are prepared each time.
const stmtsMax = 256

func newReader(path string, connections int) (*reader, error) {
	db, err := connect(path, "query_only(true)", "cache_size(-4096)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return &reader{db: db, stmts: map[string]*sql.Stmt{}, stops: map[int32]stop{}}, nil
}

func (r *reader) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for _, s := range r.stmts {
		errs = append(errs, s.Close())
	}
	r.stmts = nil
	return errors.Join(append(errs, r.db.Close())...)
}

func (r *reader) query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	s, err := r.prepared(ctx, query)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return r.db.QueryContext(ctx, query, args...)
	}
	return s.QueryContext(ctx, args...)
}

func (r *reader) prepared(ctx context.Context, query string) (*sql.Stmt, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.stmts[query]; s != nil {
		return s, nil
	}
	if r.stmts == nil {
		return nil, errClosed
	}
	if len(r.stmts) >= stmtsMax {
		return nil, nil
	}
	s, err := r.db.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	r.stmts[query] = s
	return s, nil
}

// readColumns gives an event; the append's id stands in the append's row.
const readColumns = "e.stream, e.began, e.version, e.partition, e.seq, e.type, e.type_version, e.at, e.occurred, e.tenant, e.device," +
	" e.actor, e.cause, e.hops, e.trace, e.chain_version, e.key_id, e.data, e.hash"

// appendOf is the id of the append that an event came with.
const appendOf = "(SELECT a.id FROM appends a WHERE a.pos <= e.pos ORDER BY a.pos DESC LIMIT 1)"

const streamQuery = "SELECT " + readColumns + ", " + appendOf +
	" FROM events e WHERE e.stream = ? AND e.version > ? ORDER BY e.version LIMIT ?"

// Stream reads a stream; see eventstore.Store.
func (s *Store) Stream(ctx context.Context, stream string, after int64, limit int) ([]eventstore.Event, error) {
	events, err := s.reader.events(ctx, limit, streamQuery, streamkey.Pack(stream), after, int64(limit))
	if err != nil {
		return nil, fmt.Errorf("reading stream %s: %w", stream, err)
	}
	return events, nil
}

const eventsGuess = 512 // events for which room is made before a read

func (r *reader) events(ctx context.Context, limit int, query string, args ...any) (_ []eventstore.Event, err error) {
	if limit <= 0 {
		return nil, nil
	}
	rows, err := r.query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	out := make([]eventstore.Event, 0, min(limit, eventsGuess))
	for rows.Next() {
		out = append(out, eventstore.Event{})
		if err := scanEvent(rows, &out[len(out)-1]); err != nil {
			return nil, err
		}
	}
	return out, rows.Err()
}

func scanEvent(rows *sql.Rows, e *eventstore.Event) error {
	var (
		stream, tenant, device, trace, hash, id sql.RawBytes
		occurred                                sql.NullInt64
		actor, cause, chain, key                sql.NullString
	)
	if err := rows.Scan(&stream, &e.Began, &e.Version, &e.Partition, &e.Seq, &e.Type, &e.TypeVersion, &e.At, &occurred, &tenant, &device,
		&actor, &cause, &e.Hops, &trace, &chain, &key, &e.Data, &hash, &id); err != nil {
		return err
	}
	e.Occurred = e.At
	if occurred.Valid {
		e.Occurred = occurred.Int64
	}
	e.Actor, e.Cause, e.ChainVersion, e.KeyID = actor.String, cause.String, chain.String, key.String
	// Of bytes that were changed from outside, as many as fit are taken: the digest will not match, which is for Verify to tell.
	copy(e.Tenant[:], tenant)
	copy(e.Device[:], device)
	copy(e.Trace[:], trace)
	copy(e.Hash[:], hash)
	copy(e.AppendID[:], id)
	var err error
	e.Stream, err = streamkey.Unpack(stream)
	return err
}

// Checkpoints reads all checkpoints by partition.
func (s *Store) Checkpoints(ctx context.Context) (_ []eventstore.Checkpoint, err error) {
	rows, err := s.reader.query(ctx, "SELECT "+checkpointColumns+" FROM checkpoints ORDER BY partition")
	if err != nil {
		return nil, fmt.Errorf("reading the checkpoints: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var out []eventstore.Checkpoint
	for rows.Next() {
		row := make([]any, 12)
		into := make([]any, len(row))
		for i := range row {
			into[i] = &row[i]
		}
		if err := rows.Scan(into...); err != nil {
			return nil, fmt.Errorf("reading the checkpoints: %w", err)
		}
		c, err := checkpoint(row)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, rows.Err()
}

// checkpoint makes a Checkpoint of checkpointColumns.
func checkpoint[V any](row []V) (c eventstore.Checkpoint, err error) {
	number := func(i int) int64 {
		n, ok := any(row[i]).(int64)
		if !ok {
			err = fmt.Errorf("reading a checkpoint: column %d is %T, want a number", i, row[i])
		}
		return n
	}
	bytes := func(dest []byte, i int) {
		b, ok := any(row[i]).([]byte)
		if !ok || copy(dest, b) != len(b) {
			err = fmt.Errorf("reading a checkpoint: column %d is %T, want %d bytes", i, row[i], len(dest))
		}
	}
	c.Partition, c.Epoch, c.Seq = int32(number(0)), number(1), number(3)
	c.Node, _ = any(row[2]).(string) // a STRICT text column
	bytes(c.Head[:], 4)
	bytes(c.Positions[0].Topic[:], 5)
	bytes(c.Positions[1].Topic[:], 7)
	c.Positions[0].Offset, c.Positions[1].Offset = number(6), number(8)
	c.Indexed, c.Relayed = number(9), number(10)
	bytes(c.Append[:], 11)
	return c, err
}

// Rows answers a query; see eventstore.Store.
func (s *Store) Rows(ctx context.Context, q eventstore.Query) (_ [][]any, err error) {
	query, args, err := sqlgen.SQLite.Select(q)
	if err != nil {
		return nil, err
	}
	rows, err := s.reader.query(ctx, query, arguments(args)...)
	if err != nil {
		return nil, fmt.Errorf("reading rows of %s: %w", q.Table.Name, err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var out [][]any
	into := make([]any, len(q.Table.Columns))
	for rows.Next() {
		row := make([]any, len(into))
		for i := range row {
			into[i] = &row[i]
		}
		if err := rows.Scan(into...); err != nil {
			return nil, fmt.Errorf("reading rows of %s: %w", q.Table.Name, err)
		}
		for i, c := range q.Table.Columns {
			if row[i], err = decode(c.Kind, row[i]); err != nil {
				return nil, fmt.Errorf("reading rows of %s: column %s: %w", q.Table.Name, c.Name, err)
			}
		}
		out = append(out, row)
	}
	return out, rows.Err()
}

// Count counts rows; see eventstore.Store.
func (s *Store) Count(ctx context.Context, q eventstore.Query) (n int64, err error) {
	query, args, err := sqlgen.SQLite.Count(q)
	if err != nil {
		return 0, err
	}
	rows, err := s.reader.query(ctx, query, arguments(args)...)
	if err != nil {
		return 0, fmt.Errorf("counting rows of %s: %w", q.Table.Name, err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	if rows.Next() {
		err = rows.Scan(&n)
	}
	return n, errors.Join(err, rows.Err())
}

func arguments(values []any) []any {
	out := make([]any, len(values))
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
