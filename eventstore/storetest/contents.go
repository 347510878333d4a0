package storetest

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"callchain/eventstore"
)

// conflictLeavesNothing: one stream of many exists already; nothing of the batch is stored, not even for other partitions.
func conflictLeavesNothing(t testing.TB, at Site) {
	s := at.Open()
	a, b := Claim(t, s, 1), Claim(t, s, 2)
	taken := []string{CallStream(), "window/c/n/x"}
	a.Append(t, s, taken...)
	p, q := a.Batch("device/a"), b.Batch(append(CallStreams(30), taken...)...)
	q.Rows = []eventstore.Row{at.value("k", `1`)}
	_, err := s.Append(t.Context(), Of(NewID(), p, q))
	wantConflict(t, err, taken...)
	wantCheckpoint(t, s, a.Mine)
	wantCheckpoint(t, s, b.Mine)
	wantPartition(t, s, 2, nil)
	at.wantNoValues(t, s)

	// The store is as good as before, and a batch that conflicts with itself is refused the same way.
	again := CallStream()
	q = b.Batch(again)
	twin := Event(2, 2, again, nil)
	q.Events, q.Next.Seq = append(q.Events, twin), 2
	_, err = s.Append(t.Context(), Of(NewID(), q))
	wantConflict(t, err, again)
	b.Append(t, s, again)
}

func wantConflict(t testing.TB, err error, streams ...string) {
	t.Helper()
	slices.Sort(streams)
	var conflict *eventstore.ConflictError
	if !errors.As(err, &conflict) || !slices.Equal(conflict.Streams, streams) {
		t.Fatalf("Append ends with %v, want a conflict over %v", err, streams)
	}
}

// streamBeginsInAnotherMonth: a database that keeps months apart must still see the conflict.
func streamBeginsInAnotherMonth(t testing.TB, at Site) {
	s := at.Open()
	w := Claim(t, s, 1)
	stream := CallStream()
	w.Append(t, s, stream)
	p := Claim(t, s, 2).Batch(stream)
	const year = 366 * 24 * 3600 * 1_000_000
	p.Events[0].Began += year
	p.Events[0].At += year
	_, err := s.Append(t.Context(), Of(NewID(), p))
	wantConflict(t, err, stream)
	events, err := s.Stream(t.Context(), stream, 0, 10)
	if err != nil || len(events) != 1 {
		t.Errorf("the stream has %d events (%v), want 1", len(events), err)
	}
}

// refusedDataLeavesNothing: what one store cannot keep, none keeps.
func refusedDataLeavesNothing(t testing.TB, at Site) {
	s := at.Open()
	a, b := Claim(t, s, 1), Claim(t, s, 2)
	for name, spoil := range map[string]func(e *eventstore.Event){
		"not UTF-8":       func(e *eventstore.Event) { e.Data = []byte("{\"a\":\"\xff\"}") },
		"a NUL character": func(e *eventstore.Event) { e.Data = []byte("{\"a\":\"\x00\"}") },
		"not JSON":        func(e *eventstore.Event) { e.Data = []byte(`{"a":}`) },
		"empty":           func(e *eventstore.Event) { e.Data = nil },
		"too large":       func(e *eventstore.Event) { e.Data = []byte(`"` + strings.Repeat("x", eventstore.MaxData) + `"`) },
		"NUL in a text":   func(e *eventstore.Event) { e.Actor = "user:\x00" },
	} {
		p, q := a.Batch("device/a"), b.Batch(CallStreams(20)...)
		p.Rows = []eventstore.Row{at.value("k", `1`)}
		spoil(&q.Events[13])
		_, err := s.Append(t.Context(), Of(NewID(), p, q))
		wantRefused(t, name, err)
	}
	p := a.Batch("device/a")
	p.Rows = []eventstore.Row{at.value("k", `1`), at.value("k", "{")}
	_, err := s.Append(t.Context(), Of(NewID(), p))
	wantRefused(t, "a row that is not JSON", err)
	for _, w := range []*Writer{a, b} {
		wantCheckpoint(t, s, w.Mine)
		wantPartition(t, s, w.Mine.Partition, nil)
	}
	at.wantNoValues(t, s)
	// An escaped NUL is good JSON.
	p = a.Batch("device/a")
	p.Events[0].Data = []byte(`{"a":"\u0000 \ud800"}`)
	if _, err := s.Append(t.Context(), Of(NewID(), p)); err != nil {
		t.Fatalf("Append of an escaped NUL: %v", err)
	}
	wantPartition(t, s, 1, p.Events)
}

