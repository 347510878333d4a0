package storetest

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/google/uuid"

	"callchain/eventstore"
)

func (at Site) value(key, value string) eventstore.Row {
	return eventstore.Row{Table: at.Tables.Values, Values: []any{uuid.UUID{15: 2}, "SERVER_SCOPE", key, []byte(value), int64(1)}}
}

func (at Site) removal(key string) eventstore.Row {
	return eventstore.Row{Table: at.Tables.Values, Delete: true, Values: []any{uuid.UUID{15: 2}, "SERVER_SCOPE", key}}
}

func (at Site) wantNoValues(t testing.TB, s eventstore.Store) {
	t.Helper()
	if n, err := s.Count(t.Context(), eventstore.Query{Table: at.Tables.Values}); err != nil || n != 0 {
		t.Errorf("%d rows were left behind (%v)", n, err)
	}
}

// values gives key=value of all values by key.
func (at Site) values(t testing.TB, s eventstore.Store) []string {
	t.Helper()
	rows, err := s.Rows(t.Context(), eventstore.Query{Table: at.Tables.Values, Order: []eventstore.Order{{Column: "key"}}})
	if err != nil {
		t.Fatalf("Rows: %v", err)
	}
	var out []string
	for _, r := range rows {
		out = append(out, fmt.Sprintf("%s=%s", r[2], r[3]))
	}
	return out
}

// rowsInLastState: of many changes to one row in one batch the last counts; a removal of what is not there is no error.
func rowsInLastState(t testing.TB, at Site) {
	s := at.Open()
	w := Claim(t, s, 1)
	w.AppendRows(t, s, []eventstore.Row{at.value("a", `1`), at.value("b", `1`), at.value("a", `2`), at.removal("b"), at.removal("none")})
	if got := at.values(t, s); !slices.Equal(got, []string{"a=2"}) {
		t.Errorf("the rows are %v, want a=2", got)
	}
	w.AppendRows(t, s, []eventstore.Row{at.removal("a"), at.value("a", `3`), at.value("b", `4`), at.value("c", `{"x" : [1, 2]}`)})
	if got := at.values(t, s); !slices.Equal(got, []string{"a=3", "b=4", `c={"x" : [1, 2]}`}) {
		t.Errorf("the rows are %v", got)
	}
	w.AppendRows(t, s, []eventstore.Row{at.removal("b"), at.value("a", `5`)}, "device/a")
	if got := at.values(t, s); !slices.Equal(got, []string{"a=5", `c={"x" : [1, 2]}`}) {
		t.Errorf("the rows are %v", got)
	}
}

// rowsOfEveryTable: each table of engine/projection takes and gives back a row full of values and a row of NULLs.
func rowsOfEveryTable(t testing.TB, at Site) {
	s := at.Open()
	w := Claim(t, s, 1)
	for _, table := range at.Tables.All {
		full, bare := make([]any, len(table.Columns)), make([]any, len(table.Columns))
		for i, c := range table.Columns {
			full[i] = sample(c.Kind, i)
			if i < table.Key {
				bare[i] = sample(c.Kind, i+1)
			}
		}
		w.AppendRows(t, s, []eventstore.Row{{Table: table, Values: full}, {Table: table, Values: bare}})
		for _, want := range [][]any{full, bare} {
			var where []eventstore.Cond
			for i, c := range table.Columns[:table.Key] {
				where = append(where, eventstore.Cond{Column: c.Name, Op: eventstore.Eq, Value: want[i]})
			}
			got, err := s.Rows(t.Context(), eventstore.Query{Table: table, Where: where})
			if err != nil || len(got) != 1 || !reflect.DeepEqual(got[0], want) {
				t.Errorf("%s: Rows = %v, %v, want %v", table.Name, got, err, want)
			}
		}
		w.AppendRows(t, s, []eventstore.Row{{Table: table, Delete: true, Values: full[:table.Key]}})
		if n, err := s.Count(t.Context(), eventstore.Query{Table: table}); err != nil || n != 1 {
			t.Errorf("%s: %d rows are left (%v), want 1", table.Name, n, err)
		}
	}
}

