package registry

import (
	"fmt"
	"strconv"
	"strings"
)

// conditions collect the parts of a WHERE clause with their values; a ? in a part stands for its value.
type conditions struct {
	parts []string
	args  []any
}

func (c *conditions) add(part string, arg any) {
	c.args = append(c.args, arg)
	c.parts = append(c.parts, strings.Replace(part, "?", "$"+strconv.Itoa(len(c.args)), 1))
}

// search looks for a part of a name in a column of lower-case names.
func (c *conditions) search(column, text string) {
	if text == "" {
		return
	}
	escaped := strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(strings.ToLower(text))
	c.add(column+` LIKE ? ESCAPE '\'`, "%"+escaped+"%")
}

func (c *conditions) where() string { return " WHERE " + strings.Join(c.parts, " AND ") }

// order builds the ORDER BY of a page from the columns that may be sorted by; the tie-break makes it total.
func (p Page) order(columns map[string]string, tieBreak string) (string, error) {
	if p.Size < 1 || p.Number < 0 {
		return "", fmt.Errorf("%w: pageSize must be at least 1 and page at least 0, are %d and %d", ErrInvalid, p.Size, p.Number)
	}
	column, ok := columns[p.Sort]
	if !ok {
		return "", fmt.Errorf("%w: sortProperty %q is not one that this list sorts by", ErrInvalid, p.Sort)
	}
	direction := " ASC"
	if p.Desc {
		direction = " DESC"
	}
	return " ORDER BY " + column + direction + ", " + tieBreak + " ASC", nil
}

// page reads one page and counts all rows. Columns, tables and order come from the code, never from outside.
func (t *tx) page(columns, from string, where conditions, order string, p Page, scan func(row) error) (total int, err error) {
	if err := t.row(`SELECT count(*)`+from+where.where(), where.args...).Scan(&total); err != nil {
		return 0, err
	}
	size := min(p.Size, pageSizeMax)
	if total == 0 || p.Number > total/size {
		return total, nil
	}
	n := len(where.args)
	args := append(where.args, size, size*p.Number)
	limit := fmt.Sprintf(" LIMIT $%d OFFSET $%d", n+1, n+2)
	return total, t.each(`SELECT `+columns+from+where.where()+order+limit, args, scan)
}
