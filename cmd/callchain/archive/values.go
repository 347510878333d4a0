package archive

import (
	"encoding/binary"
	"errors"
	"fmt"

	"callchain/eventstore"

	"github.com/google/uuid"
)

// kindNames are the kinds of columns as the file calls them.
var kindNames = map[eventstore.Kind]string{
	eventstore.Int: "int", eventstore.Text: "text", eventstore.Bytes: "bytes", eventstore.UUID: "uuid", eventstore.JSON: "json", eventstore.Bool: "bool",
}

// The first byte of a value.
const (
	isNull  = 0
	isFalse = 1 // also: a value follows
	isTrue  = 2
)

// appendValue appends a value of a row; its Go type is that of the column's kind.
func appendValue(dst []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return append(dst, isNull), nil
	case bool:
		if v {
			return append(dst, isTrue), nil
		}
		return append(dst, isFalse), nil
	case int64:
		return binary.AppendVarint(append(dst, isFalse), v), nil
	case string:
		return append(binary.AppendUvarint(append(dst, isFalse), uint64(len(v))), v...), nil
	case []byte:
		return append(binary.AppendUvarint(append(dst, isFalse), uint64(len(v))), v...), nil
	case uuid.UUID:
		return append(append(dst, isFalse), v[:]...), nil
	}
	return dst, fmt.Errorf("%T is not the Go type of any kind of column", v)
}

var errValue = errors.New("the row does not follow the table's columns")

// rowReader takes rows apart.
type rowReader struct {
	columns []eventstore.Column
	rest    []byte
}

// next gives the next row; the caller looks whether there is a rest.
func (r *rowReader) next() ([]any, error) {
	row := make([]any, len(r.columns))
	for i, c := range r.columns {
		v, err := r.value(c.Kind)
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", c.Name, err)
		}
		row[i] = v
	}
	return row, nil
}

func (r *rowReader) value(k eventstore.Kind) (any, error) {
	mark, err := r.take(1)
	if err != nil {
		return nil, err
	}
	switch {
	case mark[0] == isNull:
		return nil, nil
	case k == eventstore.Bool && mark[0] <= isTrue:
		return mark[0] == isTrue, nil
	case mark[0] != isFalse:
		return nil, errValue
	}
	switch k {
	case eventstore.Int:
		n, used := binary.Varint(r.rest)
		if used <= 0 {
			return nil, errValue
		}
		r.rest = r.rest[used:]
		return n, nil
	case eventstore.UUID:
		b, err := r.take(16)
		if err != nil {
			return nil, err
		}
		return uuid.UUID(b), nil
	}
	n, used := binary.Uvarint(r.rest)
	if used <= 0 || n > blockMost {
		return nil, errValue
	}
	r.rest = r.rest[used:]
	b, err := r.take(int(n))
	if err != nil {
		return nil, err
	}
	if k == eventstore.Text {
		return string(b), nil
	}
	return append([]byte{}, b...), nil // the block's memory is used again
}

func (r *rowReader) take(n int) ([]byte, error) {
	if n > len(r.rest) {
		return nil, errValue
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b, nil
}
