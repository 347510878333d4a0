package replay_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"callchain/engine/projection"
	"callchain/engine/replay"
	"callchain/engine/rpc"
	"callchain/eventstore"
	"callchain/eventstore/memstore"
	"callchain/eventstore/pgtest"
	"callchain/eventstore/postgres"
	"callchain/eventstore/sqlite"

	"github.com/google/uuid"
)

const began = int64(1_795_428_000_000_000) // 2026-11-23T10:00:00Z in µs

func named(name string) uuid.UUID { return uuid.NewSHA1(uuid.NameSpaceOID, []byte(name)) }

// partitions of every history.
const partitions = 8

// stores are the two ways in which a log is read: in the order of commits, and partition by partition; the latter also from PostgreSQL, where
// there is one.
func stores(t *testing.T, test func(*testing.T, eventstore.Store)) {
	t.Run("sqlite", func(t *testing.T) { test(t, embedded(t)) })
	t.Run("memory", func(t *testing.T) { test(t, memstore.New()) })
	t.Run("postgres", func(t *testing.T) {
		s, err := postgres.Open(t.Context(), postgres.Options{URL: pgtest.Database(t)})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}()
		test(t, s)
	})
}

func embedded(t testing.TB) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(context.WithoutCancel(t.Context()), sqlite.Options{Path: filepath.Join(t.TempDir(), "events.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// history writes calls as their owner would: events and rows together.
type history struct {
	t     testing.TB
	store eventstore.Store
	at    map[int32]*eventstore.PartitionBatch
	calls map[uuid.UUID]*writtenCall
	now   int64
	rows  bool // they are written
}

// writtenCall is a call of the history.
type writtenCall struct {
	call projection.Call
	hash eventstore.Hash
}

func newHistory(t testing.TB, store eventstore.Store) *history {
	t.Helper()
	h := &history{t: t, store: store, at: map[int32]*eventstore.PartitionBatch{}, calls: map[uuid.UUID]*writtenCall{}, now: began, rows: true}
	all := make([]int32, partitions)
	for i := range all {
		all[i] = int32(i)
	}
	claimed, err := store.Claim(t.Context(), "history", all)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range claimed {
		h.at[c.Partition] = &eventstore.PartitionBatch{Expect: c, Next: c}
	}
	return h
}

// addFacts adds facts to a call; its id determines its partition.
func (h *history) addFacts(call uuid.UUID, facts ...rpc.Fact) {
	h.t.Helper()
	c := h.calls[call]
	if c == nil {
		c = &writtenCall{}
		h.calls[call] = c
	}
	p := h.at[int32(call[0]%partitions)]
	for _, f := range facts {
		h.now++
		data, err := rpc.AppendData(nil, f)
		if err != nil {
			h.t.Fatal(err)
		}
		p.Next.Seq++
		e := eventstore.Event{
			Stream: projection.CallStream(named("tenant"), call), Began: began, Version: c.call.Version + 1, Partition: p.Next.Partition, Seq: p.Next.Seq,
			Type: f.Name(), TypeVersion: rpc.DataVersion, At: h.now, Occurred: h.now, Tenant: named("tenant"), Device: named("device"),
			Actor: "user:5a1c0f5e-0000-4000-8000-000000000001", Cause: "rest", Data: data,
		}
		e.Hash = e.Digest(c.hash)
		c.hash = e.Hash
		p.Next.Head = eventstore.Link(p.Next.Head, e.Hash)
		p.Events = append(p.Events, e)
		c.call.Apply(&e, rpc.Event{Meta: rpc.Meta{At: rpc.Instant(e.At), Occurred: rpc.Instant(e.At)}, Call: call, Fact: f}, rpc.Settings{})
	}
	if h.rows && c.call.HasRow() {
		row, err := c.call.Row()
		if err != nil {
			h.t.Fatal(err)
		}
		p.Rows = append(p.Rows, row)
	}
}

// commit appends the facts since the last commit.
func (h *history) commit() {
	h.t.Helper()
	b := eventstore.Batch{ID: uuid.New()}
	for i := range int32(partitions) {
		if len(h.at[i].Events) > 0 || len(h.at[i].Rows) > 0 {
			b.Partitions = append(b.Partitions, *h.at[i])
			h.at[i] = &eventstore.PartitionBatch{Expect: h.at[i].Next, Next: h.at[i].Next}
		}
	}
	if fenced, err := h.store.Append(h.t.Context(), b); err != nil || len(fenced) > 0 {
		h.t.Fatalf("Append = %v, %v", fenced, err)
	}
}

// write puts a row in place of what is there; without values it removes the row.
func (h *history) write(call uuid.UUID, values []any) {
	h.t.Helper()
	row := eventstore.Row{Table: projection.Calls, Values: values}
	if values == nil {
		row.Delete, row.Values = true, []any{named("tenant"), call}
	}
	h.at[0].Rows = append(h.at[0].Rows, row)
	h.commit()
}

// values are those of a call's row as it must be.
func (h *history) values(call uuid.UUID) []any {
	h.t.Helper()
	row, err := h.calls[call].call.Row()
	if err != nil {
		h.t.Fatal(err)
	}
	return row.Values
}

// lives are calls of all kinds, each ended differently or not at all, interleaved with the others, some with facts beside their end.
func (h *history) lives(n int) {
	request := func(i int) rpc.Requested {
		return rpc.Requested{Method: "setGpio", Params: fmt.Appendf(nil, `{"pin":%d}`, i), Persistent: i%2 == 0, Expires: rpc.Instant(h.now + 60_000_000)}
	}
	end := func(i int) rpc.Fact {
		return []rpc.Fact{
			rpc.Succeeded{Response: rpc.NewPayload([]byte(` { "value": "é <1>" }`))},
			rpc.Failed{Code: rpc.CodeTimeout, Detail: "no \"ack\""},
			rpc.Expired{},
			rpc.Cancelled{},
			rpc.Succeeded{Response: rpc.NewPayload([]byte("not json"))},
		}[i%5]
	}
	id := func(i int) uuid.UUID { return named(fmt.Sprint("call ", i)) }
	for i := range n + 20 {
		if i < n {
			h.addFacts(id(i), request(i), rpc.Queued{Wire: int32(i)})
		}
		if i >= 10 && i < n+10 {
			h.addFacts(id(i-10), rpc.Sent{Session: named("session"), Attempt: 1, Ack: true})
		}
		if j := i - 20; j >= 0 && j%9 != 0 {
			h.addFacts(id(j), end(j))
			if j%7 == 0 {
				h.addFacts(id(j), rpc.AnsweredLate{Response: rpc.NewPayload([]byte("1"))}, rpc.Removed{})
			}
		}
		h.commit()
	}
}

// checked is Check's answer, with what it reported.
func (h *history) checked() (replay.Checked, []string) {
	h.t.Helper()
	var reports []string
	sum, err := replay.Check(h.t.Context(), h.store, replay.Options{Workers: 3, Page: 37}, func(d replay.Difference) { reports = append(reports, d.String()) })
	if err != nil {
		h.t.Fatal(err)
	}
	return sum, reports
}
