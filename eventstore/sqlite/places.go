package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"callchain/eventstore"
)

// anchorEvery is how many appends stand between two anchors: the most that a reader passes to find its place.
const anchorEvery = 64

// part is the share of one partition in an append.
type part struct {
	partition int32
	first     int64 // seq of its first event
	count     int64
}

func appendPart(dst []byte, partition int32, first int64, count int) []byte {
	dst = binary.AppendUvarint(dst, uint64(partition))
	dst = binary.AppendUvarint(dst, uint64(first))
	return binary.AppendUvarint(dst, uint64(count))
}

var errPlaces = errors.New("the list of an append's parts is damaged")

// eachPart decodes what appendPart made.
func eachPart(b []byte, f func(part)) error {
	for len(b) > 0 {
		var n [3]uint64
		for i := range n {
			v, used := binary.Uvarint(b)
			if used <= 0 {
				return errPlaces
			}
			n[i], b = v, b[used:]
		}
		f(part{int32(n[0]), int64(n[1]), int64(n[2])})
	}
	return nil
}

// anchor notes, every anchorEvery appends, where all partitions stood before the append at pos.
func (w *writer) anchor(pos int64) error {
	if w.sinceAnchor++; w.sinceAnchor < anchorEvery {
		return nil
	}
	w.sinceAnchor = 0
	var seqs []byte
	err := w.each("SELECT partition, seq FROM checkpoints ORDER BY partition", func(row []driver.Value) error {
		partition, _ := row[0].(int64)
		seq, _ := row[1].(int64)
		seqs = binary.AppendUvarint(binary.AppendUvarint(seqs, uint64(partition)), uint64(seq))
		return nil
	})
	if err != nil {
		return err
	}
	_, err = w.exec("INSERT INTO anchors (pos, seqs) VALUES (?, ?)", pos, seqs)
	return err
}

// seqAt is the seq of a partition in an anchor.
func seqAt(seqs []byte, partition int32) int64 {
	for len(seqs) > 0 {
		p, n := binary.Uvarint(seqs)
		if n <= 0 {
			return 0
		}
		seq, m := binary.Uvarint(seqs[n:])
		if m <= 0 {
			return 0
		}
		if int32(p) == partition {
			return int64(seq)
		}
		seqs = seqs[n+m:]
	}
	return 0
}

// begin is a pos from which on all events of the partition behind the seq stand: where the last reader of the partition stopped, or the
// last anchor before the place.
func (r *reader) begin(ctx context.Context, partition int32, after int64) (int64, error) {
	r.mu.Lock()
	stop, ok := r.stops[partition]
	r.mu.Unlock()
	if ok && stop.seq == after {
		return stop.pos, nil
	}
	var most sql.NullInt64
	if err := r.one(ctx, "SELECT max(n) FROM anchors", nil, &most); err != nil {
		return 0, err
	}
	low, high, pos := int64(1), most.Int64, int64(0)
	for low <= high {
		middle := (low + high) / 2
		var at int64
		var seqs []byte
		if err := r.one(ctx, "SELECT pos, seqs FROM anchors WHERE n = ?", []any{middle}, &at, &seqs); err != nil {
			return 0, err
		}
		if seqAt(seqs, partition) <= after {
			low, pos = middle+1, at
		} else {
			high = middle - 1
		}
	}
	return pos, nil
}

// stop is where a reader of a partition stopped: the append at pos holds the event behind seq, or a later one does.
type stop struct{ seq, pos int64 }

// one reads one row.
func (r *reader) one(ctx context.Context, query string, args []any, into ...any) (err error) {
	rows, err := r.query(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	if !rows.Next() {
		return errors.Join(rows.Err(), fmt.Errorf("no row: %s", query))
	}
	return rows.Scan(into...)
}

// find lists the positions of at most limit events of a partition behind a seq, as a JSON array in order.
func (r *reader) find(ctx context.Context, partition int32, after int64, limit int) (positions []byte, err error) {
	from, err := r.begin(ctx, partition, after)
	if err != nil {
		return nil, err
	}
	rows, err := r.query(ctx, "SELECT pos, parts FROM appends WHERE pos >= ? ORDER BY pos", from)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	found, last := 0, stop{after, from}
	for found < limit && rows.Next() {
		var pos int64
		var parts sql.RawBytes
		if err := rows.Scan(&pos, &parts); err != nil {
			return nil, err
		}
		at := pos
		last.pos = pos // also past appends without the partition: whoever polls an idle partition does not read them again
		if err := eachPart(parts, func(p part) {
			if p.partition == partition {
				for i := range p.count {
					if seq := p.first + i; seq > after && found < limit {
						positions = strconv.AppendInt(append(positions, ','), at+i, 10)
						last.seq = seq
						found++
					}
				}
			}
			at += p.count
		}); err != nil {
			return nil, err
		}
	}
	r.mu.Lock()
	r.stops[partition] = last
	r.mu.Unlock()
	if found == 0 {
		return nil, rows.Err()
	}
	positions[0] = '['
	return append(positions, ']'), rows.Err()
}

const partitionQuery = "SELECT " + readColumns + ", " + appendOf +
	" FROM json_each(?) j CROSS JOIN events e ON e.pos = j.value ORDER BY e.pos LIMIT ?"

// Partition reads a partition; see eventstore.Store. There is one writer, so what one read saw is never preceded later.
func (s *Store) Partition(ctx context.Context, partition int32, after int64, limit int) ([]eventstore.Event, error) {
	if limit <= 0 {
		return nil, nil
	}
	positions, err := s.reader.find(ctx, partition, after, limit)
	if err != nil {
		return nil, fmt.Errorf("finding the events of partition %d: %w", partition, err)
	}
	if positions == nil {
		return nil, nil
	}
	events, err := s.reader.events(ctx, limit, partitionQuery, string(positions), int64(limit))
	if err != nil {
		return nil, fmt.Errorf("reading partition %d: %w", partition, err)
	}
	return events, nil
}
