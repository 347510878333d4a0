package sqlgen

import (
	"encoding/binary"
	"fmt"

	"github.com/google/uuid"

	"callchain/eventstore"
)

// Changes are the rows of one table in their last state: no key occurs twice.
type Changes struct {
	Table *eventstore.Table
	Rows  []eventstore.Row
}

// Last keeps, of all changes to one row, the last, because rows are whole: what comes between is never seen. Tables stand in the order
// in which they first occur.
func Last(batches ...[]eventstore.Row) []Changes {
	var (
		tables []Changes
		places = map[*eventstore.Table]int{}
		rows   = map[string]int{}
		key    []byte
	)
	for _, batch := range batches {
		for _, r := range batch {
			at, known := places[r.Table]
			if !known {
				at = len(tables)
				places[r.Table] = at
				tables = append(tables, Changes{Table: r.Table})
			}
			key = AppendKey(append(key[:0], byte(at>>8), byte(at)), r)
			if i, changed := rows[string(key)]; changed {
				tables[at].Rows[i] = r
				continue
			}
			rows[string(key)] = len(tables[at].Rows)
			tables[at].Rows = append(tables[at].Rows, r)
		}
	}
	return tables
}

// AppendKey appends bytes that are the same for two rows of one table only if their keys are equal. The row was checked.
func AppendKey(b []byte, r eventstore.Row) []byte {
	for _, v := range r.Values[:r.Table.Key] {
		switch v := v.(type) {
		case int64:
			b = binary.BigEndian.AppendUint64(b, uint64(v))
		case string:
			b = append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
		case []byte:
			b = append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
		case uuid.UUID:
			b = append(b, v[:]...)
		case bool:
			if v {
				b = append(b, 1)
			} else {
				b = append(b, 0)
			}
		default:
			panic(fmt.Sprintf("sqlgen: a key's value is %T: check rows before", v))
		}
	}
	return b
}
