package storetest_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"callchain/eventstore"
)

// faults are the mistakes that can be planted in the memory store.
type faults struct {
	noFence        bool // appends whatever the epoch
	noSeq          bool // compares the epoch only
	noRetry        bool // does not know its own earlier try
	allOrNothing   bool // one fenced partition stops all
	rowsOfFenced   bool // writes the rows of fenced partitions
	noConflict     bool // takes a stream's version twice
	partialRefusal bool // stores partitions before the one with a conflict
	keepsSlices    bool // keeps the caller's data
	firstRow       bool // keeps the first of several changes to a row
	dropsOccurred  bool // forgets a field
	freeForAll     bool // Exclusive never refuses
	sharedBeside   bool // Shared does not see who holds the store exclusively
	oneStream      bool // Streams leaves out all events of a stream but its first
	twiceStream    bool // Streams gives a stream as often as it is named
	deafStreams    bool // Streams goes on after its reader has failed
	locksStreams   bool // Streams answers nobody else meanwhile
	skips          bool // Partition misses the event after each page
	pageByCount    bool // Page does not look at the bytes
}

// shared is the database of the memory stores that one function opened.
type shared struct {
	mu          sync.Mutex
	faults      faults
	checkpoints map[int32]eventstore.Checkpoint
	events      map[int32][]eventstore.Event
	rows        map[*eventstore.Table][][]any
	holder      *memory
	sharing     map[*memory]bool
	locked      atomic.Bool
}

// memory is a store for testing the suite: it keeps its promises unless a fault is planted.
type memory struct {
	*shared
	closed bool
}

var errClosed = errors.New("closed")

func (m *memory) enter(ctx context.Context) (leave func(), err error) {
	m.mu.Lock()
	if err = ctx.Err(); err == nil && (m.closed || m.locked.Load()) {
		err = errClosed
	}
	return m.mu.Unlock, err
}

func (m *memory) Exclusive(ctx context.Context) error {
	leave, err := m.enter(ctx)
	defer leave()
	if err == nil && (m.holder != nil && m.holder != m || len(m.sharing) > 0) && !m.faults.freeForAll {
		return eventstore.ErrInUse
	}
	m.holder = m
	return err
}

func (m *memory) Shared(ctx context.Context) error {
	leave, err := m.enter(ctx)
	defer leave()
	if err == nil && m.holder != nil && !m.faults.sharedBeside {
		return eventstore.ErrInUse
	}
	m.sharing[m] = true
	return err
}

func (m *memory) Claim(ctx context.Context, node string, partitions []int32) (out []eventstore.Checkpoint, err error) {
	leave, err := m.enter(ctx)
	defer leave()
	if err != nil {
		return nil, err
	}
	for _, p := range slices.Sorted(slices.Values(partitions)) {
		c := m.checkpoints[p]
		c.Partition, c.Node, c.Epoch = p, node, c.Epoch+1
		m.checkpoints[p] = c
		out = append(out, c)
	}
	return out, nil
}

func (m *memory) Append(ctx context.Context, b eventstore.Batch) (fenced []int32, err error) {
	leave, err := m.enter(ctx)
	defer leave()
	if err = errors.Join(err, b.Check()); err != nil {
		return nil, err
	}
	var stored []eventstore.PartitionBatch
	for _, p := range b.Partitions {
		c := m.checkpoints[p.Expect.Partition]
		switch {
		case c.Append == b.ID && !m.faults.noRetry:
		case m.matches(c, p.Expect):
			stored = append(stored, p)
		default:
			fenced = append(fenced, p.Expect.Partition)
			if m.faults.rowsOfFenced {
				m.change(p.Rows)
			}
		}
	}
	slices.Sort(fenced)
	if m.faults.allOrNothing && len(fenced) > 0 {
		return fenced, nil
	}
	if !m.faults.partialRefusal {
		if err := m.conflicts(stored); err != nil {
			return nil, err
		}
	}
	for _, p := range stored {
		if err := m.conflicts([]eventstore.PartitionBatch{p}); err != nil {
			return nil, err
		}
		m.store(p, b.ID)
	}
	return fenced, nil
}

