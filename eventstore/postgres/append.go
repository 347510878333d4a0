package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"callchain/eventstore"
)

const (
	triesMax   = 6 // 10 + 20 + 40 + 80 + 160 ms of pauses: a longer outage is for the caller to sit out
	firstPause = 10 * time.Millisecond
)

// Append stores the batch; see eventstore.Store. If the connection is torn it tries again: what an earlier try has committed carries the
// batch's id and is not stored twice.
func (s *Store) Append(ctx context.Context, b eventstore.Batch) (fenced []int32, err error) {
	if err := b.Check(); err != nil {
		return nil, fmt.Errorf("appending: %w", err)
	}
	if len(b.Partitions) == 0 {
		return nil, nil
	}
	err = s.retry(ctx, func() error {
		if err := s.hold.check(); err != nil {
			return err
		}
		if err := s.months.cover(ctx, &b); err != nil {
			return err
		}
		fenced, err = s.append(ctx, &b)
		return err
	})
	switch {
	case err == nil:
		return fenced, nil
	case hasCode(err, uniqueViolation):
		err = s.conflict(ctx, &b, err)
	case refuses(err):
		err = &eventstore.RefusedError{Err: err}
	}
	return nil, fmt.Errorf("appending: %w", err)
}

// retry runs f until it succeeds, fails for good, or was tried triesMax times: a restart of the server leaves dead connections in the pool.
// Outages are marked as such.
func (s *Store) retry(ctx context.Context, f func() error) error {
	return outage(s.tries(ctx, f))
}

func (s *Store) tries(ctx context.Context, f func() error) error {
	pause := firstPause
	for try := 1; ; try++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		if s.closed.Load() {
			return errClosed
		}
		err := f()
		if err == nil {
			return nil
		}
		if gone := ctx.Err(); gone != nil {
			return errors.Join(gone, err)
		}
		switch {
		case hasCode(err, checkViolation):
			s.months.forget()
		case hasCode(err, readOnly):
			// The session may have begun while the server took no writes, or on a server that is no longer the one that does.
			s.pool.Reset()
			return err
		case !passing(err):
			return err
		}
		if try == triesMax {
			return fmt.Errorf("tried %d times: %w", try, err)
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return errors.Join(ctx.Err(), err)
		}
		pause *= 2
	}
}

func (s *Store) append(ctx context.Context, b *eventstore.Batch) ([]int32, error) {
	advanced, err := s.send(ctx, appendRequest(b))
	if err != nil {
		return nil, err
	}
	if len(advanced) == len(b.Partitions) {
		return nil, nil
	}
	// Asked in a statement of its own, because the append's snapshot may be older than the commit of an earlier try that it waited for.
	before, err := s.carrying(ctx, b)
	if err != nil {
		return nil, err
	}
	var fenced []int32
	for i := range b.Partitions {
		if p := b.Partitions[i].Expect.Partition; !slices.Contains(advanced, p) && !slices.Contains(before, p) {
			fenced = append(fenced, p)
		}
	}
	slices.Sort(fenced)
	return fenced, nil
}

// send runs the request as one prepared statement and gives the partitions that advanced.
func (s *Store) send(ctx context.Context, r *request) (advanced []int32, err error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	query := r.sql.String()
	described, err := conn.Conn().Prepare(ctx, query, query) // once a connection
	if err != nil {
		return nil, err
	}
	binaryFormat := []int16{1}
	answer := conn.Conn().PgConn().ExecPrepared(ctx, described.Name, r.params, binaryFormat, binaryFormat)
	for answer.NextRow() {
		advanced = append(advanced, int32(binary.BigEndian.Uint32(answer.Values()[0])))
	}
	_, err = answer.Close()
	return advanced, err
}

// carrying lists the batch's partitions whose checkpoint shows the batch's id.
func (s *Store) carrying(ctx context.Context, b *eventstore.Batch) ([]int32, error) {
	partitions := make([]int32, 0, len(b.Partitions))
	for i := range b.Partitions {
		partitions = append(partitions, b.Partitions[i].Expect.Partition)
	}
	rows, err := s.pool.Query(ctx, "SELECT partition FROM checkpoints WHERE partition = ANY($1) AND append_id = $2", partitions, [16]byte(b.ID))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []int32
	for rows.Next() {
		var p int32
		if err := rows.Scan(&p); err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, rows.Err()
}

// SQLSTATE codes (PostgreSQL manual, appendix A).
const (
	uniqueViolation = "23505"
	readOnly        = "25006"
	diskFull        = "53100"
	checkViolation  = "23514" // no partition of the table for the row
)

func hasCode(err error, code string) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == code
}

