package sqlite

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/google/uuid"

	"callchain/eventstore"
)

// TestABackupHoldsAppendsOnceInAWhile: while somebody reads for long, appends are held again only when the WAL has grown by a quarter of its bound.
func TestABackupHoldsAppendsOnceInAWhile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "callchain.db")
	s, err := Open(t.Context(), Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	claimed, err := s.Claim(t.Context(), "n", []int32{0})
	if err != nil {
		t.Fatal(err)
	}
	long, err := OpenSnapshot(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	holds := 0
	c, err := newCheckpointer(t.Context(), path, func(ctx context.Context, f func() error) error {
		holds++
		return s.writer.hold(ctx, f)
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	c.full = 40
	at := claimed[0]
	for range 200 { // a handful of frames each
		at = appendNothing(t, s, at)
		if err := c.empty(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	p, err := c.pragma(t.Context(), "NOOP")
	if err != nil || p.length < 100 {
		t.Fatalf("the WAL has %d frames beside a reader, %v", p.length, err)
	}
	if most := int(p.length-c.full)/10 + 1; holds == 0 || holds > most {
		t.Errorf("appends were held %d times while the WAL grew to %d frames, want %d at most", holds, p.length, most)
	}
	if err := long.Close(); err != nil {
		t.Fatal(err)
	}
	c.next = 0
	if err := c.empty(t.Context()); err != nil {
		t.Fatal(err)
	}
	appendNothing(t, s, at)
	if p, err = c.pragma(t.Context(), "NOOP"); err != nil || p.length > c.full {
		t.Errorf("when the reader has ended, the WAL has %d frames, %v", p.length, err)
	}
}

// appendNothing stores a checkpoint only.
func appendNothing(t *testing.T, s *Store, at eventstore.Checkpoint) eventstore.Checkpoint {
	t.Helper()
	next := at
	next.Append = uuid.New()
	b := eventstore.Batch{ID: next.Append, Partitions: []eventstore.PartitionBatch{{Expect: at, Next: next}}}
	if fenced, err := s.Append(t.Context(), b); err != nil || len(fenced) > 0 {
		t.Fatalf("Append = %v, %v", fenced, err)
	}
	return next
}
