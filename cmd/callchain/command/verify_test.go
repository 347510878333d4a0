package command

import (
	"context"
	"database/sql"
	"path/filepath"
	"strings"
	"testing"

	"callchain/cmd/callchain/serve"
	"callchain/engine/projection"
	"callchain/engine/rpc"
	"callchain/eventstore"
	"callchain/eventstore/sqlite"
	"callchain/migrations"

	"github.com/google/uuid"
)

// schema makes the tables of a file as they were at a version, 0: the newest.
func schema(t *testing.T, file string, s migrations.Set, version int64) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() }) // nothing is written any more
	if version == 0 {
		err = migrations.Up(t.Context(), db, migrations.SQLite, s)
	} else {
		err = migrations.UpTo(t.Context(), db, migrations.SQLite, migrations.At{Set: s, Version: version})
	}
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// storedCall makes a data.dir with one call that was cancelled and, if wanted, its row.
func storedCall(t *testing.T, withRow bool) (dir string, store *sqlite.Store) {
	t.Helper()
	dir = t.TempDir()
	schema(t, filepath.Join(dir, serve.RegistryFile), migrations.Registry(), 0)
	store, err := sqlite.Open(context.WithoutCancel(t.Context()), sqlite.Options{Path: filepath.Join(dir, serve.EventsFile)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	claimed, err := store.Claim(t.Context(), "test", []int32{0})
	if err != nil {
		t.Fatal(err)
	}
	p := eventstore.PartitionBatch{Expect: claimed[0], Next: claimed[0]}
	var call projection.Call
	var hash eventstore.Hash
	tenant, id := uuid.New(), uuid.New()
	for i, f := range []rpc.Fact{rpc.Requested{Method: "reboot", Persistent: true, Expires: 9}, rpc.Cancelled{}} {
		data, err := rpc.AppendData(nil, f)
		if err != nil {
			t.Fatal(err)
		}
		n := int64(i + 1)
		e := eventstore.Event{
			Stream: projection.CallStream(tenant, id), Version: n, Seq: n, Type: f.Name(), TypeVersion: rpc.DataVersion, At: n, Occurred: n, Tenant: tenant, Data: data,
		}
		e.Hash = e.Digest(hash)
		hash = e.Hash
		p.Events, p.Next.Seq, p.Next.Head = append(p.Events, e), n, eventstore.Link(p.Next.Head, hash)
		call.Apply(&e, rpc.Event{Meta: rpc.Meta{At: rpc.Instant(n)}, Call: id, Fact: f}, rpc.Settings{})
	}
	if withRow {
		row, err := call.Row()
		if err != nil {
			t.Fatal(err)
		}
		p.Rows = []eventstore.Row{row}
	}
	if fenced, err := store.Append(t.Context(), eventstore.Batch{ID: uuid.New(), Partitions: []eventstore.PartitionBatch{p}}); err != nil || fenced != nil {
		t.Fatalf("Append = %v, %v", fenced, err)
	}
	return dir, store
}

func TestVerifyAndRebuild(t *testing.T) {
	dir, store := storedCall(t, false)
	try := func(wantStatus int, want string, args ...string) {
		t.Helper()
		status, out, errs := line(t, nil, append(args, "--data.dir", dir)...)
		if status != wantStatus || !strings.Contains(out+errs, want) {
			t.Errorf("callchain %v: status %d, want %d and %q:\n%s%s", args, status, wantStatus, want, out, errs)
		}
	}
	try(1, "the table has no row, the events give a row", "events", "verify")
	if err := store.Exclusive(t.Context()); err != nil {
		t.Fatal(err)
	}
	try(1, "a server runs on the database", "events", "rebuild")
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	try(0, "2 events of 1 calls folded, 1 rows written, 0 removed", "events", "rebuild")
	try(0, "1 calls folded, 1 rows equal the fold, 0 calls differ", "events", "verify")
	try(0, `"problems":[]`, "events", "verify", "--json")
	try(0, `"written":1`, "events", "rebuild", "--json")
}

// TestVerifyChangesNoSchema: a database that is behind this program may have a server of its own build, which would be refused at its next start.
func TestVerifyChangesNoSchema(t *testing.T) {
	dir := t.TempDir()
	db := schema(t, filepath.Join(dir, serve.EventsFile), migrations.Events(), 1)
	status, _, errs := line(t, nil, "events", "verify", "--data.dir", dir)
	if status != 1 || !strings.Contains(errs, "is at version 1, this program needs") {
		t.Errorf("status %d: %s", status, errs)
	}
	if v, err := migrations.Version(t.Context(), db, migrations.SQLite, migrations.Events()); v != 1 || err != nil {
		t.Errorf("the database is at version %d afterwards, %v", v, err)
	}
}

func TestVerifyFindsNothingWrong(t *testing.T) {
	dir, _ := storedCall(t, true)
	status, out, errs := line(t, nil, "events", "verify", "--data.dir", dir)
	if status != 0 || !strings.Contains(out, "2 events in 1 streams of 1 partitions, 0 problems") || !strings.Contains(out, "1 rows equal the fold") {
		t.Errorf("status %d:\n%s%s", status, out, errs)
	}
}