// passing tells whether the same statement may succeed on another connection or a moment later.
func passing(err error) bool {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		var refused *eventstore.RefusedError
		return !errors.As(err, &refused) && !errors.As(err, new(malformed)) && !errors.Is(err, errLockLost) // else the connection is torn
	}
	switch e.Code {
	case "40001", "40P01", // serialization failure, deadlock
		"57P01", "57P02", "57P03", // shutting down, crashed, starting up
		"53300": // too many connections
		return true
	}
	return len(e.Code) == 5 && e.Code[:2] == "08" // connection exceptions
}

// outage marks an error that is the database's own state and nobody's data. A torn connection is one that was tried again in vain.
func outage(err error) error {
	var e *pgconn.PgError
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, errClosed):
		return err
	case !errors.As(err, &e):
		if passing(err) {
			return &eventstore.OutageError{Reason: eventstore.ReasonAway, Err: err}
		}
		return err
	case e.Code == diskFull:
		return &eventstore.OutageError{Reason: eventstore.ReasonFull, Err: err}
	case e.Code == readOnly:
		return &eventstore.OutageError{Reason: eventstore.ReasonReadOnly, Err: err}
	case len(e.Code) != 5:
		return err
	}
	switch e.Code[:2] {
	case "53":
		return &eventstore.OutageError{Reason: eventstore.ReasonRoom, Err: err}
	case "58": // errors of the system: reading, writing
		return &eventstore.OutageError{Reason: eventstore.ReasonDisk, Err: err}
	case "57", "08": // ended or cancelled by an operator or a time-out, starting up; connection exceptions
		return &eventstore.OutageError{Reason: eventstore.ReasonAway, Err: err}
	}
	return err
}

// refuses tells whether the server will never take the data: class 22 (data exception), 54 (limits exceeded), NOT NULL and CHECK.
func refuses(err error) bool {
	var e *pgconn.PgError
	if !errors.As(err, &e) || len(e.Code) != 5 {
		return false
	}
	return e.Code[:2] == "22" || e.Code[:2] == "54" || e.Code == "23502" || e.Code == checkViolation
}

// conflict names the streams of the batch that are stored already.
func (s *Store) conflict(ctx context.Context, b *eventstore.Batch, cause error) error {
	type version struct {
		stream string
		n      int64
	}
	names, seen := map[string]bool{}, map[version]bool{}
	var streams [][]byte
	var versions []int64
	for i := range b.Partitions {
		for j := range b.Partitions[i].Events {
			e := &b.Partitions[i].Events[j]
			v := version{e.Stream, e.Version}
			if seen[v] {
				names[e.Stream] = true
			}
			seen[v] = true
			streams, versions = append(streams, pack(e.Stream)), append(versions, e.Version)
		}
	}
	if err := s.stored(ctx, names, streams, versions); err != nil {
		return fmt.Errorf("looking for the streams in conflict: %w", err)
	}
	if len(names) == 0 {
		return cause
	}
	list := make([]string, 0, len(names))
	for name := range names {
		list = append(list, name)
	}
	slices.Sort(list)
	return &eventstore.ConflictError{Streams: list}
}

// stored adds the streams of which the version exists, or which began already and would begin again.
func (s *Store) stored(ctx context.Context, names map[string]bool, streams [][]byte, versions []int64) error {
	rows, err := s.pool.Query(ctx, `WITH v AS (SELECT * FROM unnest($1::bytea[], $2::int8[]) AS v(stream, version))
		SELECT v.stream FROM v JOIN events e ON e.stream = v.stream AND e.version = v.version
		UNION SELECT v.stream FROM v JOIN streams s ON s.stream = v.stream WHERE v.version = 1`, streams, versions)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var key []byte
		if err := rows.Scan(&key); err != nil {
			return err
		}
		name, err := unpack(key)
		if err != nil {
			return err
		}
		names[name] = true
	}
	return rows.Err()
}
