package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"reflect"
	"testing"

	_ "modernc.org/sqlite"

	"callchain/engine/projection/projectiontest"
	"callchain/eventstore"
	"callchain/eventstore/sqlite"
	"callchain/eventstore/storetest"
	"callchain/migrations"
)

func database(t testing.TB) func() eventstore.Store {
	path := filepath.Join(t.TempDir(), "callchain.db")
	return func() eventstore.Store { return openAt(t, path) }
}

func openAt(t testing.TB, path string) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(context.WithoutCancel(t.Context()), sqlite.Options{Path: path})
	if err != nil {
		t.Fatalf("opening: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	return s
}

func TestSuite(t *testing.T) { storetest.Run(t, projectiontest.Tables(), database) }

// outside changes the file as another program would.
func outside(t testing.TB, path string) func(query string) error {
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return func(query string) error {
		_, err := db.ExecContext(t.Context(), query)
		return err
	}
}

func TestVerifyFindsTampering(t *testing.T) {
	for _, x := range storetest.Tamperings() {
		t.Run(x.Name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "callchain.db")
			storetest.Tampered(t, openAt(t, path), x, outside(t, path))
		})
	}
}

func TestForeignDatabaseIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "photos.db")
	if err := outside(t, path)("CREATE TABLE photos (id INTEGER)"); err != nil {
		t.Fatal(err)
	}
	if _, err := sqlite.Open(t.Context(), sqlite.Options{Path: path}); !errors.Is(err, eventstore.ErrForeign) {
		t.Fatalf("Open = %v, want ErrForeign", err)
	}
	if err := outside(t, path)("CREATE TABLE " + migrations.EventsTable + " (x INTEGER)"); err != nil {
		t.Errorf("Open left tables in the foreign database: %v", err)
	}
}

func TestNewerDatabaseIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "callchain.db")
	if err := openAt(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	if err := outside(t, path)("INSERT INTO " + migrations.EventsTable + " (version_id, is_applied) VALUES (99, 1)"); err != nil {
		t.Fatal(err)
	}
	if _, err := sqlite.Open(t.Context(), sqlite.Options{Path: path}); !errors.Is(err, eventstore.ErrNewer) {
		t.Fatalf("Open = %v, want ErrNewer", err)
	}
}

func TestAPathWithOddCharactersIsOneFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a b?c%20#ü.db")
	s := openAt(t, path)
	storetest.Claim(t, s, 1).Append(t, s, "device/a")
	if n, err := s.Size(t.Context()); err != nil || n == 0 {
		t.Errorf("Size = %d, %v: the file is elsewhere", n, err)
	}
}

func Benchmark(b *testing.B) { storetest.Bench(b, projectiontest.Tables(), database) }

// TestScanGivesWhatPartitionsGive: the two ways through the log show the same events, also in pages that cut appends.
func TestScanGivesWhatPartitionsGive(t *testing.T) {
	s := openAt(t, filepath.Join(t.TempDir(), "callchain.db"))
	writers := []*storetest.Writer{storetest.Claim(t, s, 1), storetest.Claim(t, s, 2), storetest.Claim(t, s, 5)}
	for i := range 40 {
		batch := eventstore.Batch{ID: storetest.NewID()}
		for _, w := range writers[i%2:] {
			batch.Partitions = append(batch.Partitions, w.Batch(storetest.CallStreams(1+i%4)...))
		}
		if fenced, err := s.Append(t.Context(), batch); err != nil || fenced != nil {
			t.Fatalf("Append = %v, %v", fenced, err)
		}
		for j, w := range writers[i%2:] {
			w.Took(batch.Partitions[j], batch.ID)
		}
	}
	places, err := s.Places(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	scanned := map[int32][]eventstore.Event{}
	for at := int64(0); at < places; at += 7 {
		page, err := s.Scan(t.Context(), at, min(at+7, places))
		if err != nil || len(page) != int(min(7, places-at)) {
			t.Fatalf("Scan(%d) = %d events, %v", at, len(page), err)
		}
		for _, e := range page {
			scanned[e.Partition] = append(scanned[e.Partition], e)
		}
	}
	for _, w := range writers {
		p := w.Mine.Partition
		want, err := s.Partition(t.Context(), p, 0, 1000)
		if err != nil || len(want) != int(w.Mine.Seq) || !reflect.DeepEqual(scanned[p], want) {
			t.Errorf("partition %d: %d events scanned, Partition = %d events, %v; want the same %d", p, len(scanned[p]), len(want), err, w.Mine.Seq)
		}
	}
}
