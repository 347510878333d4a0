package archive

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"

	"callchain/eventstore"
	"callchain/eventstore/pgtest"

	"github.com/google/uuid"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func id(n int) uuid.UUID { return uuid.NewSHA1(uuid.NameSpaceOID, fmt.Append(nil, n)) }

// content is all that is in a database.
type content struct {
	checkpoints []eventstore.Checkpoint
	events      []eventstore.Event
	rows        map[string][][]any
}

// Checkpoints implements sink, as do Events and Rows.
func (c *content) Checkpoints(_ context.Context, list []eventstore.Checkpoint) error {
	c.checkpoints = append(c.checkpoints, list...)
	return nil
}

func (c *content) Events(_ context.Context, list []eventstore.Event) error {
	c.events = append(c.events, list...)
	return nil
}

func (c *content) Rows(_ context.Context, t *eventstore.Table, rows [][]any) error {
	c.rows[t.Name] = append(c.rows[t.Name], rows...)
	return nil
}

// text is the content in an order that no database chooses.
func (c *content) text(t *testing.T) string {
	t.Helper()
	slices.SortFunc(c.events, func(a, b eventstore.Event) int {
		return int(a.Partition-b.Partition)*1_000_000 + int(a.Seq-b.Seq)
	})
	var out []byte
	add := func(v any) {
		line, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out = append(append(out, line...), '\n')
	}
	for i := range c.checkpoints {
		add(c.checkpoints[i])
	}
	for i := range c.events {
		add(c.events[i])
	}
	for _, name := range slices.Sorted(maps.Keys(c.rows)) {
		var lines []string
		for _, row := range c.rows[name] {
			line, err := json.Marshal(row)
			if err != nil {
				t.Fatal(err)
			}
			lines = append(lines, name+" "+string(line)+"\n")
		}
		slices.Sort(lines)
		for _, l := range lines {
			out = append(out, l...)
		}
	}
	return string(out)
}

// invented makes content with everything that a column may hold: NULL, empty, the largest, letters of all kinds; and appends of several
// partitions.
func invented(partitions, appends int) *content {
	c := &content{rows: map[string][][]any{}}
	for p := range partitions {
		c.checkpoints = append(c.checkpoints, eventstore.Checkpoint{
			Partition: int32(p), Epoch: 1 << 40, Node: "node-ü", Indexed: 3, Relayed: 2, Append: id(appends - 1),
			Positions: [2]eventstore.Position{{Topic: id(7), Offset: 99}, {Topic: id(8), Offset: 1 << 50}},
		})
	}
	c.checkpoints = append(c.checkpoints, eventstore.Checkpoint{Partition: int32(partitions), Epoch: 1, Node: "idle"})
	heads := map[string]eventstore.Event{}
	for n := range appends {
		for p := range partitions {
			for k := range 1 + (n+p)%3 {
				c.events = append(c.events, c.event(heads, p, n, k))
			}
		}
	}
	for _, t := range rows() {
		c.rows[t.Name] = [][]any{inventedRow(t, false)}
	}
	for _, name := range []string{"calls", "attributes", "dead_letters", "traces", "devices_state"} {
		for _, t := range rows() {
			if t.Name == name {
				c.rows[name] = append(c.rows[name], inventedRow(t, true))
			}
		}
	}
	return c
}

// event is the next event of a partition; its stream began in another month for each partition.
func (c *content) event(heads map[string]eventstore.Event, p, n, k int) eventstore.Event {
	cp := &c.checkpoints[p]
	stream := fmt.Sprintf("rpc/%s/%s", id(1), id(1_000_000*(p+1)+n/2*10+k))
	if k == 2 {
		stream = fmt.Sprintf("window/c/n/%d-%d", p, n/2)
	}
	before := heads[stream]
	cp.Seq++
	began := int64(p)*40*24*3600*1e6 + 1_700_000_000_000_000
	e := eventstore.Event{
		Stream: stream, Began: began, Version: before.Version + 1, Partition: cp.Partition, Seq: cp.Seq, Type: "Queued", TypeVersion: 1, At: began + int64(n),
		Occurred: began + int64(n-k), Tenant: id(1), Actor: "user:é", Hops: int16(k), AppendID: id(n), Data: fmt.Appendf(nil, `{"n":%d.0,"x":"<&> ü"}`, n),
	}
	if k > 0 {
		e.Device, e.Trace, e.ChainVersion, e.KeyID, e.Cause = id(2), id(3), "c@1", "k", "rest"
	}
	e.Hash = e.Digest(before.Hash)
	cp.Head = eventstore.Link(cp.Head, e.Hash)
	heads[stream] = e
	return e
}

// inventedRow satisfies what refers to another table: every id is the same but where it may not be.
func inventedRow(t *eventstore.Table, sparse bool) []any {
	row := make([]any, len(t.Columns))
	for i, c := range t.Columns {
		if sparse && i >= t.Key {
			continue // NULL
		}
		switch c.Kind {
		case eventstore.Int:
			row[i] = int64(1)
		case eventstore.Text:
			row[i] = "a \"text\" ü " + c.Name
		case eventstore.Bytes:
			row[i] = []byte{0, 255, byte(i)}
		case eventstore.UUID:
			row[i] = id(1)
		case eventstore.JSON:
			row[i] = []byte(`{"a": 1.0, "b":[]}`)
		case eventstore.Bool:
			row[i] = true
		}
		if sparse && c.Kind == eventstore.UUID {
			row[i] = id(500)
		}
	}
	return row
}

// filled makes a database that holds the content.
func filled(t *testing.T, c *content, p Place) Place {
	t.Helper()
	schema := map[string]int64{}
	for _, s := range sets() {
		v, err := s.Newest(p.Dialect())
		if err != nil {
			t.Fatal(err)
		}
		schema[s.Table] = v
	}
	_, err := fillWith(t.Context(), p, schema, Options{}, func(p *proof) error { return c.pour(t.Context(), p) })
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (c *content) pour(ctx context.Context, p *proof) error {
	if err := p.Checkpoints(ctx, c.checkpoints); err != nil {
		return err
	}
	for _, t := range rows() {
		if err := p.Rows(ctx, t, c.rows[t.Name]); err != nil {
			return err
		}
	}
	return p.Events(ctx, c.events)
}

// held reads what a database holds.
func held(t *testing.T, p Place) *content {
	t.Helper()
	s, err := p.snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := &content{rows: map[string][][]any{}}
	if err := pour(t.Context(), s, c); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return c
}

func folder(t *testing.T) Place { return Place{Dir: t.TempDir()} }

func server(t *testing.T) Place { t.Helper(); return ParsePlace(pgtest.Database(t)) }

// saved makes a backup in memory.
func saved(t *testing.T, p Place) []byte {
	t.Helper()
	path := t.TempDir() + "/b"
	f, err := CreateFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, n, err := Backup(t.Context(), p, "v1", f, nil); err != nil {
		t.Fatal(err)
	} else if info, err := f.Stat(); err != nil || info.Size() == 0 || n == 0 || info.Mode().Perm() != 0o600 {
		t.Fatalf("wrote %d bytes, the file is %v, %v", n, info, err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
