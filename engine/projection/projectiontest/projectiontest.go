// Package projectiontest is what a database must have for engine/projection: the tables of the suite of event stores, their columns, and the queries that need an
// index.
package projectiontest

import (
	"slices"
	"testing"

	"callchain/engine/projection"
	"callchain/eventstore"
	"callchain/eventstore/storetest"
)

// Tables are those of the suite of event stores.
func Tables() storetest.Tables {
	return storetest.Tables{All: projection.Tables(), Values: projection.Attributes, Times: projection.Latest, Flags: projection.Calls}
}

// Column is a column in the database's catalogue.
type Column struct {
	Name     string
	Type     string // in lower case
	Key      int    // place in the primary key from 1, 0 if it is not of it
	Nullable bool
}

// CompareColumns checks that the database's tables are those of engine/projection: the same columns in the same order, of the types that
// types gives to the kinds, with the same key, and NULL allowed outside it.
func CompareColumns(t *testing.T, types map[eventstore.Kind]string, read func(table string) []Column) {
	for _, table := range projection.Tables() {
		var want []Column
		for i, c := range table.Columns {
			column := Column{Name: c.Name, Type: types[c.Kind], Nullable: i >= table.Key}
			if i < table.Key {
				column.Key = i + 1
			}
			want = append(want, column)
		}
		if got := read(table.Name); !slices.Equal(got, want) {
			t.Errorf("table %s has the columns\n%v, engine/projection wants\n%v: add a migration", table.Name, got, want)
		}
	}
}

// IndexedQueries are the queries that must be answered from an index, in its order, by the index's name.
func IndexedQueries() map[string]eventstore.Query {
	eq := func(column string, value any) eventstore.Cond {
		return eventstore.Cond{Column: column, Op: eventstore.Eq, Value: value}
	}
	newest := []eventstore.Order{{Column: "created", Desc: true}}
	id := storetest.NewID()
	return map[string]eventstore.Query{
		"calls_device":  {Table: projection.Calls, Where: []eventstore.Cond{eq("tenant", id), eq("device", id), eq("persistent", true)}, Order: newest, Limit: 10},
		"calls_wire":    projection.CallsByWire(id, id, 7),
		"calls_created": {Table: projection.Calls, Where: []eventstore.Cond{eq("tenant", id)}, Order: newest, Limit: 10},
	}
}