func sample(k eventstore.Kind, i int) any {
	switch k {
	case eventstore.Int:
		return int64(1)<<62 + int64(i)
	case eventstore.Text:
		return fmt.Sprint("tëxt'\"; --", i)
	case eventstore.Bytes:
		return []byte{0, byte(i), 255}
	case eventstore.UUID:
		return uuid.UUID{0: 255, 15: byte(i)}
	case eventstore.JSON:
		return []byte(`{ "a" : 1, "a" : "ü" }`)
	case eventstore.Bool:
		return i%2 == 0
	}
	panic(fmt.Sprintf("storetest: no sample of kind %d", k))
}

// rowsAreQueried: the pages of calls that a user sees. NULL sorts lowest, text by bytes.
func rowsAreQueried(t testing.TB, at Site) {
	s := at.Open()
	table := at.Tables.Times
	var rows []eventstore.Row
	for i, key := range []string{"b", "B", "ä", "a", "aa", "z"} {
		ts := any(int64(i / 2))
		if key == "z" {
			ts = nil
		}
		for e := range byte(2) {
			rows = append(rows, eventstore.Row{Table: table, Values: []any{uuid.UUID{e}, key, []byte(`1`), ts}})
		}
	}
	Claim(t, s, 1).AppendRows(t, s, rows)
	one := eventstore.Cond{Column: "entity", Op: eventstore.Eq, Value: uuid.UUID{1}}
	byTime := []eventstore.Order{{Column: "ts", Desc: true}, {Column: "key"}}
	ts := func(op eventstore.Op, v any) eventstore.Cond {
		return eventstore.Cond{Column: "ts", Op: op, Value: v}
	}
	for _, c := range []struct {
		name  string
		query eventstore.Query
		want  string
		count int64
	}{
		{"by bytes", eventstore.Query{Where: []eventstore.Cond{one}, Order: []eventstore.Order{{Column: "key"}}}, "[B a aa b z ä]", 6},
		{"NULL last when descending", eventstore.Query{Where: []eventstore.Cond{one}, Order: byTime}, "[aa a ä B b z]", 6},
		{"NULL first when ascending", eventstore.Query{Where: []eventstore.Cond{one}, Order: []eventstore.Order{{Column: "ts"}, {Column: "key", Desc: true}}}, "[z b B ä a aa]", 6},
		{"a page", eventstore.Query{Where: []eventstore.Cond{one}, Order: byTime, Limit: 2, Offset: 1}, "[a ä]", 6},
		{"an offset alone", eventstore.Query{Where: []eventstore.Cond{one}, Order: byTime, Offset: 4}, "[b z]", 6},
		{"IS NULL", eventstore.Query{Where: []eventstore.Cond{one, ts(eventstore.Eq, nil)}, Order: byTime}, "[z]", 1},
		{"IS NOT NULL", eventstore.Query{Where: []eventstore.Cond{one, ts(eventstore.Ne, nil)}, Order: byTime}, "[aa a ä B b]", 5},
		{"less", eventstore.Query{Where: []eventstore.Cond{one, ts(eventstore.Lt, int64(1))}, Order: byTime}, "[B b]", 2},
		{"between", eventstore.Query{Where: []eventstore.Cond{one, ts(eventstore.Ge, int64(1)), ts(eventstore.Le, int64(1))}, Order: byTime}, "[a ä]", 2},
		{"not equal leaves NULL out", eventstore.Query{Where: []eventstore.Cond{one, ts(eventstore.Ne, int64(1))}, Order: byTime}, "[aa B b]", 3},
		{"greater, by text", eventstore.Query{Where: []eventstore.Cond{one, {Column: "key", Op: eventstore.Gt, Value: "b"}}, Order: byTime}, "[ä z]", 2},
		{"nothing", eventstore.Query{Where: []eventstore.Cond{ts(eventstore.Eq, int64(99))}}, "[]", 0},
	} {
		c.query.Table = table
		got, err := s.Rows(t.Context(), c.query)
		keys := []string{}
		for _, r := range got {
			keys = append(keys, r[1].(string))
		}
		if err != nil || fmt.Sprint(keys) != c.want {
			t.Errorf("%s: Rows = %v, %v, want %s", c.name, keys, err, c.want)
		}
		if n, err := s.Count(t.Context(), c.query); err != nil || n != c.count {
			t.Errorf("%s: Count = %d, %v, want %d", c.name, n, err, c.count)
		}
	}
	if _, err := s.Rows(t.Context(), eventstore.Query{Table: table, Order: []eventstore.Order{{Column: "key; DROP TABLE events"}}}); err == nil {
		t.Error("a query by an unknown column is answered")
	}
}

