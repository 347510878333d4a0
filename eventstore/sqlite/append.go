package sqlite

import (
	"bytes"
	"context"
	"database/sql/driver"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"callchain/eventstore"
	"callchain/eventstore/sqlgen"
	"callchain/eventstore/streamkey"
)

const checkpointColumns = "partition, epoch, node, seq, head, topic0, offset0, topic1, offset1, indexed, relayed, append_id"

// Claim raises the epochs of the partitions; the answer is sorted by partition.
func (s *Store) Claim(ctx context.Context, node string, partitions []int32) ([]eventstore.Checkpoint, error) {
	const query = "INSERT INTO checkpoints (" + checkpointColumns + ") VALUES (?, 1, ?, 0, ?, ?, 0, ?, 0, 0, 0, ?)" +
		" ON CONFLICT (partition) DO UPDATE SET epoch = epoch + 1, node = excluded.node RETURNING " + checkpointColumns
	var out []eventstore.Checkpoint
	err := s.writer.transaction(ctx, func() error {
		out = out[:0]
		for _, p := range slices.Compact(slices.Sorted(slices.Values(partitions))) {
			none := uuid.Nil[:]
			row, err := s.writer.row(query, int64(p), node, make([]byte, len(eventstore.Hash{})), none, none, none)
			if err != nil {
				return fmt.Errorf("claiming partition %d: %w", p, err)
			}
			c, err := checkpoint(row)
			if err != nil {
				return err
			}
			out = append(out, c)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("claiming for %s: %w", node, err)
	}
	return out, nil
}

// Append stores the batch; see eventstore.Store. The context ends the wait for the writer's turn, not a transaction that has begun.
func (s *Store) Append(ctx context.Context, b eventstore.Batch) ([]int32, error) {
	if err := b.Check(); err != nil {
		return nil, fmt.Errorf("appending: %w", err)
	}
	var fenced []int32
	events := 0
	err := s.writer.transaction(ctx, func() (err error) {
		fenced, events, err = s.writer.append(&b)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("appending: %w", refused(err))
	}
	s.wal.wrote(events + 1)
	return fenced, nil
}

func (w *writer) append(b *eventstore.Batch) (fenced []int32, events int, err error) {
	rows := make([][]eventstore.Row, 0, len(b.Partitions))
	var stored []*eventstore.PartitionBatch
	for i := range b.Partitions {
		p := &b.Partitions[i]
		switch place, err := w.advance(p, b.ID); {
		case err != nil:
			return nil, 0, fmt.Errorf("partition %d: %w", p.Expect.Partition, err)
		case place == elsewhere:
			fenced = append(fenced, p.Expect.Partition)
		case place == advanced:
			stored = append(stored, p)
			rows = append(rows, p.Rows)
			events += len(p.Events)
		}
	}
	for _, p := range stored {
		if err := w.events(p, b.ID); err != nil {
			if unique(err) {
				return nil, 0, w.conflict(stored, err)
			}
			return nil, 0, fmt.Errorf("events of partition %d: %w", p.Expect.Partition, err)
		}
	}
	for _, c := range sqlgen.Last(rows...) {
		if err := w.changes(c); err != nil {
			return nil, 0, fmt.Errorf("rows of %s: %w", c.Table.Name, err)
		}
	}
	slices.Sort(fenced)
	return fenced, events, nil
}

type place int

const (
	elsewhere place = iota // another owner, or another seq
	advanced               // by this append
	before                 // by an earlier try of this append
)

func (w *writer) advance(p *eventstore.PartitionBatch, id uuid.UUID) (place, error) {
	const update = "UPDATE checkpoints SET node = ?, seq = ?, head = ?, topic0 = ?, offset0 = ?, topic1 = ?, offset1 = ?, indexed = ?, relayed = ?, append_id = ?" +
		" WHERE partition = ? AND epoch = ? AND seq = ? AND append_id <> ?"
	e, n := &p.Expect, &p.Next
	res, err := w.exec(update, n.Node, n.Seq, n.Head[:], n.Positions[0].Topic[:], n.Positions[0].Offset, n.Positions[1].Topic[:], n.Positions[1].Offset,
		n.Indexed, n.Relayed, id[:], int64(e.Partition), e.Epoch, e.Seq, id[:])
	if err != nil {
		return elsewhere, err
	}
	if changed, err := res.RowsAffected(); err != nil || changed == 1 {
		return advanced, err
	}
	row, err := w.row("SELECT append_id FROM checkpoints WHERE partition = ?", int64(e.Partition))
	if err != nil || row == nil {
		return elsewhere, err
	}
	if last, ok := row[0].([]byte); ok && bytes.Equal(last, id[:]) {
		return before, nil
	}
	return elsewhere, nil
}

const (
	eventColumns  = "stream, began, version, partition, seq, type, type_version, at, occurred, tenant, device, actor, cause, hops, trace, chain_version, key_id, data, hash"
	eventWidth    = 19
	eventsAtOnce  = 16 // rows of one INSERT; more gains nothing
	insertIntoAll = "INSERT OR ROLLBACK INTO events (" + eventColumns + ") VALUES "
)

// OR ROLLBACK spares the statement journal that a statement of several rows would need; any failure ends the append anyway.
var (
	oneEvent   = insertIntoAll + places(eventWidth)
	manyEvents = insertIntoAll + strings.Repeat(places(eventWidth)+", ", eventsAtOnce-1) + places(eventWidth)
)

func places(n int) string { return "(" + strings.Repeat("?, ", n-1) + "?)" }

func (w *writer) events(p *eventstore.PartitionBatch, id uuid.UUID) error {
	if len(p.Events) == 0 {
		return nil
	}
	values := make([]driver.Value, 0, eventWidth*eventsAtOnce)
	var last int64
	for rest := p.Events; len(rest) > 0; {
		query, n := oneEvent, 1
		if len(rest) >= eventsAtOnce {
			query, n = manyEvents, eventsAtOnce
		}
		values = values[:0]
		for i := range rest[:n] {
			values = appendEvent(values, &rest[i])
		}
		res, err := w.exec(query, values...)
		if err != nil {
			return err
		}
		if last, err = res.LastInsertId(); err != nil {
			return err
		}
		rest = rest[n:]
	}
	// Nobody else writes in this transaction, so the row ids are consecutive.
	count := int64(len(p.Events))
	_, err := w.exec("INSERT INTO commits (partition, first, pos, count, append_id) VALUES (?, ?, ?, ?, ?)",
		int64(p.Expect.Partition), p.Expect.Seq+1, last-count+1, count, id[:])
	return err
}

func appendEvent(v []driver.Value, e *eventstore.Event) []driver.Value {
	var occurred, tenant, device, trace driver.Value
	if e.Occurred != e.At {
		occurred = e.Occurred
	}
	if e.Tenant != uuid.Nil {
		tenant = e.Tenant[:]
	}
	if e.Device != uuid.Nil {
		device = e.Device[:]
	}
	if e.Trace != [16]byte{} {
		trace = e.Trace[:]
	}
	return append(v, streamkey.Pack(e.Stream), e.Began, e.Version, int64(e.Partition), e.Seq, e.Type, int64(e.TypeVersion), e.At, occurred,
		tenant, device, text(e.Actor), text(e.Cause), int64(e.Hops), trace, text(e.ChainVersion), text(e.KeyID), string(e.Data), e.Hash[:])
}

// text is NULL if empty.
func text(s string) driver.Value {
	if s == "" {
		return nil
	}
	return s
}

// conflict names the streams of the batch that are stored already. The transaction is over, but the writer's turn is not.
func (w *writer) conflict(batches []*eventstore.PartitionBatch, cause error) error {
	type version struct {
		stream string
		n      int64
	}
	seen, streams := map[version]bool{}, map[string]bool{}
	for _, p := range batches {
		for i := range p.Events {
			e := &p.Events[i]
			v := version{e.Stream, e.Version}
			row, err := w.row("SELECT 1 FROM events WHERE stream = ? AND version = ?", streamkey.Pack(e.Stream), e.Version)
			if err != nil {
				return fmt.Errorf("looking for the streams in conflict: %w", err)
			}
			if row != nil || seen[v] {
				streams[e.Stream] = true
			}
			seen[v] = true
		}
	}
	if len(streams) == 0 {
		return cause // not a stream: a commit row that should not be there
	}
	names := make([]string, 0, len(streams))
	for s := range streams {
		names = append(names, s)
	}
	slices.Sort(names)
	return &eventstore.ConflictError{Streams: names}
}

func (w *writer) changes(c sqlgen.Changes) error {
	upsert := sqlgen.Upsert(c.Table, "VALUES "+places(len(c.Table.Columns)))
	remove := sqlgen.SQLite.Delete(c.Table)
	values := make([]driver.Value, 0, len(c.Table.Columns))
	for _, r := range c.Rows {
		query := upsert
		if r.Delete {
			query = remove
		}
		values = values[:0]
		for i, v := range r.Values {
			values = append(values, encode(c.Table.Columns[i].Kind, v))
		}
		if _, err := w.exec(query, values...); err != nil {
			return err
		}
	}
	return nil
}
