package sqlite

import (
	"context"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
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
	err := w.each(background, "SELECT partition, seq FROM checkpoints ORDER BY partition", func(row []driver.Value) error {
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
func (r *reader) begin(c *connection, partition int32, after int64) (int64, error) {
	r.mu.Lock()
	stop, ok := r.stops[partition]
	r.mu.Unlock()
	if ok && stop.seq == after {
		return stop.pos, nil
	}
	most, err := c.row("SELECT max(n) FROM anchors")
	if err != nil {
		return 0, err
	}
	low, high, pos := int64(1), number(most[0]), int64(0)
	for low <= high {
		middle := (low + high) / 2
		row, err := c.row("SELECT pos, seqs FROM anchors WHERE n = ?", middle)
		if err != nil {
			return 0, err
		}
		if row == nil {
			return 0, fmt.Errorf("anchor %d is missing: the database was changed from outside", middle)
		}
		seqs, _ := row[1].([]byte)
		if seqAt(seqs, partition) <= after {
			low, pos = middle+1, number(row[0])
		} else {
			high = middle - 1
		}
	}
	return pos, nil
}

// stop is where a reader of a partition stopped: the append at pos holds the event behind seq, or a later one does.
type stop struct{ seq, pos int64 }

// found are the positions of events, as a JSON array in order, and the appends that they came with.
type found struct {
	count     int
	positions []byte
	origins   []origin
}

// find looks for at most limit events of a partition behind a seq.
func (r *reader) find(ctx context.Context, c *connection, partition int32, after int64, limit int) (found, error) {
	var f found
	from, err := r.begin(c, partition, after)
	if err != nil {
		return f, err
	}
	last := stop{after, from}
	err = c.each(ctx, "SELECT pos, id, parts FROM appends WHERE pos >= ? ORDER BY pos", func(row []driver.Value) error {
		pos := number(row[0])
		parts, _ := row[2].([]byte)
		last.pos = pos // also past appends without the partition: whoever polls an idle partition does not read them again
		before, at := f.count, pos
		if err := eachPart(parts, func(p part) {
			if p.partition == partition {
				skip := max(0, after+1-p.first)
				for i := skip; i < p.count && f.count < limit; i++ {
					f.positions = strconv.AppendInt(append(f.positions, ','), at+i, 10)
					last.seq = p.first + i
					f.count++
				}
			}
			at += p.count
		}); err != nil {
			return err
		}
		if f.count > before {
			o := origin{pos: pos}
			fill(o.id[:], row[1])
			f.origins = append(f.origins, o)
		}
		if f.count >= limit {
			return errEnough
		}
		return nil
	}, from)
	if err != nil {
		return f, err
	}
	r.mu.Lock()
	r.stops[partition] = last
	r.mu.Unlock()
	if f.count > 0 {
		f.positions[0] = '['
		f.positions = append(f.positions, ']')
	}
	return f, nil
}

// partitionQuery gives the events in the order of the positions: json_each walks the array, and CROSS JOIN keeps it the outer loop. An
// ORDER BY would sort whole events aside.
const partitionQuery = "SELECT " + readColumns + ", e.pos FROM json_each(?) j CROSS JOIN events e ON e.pos = j.value"

// Partition reads a partition; see eventstore.Store. There is one writer, so what one read saw is never preceded later.
func (s *Store) Partition(ctx context.Context, partition int32, after int64, limit int) ([]eventstore.Event, error) {
	return s.Page(ctx, partition, after, limit, math.MaxInt)
}

// Page reads a part of a partition; see eventstore.Store.
func (s *Store) Page(ctx context.Context, partition int32, after int64, limit, bytes int) (out []eventstore.Event, err error) {
	if limit <= 0 {
		return nil, nil
	}
	err = s.reader.use(ctx, func(c *connection) error {
		f, err := s.reader.find(ctx, c, partition, after, limit)
		if err != nil || f.count == 0 {
			return err
		}
		out = make([]eventstore.Event, 0, f.count)
		return c.eachEvent(ctx, f.origins, partitionQuery, func(e *eventstore.Event) error {
			out = append(out, *e)
			if bytes -= len(e.Data); bytes < 0 {
				return errEnough
			}
			return nil
		}, string(f.positions))
	})
	if err != nil {
		return nil, fmt.Errorf("reading partition %d: %w", partition, err)
	}
	return out, nil
}

// scanGuess is the room that is made before a scan, in events.
const scanGuess = 512

var _ eventstore.Scanner = (*Store)(nil)

// Places is the place of the last event; see eventstore.Scanner.
func (s *Store) Places(ctx context.Context) (n int64, err error) {
	err = s.reader.use(ctx, func(c *connection) error {
		row, err := c.row("SELECT max(pos) FROM events")
		if err == nil {
			n = number(row[0])
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("finding the end of the log: %w", err)
	}
	return n, nil
}

const (
	scanQuery    = "SELECT " + readColumns + ", e.pos FROM events e WHERE e.pos > ? AND e.pos <= ? ORDER BY e.pos"
	originsQuery = "SELECT pos, id FROM appends WHERE pos >= (SELECT coalesce(max(pos), 0) FROM appends WHERE pos <= ?) AND pos <= ? ORDER BY pos"
)

// Scan reads the events at the places behind after, up to last; see eventstore.Scanner.
func (s *Store) Scan(ctx context.Context, after, last int64) (out []eventstore.Event, err error) {
	if last <= after {
		return nil, nil
	}
	err = s.reader.use(ctx, func(c *connection) (err error) {
		out, err = c.scan(ctx, after, last)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the events behind place %d: %w", after, err)
	}
	return out, nil
}

func (c *connection) scan(ctx context.Context, after, last int64) ([]eventstore.Event, error) {
	var origins []origin
	err := c.each(ctx, originsQuery, func(row []driver.Value) error {
		o := origin{pos: number(row[0])}
		fill(o.id[:], row[1])
		origins = append(origins, o)
		return nil
	}, after+1, last)
	if err != nil {
		return nil, err
	}
	return c.events(ctx, origins, int(min(last-after, scanGuess)), scanQuery, after, last)
}
