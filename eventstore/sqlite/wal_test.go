package sqlite_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"callchain/eventstore/storetest"
)

// TestTheWALStaysBounded: without the checkpointer the WAL would hold all of what is written here, some 250 MB.
func TestTheWALStaysBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 100 MB")
	}
	path := filepath.Join(t.TempDir(), "callchain.db")
	s := openAt(t, path)
	w := storetest.Claim(t, s, 1)
	big := make([]byte, 200_000)
	for i := range big {
		big[i] = 'x'
	}
	var longest int64
	for range 250 {
		p := w.Batch(storetest.CallStreams(3)...)
		for i := range p.Events {
			p.Events[i].Data = []byte(`{"a":"` + string(big) + `"}`)
		}
		id := storetest.NewID()
		if fenced, err := s.Append(t.Context(), storetest.Of(id, p)); err != nil || len(fenced) > 0 {
			t.Fatalf("Append = %v, %v", fenced, err)
		}
		w.Took(p, id)
		info, err := os.Stat(path + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		longest = max(longest, info.Size())
	}
	const most = 100 << 20
	if longest > most {
		t.Errorf("the WAL grew to %d bytes, want %d at most", longest, most)
	}
	t.Logf("the WAL grew to %d MiB", longest>>20)
}

// TestAnIdleStoreEmptiesItsWAL when it is closed.
func TestAnIdleStoreEmptiesItsWAL(t *testing.T) {
	path := filepath.Join(t.TempDir(), "callchain.db")
	s := openAt(t, path)
	storetest.Claim(t, s, 1).Append(t, s, storetest.CallStreams(500)...)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path + "-wal"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the WAL is still there after Close (%v)", err)
	}
}

// TestReadersDoNotStopAppends: a read that is never finished keeps the WAL from being emptied, but not an append from being stored.
func TestReadersDoNotStopAppends(t *testing.T) {
	path := filepath.Join(t.TempDir(), "callchain.db")
	s := openAt(t, path)
	w := storetest.Claim(t, s, 1)
	w.Append(t, s, "window/a")
	hold := outside(t, path)
	if err := hold("BEGIN; SELECT count(*) FROM events"); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	for range 100 {
		w.Append(t, s, storetest.CallStreams(50)...)
	}
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("100 appends beside a reader took %v", took)
	}
}
