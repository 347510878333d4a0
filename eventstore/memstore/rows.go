package memstore

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"

	"callchain/eventstore"

	"github.com/google/uuid"
)

// Rows implements eventstore.Store.
func (s *Store) Rows(ctx context.Context, q eventstore.Query) ([][]any, error) {
	leave, err := s.enter(ctx)
	defer leave()
	if err != nil {
		return nil, err
	}
	for _, o := range q.Order {
		if !slices.ContainsFunc(q.Table.Columns, func(c eventstore.Column) bool { return c.Name == o.Column }) {
			return nil, fmt.Errorf("table %s has no column %s", q.Table.Name, o.Column)
		}
	}
	out := s.found(q)
	slices.SortFunc(out, func(a, b []any) int { return byOrder(q, a, b) })
	out = out[min(q.Offset, len(out)):]
	if q.Limit > 0 {
		out = out[:min(q.Limit, len(out))]
	}
	return out, nil
}

// Count implements eventstore.Store.
func (s *Store) Count(ctx context.Context, q eventstore.Query) (int64, error) {
	leave, err := s.enter(ctx)
	defer leave()
	if err != nil {
		return 0, err
	}
	return int64(len(s.found(q))), nil
}

func (d *disk) found(q eventstore.Query) [][]any {
	var out [][]any
	for _, row := range d.rows[q.Table.Name] {
		if !slices.ContainsFunc(q.Where, func(c eventstore.Cond) bool { return !holds(row[q.Table.Index(c.Column)], c) }) {
			out = append(out, copied(row))
		}
	}
	return out
}

// byOrder sorts as the query says, and then by the key, so that the answer is the same each time.
func byOrder(q eventstore.Query, a, b []any) int {
	for _, o := range q.Order {
		at := q.Table.Index(o.Column)
		switch c := compare(a[at], b[at]); {
		case c != 0 && o.Desc:
			return -c
		case c != 0:
			return c
		}
	}
	for i := range q.Table.Key {
		if c := compare(a[i], b[i]); c != 0 {
			return c
		}
	}
	return 0
}

// holds judges one condition; NULL fulfils none but the one that asks for it.
func holds(v any, c eventstore.Cond) bool {
	switch {
	case c.Value == nil:
		return (v == nil) == (c.Op == eventstore.Eq)
	case v == nil:
		return false
	}
	n := compare(v, c.Value)
	switch c.Op {
	case eventstore.Eq:
		return n == 0
	case eventstore.Ne:
		return n != 0
	case eventstore.Lt:
		return n < 0
	case eventstore.Le:
		return n <= 0
	case eventstore.Gt:
		return n > 0
	case eventstore.Ge:
		return n >= 0
	}
	panic("memstore: unknown comparison " + string(c.Op))
}

// compare sorts NULL lowest; the two are of one column.
func compare(a, b any) int {
	if a == nil || b == nil {
		return cmp.Compare(rank(a != nil), rank(b != nil))
	}
	switch a := a.(type) {
	case int64:
		return cmp.Compare(a, b.(int64))
	case string:
		return cmp.Compare(a, b.(string))
	case bool:
		return cmp.Compare(rank(a), rank(b.(bool)))
	case uuid.UUID:
		other := b.(uuid.UUID)
		return bytes.Compare(a[:], other[:])
	case []byte:
		return bytes.Compare(a, b.([]byte))
	}
	panic(fmt.Sprintf("memstore: a column holds a %T", a))
}

func rank(b bool) int {
	if b {
		return 1
	}
	return 0
}
