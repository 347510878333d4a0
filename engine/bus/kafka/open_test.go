package kafka_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"callchain/engine/bus"
	"callchain/engine/bus/bustest"
	"callchain/engine/bus/kafka"

	"github.com/IBM/sarama"
)

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one that names %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not name %q", err, part)
		}
	}
}

// Nobody waits long for brokers that are not there, or that take a connection and say nothing.
func TestOpenWithoutBroker(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{gone.Addr().String(), silent.Addr().String()} {
		o := (&site{brokers: []string{address}}).options(t)
		began := time.Now()
		_, err := kafka.Open(context.Background(), o)
		wantError(t, err, "no broker answers")
		if took := time.Since(began); took > 12*time.Second {
			t.Errorf("it took %s to say so", took)
		}
	}
}

// What cannot work is said before anything is asked of a broker.
func TestOpenWithBadOptions(t *testing.T) {
	folder := t.TempDir()
	noPEM := filepath.Join(folder, "ca.pem")
	if err := os.WriteFile(noPEM, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		spoil func(*kafka.Options)
		want  string
	}{
		"no broker":           {func(o *kafka.Options) { o.Brokers = nil }, "no broker is named"},
		"no codec":            {func(o *kafka.Options) { o.Codec = nil }, "Codec"},
		"no partitions":       {func(o *kafka.Options) { o.Partitions = 0 }, "partitions"},
		"mechanism":           {func(o *kafka.Options) { o.SASL.Mechanism = "gssapi" }, `"gssapi" is not known`},
		"missing CA":          {func(o *kafka.Options) { o.TLS = kafka.TLS{Enabled: true, CA: filepath.Join(folder, "none.pem")} }, "none.pem"},
		"CA that is none":     {func(o *kafka.Options) { o.TLS = kafka.TLS{Enabled: true, CA: noPEM} }, "ca.pem holds no certificate"},
		"missing certificate": {func(o *kafka.Options) { o.TLS = kafka.TLS{Enabled: true, Cert: noPEM, Key: noPEM} }, "bus.kafka.tls.cert"},
	} {
		o := (&site{brokers: []string{"127.0.0.1:1"}}).options(t)
		c.spoil(&o)
		_, err := kafka.Open(context.Background(), o)
		t.Run(name, func(t *testing.T) { wantError(t, err, c.want) })
	}
}

// Topics that an operator made are taken as they are, if they can serve.
func TestOpenOnTopicsOfTheOperator(t *testing.T) {
	s := newSite(t)
	small, inSync := "100000", "1"
	create := func(lane bus.Lane, partitions int32) {
		detail := &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: 1, ConfigEntries: map[string]*string{"max.message.bytes": &small, "min.insync.replicas": &inSync}}
		if err := s.admin.CreateTopic(s.topic(lane), detail, false); err != nil {
			t.Fatal(err)
		}
	}
	create(bus.RPC, partitions+1)
	create(bus.Data, partitions-1)
	var lines bytes.Buffer
	o := s.options(t)
	o.Log = slog.New(slog.NewTextHandler(&lines, nil))
	_, err := kafka.Open(context.Background(), o)
	wantError(t, err, s.topic(bus.Data), "has 3 partitions, partitions is 4", "add partitions")
	if err := s.admin.CreatePartitions(s.topic(bus.Data), partitions, nil, false); err != nil {
		t.Fatal(err)
	}
	b, end := s.open(t, o)
	in := b.Inbox()
	if err := in.Put(bus.Message{Value: bustest.Bulk(120_000)}); !errors.Is(err, bus.ErrTooLarge) {
		t.Errorf("Put of more than the topic takes: %v, want ErrTooLarge", err)
	}
	results := make(chan error, 1_000)
	const count = 20 // a batch of them is larger than the topic takes
	for range count {
		if err := in.Put(bus.Message{Value: bustest.Bulk(20_000), Done: func(err error) { results <- err }}); err != nil {
			t.Fatal(err)
		}
	}
	for range count {
		if err := <-results; err != nil {
			t.Errorf("writing what the topic takes: %v", err)
		}
	}
	end()
	for _, want := range []string{"the loss of one broker may lose messages", "topic accepts small messages only", "bytes=100000"} {
		if !strings.Contains(lines.String(), want) {
			t.Errorf("the log does not say %q:\n%s", want, lines.String())
		}
	}
}

