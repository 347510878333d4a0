package postgres_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"callchain/engine/projection/projectiontest"
	"callchain/eventstore"
	"callchain/eventstore/pgtest"
	"callchain/eventstore/sqlgen"
	"callchain/eventstore/storetest"
)

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	return conn // ends with the database
}

func TestTablesAreThoseOfTheProjections(t *testing.T) {
	url := pgtest.Database(t)
	openAt(t, url)
	conn := connect(t, url)
	types := map[eventstore.Kind]string{
		eventstore.Int: "bigint", eventstore.Bool: "boolean", eventstore.Text: "text", eventstore.JSON: "json",
		eventstore.Bytes: "bytea", eventstore.UUID: "uuid",
	}
	projectiontest.CompareColumns(t, types, func(table string) []projectiontest.Column {
		rows, err := conn.Query(t.Context(), `SELECT a.attname, format_type(a.atttypid, a.atttypmod), coalesce(array_position(i.indkey::int[], a.attnum::int) + 1, 0), NOT a.attnotnull
			FROM pg_attribute a LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary
			WHERE a.attrelid = $1::text::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`, table)
		if err != nil {
			t.Fatal(err)
		}
		out, err := pgx.CollectRows(rows, pgx.RowToStructByPos[projectiontest.Column])
		if err != nil {
			t.Fatal(err)
		}
		return out
	})
}

// TestQueriesUseIndexes asks for plans with scans and sorts made dear, so that an empty table does not hide that an index does not fit.
func TestQueriesUseIndexes(t *testing.T) {
	url := pgtest.Database(t)
	openAt(t, url)
	conn := connect(t, url)
	if _, err := conn.Exec(t.Context(), "SET enable_seqscan = off; SET enable_sort = off; SET enable_bitmapscan = off"); err != nil {
		t.Fatal(err)
	}
	for index, q := range projectiontest.IndexedQueries() {
		query, args, err := sqlgen.Postgres.Select(q)
		if err != nil {
			t.Fatal(err)
		}
		for i, a := range args {
			if id, ok := a.(uuid.UUID); ok {
				args[i] = [16]byte(id)
			}
		}
		rows, err := conn.Query(t.Context(), "EXPLAIN "+query, args...)
		if err != nil {
			t.Fatal(err)
		}
		plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		if text := strings.Join(plan, "\n"); !strings.Contains(text, index) || strings.Contains(text, "Sort") {
			t.Errorf("%s\nruns by\n%s\nwant the index %s without sorting", query, text, index)
		}
	}
}

// TestAStoreMayLiveInASchema: the URL's search_path names it; two stores in two schemas of a database do not see one another.
func TestAStoreMayLiveInASchema(t *testing.T) {
	url := pgtest.Database(t)
	pgtest.Exec(t, url, "CREATE SCHEMA one; CREATE SCHEMA two")
	separator := "?"
	if strings.Contains(url, "?") {
		separator = "&"
	}
	one, two := openAt(t, url+separator+"search_path=one"), openAt(t, url+separator+"search_path=two")
	for _, s := range []eventstore.Store{one, two} {
		if err := s.Exclusive(t.Context()); err != nil {
			t.Fatalf("Exclusive: %v", err)
		}
		storetest.Claim(t, s, 1).Append(t, s, "window/a")
	}
}