func (m *memory) matches(c, expect eventstore.Checkpoint) bool {
	if m.faults.noFence {
		return true
	}
	return c.Epoch == expect.Epoch && c.Epoch > 0 && (c.Seq == expect.Seq || m.faults.noSeq)
}

func (m *memory) conflicts(batches []eventstore.PartitionBatch) error {
	type version struct {
		stream string
		n      int64
	}
	if m.faults.noConflict {
		return nil
	}
	seen := map[version]bool{}
	for _, events := range m.events {
		for _, e := range events {
			seen[version{e.Stream, e.Version}] = true
		}
	}
	var streams []string
	for _, p := range batches {
		for _, e := range p.Events {
			if v := (version{e.Stream, e.Version}); seen[v] {
				streams = append(streams, e.Stream)
			} else {
				seen[v] = true
			}
		}
	}
	if len(streams) == 0 {
		return nil
	}
	slices.Sort(streams)
	return &eventstore.ConflictError{Streams: streams}
}

func (m *memory) store(p eventstore.PartitionBatch, id uuid.UUID) {
	next := p.Next
	next.Append = id
	m.checkpoints[next.Partition] = next
	for _, e := range p.Events {
		e.AppendID = id
		if !m.faults.keepsSlices {
			e.Data = bytes.Clone(e.Data)
		}
		if m.faults.dropsOccurred {
			e.Occurred = e.At
		}
		m.events[next.Partition] = append(m.events[next.Partition], e)
	}
	rows := slices.Clone(p.Rows)
	if m.faults.firstRow {
		slices.Reverse(rows)
	}
	m.change(rows)
}

func (m *memory) change(rows []eventstore.Row) {
	for _, r := range rows {
		kept := slices.DeleteFunc(m.rows[r.Table], func(row []any) bool {
			for i := range r.Table.Key {
				if compare(row[i], r.Values[i]) != 0 {
					return false
				}
			}
			return true
		})
		if !r.Delete {
			kept = append(kept, r.Values)
		}
		m.rows[r.Table] = kept
	}
}

func (m *memory) Stream(ctx context.Context, stream string, after int64, limit int) (out []eventstore.Event, err error) {
	leave, err := m.enter(ctx)
	defer leave()
	for _, events := range m.events {
		for _, e := range events {
			if e.Stream == stream && e.Version > after && len(out) < limit {
				out = append(out, e)
			}
		}
	}
	return out, err
}

func (m *memory) Page(ctx context.Context, partition int32, after int64, limit, bytes int) ([]eventstore.Event, error) {
	events, err := m.Partition(ctx, partition, after, limit)
	for i := range events {
		if bytes -= len(events[i].Data); bytes < 0 && !m.faults.pageByCount {
			return events[:i+1], err
		}
	}
	return events, err
}

func (m *memory) Streams(ctx context.Context, streams []string, each func(*eventstore.Event) error) error {
	names, err := eventstore.StreamNames(streams)
	if err != nil {
		return err
	}
	if m.faults.twiceStream {
		names = slices.Sorted(slices.Values(streams))
	}
	limit := 1000
	if m.faults.oneStream {
		limit = 1
	}
	for _, name := range names {
		events, err := m.Stream(ctx, name, 0, limit)
		if err != nil {
			return err
		}
		for i := range events {
			m.locked.Store(m.faults.locksStreams)
			err := each(&events[i])
			m.locked.Store(false)
			if err != nil && !m.faults.deafStreams {
				return err
			}
		}
	}
	return nil
}

