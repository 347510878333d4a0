package eventstore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/google/uuid"
)

// MaxData is the largest Data of an event and the largest text or bytes of a row's column, in bytes.
const MaxData = 16 << 20

// Check finds what no store may store. A batch that contradicts itself (a gap in seq, a partition twice, an event of another
// partition, a row that does not fit its table) is a mistake of the caller and gives a plain error; data that cannot be kept (too large,
// not UTF-8, a NUL character, not JSON) gives a *RefusedError that names the event. Both stores call it before they touch the database,
// so that they refuse the same data.
func (b *Batch) Check() error {
	if b.ID == uuid.Nil {
		return errors.New("the batch has no id: give each batch a new one")
	}
	seen := make(map[int32]bool, len(b.Partitions))
	for i := range b.Partitions {
		p := &b.Partitions[i]
		if seen[p.Expect.Partition] {
			return fmt.Errorf("partition %d is in the batch twice: merge the two", p.Expect.Partition)
		}
		seen[p.Expect.Partition] = true
		if err := p.check(); err != nil {
			return fmt.Errorf("partition %d: %w", p.Expect.Partition, err)
		}
	}
	return nil
}

func (p *PartitionBatch) check() error {
	e, n := &p.Expect, &p.Next
	if n.Partition != e.Partition || n.Epoch != e.Epoch {
		return fmt.Errorf("next is of partition %d, epoch %d: an append changes neither", n.Partition, n.Epoch)
	}
	if want := e.Seq + int64(len(p.Events)); n.Seq != want {
		return fmt.Errorf("next seq is %d, %d events after seq %d give %d", n.Seq, len(p.Events), e.Seq, want)
	}
	for i := range p.Events {
		if err := p.Events[i].check(e.Partition, e.Seq+int64(i)+1); err != nil {
			return err
		}
	}
	for i := range p.Rows {
		if err := p.Rows[i].check(); err != nil {
			return err
		}
	}
	return nil
}

func (e *Event) check(partition int32, seq int64) error {
	if e.Partition != partition || e.Seq != seq {
		return fmt.Errorf("event %s/%d says partition %d, seq %d; its place is seq %d", e.Stream, e.Version, e.Partition, e.Seq, seq)
	}
	if e.Stream == "" || e.Version < 1 {
		return fmt.Errorf("event at seq %d is of stream %q, version %d: versions begin at 1", seq, e.Stream, e.Version)
	}
	for _, s := range [...]string{e.Stream, e.Type, e.Actor, e.Cause, e.ChainVersion, e.KeyID} {
		if err := checkText(s); err != nil {
			return &RefusedError{Err: fmt.Errorf("event %s/%d: %w", e.Stream, e.Version, err)}
		}
	}
	if err := checkJSON(e.Data); err != nil {
		return &RefusedError{Err: fmt.Errorf("event %s/%d: %w", e.Stream, e.Version, err)}
	}
	return nil
}

// check compares a row with its table.
func (r *Row) check() error {
	columns := r.Table.Columns
	if r.Delete {
		columns = columns[:r.Table.Key]
	}
	if len(r.Values) != len(columns) {
		return fmt.Errorf("row of %s has %d values, want %d", r.Table.Name, len(r.Values), len(columns))
	}
	for i, c := range columns {
		if r.Values[i] == nil {
			if i < r.Table.Key {
				return fmt.Errorf("row of %s: the key's column %s is NULL", r.Table.Name, c.Name)
			}
			continue
		}
		if err := c.Check(r.Values[i]); err != nil {
			var refused *RefusedError
			if errors.As(err, &refused) {
				return &RefusedError{Err: fmt.Errorf("row of %s: column %s: %w", r.Table.Name, c.Name, refused.Err)}
			}
			return fmt.Errorf("row of %s: column %s: %w", r.Table.Name, c.Name, err)
		}
	}
	return nil
}

// Check tells whether a value that is not nil may stand in the column: a plain error if its Go type is not the kind's, a
// *RefusedError if it cannot be stored.
func (c Column) Check(value any) error {
	switch v := value.(type) {
	case int64:
		return c.want(Int)
	case bool:
		return c.want(Bool)
	case uuid.UUID:
		return c.want(UUID)
	case string:
		if err := c.want(Text); err != nil {
			return err
		}
		return refuse(checkText(v))
	case []byte:
		if c.Kind == JSON {
			return refuse(checkJSON(v))
		}
		if err := c.want(Bytes); err != nil {
			return err
		}
		return refuse(checkSize(len(v)))
	}
	return fmt.Errorf("%T is not the Go type of any kind of column", value)
}

func (c Column) want(k Kind) error {
	if c.Kind != k {
		return fmt.Errorf("the value is of kind %d, the column of kind %d", k, c.Kind)
	}
	return nil
}

func refuse(err error) error {
	if err == nil {
		return nil
	}
	return &RefusedError{Err: err}
}

var (
	errNotUTF8 = errors.New("text is not UTF-8")
	errNUL     = errors.New("text holds a NUL character")
	errNotJSON = errors.New("data is not JSON")
)

func checkSize(n int) error {
	if n > MaxData {
		return fmt.Errorf("%d bytes are more than the %d that can be stored", n, MaxData)
	}
	return nil
}

func checkText(s string) error {
	if err := checkSize(len(s)); err != nil {
		return err
	}
	if !utf8.ValidString(s) {
		return errNotUTF8
	}
	for i := range len(s) {
		if s[i] == 0 {
			return errNUL
		}
	}
	return nil
}

func checkJSON(b []byte) error {
	if err := checkSize(len(b)); err != nil {
		return err
	}
	if !utf8.Valid(b) {
		return errNotUTF8
	}
	if bytes.IndexByte(b, 0) >= 0 {
		return errNUL
	}
	if !json.Valid(b) {
		return errNotJSON
	}
	return nil
}
