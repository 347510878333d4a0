package kafka_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"callchain/engine/bus"
	"callchain/engine/bus/bustest"

	"github.com/IBM/sarama"
)

// create makes a topic as an operator would.
func (s *site) create(t *testing.T, topic bus.Topic, partitions int32, settings map[string]string) {
	t.Helper()
	detail := &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: 1, ConfigEntries: map[string]*string{}}
	for name, value := range settings {
		detail.ConfigEntries[name] = &value
	}
	if err := s.admin.CreateTopic(s.prefix+string(topic), detail, false); err != nil {
		t.Fatal(err)
	}
}

// settled waits until the brokers report a changed setting of a topic.
func (s *site) settled(t *testing.T, topic bus.Topic, key, value string) {
	t.Helper()
	about := []*sarama.ConfigResource{{Type: sarama.TopicResource, Name: s.prefix + string(topic), ConfigNames: []string{key}}}
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for late := time.After(10 * time.Second); ; {
		is, err := s.admin.DescribeConfigs(about, sarama.DescribeConfigsOptions{})
		if err == nil && len(is) == 1 && len(is[0].Configs) == 1 && is[0].Configs[0].Value == value {
			return
		}
		select {
		case <-look.C:
		case <-late:
			t.Fatalf("the brokers do not report %s=%s", key, value)
		}
	}
}

// kept are the keys of a partition of a topic, in order.
func (s *site) kept(t *testing.T, topic bus.Topic, partition int32, count int) []string {
	t.Helper()
	c, err := sarama.NewConsumer(s.brokers, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.ConsumePartition(s.prefix+string(topic), partition, sarama.OffsetOldest)
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	late := time.After(20 * time.Second)
	for len(keys) < count {
		select {
		case m := <-p.Messages():
			keys = append(keys, string(m.Key))
		case <-late:
			t.Fatalf("%s partition %d has %d records, want %d", topic, partition, len(keys), count)
		}
	}
	if end := p.HighWaterMarkOffset(); end != int64(count) {
		t.Errorf("%s partition %d has %d records, want %d", topic, partition, end, count)
	}
	if err := errors.Join(p.Close(), c.Close()); err != nil {
		t.Error(err)
	}
	return keys
}

// sized are records in turn of the partitions, of these sizes.
func sized(partitions int, sizes ...int) []bus.Record {
	records := make([]bus.Record, len(sizes))
	for i, size := range sizes {
		records[i] = bus.Record{Partition: int32(i % partitions), Key: fmt.Sprint(i), Value: make([]byte, size)}
	}
	return records
}

func wantRefused(t *testing.T, err error, refused ...int) {
	t.Helper()
	var partly *bus.PartlyError
	if !errors.As(err, &partly) || !slices.Equal(partly.Refused, refused) || len(partly.Missed) > 0 || !errors.Is(err, sarama.ErrMessageSizeTooLarge) {
		t.Fatalf("%v (%+v), want %v refused for their size", err, partly, refused)
	}
}

// What a topic never takes is named, and all others are kept, in order, though a batch of them is larger than the topic takes: also when the topic
// was made to take less meanwhile.
func TestRecordsThatFitNoTopic(t *testing.T) {
	s := newSite(t)
	s.create(t, bus.Events, partitions, map[string]string{"max.message.bytes": "100000"})
	s.create(t, bus.DeadLetters, 1, map[string]string{"max.message.bytes": "100000"})
	var lines strings.Builder
	o := s.options(t)
	o.Log = logTo(&lines)
	b, _ := s.open(t, o)
	topics := b.Topics()
	sizes := slices.Repeat([]int{30_000}, 40)
	publish(t, topics, bus.Events, sized(2, sizes...)...)
	sizes[7], sizes[20], sizes[39] = 120_000, 21<<20, 120_000
	wantRefused(t, topics.Publish(t.Context(), bus.Events, sized(2, sizes...)), 7, 20, 39)
	var want [2][]string
	for i := range 2 * len(sizes) {
		if i < len(sizes) || sizes[i%len(sizes)] == 30_000 {
			want[i%2] = append(want[i%2], fmt.Sprint(i%len(sizes)))
		}
	}
	for partition := range want {
		if got := s.kept(t, bus.Events, int32(partition), len(want[partition])); !slices.Equal(got, want[partition]) {
			t.Errorf("partition %d has %v, want %v", partition, got, want[partition])
		}
	}
	wantRefused(t, topics.Publish(t.Context(), bus.DeadLetters, sized(1, 10, 120_000, 10)), 1)
	if got := s.kept(t, bus.DeadLetters, 0, 2); !slices.Equal(got, []string{"0", "2"}) {
		t.Errorf("the dead letters are %v", got)
	}
	for _, topic := range []bus.Topic{bus.Events, bus.DeadLetters} {
		if want := "topic=" + s.prefix + string(topic) + " bytes=100000"; !strings.Contains(lines.String(), want) {
			t.Errorf("the log does not say %q:\n%s", want, lines.String())
		}
	}

	small := "20000"
	if err := s.admin.AlterConfig(sarama.TopicResource, s.prefix+string(bus.Events), map[string]*string{"max.message.bytes": &small}, false); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); topics.Publish(t.Context(), bus.Events, []bus.Record{{Partition: 3, Value: make([]byte, 25_000)}}) == nil; {
		if time.Now().After(deadline) {
			t.Fatal("the topic takes large records for ever")
		}
	}
	sizes = slices.Repeat([]int{4_000}, 20)
	sizes[13] = 25_000
	wantRefused(t, topics.Publish(t.Context(), bus.Events, sized(1, sizes...)), 13)
}

// A command that is accepted leaves its event room on a topic of events that takes less than the inbox.
func TestCommandLeavesRoomForItsEvent(t *testing.T) {
	s := newSite(t)
	s.create(t, bus.Events, partitions, map[string]string{"max.message.bytes": "100000"})
	b, _ := s.open(t, s.options(t))
	for lane := range bus.Lanes {
		if err := b.Inbox().Put(bus.Message{Lane: lane, Value: bustest.Bulk(90_000)}); !errors.Is(err, bus.ErrTooLarge) {
			t.Errorf("lane %d takes what leaves its event no room: %v", lane, err)
		}
		if err := b.Inbox().Put(bus.Message{Lane: lane, Value: bustest.Bulk(80_000)}); err != nil {
			t.Errorf("lane %d: %v", lane, err)
		}
	}
}
