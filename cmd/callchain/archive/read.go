package archive

import (
	"bufio"
	"bytes"
	"compress/flate"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"

	"callchain/eventstore"
)

// reader reads a file once, from the beginning. Its memory is that of one block.
type reader struct {
	from   *bufio.Reader
	sum    hash.Hash // of the blocks before the one at hand
	at     int64     // of the block at hand, or the next
	header Header
	body   bytes.Buffer
	raw    bytes.Buffer
	flate  io.ReadCloser // nil until the first rows
	table  *eventstore.Table
	count  map[string]int64
}

// newReader reads the beginning. Errors: ErrFormat, ErrDamaged, or what kept the file from being read.
func newReader(from io.Reader) (*reader, error) {
	r := &reader{from: bufio.NewReader(from), sum: sha256.New(), count: map[string]int64{}}
	begin := make([]byte, magicBytes)
	if _, err := io.ReadFull(r.from, begin); err != nil && !cut(err) {
		return nil, fmt.Errorf("reading the backup: %w", err)
	}
	if string(begin[:len(magic)]) != magic {
		return nil, fmt.Errorf("%w: it does not begin with %q", ErrFormat, magic)
	}
	if f := binary.BigEndian.Uint16(begin[len(magic):]); f != Format {
		return nil, fmt.Errorf("%w: it has format %d, this program reads %d: use the program that wrote it, or a newer one", ErrFormat, f, Format)
	}
	r.sum.Write(begin) // a hash never fails
	r.at = int64(magicBytes)
	k, body, err := r.block()
	if err != nil {
		return nil, err
	}
	if k != kindHeader || json.Unmarshal(body, &r.header) != nil {
		return nil, damaged(r.at, "the header cannot be read")
	}
	r.took(k, body)
	return r, nil
}

// cut tells whether the file ended.
func cut(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }

// place names what is being read.
func (r *reader) place() string {
	if r.table == nil {
		return "the header"
	}
	return fmt.Sprintf("table %s behind row %d", r.table.Name, r.count[r.table.Name])
}

// block reads the next block and compares its checksum; the body is valid until the next call.
func (r *reader) block() (kind, []byte, error) {
	var head [blockHead]byte
	if _, err := io.ReadFull(r.from, head[:]); err != nil {
		return 0, nil, r.broken(err)
	}
	size := binary.BigEndian.Uint32(head[1:])
	if size > blockMost {
		return 0, nil, damaged(r.at, "%s: a block of %d bytes cannot be", r.place(), size)
	}
	r.body.Reset()
	if _, err := io.CopyN(&r.body, r.from, int64(size)); err != nil { // grows with what is there: a wrong size takes no memory
		return 0, nil, r.broken(err)
	}
	if binary.BigEndian.Uint32(head[5:]) != checksum(head[:], r.body.Bytes()) {
		return 0, nil, damaged(r.at, "%s: bytes were changed (checksum of a block of %d bytes)", r.place(), size)
	}
	return kind(head[0]), r.body.Bytes(), nil
}

func (r *reader) broken(err error) error {
	if cut(err) {
		return damaged(r.at, "%s: the file ends within a block, or without its end: it was cut off", r.place())
	}
	return fmt.Errorf("reading the backup at byte %d: %w", r.at, err)
}

// took goes on behind a block.
func (r *reader) took(k kind, body []byte) {
	var head [blockHead]byte
	r.sum.Write(appendHead(head[:0], k, body)) // a hash never fails
	r.sum.Write(body)
	r.at += int64(blockHead + len(body))
}

// into hands everything to a sink. Errors: ErrDamaged, eventstore.ErrNewer if the file has tables or columns that this program does not
// know, the sink's.
func (r *reader) into(ctx context.Context, s sink) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		k, body, err := r.block()
		if err != nil {
			return err
		}
		switch k {
		case kindTable:
			err = r.begin(body)
		case kindRows:
			err = r.rows(ctx, body, s)
		case kindEnd:
			return r.end(body)
		default:
			err = damaged(r.at, "%s: there is no kind of block %q", r.place(), byte(k))
		}
		if err != nil {
			return err
		}
		r.took(k, body)
	}
}

