package sqlgen_test

import (
	"testing"

	"github.com/google/uuid"

	"callchain/eventstore"
	"callchain/eventstore/sqlgen"
)

var table = &eventstore.Table{Name: `od"d`, Key: 2, Columns: []eventstore.Column{
	{Name: "id", Kind: eventstore.UUID},
	{Name: "key", Kind: eventstore.Text},
	{Name: "order", Kind: eventstore.Int},
	{Name: "body", Kind: eventstore.JSON},
}}

func TestQueriesAreWrittenForBothDatabases(t *testing.T) {
	id := uuid.MustParse("018f2c1e-0a5b-7c3d-8e4f-0123456789ab")
	q := eventstore.Query{
		Table: table,
		Where: []eventstore.Cond{{Column: "id", Op: eventstore.Eq, Value: id}, {Column: "order", Op: eventstore.Ne, Value: nil}, {Column: "order", Op: eventstore.Lt, Value: int64(7)}},
		Order: []eventstore.Order{{Column: "order", Desc: true}, {Column: "key"}},
		Limit: 10, Offset: 20,
	}
	const columns = `SELECT "id", "key", "order", "body" FROM "od""d"`
	for _, c := range []struct {
		dialect sqlgen.Dialect
		want    string
	}{
		{sqlgen.SQLite, columns + ` WHERE "id" = ? AND "order" IS NOT NULL AND "order" < ? ORDER BY "order" DESC, "key" LIMIT ? OFFSET ?`},
		{sqlgen.Postgres, columns + ` WHERE "id" = $1 AND "order" IS NOT NULL AND "order" < $2 ORDER BY "order" DESC NULLS LAST, "key" NULLS FIRST LIMIT $3 OFFSET $4`},
	} {
		sql, args, err := c.dialect.Select(q)
		if err != nil || sql != c.want {
			t.Errorf("Select gives\n%s (%v), want\n%s", sql, err, c.want)
		}
		if len(args) != 4 || args[0] != id || args[1] != int64(7) || args[2] != int64(10) || args[3] != int64(20) {
			t.Errorf("Select binds %v", args)
		}
	}
	if sql, _, err := sqlgen.SQLite.Select(eventstore.Query{Table: table, Offset: 3}); err != nil || sql != columns+` LIMIT -1 OFFSET ?` {
		t.Errorf("offset alone gives %s, %v", sql, err)
	}
	if sql, args, err := sqlgen.Postgres.Count(q); err != nil || len(args) != 2 || sql != `SELECT count(*) FROM "od""d" WHERE "id" = $1 AND "order" IS NOT NULL AND "order" < $2` {
		t.Errorf("Count gives %s, %v, %v", sql, args, err)
	}
}

func TestFlagsAreWrittenSoThatPartialIndexesServe(t *testing.T) {
	flags := &eventstore.Table{Name: "f", Key: 1, Columns: []eventstore.Column{{Name: "id", Kind: eventstore.Int}, {Name: "on", Kind: eventstore.Bool}}}
	for _, c := range []struct {
		op    eventstore.Op
		value bool
		want  string
	}{{eventstore.Eq, true, `"on"`}, {eventstore.Eq, false, `NOT "on"`}, {eventstore.Ne, true, `NOT "on"`}, {eventstore.Ne, false, `"on"`}} {
		sql, args, err := sqlgen.Postgres.Count(eventstore.Query{Table: flags, Where: []eventstore.Cond{{Column: "on", Op: c.op, Value: c.value}}})
		if want := `SELECT count(*) FROM "f" WHERE ` + c.want; err != nil || sql != want || len(args) > 0 {
			t.Errorf("%s %v gives %s with %v (%v), want %s", c.op, c.value, sql, args, err, want)
		}
	}
}

func TestChangesAreWritten(t *testing.T) {
	want := `INSERT INTO "od""d" ("id", "key", "order", "body") VALUES (…) ON CONFLICT ("id", "key") DO UPDATE SET "order" = excluded."order", "body" = excluded."body"`
	if sql := sqlgen.Upsert(table, "VALUES (…)"); sql != want {
		t.Errorf("Upsert gives\n%s, want\n%s", sql, want)
	}
	all := &eventstore.Table{Name: "t", Key: 1, Columns: table.Columns[:1]}
	if sql := sqlgen.Upsert(all, "VALUES (?)"); sql != `INSERT INTO "t" ("id") VALUES (?) ON CONFLICT ("id") DO NOTHING` {
		t.Errorf("Upsert of a table that is all key gives %s", sql)
	}
	if sql := sqlgen.Postgres.Delete(table); sql != `DELETE FROM "od""d" WHERE "id" = $1 AND "key" = $2` {
		t.Errorf("Delete gives %s", sql)
	}
}

func TestWrongQueriesAreRefused(t *testing.T) {
	for name, q := range map[string]eventstore.Query{
		"unknown column":     {Table: table, Where: []eventstore.Cond{{Column: "nope", Op: eventstore.Eq, Value: int64(1)}}},
		"injected operator":  {Table: table, Where: []eventstore.Cond{{Column: "order", Op: "= 1 OR 1 =", Value: int64(1)}}},
		"wrong Go type":      {Table: table, Where: []eventstore.Cond{{Column: "order", Op: eventstore.Eq, Value: "1"}}},
		"NULL is not less":   {Table: table, Where: []eventstore.Cond{{Column: "order", Op: eventstore.Lt}}},
		"JSON is not sorted": {Table: table, Order: []eventstore.Order{{Column: "body"}}},
		"negative limit":     {Table: table, Limit: -1},
	} {
		if sql, _, err := sqlgen.SQLite.Select(q); err == nil {
			t.Errorf("%s gives %s, want an error", name, sql)
		}
	}
}

func TestLastKeepsTheLastChangeOfARow(t *testing.T) {
	a, b := uuid.UUID{1}, uuid.UUID{2}
	row := func(id uuid.UUID, key string, n int64) eventstore.Row {
		return eventstore.Row{Table: table, Values: []any{id, key, n, nil}}
	}
	got := sqlgen.Last(
		[]eventstore.Row{row(a, "x", 1), row(b, "x", 2), row(a, "y", 3)},
		[]eventstore.Row{row(a, "x", 4), {Table: table, Delete: true, Values: []any{b, "x"}}},
	)
	if len(got) != 1 || len(got[0].Rows) != 3 {
		t.Fatalf("Last gives %v, want three rows of one table", got)
	}
	if r := got[0].Rows; r[0].Values[2] != int64(4) || !r[1].Delete || r[2].Values[2] != int64(3) {
		t.Errorf("Last gives %v", r)
	}
}
