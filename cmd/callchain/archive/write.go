package archive

import (
	"bytes"
	"compress/flate"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"

	"callchain/eventstore"
)

// sink takes a copy: checkpoints first, then the rows of one table after the other, then the events.
type sink interface {
	Checkpoints(ctx context.Context, list []eventstore.Checkpoint) error
	Events(ctx context.Context, list []eventstore.Event) error
	Rows(ctx context.Context, t *eventstore.Table, rows [][]any) error
}

// writer is a sink that writes the file.
type writer struct {
	to    io.Writer
	sum   hash.Hash
	table *eventstore.Table // whose rows are in raw
	raw   []byte
	small bytes.Buffer
	flate *flate.Writer
	head  []byte
	count map[string]int64
	bytes int64
}

var _ sink = (*writer)(nil)

// newWriter writes the beginning.
func newWriter(to io.Writer, h Header) (*writer, error) {
	w := &writer{to: to, sum: sha256.New(), count: map[string]int64{}}
	var err error
	if w.flate, err = flate.NewWriter(&w.small, flate.BestSpeed); err != nil {
		return nil, err
	}
	if err := w.put(binary.BigEndian.AppendUint16([]byte(magic), Format)); err != nil {
		return nil, err
	}
	return w, w.json(kindHeader, h)
}

func (w *writer) put(b []byte) error {
	w.sum.Write(b) // a hash never fails
	n, err := w.to.Write(b)
	w.bytes += int64(n)
	if err != nil {
		return fmt.Errorf("writing the backup: %w", err)
	}
	return nil
}

func (w *writer) block(k kind, body []byte) error {
	if len(body) > blockMost {
		return fmt.Errorf("writing the backup: %d bytes are too large for a block", len(body))
	}
	w.head = appendHead(w.head[:0], k, body)
	if err := w.put(w.head); err != nil {
		return err
	}
	return w.put(body)
}

func (w *writer) json(k kind, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return w.block(k, body)
}

// begin names the table whose rows follow.
func (w *writer) begin(t *eventstore.Table) error {
	if w.table == t {
		return nil
	}
	if err := w.flush(); err != nil {
		return err
	}
	w.table = t
	b := tableBlock{Name: t.Name}
	for _, c := range t.Columns {
		b.Columns = append(b.Columns, column{c.Name, kindNames[c.Kind]})
	}
	return w.json(kindTable, b)
}

func (w *writer) row(t *eventstore.Table, row []any) (err error) {
	for i, v := range row {
		if w.raw, err = appendValue(w.raw, v); err != nil {
			return fmt.Errorf("writing a row of %s: column %s: %w", t.Name, t.Columns[i].Name, err)
		}
	}
	w.count[t.Name]++
	if len(w.raw) < rowsEnough {
		return nil
	}
	return w.flush()
}

// flush writes the rows in hand as a block.
func (w *writer) flush() error {
	if len(w.raw) == 0 {
		return nil
	}
	w.small.Reset()
	w.flate.Reset(&w.small)
	if _, err := w.flate.Write(w.raw); err != nil {
		return err
	}
	if err := w.flate.Close(); err != nil {
		return err
	}
	if len(w.raw) > blockMost {
		return fmt.Errorf("writing the backup: a row of %s takes %d bytes", w.table.Name, len(w.raw))
	}
	w.raw = w.raw[:0]
	return w.block(kindRows, w.small.Bytes())
}

// Checkpoints implements sink.
func (w *writer) Checkpoints(_ context.Context, list []eventstore.Checkpoint) error {
	if err := w.begin(checkpoints); err != nil {
		return err
	}
	for i := range list {
		if err := w.row(checkpoints, checkpointRow(&list[i])); err != nil {
			return err
		}
	}
	return nil
}

// Events implements sink.
func (w *writer) Events(_ context.Context, list []eventstore.Event) error {
	if err := w.begin(events); err != nil {
		return err
	}
	for i := range list {
		if err := w.row(events, eventRow(&list[i])); err != nil {
			return err
		}
	}
	return nil
}

// Rows implements sink.
func (w *writer) Rows(_ context.Context, t *eventstore.Table, rows [][]any) error {
	if err := w.begin(t); err != nil {
		return err
	}
	for _, row := range rows {
		if err := w.row(t, row); err != nil {
			return err
		}
	}
	return nil
}

// end writes the last block.
func (w *writer) end() error {
	if err := w.flush(); err != nil {
		return err
	}
	return w.json(kindEnd, endBlock{SHA256: hex.EncodeToString(w.sum.Sum(nil)), Rows: w.count})
}
