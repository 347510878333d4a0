// Package sqlgen writes the SQL that reads and changes the rows of an eventstore.Table, for both databases. Names come from the table and
// are quoted; values are always bound.
package sqlgen

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"callchain/eventstore"
)

// Dialect is what the databases do differently.
type Dialect struct {
	// Numbered parameters are $1, $2, …; others are ?.
	Numbered bool
	// NullsLowest: the database sorts NULL before every value by itself. Where it does not, the order says so, because a page of
	// calls must look the same on both.
	NullsLowest bool
}

// The two dialects.
var (
	SQLite   = Dialect{NullsLowest: true}
	Postgres = Dialect{Numbered: true}
)

// Quote makes an identifier of a name.
func Quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// Names lists the quoted names of columns.
func Names(columns []eventstore.Column) string {
	var b strings.Builder
	for i, c := range columns {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(Quote(c.Name))
	}
	return b.String()
}

// Upsert writes a row that may exist; it ends in the ON CONFLICT clause and misses what stands between the columns and it: VALUES or SELECT.
func Upsert(t *eventstore.Table, source string) string {
	set := make([]string, 0, len(t.Columns))
	for _, c := range t.Columns[t.Key:] {
		set = append(set, Quote(c.Name)+" = excluded."+Quote(c.Name))
	}
	action := "NOTHING"
	if len(set) > 0 {
		action = "UPDATE SET " + strings.Join(set, ", ")
	}
	return "INSERT INTO " + Quote(t.Name) + " (" + Names(t.Columns) + ") " + source +
		" ON CONFLICT (" + Names(t.Columns[:t.Key]) + ") DO " + action
}

// UpsertParts is Upsert cut where the rows stand: what comes before the first row of VALUES, and what comes behind the last.
func UpsertParts(t *eventstore.Table) (begin, end string) {
	const cut = "\x00"
	begin, end, _ = strings.Cut(Upsert(t, "VALUES "+cut), cut)
	return begin, end
}

// Delete removes a row by its key, the only parameters.
func (d Dialect) Delete(t *eventstore.Table) string {
	s := statement{dialect: d}
	s.text.WriteString("DELETE FROM " + Quote(t.Name) + " WHERE ")
	for i, c := range t.Columns[:t.Key] {
		if i > 0 {
			s.text.WriteString(" AND ")
		}
		s.text.WriteString(Quote(c.Name) + " = ")
		s.bind(nil)
	}
	return s.text.String()
}

// Select reads all columns of the rows that q asks for.
func (d Dialect) Select(q eventstore.Query) (string, []any, error) {
	s := statement{dialect: d}
	s.text.WriteString("SELECT " + Names(q.Table.Columns) + " FROM " + Quote(q.Table.Name))
	if err := s.where(q); err != nil {
		return "", nil, err
	}
	if err := s.order(q); err != nil {
		return "", nil, err
	}
	if err := s.page(q); err != nil {
		return "", nil, err
	}
	return s.text.String(), s.args, nil
}

// Count counts the rows that q asks for without its Limit and Offset.
func (d Dialect) Count(q eventstore.Query) (string, []any, error) {
	s := statement{dialect: d}
	s.text.WriteString("SELECT count(*) FROM " + Quote(q.Table.Name))
	if err := s.where(q); err != nil {
		return "", nil, err
	}
	return s.text.String(), s.args, nil
}

type statement struct {
	dialect Dialect
	text    strings.Builder
	args    []any
}

func (s *statement) bind(v any) {
	s.args = append(s.args, v)
	if s.dialect.Numbered {
		s.text.WriteString("$" + strconv.Itoa(len(s.args)))
	} else {
		s.text.WriteByte('?')
	}
}

func (s *statement) where(q eventstore.Query) error {
	for i, c := range q.Where {
		if i == 0 {
			s.text.WriteString(" WHERE ")
		} else {
			s.text.WriteString(" AND ")
		}
		if err := s.cond(q.Table, c); err != nil {
			return fmt.Errorf("query of %s: column %s: %w", q.Table.Name, c.Column, err)
		}
	}
	return nil
}

var (
	errNoColumn  = errors.New("the table has no such column")
	errNoOp      = errors.New("no such comparison")
	errNullOrder = errors.New("NULL can be compared with Eq and Ne only")
	errJSON      = errors.New("JSON is not compared or sorted: the databases would differ")
	errPage      = errors.New("limit and offset must not be negative")
)

func (s *statement) cond(t *eventstore.Table, c eventstore.Cond) error {
	column, err := comparedColumn(t, c.Column)
	if err != nil {
		return err
	}
	switch c.Op {
	case eventstore.Eq, eventstore.Ne, eventstore.Lt, eventstore.Le, eventstore.Gt, eventstore.Ge:
	default:
		return errNoOp
	}
	if b, ok := c.Value.(bool); ok && column.Kind == eventstore.Bool && (c.Op == eventstore.Eq || c.Op == eventstore.Ne) {
		s.flag(c.Column, b == (c.Op == eventstore.Eq))
		return nil
	}
	s.text.WriteString(Quote(c.Column))
	if c.Value == nil {
		switch c.Op {
		case eventstore.Eq:
			s.text.WriteString(" IS NULL")
		case eventstore.Ne:
			s.text.WriteString(" IS NOT NULL")
		default:
			return errNullOrder
		}
		return nil
	}
	if err := column.Check(c.Value); err != nil {
		return err
	}
	s.text.WriteString(" " + string(c.Op) + " ")
	s.bind(c.Value)
	return nil
}

// flag writes the column itself: an index WHERE persistent serves a condition that says just that, not one with a parameter.
func (s *statement) flag(column string, set bool) {
	if !set {
		s.text.WriteString("NOT ")
	}
	s.text.WriteString(Quote(column))
}

func (s *statement) order(q eventstore.Query) error {
	for i, o := range q.Order {
		if _, err := comparedColumn(q.Table, o.Column); err != nil {
			return fmt.Errorf("order of %s: column %s: %w", q.Table.Name, o.Column, err)
		}
		if i == 0 {
			s.text.WriteString(" ORDER BY ")
		} else {
			s.text.WriteString(", ")
		}
		s.text.WriteString(Quote(o.Column))
		if o.Desc {
			s.text.WriteString(" DESC")
		}
		if !s.dialect.NullsLowest {
			if o.Desc {
				s.text.WriteString(" NULLS LAST")
			} else {
				s.text.WriteString(" NULLS FIRST")
			}
		}
	}
	return nil
}

func (s *statement) page(q eventstore.Query) error {
	if q.Limit < 0 || q.Offset < 0 {
		return fmt.Errorf("query of %s: %w", q.Table.Name, errPage)
	}
	switch {
	case q.Limit > 0:
		s.text.WriteString(" LIMIT ")
		s.bind(int64(q.Limit))
	case q.Offset > 0 && !s.dialect.Numbered:
		s.text.WriteString(" LIMIT -1") // SQLite has no OFFSET without LIMIT
	}
	if q.Offset > 0 {
		s.text.WriteString(" OFFSET ")
		s.bind(int64(q.Offset))
	}
	return nil
}

func comparedColumn(t *eventstore.Table, name string) (eventstore.Column, error) {
	for _, c := range t.Columns {
		if c.Name == name {
			if c.Kind == eventstore.JSON {
				return c, errJSON
			}
			return c, nil
		}
	}
	return eventstore.Column{}, errNoColumn
}
