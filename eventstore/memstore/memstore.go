// Package memstore is an event store in memory with the semantics of the real ones, and with places where a test may let it fail. It is a tool of
// tests; nothing of it is in the server.
package memstore

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"callchain/eventstore"

	"github.com/google/uuid"
)

// Store is an eventstore.Store in memory. It is safe for concurrent use. Closing it only ends the handle: what was stored stays.
type Store struct {
	// Before runs before an append; its error is Append's, and nothing is stored. It may block.
	Before func(context.Context, eventstore.Batch) error
	// After runs after the batch was stored; its error is Append's, although the batch is stored: a torn connection.
	After func(context.Context, eventstore.Batch) error
	// Reading runs before every other method; its error is theirs.
	Reading func() error
	// Ahead is how many nanoseconds the store's clock is ahead of this machine's.
	Ahead atomic.Int64

	*disk
	closed bool
}

// disk is what outlives a Store.
type disk struct {
	mu          sync.Mutex
	checkpoints map[int32]eventstore.Checkpoint
	partitions  map[int32][]eventstore.Event
	streams     map[string][]eventstore.Event
	rows        map[string]map[rowKey][]any
	holder      *Store
	sharing     map[*Store]bool
}

// rowKey holds the values of a primary key; no table has more than three columns in it.
type rowKey [3]any

// New makes an empty store.
func New() *Store {
	return &Store{disk: &disk{
		checkpoints: map[int32]eventstore.Checkpoint{}, partitions: map[int32][]eventstore.Event{},
		streams: map[string][]eventstore.Event{}, rows: map[string]map[rowKey][]any{},
		sharing: map[*Store]bool{},
	}}
}

// Open is another handle of what s stores, without its failures.
func (s *Store) Open() *Store { return &Store{disk: s.disk} }

var errClosed = errors.New("the store is closed")

// enter locks the disk; the function returned unlocks it.
func (s *Store) enter(ctx context.Context) (leave func(), err error) {
	if s.Reading != nil {
		if err := s.Reading(); err != nil {
			return func() {}, err
		}
	}
	s.mu.Lock()
	if err = ctx.Err(); err == nil && s.closed {
		err = errClosed
	}
	return s.mu.Unlock, err
}

// Exclusive implements eventstore.Store.
func (s *Store) Exclusive(ctx context.Context) error {
	leave, err := s.enter(ctx)
	defer leave()
	switch {
	case err != nil:
		return err
	case s.holder != nil && s.holder != s, len(s.sharing) > 0:
		return eventstore.ErrInUse
	}
	s.holder = s
	return nil
}

// Shared implements eventstore.Store.
func (s *Store) Shared(ctx context.Context) error {
	leave, err := s.enter(ctx)
	defer leave()
	switch {
	case err != nil:
		return err
	case s.holder != nil:
		return eventstore.ErrInUse
	}
	s.sharing[s] = true
	return nil
}

// Claim implements eventstore.Store.
func (s *Store) Claim(ctx context.Context, node string, partitions []int32) ([]eventstore.Checkpoint, error) {
	leave, err := s.enter(ctx)
	defer leave()
	if err != nil {
		return nil, err
	}
	var out []eventstore.Checkpoint
	for _, p := range slices.Sorted(slices.Values(partitions)) {
		c := s.checkpoints[p]
		c.Partition, c.Node, c.Epoch = p, node, c.Epoch+1
		s.checkpoints[p] = c
		out = append(out, c)
	}
	return out, nil
}

// Append implements eventstore.Store.
func (s *Store) Append(ctx context.Context, b eventstore.Batch) ([]int32, error) {
	if s.Before != nil {
		if err := s.Before(ctx, b); err != nil {
			return nil, err
		}
	}
	fenced, err := s.append(ctx, b)
	if err == nil && s.After != nil {
		err = s.After(ctx, b)
	}
	if err != nil {
		return nil, err
	}
	return fenced, nil
}

func (s *Store) append(ctx context.Context, b eventstore.Batch) (fenced []int32, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	if err := errors.Join(ctx.Err(), b.Check()); err != nil {
		return nil, err
	}
	var free []eventstore.PartitionBatch
	for _, p := range b.Partitions {
		c := s.checkpoints[p.Expect.Partition]
		switch {
		case c.Append == b.ID: // an earlier try was stored
		case c.Epoch > 0 && c.Epoch == p.Expect.Epoch && c.Seq == p.Expect.Seq:
			free = append(free, p)
		default:
			fenced = append(fenced, p.Expect.Partition)
		}
	}
	slices.Sort(fenced)
	if err := s.conflicts(free); err != nil {
		return nil, err
	}
	for _, p := range free {
		s.store(p, b.ID)
	}
	return fenced, nil
}

