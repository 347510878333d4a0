package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"callchain/engine/bus"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill"
	wkafka "github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
)

// Topics are the topics beside the inbox, on Watermill: others can read them with it, or with any client of Kafka.
type Topics struct {
	options *Options
	batches message.Publisher // of events and dead letters
	talk    message.Publisher // of nodes with each other, which must not wait for events
	others  message.Publisher // one by one; there are few

	mu         sync.Mutex
	closed     bool
	publishing sync.WaitGroup
}

var _ bus.Topics = (*Topics)(nil)

// What a record needs beside its value travels in a message's metadata, and is taken out before it is written.
const (
	metaKey       = "callchain-key"
	metaPartition = "callchain-partition"
)

func openTopics(o *Options, most limits) (*Topics, error) {
	batches, err := newBatchPublisher(o, most)
	if err != nil {
		return nil, fmt.Errorf("publishing events: %w", err)
	}
	talk, err := newBatchPublisher(o, most)
	if err != nil {
		return nil, errors.Join(err, batches.Close())
	}
	c, err := o.producerConfig("topics")
	if err != nil {
		return nil, errors.Join(err, batches.Close(), talk.Close())
	}
	others, err := wkafka.NewPublisher(wkafka.PublisherConfig{Brokers: o.Brokers, Marshaler: marshaler{}, OverwriteSaramaConfig: c}, logger(o))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("publishing to topics: %w", err), batches.Close(), talk.Close())
	}
	return &Topics{options: o, batches: batches, talk: talk, others: others}, nil
}

// logger lets Watermill log; what it calls information is of no use to an operator.
func logger(o *Options) watermill.LoggerAdapter {
	return watermill.NewSlogLoggerWithLevelMapping(o.Log, map[slog.Level]slog.Level{slog.LevelInfo: slog.LevelDebug})
}

// Publish implements bus.Topics.
func (t *Topics) Publish(ctx context.Context, topic bus.Topic, records []bus.Record) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	messages := make([]*message.Message, len(records))
	for i := range records {
		messages[i] = messageOf(&records[i])
	}
	to := t.talk
	switch topic { //nolint:exhaustive // the rest is what nodes tell each other
	case bus.Events, bus.DeadLetters:
		to = t.batches
	case bus.Registry:
		to = t.others
	}
	done := make(chan error, 1)
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return fmt.Errorf("publishing to %s: %w", topic, bus.ErrClosed)
	}
	t.publishing.Go(func() { done <- to.Publish(t.options.Prefix+string(topic), messages...) })
	t.mu.Unlock()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("publishing to %s: %w", topic, err)
		}
		return nil
	case <-ctx.Done(): // the client goes on for a moment; the records may be kept
		return fmt.Errorf("publishing to %s: %w", topic, ctx.Err())
	}
}

// messageOf is a record as Watermill has it.
func messageOf(r *bus.Record) *message.Message {
	m := message.NewMessage(uuid.NewString(), r.Value)
	maps.Copy(m.Metadata, r.Headers)
	m.Metadata[metaKey] = r.Key
	m.Metadata[metaPartition] = strconv.Itoa(int(r.Partition))
	return m
}

// Follow implements bus.Topics.
func (t *Topics) Follow(ctx context.Context, topic bus.Topic, ready func(), handle func(bus.Record)) error {
	c, err := t.options.consumerConfig("topics")
	if err != nil {
		return err
	}
	c.Consumer.Offsets.Initial = sarama.OffsetNewest // from now on
	c.Consumer.Return.Errors = false                 // Watermill does not read them, and a partition whose errors nobody reads stands still
	again := time.NewTicker(2 * backOff)
	defer again.Stop()
	if ready == nil {
		ready = func() {}
	}
	ready = sync.OnceFunc(ready)
	for {
		err := t.follow(ctx, topic, c, ready, handle)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		t.options.Log.Debug("a topic cannot be followed now", "topic", topic, "error", err)
		select {
		case <-again.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// follow hands over what comes until ctx ends or the topic cannot be read.
func (t *Topics) follow(ctx context.Context, topic bus.Topic, c *sarama.Config, ready func(), handle func(bus.Record)) error {
	if err := t.options.provide(topic); err != nil {
		return fmt.Errorf("following %s: %w", topic, err)
	}
	s, err := wkafka.NewSubscriber(wkafka.SubscriberConfig{
		Brokers: t.options.Brokers, Unmarshaler: marshaler{}, OverwriteSaramaConfig: c, ReconnectRetrySleep: 2 * backOff, NackResendSleep: wkafka.NoSleep,
	}, logger(t.options))
	if err != nil {
		return fmt.Errorf("following %s: %w", topic, err)
	}
	messages, err := s.Subscribe(ctx, t.options.Prefix+string(topic))
	if err != nil {
		return errors.Join(fmt.Errorf("following %s: %w", topic, err), s.Close())
	}
	ready()
	for m := range messages {
		handle(recordOf(m))
		m.Ack()
	}
	return s.Close()
}

func recordOf(m *message.Message) bus.Record {
	r := bus.Record{Key: m.Metadata[metaKey], Headers: map[string]string{}, Value: m.Payload}
	if n, err := strconv.ParseInt(m.Metadata[metaPartition], 10, 32); err == nil {
		r.Partition = int32(n)
	}
	for name, value := range m.Metadata {
		if name != metaKey && name != metaPartition {
			r.Headers[name] = value
		}
	}
	return r
}

// close waits two seconds for what is published now.
func (t *Topics) close() error {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	done := make(chan error, 1)
	go func() {
		t.publishing.Wait() // Watermill's publisher must not be closed while it publishes
		done <- errors.Join(t.batches.Close(), t.talk.Close(), t.others.Close())
	}()
	late := time.NewTimer(closeGrace)
	defer late.Stop()
	select {
	case err := <-done:
		return err
	case <-late.C:
		return fmt.Errorf("closing the topics: nothing was acknowledged for %s", closeGrace)
	}
}

// marshaler writes and reads messages as Watermill's own does, and gives them their key and partition.
type marshaler struct{ wkafka.DefaultMarshaler }

// Marshal implements wkafka.Marshaler.
func (d marshaler) Marshal(topic string, m *message.Message) (*sarama.ProducerMessage, error) {
	partition, err := strconv.ParseInt(m.Metadata[metaPartition], 10, 32)
	if err != nil {
		return nil, fmt.Errorf("the partition of a message: %w", err)
	}
	out := &sarama.ProducerMessage{
		Topic: topic, Partition: int32(partition), Value: sarama.ByteEncoder(m.Payload), Key: sarama.StringEncoder(m.Metadata[metaKey]),
		Headers: []sarama.RecordHeader{{Key: []byte(wkafka.UUIDHeaderKey), Value: []byte(m.UUID)}},
	}
	for _, name := range slices.Sorted(maps.Keys(m.Metadata)) {
		if name != metaKey && name != metaPartition {
			out.Headers = append(out.Headers, sarama.RecordHeader{Key: []byte(name), Value: []byte(m.Metadata[name])})
		}
	}
	return out, nil
}

// Unmarshal implements wkafka.Unmarshaler.
func (d marshaler) Unmarshal(record *sarama.ConsumerMessage) (*message.Message, error) {
	m, err := d.DefaultMarshaler.Unmarshal(record)
	if err != nil {
		return nil, err
	}
	m.Metadata[metaKey], m.Metadata[metaPartition] = string(record.Key), strconv.Itoa(int(record.Partition))
	return m, nil
}
