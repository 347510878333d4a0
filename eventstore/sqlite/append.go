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
	stored, fenced, err := w.judge(b)
	if err != nil {
		return nil, 0, err
	}
	if events, err = w.events(stored, b.ID); err != nil {
		if unique(err) {
			return nil, 0, w.conflict(stored, err)
		}
		return nil, 0, fmt.Errorf("events: %w", err)
	}
	if err := w.checkpoints(stored, b.ID); err != nil {
		return nil, 0, fmt.Errorf("checkpoints: %w", err)
	}
	rows := make([][]eventstore.Row, 0, len(stored))
	for _, p := range stored {
		rows = append(rows, p.Rows)
	}
	for _, c := range sqlgen.Last(rows...) {
		if err := w.changes(c); err != nil {
			return nil, 0, fmt.Errorf("rows of %s: %w", c.Table.Name, err)
		}
	}
	slices.Sort(fenced)
	return fenced, events, nil
}

// judge compares the batch with the checkpoints: which of its partitions stand where it expects them, and which are somebody else's.
// Those that were stored by an earlier try of this batch are neither.
func (w *writer) judge(b *eventstore.Batch) (stored []*eventstore.PartitionBatch, fenced []int32, err error) {
	type place struct {
		epoch, seq int64
		last       []byte
	}
	places := make(map[int32]place, len(b.Partitions))
	err = w.each(background, "SELECT partition, epoch, seq, append_id FROM checkpoints", func(row []driver.Value) error {
		var at place
		number, _ := row[0].(int64)
		at.epoch, _ = row[1].(int64)
		at.seq, _ = row[2].(int64)
		last, _ := row[3].([]byte)
		at.last = bytes.Clone(last)
		places[int32(number)] = at
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("reading the checkpoints: %w", err)
	}
	for i := range b.Partitions {
		p := &b.Partitions[i]
		switch at := places[p.Expect.Partition]; {
		case bytes.Equal(at.last, b.ID[:]): // stored before
		case at.epoch == p.Expect.Epoch && at.seq == p.Expect.Seq && at.epoch > 0:
			stored = append(stored, p)
		default:
			fenced = append(fenced, p.Expect.Partition)
		}
	}
	return stored, fenced, nil
}

const (
	eventColumns     = "stream, began, version, partition, seq, type, type_version, at, occurred, tenant, device, actor, cause, hops, trace, chain_version, key_id, data, hash"
	eventWidth       = 19
	checkpointWidth  = 12
	insertEvents     = "INSERT OR ROLLBACK INTO events (" + eventColumns + ") VALUES "
	writeCheckpoints = "INSERT OR REPLACE INTO checkpoints (" + checkpointColumns + ") VALUES "
)

// chunks are the numbers of rows that one statement writes: a statement has a price of its own, and each number is a statement more
// to keep prepared. OR ROLLBACK and OR REPLACE spare the statement journal that a statement of several rows would need; any
// failure ends the append anyway.
var chunks = [...]int{16, 4, 1}

func places(n int) string { return "(" + strings.Repeat("?, ", n-1) + "?)" }

// several is a statement that writes n rows of a width.
func several(begin string, width, n int, end string) string {
	row := places(width)
	return begin + strings.Repeat(row+", ", n-1) + row + end
}

// write runs a statement over all values, width of them a row.
func (w *writer) write(begin string, width int, end string, values []driver.Value) (last int64, err error) {
	for _, n := range chunks {
		for len(values) >= n*width {
			key := statementKey{begin, end, n}
			query, ok := w.queries[key]
			if !ok {
				query = several(begin, width, n, end)
				w.queries[key] = query
			}
			res, err := w.exec(query, values[:n*width]...)
			if err != nil {
				return 0, err
			}
			if last, err = res.LastInsertId(); err != nil {
				return 0, err
			}
			values = values[n*width:]
		}
	}
	return last, nil
}

// events adds the events of all partitions behind the others, and the row that tells where they stand.
func (w *writer) events(stored []*eventstore.PartitionBatch, id uuid.UUID) (int, error) {
	w.values = w.values[:0]
	count := 0
	var parts []byte
	for _, p := range stored {
		if len(p.Events) == 0 {
			continue
		}
		for i := range p.Events {
			w.values = appendEvent(w.values, &p.Events[i])
		}
		parts = appendPart(parts, p.Expect.Partition, p.Expect.Seq+1, len(p.Events))
		count += len(p.Events)
	}
	if count == 0 {
		return 0, nil
	}
	last, err := w.write(insertEvents, eventWidth, "", w.values)
	if err != nil {
		return 0, err
	}
	// Nobody else writes in this transaction, so the row ids are consecutive.
	first := last - int64(count) + 1
	if _, err := w.exec("INSERT INTO appends (pos, id, parts) VALUES (?, ?, ?)", first, id[:], parts); err != nil {
		return 0, err
	}
	return count, w.anchor(first)
}

func (w *writer) checkpoints(stored []*eventstore.PartitionBatch, id uuid.UUID) error {
	w.values = w.values[:0]
	for _, p := range stored {
		n := &p.Next
		w.values = append(w.values, int64(p.Expect.Partition), p.Expect.Epoch, n.Node, n.Seq, n.Head[:], n.Positions[0].Topic[:], n.Positions[0].Offset,
			n.Positions[1].Topic[:], n.Positions[1].Offset, n.Indexed, n.Relayed, id[:])
	}
	_, err := w.write(writeCheckpoints, checkpointWidth, "", w.values)
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
	columns := len(c.Table.Columns)
	begin, end := sqlgen.UpsertParts(c.Table)
	remove := sqlgen.SQLite.Delete(c.Table)
	w.values = w.values[:0]
	flush := func() error {
		_, err := w.write(begin, columns, end, w.values)
		w.values = w.values[:0]
		return err
	}
	for _, r := range c.Rows {
		if !r.Delete {
			for i, v := range r.Values {
				w.values = append(w.values, encode(c.Table.Columns[i].Kind, v))
			}
			continue
		}
		key := make([]driver.Value, 0, c.Table.Key)
		for i, v := range r.Values {
			key = append(key, encode(c.Table.Columns[i].Kind, v))
		}
		if _, err := w.exec(remove, key...); err != nil {
			return err
		}
	}
	return flush()
}