// A topic that is made to take less while it is written: what fits is written all the same, what does not is refused.
func TestTopicThatShrinks(t *testing.T) {
	s := newSite(t)
	b, _ := s.open(t, s.options(t))
	in := b.Inbox()
	small := "50000"
	if err := s.admin.AlterConfig(sarama.TopicResource, s.topic(bus.RPC), map[string]*string{"max.message.bytes": &small}, false); err != nil {
		t.Fatal(err)
	}
	put := func(bytes int) chan error {
		results := make(chan error, 1)
		if err := in.Put(bus.Message{Value: bustest.Bulk(bytes), Priority: true, Done: func(err error) { results <- err }}); err != nil {
			t.Fatal(err)
		}
		return results
	}
	for deadline := time.Now().Add(20 * time.Second); ; { // the broker takes a moment to heed it
		if err := <-put(60_000); err != nil {
			if errors.Is(err, bus.ErrAway) {
				t.Errorf("a message that is too large was reported as an outage: %v", err)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the topic takes large messages for ever")
		}
	}
	var fits, not []chan error
	for n := range 50 {
		if n%10 == 5 {
			not = append(not, put(60_000))
			continue
		}
		fits = append(fits, put(10_000))
	}
	for n, results := range fits {
		if err := <-results; err != nil {
			t.Errorf("message %d fits: %v", n, err)
		}
	}
	for n, results := range not {
		if err := <-results; !errors.Is(err, bus.ErrTooLarge) {
			t.Errorf("message %d is too large, and its sender gets %v", n, err)
		}
	}
	if err := in.Err(); err != nil {
		t.Errorf("trouble: %v", err)
	}
}

// An operator who decides to go on with what is there gets what is there, and a warning.
func TestResumeOldest(t *testing.T) {
	s := newSite(t)
	o := s.options(t)
	first, end := s.open(t, o)
	results := make(chan error, 10)
	for n := range 10 {
		if err := first.Inbox().Put(bus.Message{Value: bustest.Parcel(n), Done: func(err error) { results <- err }}); err != nil {
			t.Fatal(err)
		}
	}
	for range 10 {
		if err := <-results; err != nil {
			t.Fatal(err)
		}
	}
	end()
	s.trim(t, bus.RPC, 0, 4)
	var lines bytes.Buffer
	o.Log, o.Resume = slog.New(slog.NewTextHandler(&lines, nil)), kafka.ResumeOldest
	second, end := s.open(t, o)
	in := second.Inbox()
	old := bus.From{}
	old.Next[bus.RPC] = bus.Place{Topic: [16]byte{1}, Offset: 2}
	from := []bus.From{old, {Partition: 1}}
	if err := in.Begin(t.Context(), from); err != nil {
		t.Fatal(err)
	}
	if at := from[0].Next[bus.RPC]; at.Offset != 4 || at.Topic == old.Next[bus.RPC].Topic || from[0].Next[bus.Data] != (bus.Place{}) || from[1].Next[bus.RPC] != (bus.Place{}) {
		t.Errorf("it says that it goes on at %+v", from)
	}
	var got []bus.Message
	for len(got) < 6 {
		select {
		case <-in.Ready():
			got = in.Take(bus.RPC, 100, got)
		case <-time.After(20 * time.Second):
			t.Fatalf("%d messages came, 6 are left", len(got))
		}
	}
	if got[0].Place.Offset != 4 {
		t.Errorf("the first is at offset %d, want 4", got[0].Place.Offset)
	}
	end()
	if !strings.Contains(lines.String(), "messages of the inbox were lost") {
		t.Errorf("the log does not say that messages were lost:\n%s", lines.String())
	}
}
