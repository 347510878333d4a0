package archive

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"

	"callchain/eventstore"
)

// littleFile is a backup with little in it.
func littleFile(t testing.TB) []byte {
	t.Helper()
	c := invented(2, 3)
	var out bytes.Buffer
	w, err := newWriter(&out, Header{Version: "v1", Database: "sqlite", Schema: map[string]int64{"callchain_schema": 3, "callchain_registry_schema": 1}})
	if err != nil {
		t.Fatal(err)
	}
	p := newProof(w, nil)
	if err := c.pour(context.Background(), p); err != nil {
		t.Fatal(err)
	}
	if _, err := p.finish(); err != nil {
		t.Fatal(err)
	}
	if err := w.end(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestEveryChangedByteIsFound, and every file that was cut off says where.
func TestEveryChangedByteIsFound(t *testing.T) {
	file := littleFile(t)
	if _, sum, err := Check(t.Context(), bytes.NewReader(file), nil); err != nil || sum.Events == 0 || sum.Digest == "" {
		t.Fatalf("the file itself: %+v, %v", sum, err)
	}
	for i := range file {
		changed := bytes.Clone(file)
		changed[i] ^= 0x40
		_, _, err := Check(t.Context(), bytes.NewReader(changed), nil)
		if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrFormat) {
			t.Fatalf("byte %d of %d was changed: %v", i, len(file), err)
		}
		if errors.Is(err, ErrDamaged) && !strings.Contains(err.Error(), "at byte ") {
			t.Fatalf("byte %d: it does not say where: %v", i, err)
		}
	}
	for n := 0; n < len(file); n += 5 {
		if _, _, err := Check(t.Context(), bytes.NewReader(file[:n]), nil); !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrFormat) {
			t.Fatalf("cut off after %d of %d bytes: %v", n, len(file), err)
		}
	}
	if _, _, err := Check(t.Context(), io.MultiReader(bytes.NewReader(file), strings.NewReader("x")), nil); !errors.Is(err, ErrDamaged) {
		t.Errorf("with something behind the end: %v", err)
	}
}

// blocks are the places where the blocks of a file begin, and where it ends.
func blocks(t testing.TB, file []byte) []int {
	t.Helper()
	at := []int{magicBytes}
	for last := magicBytes; last < len(file); at = append(at, last) {
		last += blockHead + int(binary.BigEndian.Uint32(file[last+1:]))
	}
	return at
}

// TestWholeBlocksThatAreMissingAreFound: each block by itself is right, which only the SHA-256 at the end and the counts tell.
func TestWholeBlocksThatAreMissingAreFound(t *testing.T) {
	file := littleFile(t)
	at := blocks(t, file)
	for i := 1; i+2 < len(at); i++ { // all but the header and the end
		without := append(bytes.Clone(file[:at[i]]), file[at[i+1]:]...)
		if _, _, err := Check(t.Context(), bytes.NewReader(without), nil); !errors.Is(err, ErrDamaged) {
			t.Errorf("without block %d: %v", i, err)
		}
		twice := append(bytes.Clone(file[:at[i+1]]), file[at[i]:]...)
		if _, _, err := Check(t.Context(), bytes.NewReader(twice), nil); err == nil {
			t.Errorf("with block %d twice it is taken", i)
		}
	}
}

// TestWhatANewerProgramWroteIsRefused by names.
func TestWhatANewerProgramWroteIsRefused(t *testing.T) {
	newer := littleFile(t)
	newer[len(magic)+1]++
	if _, _, err := Check(t.Context(), bytes.NewReader(newer), nil); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "format 2") {
		t.Errorf("a newer format: %v", err)
	}
	for _, table := range []*eventstore.Table{
		{Name: "weather", Columns: []eventstore.Column{{Name: "rain", Kind: eventstore.Int}}},
		{Name: "calls", Columns: []eventstore.Column{{Name: "tenant", Kind: eventstore.UUID}, {Name: "id", Kind: eventstore.UUID}, {Name: "colour", Kind: eventstore.Text}}},
		{Name: "calls", Columns: []eventstore.Column{{Name: "tenant", Kind: eventstore.Text}}},
	} {
		var out bytes.Buffer
		w, err := newWriter(&out, Header{})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(w.begin(table), w.end()); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Check(t.Context(), &out, nil); !errors.Is(err, eventstore.ErrNewer) {
			t.Errorf("table %v: %v", table, err)
		}
	}
	file := littleFile(t)
	to := folder(t)
	if _, err := Restore(t.Context(), bytes.NewReader(bytes.Replace(file, []byte(`"v1"`), []byte(`"v2"`), 1)), to, Options{}); !errors.Is(err, ErrDamaged) {
		t.Errorf("a changed header: %v", err)
	}
	_, err := fillWith(t.Context(), to, map[string]int64{"callchain_schema": 99, "callchain_registry_schema": 1}, Options{}, nil)
	if !errors.Is(err, eventstore.ErrNewer) {
		t.Errorf("a newer schema: %v", err)
	}
}

// FuzzReader: whatever the bytes are, they are read or refused, within bounds.
func FuzzReader(f *testing.F) {
	file := littleFile(f)
	f.Add(file)
	at := blocks(f, file)
	for i := range len(at) - 1 {
		f.Add(append(bytes.Clone(file[:magicBytes]), file[at[i]:at[i+1]]...))
	}
	f.Fuzz(func(t *testing.T, given []byte) {
		file := bytes.Clone(given)
		// Checksums would keep nearly everything away from what is behind them.
		for at := magicBytes; at+blockHead <= len(file); {
			size := int(binary.BigEndian.Uint32(file[at+1:]))
			if size > len(file)-at-blockHead {
				break
			}
			body := file[at+blockHead : at+blockHead+size]
			binary.BigEndian.PutUint32(file[at+5:], checksum(file[at:], body))
			at += blockHead + size
		}
		if _, sum, err := Check(t.Context(), bytes.NewReader(file), nil); err == nil && sum.Digest == "" {
			t.Errorf("it is taken, and nothing was proved: %+v", sum)
		}
	})
}

// FuzzRows takes rows apart without the compression around them.
func FuzzRows(f *testing.F) {
	for i := range tables() {
		f.Add(byte(i), []byte{1, 2, 0, 1, 5, 'h', 'e', 'l', 'l', 'o'})
	}
	f.Fuzz(func(t *testing.T, n byte, raw []byte) {
		table := tables()[int(n)%len(tables())]
		r := rowReader{columns: table.Columns, rest: raw}
		for len(r.rest) > 0 {
			row, err := r.next()
			if err != nil {
				return
			}
			var b batch
			b.table = table
			if err := b.decode(row); err != nil {
				return
			}
			var again []byte
			for _, v := range row {
				if again, err = appendValue(again, v); err != nil {
					t.Fatalf("what was read cannot be written: %v", err)
				}
			}
		}
	})
}
