package eventstore

// Kind is the type of a column and of the Go values that go in and out of it.
type Kind uint8

// The kinds of columns. A nil value is NULL.
const (
	Int   Kind = iota // int64
	Text              // string
	Bytes             // []byte
	UUID              // uuid.UUID
	JSON              // []byte that holds JSON
	Bool              // bool
)

// Column is a column of a Table.
type Column struct {
	Name string
	Kind Kind
}

// Table describes a table of rows that follow from events. The SQL that creates it is in migrations; a test compares the two.
type Table struct {
	Name    string
	Key     int // the first Key columns are the primary key
	Columns []Column
}

// Index is the place of a column; it panics on a name that the table does not have, which is a programming error.
func (t *Table) Index(name string) int {
	for i, c := range t.Columns {
		if c.Name == name {
			return i
		}
	}
	panic("eventstore: table " + t.Name + " has no column " + name)
}

// Row is an upsert of a whole row, or its removal.
type Row struct {
	Table  *Table
	Delete bool
	Values []any // all columns in order; of a removal, only the key
}

// Op compares a column with a value.
type Op string

// The comparisons of a query.
const (
	Eq Op = "="
	Ne Op = "<>"
	Lt Op = "<"
	Le Op = "<="
	Gt Op = ">"
	Ge Op = ">="
)

// Cond is one condition; the conditions of a query must all hold.
type Cond struct {
	Column string
	Op     Op
	Value  any // nil with Eq and Ne: IS NULL and IS NOT NULL
}

// Order sorts by a column.
type Order struct {
	Column string
	Desc   bool
}

// Query selects rows of a table. Names are taken from the program, never from a caller; values are always bound.
type Query struct {
	Table  *Table
	Where  []Cond
	Order  []Order
	Limit  int // 0 = no limit
	Offset int
}
