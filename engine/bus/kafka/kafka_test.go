package kafka_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"testing"

	"callchain/engine/bus"
	"callchain/engine/bus/kafka"

	"github.com/google/uuid"
)

type text struct{}

func (text) Encode(v any) ([]byte, map[string]string, error) {
	s, ok := v.(string)
	if !ok {
		return nil, nil, errors.New("no text")
	}
	return []byte(s), nil, nil
}
func (text) Decode(b []byte) (any, error) { return string(b), nil }

func open(t testing.TB) *kafka.Bus {
	t.Helper()
	brokers := os.Getenv("CALLCHAIN_TEST_KAFKA")
	if brokers == "" {
		t.Skip("CALLCHAIN_TEST_KAFKA names no broker")
	}
	b, err := kafka.Open(context.Background(), kafka.Options{
		Brokers: []string{brokers}, Prefix: "test-" + uuid.NewString()[:8] + ".", Node: "n", Partitions: 64, Most: 10_000, Codec: text{}, Log: slog.Default(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func BenchmarkInbox(b *testing.B) {
	k := open(b)
	in := k.Inbox()
	from := make([]bus.From, 64)
	for i := range from {
		from[i].Partition = int32(i)
	}
	if err := in.Begin(context.Background(), from); err != nil {
		b.Fatal(err)
	}
	callers := 64
	if os.Getenv("ONE") != "" {
		callers = 1
	}
	var mu sync.Mutex
	waiting := map[uuid.UUID]chan struct{}{}
	stop := make(chan struct{})
	go func() {
		var buf []bus.Message
		for {
			select {
			case <-in.Ready():
			case <-stop:
				return
			}
			buf = in.Take(bus.RPC, 500, buf[:0])
			for _, m := range buf {
				mu.Lock()
				c := waiting[m.Key]
				mu.Unlock()
				if c != nil {
					c <- struct{}{}
				}
			}
		}
	}()
	b.ResetTimer()
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			key := uuid.New()
			ch := make(chan struct{}, 1)
			mu.Lock()
			waiting[key] = ch
			mu.Unlock()
			for range b.N / callers {
				if err := in.Put(bus.Message{Partition: int32(c % 64), Key: key, Value: "0123456789"}); err != nil {
					b.Error(err)
					return
				}
				<-ch
			}
		})
	}
	wg.Wait()
	close(stop)
	s := k.Stats()
	b.Logf("%+v", s)
}
