// Package archive copies whole installations: into a file and back, and from one database into another. A copy is what a database holds
// as of one moment: the event log, the rows beside it, and the registry.
//
// The file has one form whatever the database was, so that what was saved of SQLite goes into PostgreSQL, too:
//
//	file   = "callchain backup" format(uint16) block…
//	block  = kind(byte) size(uint32) crc(uint32) body
//
// Numbers are big-endian; crc is CRC-32C over kind, size and body. The first block is the header (JSON), the last the end (JSON) with
// the SHA-256 of all bytes before it. Between them, each table is a block that names it and its columns (JSON), followed by blocks of rows,
// compressed with DEFLATE. A file that does not end with its end is cut off; nothing may follow.
package archive

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"
)

// Format is the version of the form that this program writes, and the newest that it reads.
const Format = 1

const magic = "callchain backup"

const (
	magicBytes = len(magic) + 2
	blockHead  = 9 // bytes before the body
	rowsEnough = 1 << 20
	// blockMost bounds a block, before and after compression: a row has some twenty columns of at most eventstore.MaxData, and nobody makes
	// one in which all are full.
	blockMost = 128 << 20
)

// kind is the first byte of a block.
type kind byte

const (
	kindHeader kind = 'H'
	kindTable  kind = 'T'
	kindRows   kind = 'R'
	kindEnd    kind = 'E'
)

var (
	// ErrDamaged: the file is cut off, or bytes of it were changed.
	ErrDamaged = errors.New("the backup is damaged")
	// ErrFormat: the file is no backup, or one of a newer program.
	ErrFormat = errors.New("this is no backup that this program can read")
)

// Header is the first block.
type Header struct {
	Created  time.Time        `json:"created"`  // when the copy was begun, by the clock of the machine that made it
	Version  string           `json:"version"`  // of the program
	Database string           `json:"database"` // "sqlite" or "postgres", where it came from
	Schema   map[string]int64 `json:"schema"`   // version by the name of the schema's table (package migrations)
}

// column is a column as a table's block tells it.
type column struct {
	Name string `json:"name"`
	Kind string `json:"kind"`
}

type tableBlock struct {
	Name    string   `json:"name"`
	Columns []column `json:"columns"`
}

type endBlock struct {
	SHA256 string           `json:"sha256"` // over all bytes of the file before this block
	Rows   map[string]int64 `json:"rows"`   // by table
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendHead appends what stands before a body.
func appendHead(dst []byte, k kind, body []byte) []byte {
	at := len(dst)
	dst = binary.BigEndian.AppendUint32(append(dst, byte(k)), uint32(len(body)))
	return binary.BigEndian.AppendUint32(dst, checksum(dst[at:], body))
}

// checksum is over the kind and the size, which stand at the beginning of head, and the body.
func checksum(head, body []byte) uint32 {
	return crc32.Update(crc32.Checksum(head[:blockHead-4], castagnoli), castagnoli, body)
}

// damaged says where.
func damaged(at int64, format string, args ...any) error {
	return fmt.Errorf("%w at byte %d: "+format, append([]any{ErrDamaged, at}, args...)...)
}