func wantRefused(t testing.TB, name string, err error) {
	t.Helper()
	var refused *eventstore.RefusedError
	if !errors.As(err, &refused) {
		t.Errorf("%s: Append ends with %v, want a refusal", name, err)
	}
}

// contradictoryBatch: mistakes of the caller are told, not stored.
func contradictoryBatch(t testing.TB, at Site) {
	s := at.Open()
	w := Claim(t, s, 1)
	for name, spoil := range map[string]func(b *eventstore.Batch){
		"no id":             func(b *eventstore.Batch) { b.ID = uuid.Nil },
		"a partition twice": func(b *eventstore.Batch) { b.Partitions = append(b.Partitions, b.Partitions[0]) },
		"another partition": func(b *eventstore.Batch) { b.Partitions[0].Events[0].Partition = 2 },
		"a gap":             func(b *eventstore.Batch) { b.Partitions[0].Events[1].Seq++ },
		"a seq ahead":       func(b *eventstore.Batch) { b.Partitions[0].Next.Seq++ },
		"another epoch":     func(b *eventstore.Batch) { b.Partitions[0].Next.Epoch++ },
		"version 0":         func(b *eventstore.Batch) { b.Partitions[0].Events[0].Version = 0 },
		"a short row": func(b *eventstore.Batch) {
			row := at.value("k", `1`)
			row.Values = row.Values[1:]
			b.Partitions[0].Rows = []eventstore.Row{row}
		},
		"a value of another kind": func(b *eventstore.Batch) {
			row := at.value("k", `1`)
			row.Values[4] = "text"
			b.Partitions[0].Rows = []eventstore.Row{row}
		},
		"a key that is NULL": func(b *eventstore.Batch) {
			row := at.value("k", `1`)
			row.Values[1] = nil
			b.Partitions[0].Rows = []eventstore.Row{row}
		},
	} {
		batch := Of(NewID(), w.Batch("device/a", "device/b"))
		spoil(&batch)
		if _, err := s.Append(t.Context(), batch); err == nil {
			t.Errorf("%s: Append stores it, want an error", name)
		}
	}
	wantPartition(t, s, 1, nil)
	wantCheckpoint(t, s, w.Mine)
}

// claimsGrowEpochs: each claim adds one, keeps what was stored, and answers sorted by partition.
func claimsGrowEpochs(t testing.TB, at Site) {
	s := at.Open()
	w := Claim(t, s, 2)
	w.Append(t, s, "device/a")
	got, err := s.Claim(t.Context(), "other", []int32{9, 2, 0})
	if err != nil || len(got) != 3 {
		t.Fatalf("Claim = %v, %v", got, err)
	}
	want := []eventstore.Checkpoint{{Partition: 0, Epoch: 1, Node: "other"}, w.Mine, {Partition: 9, Epoch: 1, Node: "other"}}
	want[1].Epoch, want[1].Node = 2, "other"
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("Claim gives\n%+v, want\n%+v", got[i], want[i])
		}
		wantCheckpoint(t, s, want[i])
	}
	if fenced, err := s.Append(t.Context(), Of(NewID(), w.Batch("device/a"))); err != nil || !slices.Equal(fenced, []int32{2}) {
		t.Errorf("Append with an older epoch = %v, %v, want fenced", fenced, err)
	}
	ahead := Writer{Mine: want[0]}
	ahead.Mine.Epoch = 2
	if fenced, err := s.Append(t.Context(), Of(NewID(), ahead.Batch("device/c"))); err != nil || !slices.Equal(fenced, []int32{0}) {
		t.Errorf("Append with an epoch that nobody claimed = %v, %v, want fenced", fenced, err)
	}
	unclaimed := Writer{Mine: eventstore.Checkpoint{Partition: 40, Epoch: 1}}
	if fenced, err := s.Append(t.Context(), Of(NewID(), unclaimed.Batch("device/d"))); err != nil || !slices.Equal(fenced, []int32{40}) {
		t.Errorf("Append to a partition that nobody claimed = %v, %v, want fenced", fenced, err)
	}
}

