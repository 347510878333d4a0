package postgres

import (
	"encoding/binary"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"

	"callchain/eventstore"
)

// array is a one-dimensional array parameter in PostgreSQL's binary format (array_recv in the server's arrayfuncs.c): number of dimensions, a flag for
// NULLs, the element's type, length, lower bound, and each element after its length. Written by hand it costs a third of what the driver's general
// encoding does, and a batch has some 8,000 elements.
type array struct {
	oid   uint32
	buf   []byte
	n     uint32
	nulls uint32
}

const arrayHeader = 20 // bytes

// The element types that columns have.
var typeNames = map[uint32]string{
	pgtype.Int2OID: "int2", pgtype.Int4OID: "int4", pgtype.Int8OID: "int8", pgtype.TextOID: "text", pgtype.ByteaOID: "bytea",
	pgtype.UUIDOID: "uuid", pgtype.JSONOID: "json", pgtype.BoolOID: "bool",
}

func newArray(oid uint32, elements, size int) *array {
	return &array{oid: oid, buf: make([]byte, arrayHeader, arrayHeader+elements*(4+size))}
}

func (a *array) finish() []byte {
	head := a.buf[:0]
	if a.n == 0 {
		head = binary.BigEndian.AppendUint32(head, 0) // an empty array has no dimension
		head = binary.BigEndian.AppendUint32(head, 0)
		return binary.BigEndian.AppendUint32(head, a.oid)
	}
	head = binary.BigEndian.AppendUint32(head, 1)
	head = binary.BigEndian.AppendUint32(head, a.nulls)
	head = binary.BigEndian.AppendUint32(head, a.oid)
	head = binary.BigEndian.AppendUint32(head, a.n)
	binary.BigEndian.AppendUint32(head, 1)
	return a.buf
}

func (a *array) length(n int) {
	a.n++
	a.buf = binary.BigEndian.AppendUint32(a.buf, uint32(n))
}

func (a *array) null() {
	a.n++
	a.nulls = 1
	a.buf = binary.BigEndian.AppendUint32(a.buf, 0xffffffff)
}

func (a *array) bytes(b []byte) { a.length(len(b)); a.buf = append(a.buf, b...) }
func (a *array) text(s string)  { a.length(len(s)); a.buf = append(a.buf, s...) }
func (a *array) int8(n int64)   { a.length(8); a.buf = binary.BigEndian.AppendUint64(a.buf, uint64(n)) }

func (a *array) int4(n int32) { a.length(4); a.buf = binary.BigEndian.AppendUint32(a.buf, uint32(n)) }

func (a *array) int2(n int16) { a.length(2); a.buf = binary.BigEndian.AppendUint16(a.buf, uint16(n)) }

func (a *array) bool(b bool) {
	a.length(1)
	if b {
		a.buf = append(a.buf, 1)
	} else {
		a.buf = append(a.buf, 0)
	}
}

// optional is NULL for the zero value.
func (a *array) optional(b [16]byte) {
	if b == [16]byte{} {
		a.null()
		return
	}
	a.bytes(b[:])
}

// value appends the value of a checked row.
func (a *array) value(v any) {
	switch v := v.(type) {
	case nil:
		a.null()
	case int64:
		a.int8(v)
	case string:
		a.text(v)
	case []byte:
		a.bytes(v)
	case uuid.UUID:
		a.bytes(v[:])
	case bool:
		a.bool(v)
	}
}

func oidOf(k eventstore.Kind) uint32 {
	switch k {
	case eventstore.Int:
		return pgtype.Int8OID
	case eventstore.Bytes:
		return pgtype.ByteaOID
	case eventstore.UUID:
		return pgtype.UUIDOID
	case eventstore.JSON:
		return pgtype.JSONOID
	case eventstore.Bool:
		return pgtype.BoolOID
	case eventstore.Text:
	}
	return pgtype.TextOID
}

// request is a statement that grows together with its parameters.
type request struct {
	sql    strings.Builder
	params [][]byte
}

// unnest writes unnest($n::type[], …) AS alias(columns), a table with a row for each element.
func (r *request) unnest(alias, columns string, arrays ...*array) {
	r.sql.WriteString("unnest(")
	for i, a := range arrays {
		if i > 0 {
			r.sql.WriteString(", ")
		}
		r.params = append(r.params, a.finish())
		r.sql.WriteString("$" + strconv.Itoa(len(r.params)) + "::" + typeNames[a.oid] + "[]")
	}
	r.sql.WriteString(") AS " + alias + "(" + columns + ")")
}