// flagsAreQueried: a flag is set, not set or unknown; unknown is neither.
func flagsAreQueried(t testing.TB, at Site) {
	s := at.Open()
	var rows []eventstore.Row
	for i, flag := range []any{true, false, false, nil} {
		values := make([]any, len(at.Tables.Flags.Columns))
		values[0], values[1], values[at.Tables.Flags.Index("persistent")] = uuid.UUID{1}, uuid.UUID{byte(i)}, flag
		rows = append(rows, eventstore.Row{Table: at.Tables.Flags, Values: values})
	}
	Claim(t, s, 1).AppendRows(t, s, rows)
	for _, c := range []struct {
		op    eventstore.Op
		value any
		want  int64
	}{
		{eventstore.Eq, true, 1},
		{eventstore.Eq, false, 2},
		{eventstore.Ne, true, 2},
		{eventstore.Ne, false, 1},
		{eventstore.Lt, true, 2},
		{eventstore.Ge, false, 3},
		{eventstore.Eq, nil, 1},
		{eventstore.Ne, nil, 3},
	} {
		n, err := s.Count(t.Context(), eventstore.Query{Table: at.Tables.Flags, Where: []eventstore.Cond{{Column: "persistent", Op: c.op, Value: c.value}}})
		if err != nil || n != c.want {
			t.Errorf("Count of persistent %s %v = %d, %v, want %d", c.op, c.value, n, err, c.want)
		}
	}
}

// twoPartitionsWriteOneRow: the later partition of the batch wins, unless it is fenced.
func twoPartitionsWriteOneRow(t testing.TB, at Site) {
	s := at.Open()
	a, b := Claim(t, s, 1), Claim(t, s, 2)
	p, q := a.Batch("device/a"), b.Batch("device/b")
	p.Rows = []eventstore.Row{at.value("k", `"a"`), at.value("gone", `"a"`)}
	q.Rows = []eventstore.Row{at.value("k", `"b"`), at.removal("gone")}
	id := NewID()
	if fenced, err := s.Append(t.Context(), Of(id, p, q)); err != nil || len(fenced) > 0 {
		t.Fatalf("Append = %v, %v", fenced, err)
	}
	if got := at.values(t, s); !slices.Equal(got, []string{`k="b"`}) {
		t.Errorf(`the rows are %v, want k="b"`, got)
	}
	a.Took(p, id)
	b.Took(q, id)
	Claim(t, s, 2)
	p, q = a.Batch("device/a"), b.Batch("device/b")
	p.Rows = []eventstore.Row{at.value("k", `"still a"`)}
	q.Rows = []eventstore.Row{at.removal("k")}
	if fenced, err := s.Append(t.Context(), Of(NewID(), p, q)); err != nil || !slices.Equal(fenced, []int32{2}) {
		t.Fatalf("Append = %v, %v", fenced, err)
	}
	if got := at.values(t, s); !slices.Equal(got, []string{`k="still a"`}) {
		t.Errorf(`the rows are %v, want k="still a"`, got)
	}
}