func checkpointsComeBack(t testing.TB, at Site) {
	s := at.Open()
	if all, err := s.Checkpoints(t.Context()); err != nil || len(all) != 0 {
		t.Fatalf("Checkpoints of an empty store = %v, %v", all, err)
	}
	w := Claim(t, s, math.MaxInt32)
	p := w.Batch("device/a")
	p.Next.Positions = [eventstore.Lanes]eventstore.Position{{Topic: NewID(), Offset: math.MaxInt64}, {Topic: NewID(), Offset: 5}}
	p.Next.Indexed, p.Next.Relayed, p.Next.Node = 1, math.MaxInt64, "née"
	id := NewID()
	if _, err := s.Append(t.Context(), Of(id, p)); err != nil {
		t.Fatal(err)
	}
	want := p.Next
	want.Append = id
	wantCheckpoint(t, at.Open(), want)
}

// eventsComeBack: every field at its limits, in a stream and in its partition.
func eventsComeBack(t testing.TB, at Site) {
	s := at.Open()
	w := Claim(t, s, 63)
	streams := []string{
		CallStream(), "device/" + NewID().String(), "device/" + NewID().String() + "/12", "run/" + NewID().String(), "system/63",
		"window/chain/node/" + strings.Repeat("ü", 60), "rpc/NOT-CANONICAL/" + strings.ToUpper(NewID().String()),
	}
	p := w.Batch(append(streams, streams[0], streams[1])...)
	p.Events[0].Data = []byte("{ \"b\" : 1.0e3,\t\"a\":\"\\u00e4ä\U0001F600\", \"b\": null }\n")
	e := &p.Events[1]
	e.TypeVersion, e.At, e.Occurred, e.Hops = math.MaxInt16, math.MaxInt64, math.MinInt64, math.MaxInt16
	e.Tenant, e.Device, e.Actor, e.Cause = uuid.Nil, uuid.Nil, "", ""
	e.Trace, e.ChainVersion, e.KeyID = [16]byte{1, 15: 255}, "root@7", "key-1"
	p.Events[2].Occurred, p.Events[2].At = 0, 0
	p.Events[3].Data = []byte(`{}`)
	id := NewID()
	if _, err := s.Append(t.Context(), Of(id, p)); err != nil {
		t.Fatal(err)
	}
	wantPartition(t, s, 63, p.Events)
	for _, stream := range streams {
		var want []eventstore.Event
		for _, e := range p.Events {
			if e.Stream == stream {
				e.AppendID = id
				want = append(want, e)
			}
		}
		got, err := s.Stream(t.Context(), stream, 0, 100)
		if err != nil || len(got) != len(want) {
			t.Fatalf("Stream(%s) = %d events, %v, want %d", stream, len(got), err, len(want))
		}
		for i := range got {
			wantEvent(t, got[i], want[i])
			if got[i].AppendID != id {
				t.Errorf("the append's id came back as %s, want %s", got[i].AppendID, id)
			}
		}
	}
}

func readsArePaged(t testing.TB, at Site) {
	s := at.Open()
	w := Claim(t, s, 1)
	for range 4 {
		w.Append(t, s, "device/a", "device/b", "device/a")
	}
	for _, c := range []struct {
		after int64
		limit int
		want  []int64
	}{{0, 3, []int64{1, 2, 3}}, {6, 100, []int64{7, 8}}, {8, 5, nil}, {100, 5, nil}, {0, 0, nil}} {
		events, err := s.Stream(t.Context(), "device/a", c.after, c.limit)
		var got []int64
		for _, e := range events {
			got = append(got, e.Version)
		}
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("Stream(after %d, limit %d) = %v, %v, want %v", c.after, c.limit, got, err, c.want)
		}
	}
	for after := range int64(13) {
		events, err := s.Partition(t.Context(), 1, after, 4)
		if err != nil || len(events) != int(min(4, 12-after)) || len(events) > 0 && events[0].Seq != after+1 {
			t.Errorf("Partition(after %d) = %d events, %v", after, len(events), err)
		}
	}
	if events, err := s.Stream(t.Context(), "device/nobody", 0, 5); err != nil || len(events) > 0 {
		t.Errorf("Stream of no events = %v, %v", events, err)
	}
	if events, err := s.Partition(t.Context(), 2, 0, 5); err != nil || len(events) > 0 {
		t.Errorf("Partition of no events = %v, %v", events, err)
	}
}

