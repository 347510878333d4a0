package storetest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"callchain/eventstore"
)

// Start is the time of the first made-up event: 2026-11-23T10:00:00Z in µs.
const Start = int64(1_795_428_000_000_000)

// Writer makes batches for one partition as its owner would: versions, seqs, hashes and the head of the chain are right.
type Writer struct {
	Mine  eventstore.Checkpoint // as of the last append
	heads map[string]*eventstore.Event
}

// Claim claims a partition and gives a writer that knows what was stored, but no stream.
func Claim(t testing.TB, s eventstore.Store, partition int32) *Writer {
	t.Helper()
	got, err := s.Claim(t.Context(), "node of "+t.Name(), []int32{partition})
	if err != nil || len(got) != 1 {
		t.Fatalf("Claim(%d) = %v, %v", partition, got, err)
	}
	return &Writer{Mine: got[0], heads: map[string]*eventstore.Event{}}
}

// Batch makes the next event of each stream; a stream named twice gets two.
func (w *Writer) Batch(streams ...string) eventstore.PartitionBatch {
	p := eventstore.PartitionBatch{Expect: w.Mine, Next: w.Mine}
	heads := map[string]*eventstore.Event{}
	for _, stream := range streams {
		before := heads[stream]
		if before == nil {
			before = w.heads[stream]
		}
		p.Next.Seq++
		e := Event(p.Next.Partition, p.Next.Seq, stream, before)
		p.Next.Head = eventstore.Link(p.Next.Head, e.Hash)
		p.Events = append(p.Events, e)
		heads[stream] = &e
	}
	return p
}

// Event makes the event that follows before in its stream; nil begins the stream.
func Event(partition int32, seq int64, stream string, before *eventstore.Event) eventstore.Event {
	e := eventstore.Event{
		Stream: stream, Began: Start + seq, Version: 1, Partition: partition, Seq: seq, Type: "CallRequested", TypeVersion: 1,
		At: Start + seq, Occurred: Start + seq, Tenant: uuid.UUID{15: 1}, Device: uuid.UUID{15: 2},
		Actor: "user:5a1c0f5e-0000-4000-8000-000000000001", Cause: "rest",
		Data: fmt.Appendf(nil, `{"method":"setGpio","params":"{\"pin\":%d}","padding":"%s"}`, seq%40, strings.Repeat("x", 250)),
	}
	var previous eventstore.Hash
	if before != nil {
		e.Began, e.Version, previous = before.Began, before.Version+1, before.Hash
	}
	e.Hash = e.Digest(previous)
	return e
}

// Took tells the writer that the store has taken a batch with this id.
func (w *Writer) Took(p eventstore.PartitionBatch, id uuid.UUID) {
	w.Mine = p.Next
	w.Mine.Append = id
	for i := range p.Events {
		w.heads[p.Events[i].Stream] = &p.Events[i]
	}
}

// Append stores the next event of each stream and fails the test if that does not work.
func (w *Writer) Append(t testing.TB, s eventstore.Store, streams ...string) {
	t.Helper()
	w.AppendRows(t, s, nil, streams...)
}

// AppendRows is Append with rows.
func (w *Writer) AppendRows(t testing.TB, s eventstore.Store, rows []eventstore.Row, streams ...string) {
	t.Helper()
	p := w.Batch(streams...)
	p.Rows = rows
	id := NewID()
	fenced, err := s.Append(t.Context(), Of(id, p))
	if err != nil || len(fenced) > 0 {
		t.Fatalf("Append(partition %d, %v) = %v, %v", w.Mine.Partition, streams, fenced, err)
	}
	w.Took(p, id)
}

// Of makes a batch.
func Of(id uuid.UUID, partitions ...eventstore.PartitionBatch) eventstore.Batch {
	return eventstore.Batch{ID: id, Partitions: partitions}
}

// NewID makes a time-ordered id.
func NewID() uuid.UUID { return uuid.Must(uuid.NewV7()) }

// CallStream names a new stream of a call.
func CallStream() string { return "rpc/" + uuid.UUID{15: 1}.String() + "/" + NewID().String() }

// CallStreams names n new streams of calls.
func CallStreams(n int) []string {
	streams := make([]string, n)
	for i := range streams {
		streams[i] = CallStream()
	}
	return streams
}

// wantPartition checks that the partition holds exactly these events, in pages of three.
func wantPartition(t testing.TB, s eventstore.Store, partition int32, want []eventstore.Event) {
	t.Helper()
	got := readPartition(t, s, partition)
	if len(got) != len(want) {
		t.Fatalf("partition %d holds %d events, want %d", partition, len(got), len(want))
	}
	for i := range want {
		wantEvent(t, got[i], want[i])
	}
}

func readPartition(t testing.TB, s eventstore.Store, partition int32) []eventstore.Event {
	t.Helper()
	var all []eventstore.Event
	for after := int64(0); ; {
		page, err := s.Partition(t.Context(), partition, after, 3)
		if err != nil {
			t.Fatalf("Partition(%d, %d) = %v", partition, after, err)
		}
		if len(page) == 0 {
			return all
		}
		if page[0].Seq != after+1 || !slices.IsSortedFunc(page, func(a, b eventstore.Event) int { return int(a.Seq - b.Seq) }) {
			t.Fatalf("Partition(%d, %d) begins at seq %d or is not in order", partition, after, page[0].Seq)
		}
		all = append(all, page...)
		after = page[len(page)-1].Seq
	}
}

// wantEvent compares two events in all but the append's id, which the store gives.
func wantEvent(t testing.TB, got, want eventstore.Event) {
	t.Helper()
	if got.AppendID == uuid.Nil {
		t.Errorf("event %s/%d came back without the append's id", got.Stream, got.Version)
	}
	want.AppendID = got.AppendID
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
		t.Errorf("event %s/%d came back as\n%s\nwant\n%s", want.Stream, want.Version, g, w)
	}
}

// wantCheckpoint checks the stored row of a partition.
func wantCheckpoint(t testing.TB, s eventstore.Store, want eventstore.Checkpoint) {
	t.Helper()
	all, err := s.Checkpoints(t.Context())
	if err != nil {
		t.Fatalf("Checkpoints: %v", err)
	}
	for _, c := range all {
		if c.Partition == want.Partition {
			if c != want {
				t.Errorf("checkpoint is\n%+v, want\n%+v", c, want)
			}
			return
		}
	}
	t.Errorf("partition %d has no checkpoint", want.Partition)
}
