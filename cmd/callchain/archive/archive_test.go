package archive

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"callchain/cmd/callchain/serve"
	"callchain/eventstore"
	"callchain/eventstore/pgtest"
	"callchain/eventstore/sqlite"
)

// firstDifference shows where two texts part.
func firstDifference(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return x[i] + "\n" + y[i]
		}
	}
	return "one is longer"
}

func restored(t *testing.T, file []byte, to Place) Place {
	t.Helper()
	_, before, err := Check(t.Context(), bytes.NewReader(file), nil)
	if err != nil {
		t.Fatal(err)
	}
	after, err := Restore(t.Context(), bytes.NewReader(file), to, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if before.Digest != after.Digest || before.Events != after.Events || before.Digest == "" {
		t.Errorf("checked %+v, restored %+v", before, after)
	}
	return to
}

// TestRoundTrip takes everything from SQLite into a file, into PostgreSQL, into a file, into SQLite, and back by copies: nothing changes, and
// the log verifies everywhere.
func TestRoundTrip(t *testing.T) {
	c := invented(5, 700)
	want := c.text(t)
	first := filled(t, c, folder(t))
	places := []Place{first}
	if os.Getenv(pgtest.Variable) != "" {
		second := restored(t, saved(t, first), server(t))
		places = append(places, second, restored(t, saved(t, second), folder(t)))
		third := server(t)
		if _, err := Copy(t.Context(), first, third, Options{}); err != nil {
			t.Fatal(err)
		}
		places = append(places, third)
	}
	last := folder(t)
	if _, err := Copy(t.Context(), places[len(places)-1], last, Options{}); err != nil {
		t.Fatal(err)
	}
	places = append(places, last, restored(t, saved(t, first), folder(t)))
	for i, p := range places {
		if got := held(t, p).text(t); got != want {
			t.Errorf("place %d (%s) holds something else: %s", i, p.Dialect(), firstDifference(want, got))
		}
		problems := 0
		v, err := Verify(t.Context(), p, func(problem string) {
			if strings.Contains(problem, "seq") {
				t.Errorf("%s: %s", p.Dialect(), problem)
			}
			problems++
		})
		if err != nil || v.Log.Events != int64(len(c.events)) {
			t.Errorf("verified %+v, %v", v, err)
		}
	}
	if len(places) < 4 {
		t.Skipf("NOT RUN: PostgreSQL; %s is not set", pgtest.Variable)
	}
}

// TestTheRestoredLogIsReadFromAnyPlace: a SQLite store finds its way by anchors, which a restore makes; and it goes on appending.
func TestTheRestoredLogIsReadFromAnyPlace(t *testing.T) {
	c := invented(5, 700)
	p := restored(t, saved(t, filled(t, c, folder(t))), folder(t))
	if os.Getenv(pgtest.Variable) != "" {
		p = restored(t, saved(t, restored(t, saved(t, p), server(t))), folder(t))
	}
	store, err := serve.OpenStore(t.Context(), p.settings())
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for i := 0; i < len(c.events); i += 97 {
		e := c.events[i]
		got, err := store.Partition(t.Context(), e.Partition, e.Seq-1, 3)
		if err != nil || len(got) == 0 || got[0].Seq != e.Seq || got[0].AppendID != e.AppendID || got[0].Stream != e.Stream {
			t.Fatalf("behind seq %d of partition %d: %+v, %v, want %+v", e.Seq-1, e.Partition, got, err, e)
		}
	}
	claimed, err := store.Claim(t.Context(), "n", []int32{0})
	if err != nil {
		t.Fatal(err)
	}
	e := eventstore.Event{Stream: "run/x", Began: 1, Version: 1, Seq: claimed[0].Seq + 1, Type: "T", At: 1, Occurred: 1, Data: []byte(`{}`)}
	e.Hash = e.Digest(eventstore.Hash{})
	next := claimed[0]
	next.Seq, next.Head = e.Seq, eventstore.Link(next.Head, e.Hash)
	b := eventstore.Batch{ID: id(9999), Partitions: []eventstore.PartitionBatch{{Expect: claimed[0], Next: next, Events: []eventstore.Event{e}}}}
	if fenced, err := store.Append(t.Context(), b); err != nil || len(fenced) > 0 {
		t.Fatalf("appending: %v, %v", fenced, err)
	}
	if sum, err := eventstore.Verify(t.Context(), store, func(p eventstore.Problem) { t.Error(p) }); err != nil || sum.Events != int64(len(c.events)+1) {
		t.Errorf("%+v, %v", sum, err)
	}
}

// month is a part of the table of events.
var month = regexp.MustCompile(`^events_\d{4}_\d{2}$`)

// TestNoTableIsForgotten compares the tables of both databases with those that are copied: one that a later migration adds must be in
// the copy, or be named as one that is made anew.
func TestNoTableIsForgotten(t *testing.T) {
	known := slices.Clone(derived)
	for _, table := range tables() {
		known = append(known, table.Name)
	}
	places := []Place{filled(t, invented(1, 1), folder(t))}
	if os.Getenv(pgtest.Variable) != "" {
		places = append(places, filled(t, invented(1, 1), server(t)))
	}
	for _, p := range places {
		found := 0
		for _, s := range sets() {
			for table, columns := range catalogue(t, p, s.Table) {
				switch {
				case month.MatchString(table) || slices.Contains(derived, table):
				case !slices.Contains(known, table):
					t.Errorf("%s: the table %s is in no backup: add it to registry.Tables or projection.Tables", p.Dialect(), table)
				default:
					found++
					compareColumns(t, p, table, columns)
				}
			}
			if p.URL != "" {
				break // both sets are in one database
			}
		}
		if found != len(tables()) {
			t.Errorf("%s has %d of the %d tables that are copied", p.Dialect(), found, len(tables()))
		}
	}
}

// notCopied are columns that hold the place of a row, or that a copy makes of others.
var notCopied = map[string][]string{"events": {"pos", "append_id"}}

func compareColumns(t *testing.T, p Place, name string, columns []string) {
	t.Helper()
	for _, table := range tables() {
		if table.Name != name {
			continue
		}
		var want []string
		for _, c := range table.Columns {
			want = append(want, c.Name)
		}
		for _, c := range columns {
			if !slices.Contains(want, c) && !slices.Contains(notCopied[name], c) {
				t.Errorf("%s: the column %s of %s is in no backup", p.Dialect(), c, name)
			}
		}
		for _, c := range want {
			if !slices.Contains(columns, c) && !slices.Contains(notCopied[name], c) {
				t.Errorf("%s: %s has no column %s", p.Dialect(), name, c)
			}
		}
	}
}

// catalogue gives the columns of every table.
func catalogue(t *testing.T, p Place, set string) map[string][]string {
	t.Helper()
	query := `SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite%'`
	if p.URL != "" {
		query = `SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = current_schema()`
	}
	for _, s := range sets() {
		if s.Table != set {
			continue
		}
		db, err := p.database(s)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		list, err := db.QueryContext(t.Context(), query)
		if err != nil {
			t.Fatal(err)
		}
		defer list.Close()
		out := map[string][]string{}
		for list.Next() {
			var table, column string
			if err := list.Scan(&table, &column); err != nil {
				t.Fatal(err)
			}
			out[table] = append(out[table], column)
		}
		if err := list.Err(); err != nil {
			t.Fatal(err)
		}
		return out
	}
	return nil
}

// TestOnlyAnEmptyDatabaseIsFilled: what is there stays as it is.
func TestOnlyAnEmptyDatabaseIsFilled(t *testing.T) {
	file := saved(t, filled(t, invented(2, 3), folder(t)))
	targets := []Place{folder(t)}
	if os.Getenv(pgtest.Variable) != "" {
		targets = append(targets, server(t))
	}
	for _, to := range targets {
		restored(t, file, to)
		before := held(t, to).text(t)
		_, err := Restore(t.Context(), bytes.NewReader(file), to, Options{})
		if !errors.Is(err, eventstore.ErrNotEmpty) {
			t.Errorf("%s: restoring over what is there: %v", to.Dialect(), err)
		}
		if held(t, to).text(t) != before {
			t.Errorf("%s: what was there was changed", to.Dialect())
		}
		if _, err := Copy(t.Context(), to, to, Options{}); err == nil {
			t.Errorf("%s: a database was copied into itself", to.Dialect())
		}
	}
}

// errStop ends a copy.
var errStop = errors.New("stop")

// TestAFailedRestoreLeavesNothing: it can be run again.
func TestAFailedRestoreLeavesNothing(t *testing.T) {
	c := invented(3, 50)
	file := saved(t, filled(t, c, folder(t)))
	targets := []Place{folder(t)}
	if os.Getenv(pgtest.Variable) != "" {
		targets = append(targets, server(t))
	}
	for _, to := range targets {
		_, err := fillWith(t.Context(), to, newest(t, to), Options{}, func(p *proof) error {
			return errors.Join(c.pour(t.Context(), p), errStop)
		})
		if !errors.Is(err, errStop) {
			t.Fatal(err)
		}
		restored(t, file, to)
		if got := held(t, to).text(t); got != c.text(t) {
			t.Errorf("%s: %s", to.Dialect(), firstDifference(c.text(t), got))
		}
	}
}

func newest(t *testing.T, p Place) map[string]int64 {
	t.Helper()
	out := map[string]int64{}
	for _, s := range sets() {
		v, err := s.Newest(p.Dialect())
		if err != nil {
			t.Fatal(err)
		}
		out[s.Table] = v
	}
	return out
}

// TestMigrateAddsWhatACopyHasNot: a filled database has the schemas that are copied; what others it needs, migrate adds to it.
func TestMigrateAddsWhatACopyHasNot(t *testing.T) {
	places := []Place{folder(t)}
	if os.Getenv(pgtest.Variable) != "" {
		places = append(places, server(t))
	}
	for _, p := range places {
		filled(t, invented(1, 1), p)
		for _, missing := range []bool{true, false} {
			versions, err := p.Versions(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for i, v := range versions {
				if added := i >= len(sets()) && missing; v.Newest == 0 || v.Is != v.Newest && !added || v.Is != 0 && added {
					t.Errorf("%s: %+v", p.Dialect(), v)
				}
			}
			if _, err := p.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestAKilledRestoreIsSeen: a folder that holds a part is opened by nobody, and filling it again begins anew.
func TestAKilledRestoreIsSeen(t *testing.T) {
	to := folder(t)
	c := invented(2, 5)
	file := saved(t, filled(t, c, folder(t)))
	dead := filled(t, c, folder(t)) // stands for what a killed process leaves: files and the mark
	for _, name := range []string{serve.EventsFile, serve.RegistryFile} {
		b, err := os.ReadFile(filepath.Join(dead.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to.Dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(to.eventsFile()+".filling", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := serve.OpenStore(t.Context(), to.settings()); !errors.Is(err, sqlite.ErrUnfinished) {
		t.Errorf("a server opens a part of a database: %v", err)
	}
	restored(t, file, to)
	if store, err := serve.OpenStore(t.Context(), to.settings()); err != nil {
		t.Error(err)
	} else if err := store.Close(); err != nil {
		t.Error(err)
	}
}

// TestCopyNeedsItsSourceAlone and its target, too.
func TestCopyNeedsItsSourceAlone(t *testing.T) {
	from := filled(t, invented(2, 3), folder(t))
	store, err := serve.OpenStore(t.Context(), from.settings())
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if err := store.Exclusive(t.Context()); err != nil {
		t.Fatal(err)
	}
	to := folder(t)
	if _, err := Copy(t.Context(), from, to, Options{}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("the source is in use: %v", err)
	}
	if _, err := os.Stat(to.eventsFile()); err == nil {
		t.Error("something was written")
	}
}

// TestPositionsAreClearedWhenTold and kept otherwise, which TestRoundTrip sees.
func TestPositionsAreClearedWhenTold(t *testing.T) {
	to := folder(t)
	file := saved(t, filled(t, invented(2, 3), folder(t)))
	if _, err := Restore(t.Context(), bytes.NewReader(file), to, Options{ClearPositions: true}); err != nil {
		t.Fatal(err)
	}
	for _, c := range held(t, to).checkpoints {
		if c.Positions != [eventstore.Lanes]eventstore.Position{} || c.Relayed != 0 {
			t.Errorf("partition %d goes on at %v", c.Partition, c)
		}
	}
}

// TestABrokenLogIsNotSaved: a copy that looks whole and is not would be trusted.
func TestABrokenLogIsNotSaved(t *testing.T) {
	for _, damage := range []string{
		"DELETE FROM events WHERE partition = 1 AND seq = 2", "UPDATE checkpoints SET seq = seq + 1 WHERE partition = 0",
		"DELETE FROM checkpoints WHERE partition = 1", "UPDATE events SET hash = zeroblob(32) WHERE partition = 0 AND seq = 1",
	} {
		p := filled(t, invented(2, 3), folder(t))
		db, err := p.database(sets()[0])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.ExecContext(t.Context(), damage); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Backup(context.WithoutCancel(t.Context()), p, "v1", &bytes.Buffer{}, nil); err == nil || !strings.Contains(err.Error(), "events verify") {
			t.Errorf("%s: %v", damage, err)
		}
	}
}