func (m *memory) Partition(ctx context.Context, partition int32, after int64, limit int) (out []eventstore.Event, err error) {
	leave, err := m.enter(ctx)
	defer leave()
	for _, e := range m.events[partition] {
		if m.faults.skips && after > 0 && e.Seq == after+1 {
			continue
		}
		if e.Seq > after && len(out) < limit {
			out = append(out, e)
		}
	}
	return out, err
}

func (m *memory) Checkpoints(ctx context.Context) (out []eventstore.Checkpoint, err error) {
	leave, err := m.enter(ctx)
	defer leave()
	for _, c := range m.checkpoints {
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b eventstore.Checkpoint) int { return cmp.Compare(a.Partition, b.Partition) })
	return out, err
}

func (m *memory) Rows(ctx context.Context, q eventstore.Query) ([][]any, error) {
	leave, err := m.enter(ctx)
	defer leave()
	if err != nil {
		return nil, err
	}
	for _, o := range q.Order {
		if !slices.ContainsFunc(q.Table.Columns, func(c eventstore.Column) bool { return c.Name == o.Column }) {
			return nil, errors.New("no such column")
		}
	}
	out := m.found(q)
	slices.SortStableFunc(out, func(a, b []any) int {
		for _, o := range q.Order {
			at := q.Table.Index(o.Column)
			if c := compare(a[at], b[at]); c != 0 && o.Desc {
				return -c
			} else if c != 0 {
				return c
			}
		}
		return 0
	})
	out = out[min(q.Offset, len(out)):]
	if q.Limit > 0 {
		out = out[:min(q.Limit, len(out))]
	}
	return out, nil
}

func (m *memory) Count(ctx context.Context, q eventstore.Query) (int64, error) {
	leave, err := m.enter(ctx)
	defer leave()
	return int64(len(m.found(q))), err
}

func (m *memory) found(q eventstore.Query) (out [][]any) {
	for _, row := range m.rows[q.Table] {
		if !slices.ContainsFunc(q.Where, func(c eventstore.Cond) bool { return !holds(row[q.Table.Index(c.Column)], c) }) {
			out = append(out, row)
		}
	}
	return out
}

func holds(v any, c eventstore.Cond) bool {
	if c.Value == nil {
		return (v == nil) == (c.Op == eventstore.Eq)
	}
	if v == nil {
		return false
	}
	n := compare(v, c.Value)
	return map[eventstore.Op]bool{
		eventstore.Eq: n == 0, eventstore.Ne: n != 0, eventstore.Lt: n < 0, eventstore.Le: n <= 0, eventstore.Gt: n > 0, eventstore.Ge: n >= 0,
	}[c.Op]
}

// compare sorts NULL lowest.
func compare(a, b any) int {
	switch a := a.(type) {
	case nil:
		if b == nil {
			return 0
		}
		return -1
	case int64:
		if b, ok := b.(int64); ok {
			return cmp.Compare(a, b)
		}
	case string:
		if b, ok := b.(string); ok {
			return cmp.Compare(a, b)
		}
	case uuid.UUID:
		if b, ok := b.(uuid.UUID); ok {
			return bytes.Compare(a[:], b[:])
		}
	case []byte:
		if b, ok := b.([]byte); ok {
			return bytes.Compare(a, b)
		}
	case bool:
		if b, ok := b.(bool); ok {
			return cmp.Compare(map[bool]int{true: 1}[a], map[bool]int{true: 1}[b])
		}
	}
	return 1 // b is NULL
}

func (m *memory) Now(ctx context.Context) (time.Time, error) {
	leave, err := m.enter(ctx)
	defer leave()
	return time.Now(), err
}

func (m *memory) Size(ctx context.Context) (int64, error) {
	leave, err := m.enter(ctx)
	defer leave()
	return 1 << 20, err
}

func (m *memory) Ping(ctx context.Context) error {
	leave, err := m.enter(ctx)
	defer leave()
	return err
}

func (m *memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	if m.holder == m {
		m.holder = nil
	}
	delete(m.sharing, m)
	return nil
}
