package kafka_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"callchain/engine/bus"
	"callchain/engine/bus/bustest"

	"github.com/google/uuid"
)

// BenchmarkInbox measures from Put to Take: each producer waits for its message before it puts the next.
func BenchmarkInbox(b *testing.B) {
	for _, producers := range []int{1, 64} {
		b.Run(fmt.Sprintf("producers=%d", producers), func(b *testing.B) { benchmarkInbox(b, producers) })
	}
}

// width is the number of partitions that a server has unless its settings say otherwise.
const width = 64

func benchmarkInbox(b *testing.B, producers int) {
	s := newSite(b)
	o := s.options(b)
	o.Partitions, o.Most = width, 10_000
	k, _ := s.open(b, o)
	in := k.Inbox()
	from := make([]bus.From, width)
	for i := range from {
		from[i].Partition = int32(i)
	}
	if err := in.Begin(context.Background(), from); err != nil {
		b.Fatal(err)
	}
	came := map[uuid.UUID]chan struct{}{}
	keys := make([]uuid.UUID, producers)
	for i := range keys {
		keys[i] = uuid.New()
		came[keys[i]] = make(chan struct{}, 1)
	}
	stop := make(chan struct{})
	var taking, putting sync.WaitGroup
	taking.Go(func() {
		var buf []bus.Message
		for {
			select {
			case <-in.Ready():
			case <-stop:
				return
			}
			buf = in.Take(bus.RPC, 500, buf[:0])
			for i := range buf {
				came[buf[i].Key] <- struct{}{}
			}
		}
	})
	b.ReportAllocs()
	b.ResetTimer()
	for i, key := range keys {
		putting.Go(func() {
			for range (b.N + producers - 1) / producers {
				if err := in.Put(bus.Message{Partition: int32(i % width), Key: key, Value: bustest.Parcel(i)}); err != nil {
					b.Error(err)
					return
				}
				<-came[key]
			}
		})
	}
	putting.Wait()
	b.StopTimer()
	close(stop)
	taking.Wait()
	stats := k.Stats()
	b.ReportMetric(float64(stats.Written[bus.RPC])/float64(max(1, stats.Writes[bus.RPC])), "messages/write")
	b.ReportMetric(float64(stats.WriteTime[bus.RPC].Microseconds())/float64(max(1, stats.Writes[bus.RPC])), "us/write")
}