// pagesAreBounded: a page ends behind the event with which its data reaches the bytes, so that each has one event at least.
func pagesAreBounded(t testing.TB, at Site) {
	s := at.Open()
	w := Claim(t, s, 1)
	w.Append(t, s, CallStreams(12)...)
	all := readPartition(t, s, 1)
	size := len(all[0].Data) // all are alike
	for _, c := range []struct{ after, limit, bytes, want int }{
		{0, 100, 100 * size, 12}, {0, 5, 100 * size, 5}, {0, 100, 0, 1}, {3, 100, 2*size - 1, 2}, {3, 100, 2 * size, 3}, {11, 100, 1, 1}, {12, 100, 1, 0},
	} {
		page, err := s.Page(t.Context(), 1, int64(c.after), c.limit, c.bytes)
		if err != nil || len(page) != c.want || len(page) > 0 && (page[0].Seq != int64(c.after)+1 || page[len(page)-1].Seq != int64(c.after+c.want)) {
			t.Errorf("Page(after %d, limit %d, bytes %d of %d each) = %d events, %v, want %d", c.after, c.limit, c.bytes, size, len(page), err, c.want)
		}
	}
	if page, err := s.Page(t.Context(), 2, 0, 5, 5); err != nil || len(page) > 0 {
		t.Errorf("Page of no events = %v, %v", page, err)
	}
}

func cancelledContext(t testing.TB, at Site) {
	s := at.Open()
	w := Claim(t, s, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Append(ctx, Of(NewID(), w.Batch("device/a"))); !errors.Is(err, context.Canceled) {
		t.Errorf("Append = %v, want the context's error", err)
	}
	if _, err := s.Claim(ctx, "n", []int32{1}); !errors.Is(err, context.Canceled) {
		t.Errorf("Claim = %v, want the context's error", err)
	}
	if _, err := s.Partition(ctx, 1, 0, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("Partition = %v, want the context's error", err)
	}
	wantCheckpoint(t, s, w.Mine)
	w.Append(t, s, "device/a")
}

func exclusiveRefusesSecond(t testing.TB, at Site) {
	first, second := at.Open(), at.Open()
	if err := first.Exclusive(t.Context()); err != nil {
		t.Fatalf("Exclusive: %v", err)
	}
	if err := first.Exclusive(t.Context()); err != nil {
		t.Errorf("Exclusive by its holder: %v", err)
	}
	if err := second.Exclusive(t.Context()); !errors.Is(err, eventstore.ErrInUse) {
		t.Errorf("Exclusive by another = %v, want ErrInUse", err)
	}
	Claim(t, first, 1).Append(t, first, "device/a")
	if err := first.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	if err := second.Exclusive(t.Context()); err != nil {
		t.Errorf("Exclusive after the holder closed: %v", err)
	}
}

func sizePingClose(t testing.TB, at Site) {
	s := at.Open()
	Claim(t, s, 1).Append(t, s, CallStreams(50)...)
	if n, err := s.Size(t.Context()); err != nil || n < 50*300 {
		t.Errorf("Size = %d, %v, want at least the data", n, err)
	}
	if err := s.Ping(t.Context()); err != nil {
		t.Errorf("Ping: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close again: %v", err)
	}
	if _, err := s.Claim(t.Context(), "n", []int32{1}); err == nil {
		t.Error("Claim works after Close")
	}
	if _, err := s.Partition(t.Context(), 1, 0, 1); err == nil {
		t.Error("Partition works after Close")
	}
	wantLen := len(readPartition(t, at.Open(), 1))
	if wantLen != 50 {
		t.Errorf("another store finds %d events, want 50", wantLen)
	}
}
