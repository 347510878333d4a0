package kafka_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"callchain/engine/bus"
	"callchain/engine/bus/bustest"
	"callchain/engine/bus/kafka"
	"callchain/engine/bus/kafkatest"

	"github.com/IBM/sarama"
)

// The bound of a lane, and the partitions, of the inboxes that tests open.
const (
	bound      = 300
	partitions = 4
)

// site is a set of topics of one test.
type site struct {
	prefix  string
	brokers []string
	admin   sarama.ClusterAdmin
}

// newSite removes its topics with the test.
func newSite(t testing.TB) *site {
	t.Helper()
	topics := kafkatest.New(t)
	return &site{prefix: topics.Prefix, brokers: []string{topics.Broker}, admin: topics.Admin}
}

func (s *site) options(t testing.TB) kafka.Options {
	return kafka.Options{
		Brokers: s.brokers, Prefix: s.prefix, Node: "n", Partitions: partitions, Most: bound, Codec: bustest.Codec{},
		Log: slog.New(slog.NewTextHandler(output{t}, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
}

// output lets a test print what was logged, if it fails.
type output struct{ t testing.TB }

func (o output) Write(b []byte) (int, error) {
	o.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// open opens a bus that ends with the test, or when end is called.
func (s *site) open(t testing.TB, o kafka.Options) (b *kafka.Bus, end func()) {
	t.Helper()
	b, err := kafka.Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	end = func() {
		if err := b.Close(); err != nil {
			t.Errorf("closing the bus: %v", err)
		}
	}
	t.Cleanup(end)
	return b, end
}

func (s *site) topic(lane bus.Lane) string {
	return s.prefix + [bus.Lanes]string{bus.RPC: "callchain.inbox", bus.Data: "callchain.data"}[lane]
}

// renew removes a lane's topic, if it is there, and makes it anew.
func (s *site) renew(t *testing.T, lane bus.Lane) {
	t.Helper()
	if err := s.admin.DeleteTopic(s.topic(lane)); err != nil && !errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
		t.Fatal(err)
	}
	s.again(t, s.topic(lane), partitions)
}

func (s *site) remove(t *testing.T, lane bus.Lane) {
	t.Helper()
	if err := s.admin.DeleteTopic(s.topic(lane)); err != nil {
		t.Fatal(err)
	}
}

// again makes a topic that was removed.
func (s *site) again(t *testing.T, name string, partitions int32) {
	t.Helper()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for deadline := time.Now().Add(20 * time.Second); ; <-look.C {
		err := s.admin.CreateTopic(name, &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: 1}, false)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func (s *site) trim(t *testing.T, lane bus.Lane, partition int32, before int64) {
	t.Helper()
	if err := s.admin.DeleteRecords(s.topic(lane), map[int32]int64{partition: before}); err != nil {
		t.Fatal(err)
	}
}

func (s *site) spoil(t *testing.T, lane bus.Lane, partition int32, bytes []byte) {
	t.Helper()
	c := sarama.NewConfig()
	c.Producer.Partitioner, c.Producer.Return.Successes = sarama.NewManualPartitioner, true
	p, err := sarama.NewSyncProducer(s.brokers, c)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}()
	if _, _, err := p.SendMessage(&sarama.ProducerMessage{Topic: s.topic(lane), Partition: partition, Value: sarama.ByteEncoder(bytes)}); err != nil {
		t.Fatal(err)
	}
}

// hang pauses the broker; on resumes it, at the end of the test at the latest.
func hang(t *testing.T) (on func()) {
	t.Helper()
	control(t, "pause")
	on = func() { control(t, "resume") } // twice is harmless
	t.Cleanup(on)
	return on
}

// control stops, kills, starts, pauses or resumes the broker.
func control(t *testing.T, what string) {
	t.Helper()
	if out, err := exec.Command(os.Getenv("CALLCHAIN_TEST_KAFKA_CTL"), what).CombinedOutput(); err != nil {
		t.Fatalf("%s of the broker: %v\n%s", what, err, out)
	}
}

// down kills the broker; up starts it again, at the end of the test at the latest.
func down(t *testing.T) (up func()) {
	t.Helper()
	control(t, "kill")
	back := false
	up = func() {
		if !back {
			back = true
			control(t, "start")
		}
	}
	t.Cleanup(up)
	return up
}

func logTo(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

// serves: what is put comes, and a record is published.
func serves(t *testing.T, b *kafka.Bus) {
	t.Helper()
	in := b.Inbox()
	results := make(chan error, 1)
	if err := in.Put(bus.Message{Value: bustest.Parcel(1), Priority: true, Done: func(err error) { results <- err }}); err != nil {
		t.Fatal(err)
	}
	if err := <-results; err != nil {
		t.Fatal(err)
	}
	if err := in.Begin(t.Context(), []bus.From{{}}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-in.Ready():
	case <-time.After(20 * time.Second):
		t.Fatal("what was put does not come")
	}
	for _, topic := range []bus.Topic{bus.Events, bus.Registry} {
		publish(t, b.Topics(), topic, bus.Record{Key: "k"})
	}
}
