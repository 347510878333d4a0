package storetest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"callchain/eventstore"
)

const (
	benchPartitions = 8
	benchCalls      = 100 // calls begun in each batch; each has four events over three batches: 2, 1 and 1
)

// Bench measures a store: appends of 400 events with hashes and checkpoints, a partition read from its beginning, a stream. Making the
// events and their hashes is part of what is measured, as it is part of an owner's work.
func Bench(b *testing.B, tables Tables, database Database) {
	at := Site{Tables: tables}
	b.Run("append400", func(b *testing.B) { benchAppend(b, database(b)(), nil) })
	b.Run("append400rows", func(b *testing.B) {
		benchAppend(b, database(b)(), func(i int) []eventstore.Row { return []eventstore.Row{at.value(fmt.Sprint("k", i%1000), `21.5`)} })
	})
	b.Run("append4", func(b *testing.B) { benchSmall(b, database(b)()) })
	b.Run("partition", func(b *testing.B) { benchPartition(b, database(b)()) })
	b.Run("stream", func(b *testing.B) { benchStream(b, database(b)()) })
	b.Run("streams500", func(b *testing.B) { benchStreams(b, database(b)()) })
}

// load makes batches in which calls begin, go on and end.
type load struct {
	writers [benchPartitions]*Writer
	open    [benchPartitions][2][]string // streams begun one and two batches ago
}

func newLoad(b *testing.B, s eventstore.Store) *load {
	l := &load{}
	for i := range l.writers {
		l.writers[i] = Claim(b, s, int32(i))
	}
	return l
}

// append stores one batch and gives the number of its events.
func (l *load) append(b *testing.B, s eventstore.Store, rows func(int) []eventstore.Row) (events int) {
	batch := eventstore.Batch{ID: NewID()}
	var ended []string
	for i, w := range l.writers {
		begun := CallStreams(benchCalls / benchPartitions)
		streams := append(append(append([]string{}, begun...), begun...), l.open[i][0]...)
		p := w.Batch(append(streams, l.open[i][1]...)...)
		ended = append(ended, l.open[i][1]...)
		l.open[i] = [2][]string{begun, l.open[i][0]}
		if rows != nil {
			for j := range p.Events {
				p.Rows = append(p.Rows, rows(j)...)
			}
		}
		events += len(p.Events)
		batch.Partitions = append(batch.Partitions, p)
	}
	if fenced, err := s.Append(b.Context(), batch); err != nil || len(fenced) > 0 {
		b.Fatalf("Append = %v, %v", fenced, err)
	}
	for i, w := range l.writers {
		w.Took(batch.Partitions[i], batch.ID)
		for _, stream := range ended {
			delete(w.heads, stream) // the writer's memory is not what is measured
		}
	}
	return events
}

func perSecond(b *testing.B, n int) { b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s") }

func benchAppend(b *testing.B, s eventstore.Store, rows func(int) []eventstore.Row) {
	l, events := newLoad(b, s), 0
	b.ReportAllocs()
	for b.Loop() {
		events += l.append(b, s, rows)
	}
	perSecond(b, events)
}

// benchSmall is one call at a time: the latency of a lone caller.
func benchSmall(b *testing.B, s eventstore.Store) {
	w, events := Claim(b, s, 1), 0
	for b.Loop() {
		stream := CallStream()
		w.Append(b, s, stream, stream, stream, stream)
		delete(w.heads, stream)
		events += 4
	}
	perSecond(b, events)
}

func benchPartition(b *testing.B, s eventstore.Store) {
	l := newLoad(b, s)
	for range 100 {
		l.append(b, s, nil)
	}
	b.ResetTimer()
	events := 0
	for b.Loop() {
		for after := int64(0); ; {
			page, err := s.Partition(b.Context(), 3, after, 500)
			if err != nil {
				b.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			events, after = events+len(page), page[len(page)-1].Seq
		}
	}
	perSecond(b, events)
}

func benchStream(b *testing.B, s eventstore.Store) {
	w := Claim(b, s, 1)
	streams := CallStreams(400)
	for range 5 {
		w.Append(b, s, streams...)
	}
	b.ResetTimer()
	events := 0
	for i := 0; b.Loop(); i++ {
		page, err := s.Stream(b.Context(), streams[i%len(streams)], 0, 100)
		if err != nil || len(page) != 5 {
			b.Fatalf("Stream = %d events, %v", len(page), err)
		}
		events += len(page)
	}
	perSecond(b, events)
}

// benchStreams reads open calls as a recovery does: 500 at a time of 20,000, three events each, in no order.
func benchStreams(b *testing.B, s eventstore.Store) {
	const most, each = 20_000, 500
	w := Claim(b, s, 1)
	streams := CallStreams(most)
	for range 3 {
		for chunk := range slices.Chunk(streams, each) {
			w.Append(b, s, chunk...)
		}
	}
	rand.New(rand.NewPCG(1, 2)).Shuffle(most, func(i, j int) { streams[i], streams[j] = streams[j], streams[i] })
	b.ResetTimer()
	read := 0
	for i := 0; b.Loop(); i++ {
		at := i * each % most
		events := 0
		err := s.Streams(b.Context(), streams[at:at+each], func(*eventstore.Event) error {
			events++
			return nil
		})
		if err != nil || events != 3*each {
			b.Fatalf("Streams = %d events, %v", events, err)
		}
		read += each
	}
	b.ReportMetric(float64(read)/b.Elapsed().Seconds(), "streams/s")
}
