package sqlite_test

import (
	"database/sql"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"callchain/engine/projection/projectiontest"
	"callchain/eventstore"
	"callchain/eventstore/sqlgen"
)

func TestTablesAreThoseOfTheProjections(t *testing.T) {
	path := filepath.Join(t.TempDir(), "callchain.db")
	openAt(t, path)
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	types := map[eventstore.Kind]string{
		eventstore.Int: "integer", eventstore.Bool: "integer", eventstore.Text: "text", eventstore.JSON: "text",
		eventstore.Bytes: "blob", eventstore.UUID: "blob",
	}
	projectiontest.CompareColumns(t, types, func(table string) []projectiontest.Column {
		rows, err := db.QueryContext(t.Context(), `SELECT name, lower(type), pk, "notnull" = 0 FROM pragma_table_info(?) ORDER BY cid`, table)
		if err != nil {
			t.Fatal(err)
		}
		var out []projectiontest.Column
		for rows.Next() {
			var c projectiontest.Column
			if err := rows.Scan(&c.Name, &c.Type, &c.Key, &c.Nullable); err != nil {
				t.Fatal(err)
			}
			out = append(out, c)
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			t.Fatal(err)
		}
		return out
	})
}

// TestQueriesUseIndexes guards the reads that happen for every call or page: a scan would be slow only with a full database.
func TestQueriesUseIndexes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "callchain.db")
	openAt(t, path)
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	for index, q := range projectiontest.IndexedQueries() {
		query, args, err := sqlgen.SQLite.Select(q)
		if err != nil {
			t.Fatal(err)
		}
		for i := range args {
			args[i] = 1 // the plan does not depend on it
		}
		rows, err := db.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, args...)
		if err != nil {
			t.Fatal(err)
		}
		var plan []string
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				t.Fatal(err)
			}
			plan = append(plan, detail)
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			t.Fatal(err)
		}
		if text := strings.Join(plan, "; "); !strings.Contains(text, index) || strings.Contains(text, "TEMP B-TREE") {
			t.Errorf("%s\nruns by %q, want the index %s without sorting", query, text, index)
		}
	}
}