// conflicts names the streams of which a version would be there twice.
func (d *disk) conflicts(batches []eventstore.PartitionBatch) error {
	last := map[string]int64{}
	var streams []string
	for _, p := range batches {
		for i := range p.Events {
			e := &p.Events[i]
			if _, seen := last[e.Stream]; !seen {
				last[e.Stream] = int64(len(d.streams[e.Stream]))
			}
			if e.Version <= last[e.Stream] {
				streams = append(streams, e.Stream)
			}
			last[e.Stream] = max(last[e.Stream], e.Version)
		}
	}
	if len(streams) == 0 {
		return nil
	}
	slices.Sort(streams)
	return &eventstore.ConflictError{Streams: slices.Compact(streams)}
}

func (d *disk) store(p eventstore.PartitionBatch, id uuid.UUID) {
	next := p.Next
	next.Append = id
	d.checkpoints[next.Partition] = next
	for _, e := range p.Events {
		e.AppendID, e.Data = id, bytes.Clone(e.Data)
		d.partitions[next.Partition] = append(d.partitions[next.Partition], e)
		d.streams[e.Stream] = append(d.streams[e.Stream], e)
	}
	for _, r := range p.Rows {
		table := d.rows[r.Table.Name]
		if table == nil {
			table = map[rowKey][]any{}
			d.rows[r.Table.Name] = table
		}
		var key rowKey
		copy(key[:r.Table.Key], r.Values)
		if r.Delete {
			delete(table, key)
		} else {
			table[key] = copied(r.Values)
		}
	}
}

// copied is a row of its own: callers may change their bytes.
func copied(values []any) []any {
	out := slices.Clone(values)
	for i, v := range out {
		if b, ok := v.([]byte); ok {
			out[i] = bytes.Clone(b)
		}
	}
	return out
}

// Stream implements eventstore.Store.
func (s *Store) Stream(ctx context.Context, stream string, after int64, limit int) ([]eventstore.Event, error) {
	leave, err := s.enter(ctx)
	defer leave()
	if err != nil {
		return nil, err
	}
	return page(s.streams[stream], after, limit), nil
}

// Streams implements eventstore.Store.
func (s *Store) Streams(ctx context.Context, streams []string, each func(*eventstore.Event) error) error {
	events, err := s.streamsOf(ctx, streams)
	for i := range events {
		if err := each(&events[i]); err != nil {
			return err
		}
	}
	return err
}

func (s *Store) streamsOf(ctx context.Context, streams []string) (out []eventstore.Event, err error) {
	leave, err := s.enter(ctx)
	defer leave()
	if err != nil {
		return nil, err
	}
	names, err := eventstore.StreamNames(streams)
	for _, name := range names {
		out = append(out, s.streams[name]...)
	}
	return out, err
}

// Partition implements eventstore.Store.
func (s *Store) Partition(ctx context.Context, partition int32, after int64, limit int) ([]eventstore.Event, error) {
	leave, err := s.enter(ctx)
	defer leave()
	if err != nil {
		return nil, err
	}
	return page(s.partitions[partition], after, limit), nil
}

// Page implements eventstore.Store.
func (s *Store) Page(ctx context.Context, partition int32, after int64, limit, bytes int) ([]eventstore.Event, error) {
	events, err := s.Partition(ctx, partition, after, limit)
	for i := range events {
		if bytes -= len(events[i].Data); bytes < 0 {
			return events[:i+1], err
		}
	}
	return events, err
}

// page is a part of events that are numbered 1, 2, … without gaps.
func page(events []eventstore.Event, after int64, limit int) []eventstore.Event {
	from := min(max(after, 0), int64(len(events)))
	to := min(from+int64(limit), int64(len(events)))
	return slices.Clone(events[from:to])
}

// Checkpoints implements eventstore.Store.
func (s *Store) Checkpoints(ctx context.Context) ([]eventstore.Checkpoint, error) {
	leave, err := s.enter(ctx)
	defer leave()
	if err != nil {
		return nil, err
	}
	var out []eventstore.Checkpoint
	for _, c := range s.checkpoints {
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b eventstore.Checkpoint) int { return cmp.Compare(a.Partition, b.Partition) })
	return out, nil
}

// Now implements eventstore.Store.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	leave, err := s.enter(ctx)
	defer leave()
	return time.Now().Add(time.Duration(s.Ahead.Load())).UTC(), err
}

// Size implements eventstore.Store; it is the number of events' bytes.
func (s *Store) Size(ctx context.Context) (int64, error) {
	leave, err := s.enter(ctx)
	defer leave()
	n := int64(1)
	if err == nil {
		for _, events := range s.partitions {
			for i := range events {
				n += int64(len(events[i].Data))
			}
		}
	}
	return n, err
}

// Ping implements eventstore.Store.
func (s *Store) Ping(ctx context.Context) error {
	leave, err := s.enter(ctx)
	defer leave()
	return err
}

// Close implements eventstore.Store.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	delete(s.sharing, s)
	if s.holder == s {
		s.holder = nil
	}
	return nil
}