// begin takes the table whose rows follow: of the columns that this program knows, those that were saved.
func (r *reader) begin(body []byte) error {
	var b tableBlock
	if err := json.Unmarshal(body, &b); err != nil {
		return damaged(r.at, "the name of a table cannot be read: %v", err)
	}
	var known *eventstore.Table
	for _, t := range tables() {
		if t.Name == b.Name {
			known = t
		}
	}
	if known == nil {
		return fmt.Errorf("the backup has a table %q, which this program does not know: %w", b.Name, eventstore.ErrNewer)
	}
	t := &eventstore.Table{Name: known.Name, Key: known.Key}
	for _, c := range b.Columns {
		at := -1
		for i, k := range known.Columns {
			if k.Name == c.Name && kindNames[k.Kind] == c.Kind {
				at = i
			}
		}
		if at < 0 {
			return fmt.Errorf("the backup has a column %q of %s in %s, which this program does not know: %w", c.Name, c.Kind, b.Name, eventstore.ErrNewer)
		}
		t.Columns = append(t.Columns, known.Columns[at])
	}
	if len(t.Columns) < known.Key || (known == events || known == checkpoints) && len(t.Columns) != len(known.Columns) {
		return damaged(r.at, "table %s lacks columns", b.Name)
	}
	for i, c := range t.Columns {
		if (i < known.Key || known == events || known == checkpoints) && c != known.Columns[i] {
			return damaged(r.at, "table %s has its columns in another order", b.Name)
		}
	}
	r.table = t
	return nil
}

// batchBytes and batchRows bound what a sink gets at once.
const (
	batchRows  = 1000
	batchBytes = rowsEnough
)

func (r *reader) rows(ctx context.Context, body []byte, s sink) error {
	if r.table == nil {
		return damaged(r.at, "rows without a table")
	}
	raw, err := r.inflate(body)
	if err != nil {
		return err
	}
	rows := rowReader{columns: r.table.Columns, rest: raw}
	b := batch{sink: s, table: r.table}
	for len(rows.rest) > 0 {
		before := len(rows.rest)
		row, err := rows.next()
		if err == nil {
			err = b.decode(row)
		}
		if err != nil {
			return damaged(r.at, "%s: %v", r.place(), err)
		}
		r.count[r.table.Name]++
		if err := b.added(ctx, before-len(rows.rest)); err != nil {
			return err
		}
	}
	return b.flush(ctx)
}

func (r *reader) inflate(body []byte) ([]byte, error) {
	if r.flate == nil {
		r.flate = flate.NewReader(bytes.NewReader(body))
	} else if err := r.flate.(flate.Resetter).Reset(bytes.NewReader(body), nil); err != nil {
		return nil, err
	}
	r.raw.Reset()
	switch n, err := io.Copy(&r.raw, io.LimitReader(r.flate, blockMost+1)); {
	case err != nil:
		return nil, damaged(r.at, "%s: rows cannot be decompressed: %v", r.place(), err)
	case n > blockMost:
		return nil, damaged(r.at, "%s: a block of more than %d bytes cannot be", r.place(), blockMost)
	}
	return r.raw.Bytes(), nil
}

// end compares what was read with what was written.
func (r *reader) end(body []byte) error {
	var e endBlock
	if err := json.Unmarshal(body, &e); err != nil {
		return damaged(r.at, "the end cannot be read: %v", err)
	}
	if is := hex.EncodeToString(r.sum.Sum(nil)); is != e.SHA256 {
		return damaged(r.at, "the SHA-256 of everything before is %s, written is %s: a part was changed, removed or added", is, e.SHA256)
	}
	if !maps.Equal(r.count, e.Rows) {
		return damaged(r.at, "there are other numbers of rows than were written")
	}
	if _, err := r.from.ReadByte(); err == nil {
		return damaged(r.at+int64(blockHead+len(body)), "something follows the end")
	}
	return nil
}
