package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
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
	options  *Options
	events   *publisher // of events and dead letters
	registry *publisher
	nodes    *publisher // of nodes to each other, which must not wait for events
}

var _ bus.Topics = (*Topics)(nil)

// What a record needs beside its value travels in a message's metadata, and is taken out before it is written.
const (
	metaKey       = "callchain-key"
	metaPartition = "callchain-partition"
)

// How often a batch is sent in one Publish. A connection that was closed while idle, or a leader that moved, needs no wait of the caller; a change of
// the registry outlives the election of a leader.
const (
	publishAttempts  = 2
	registryAttempts = 10
)

func openTopics(o *Options, maxBytes limits) (t *Topics, err error) {
	t = &Topics{options: o}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("publishing to topics: %w", err), t.close())
		}
	}()
	if t.events, err = openPublisher(o, "batches", publishAttempts, maxBytes); err != nil {
		return nil, err
	}
	if t.nodes, err = openPublisher(o, "batches", publishAttempts, maxBytes); err != nil {
		return nil, err
	}
	t.registry, err = openPublisher(o, "topics", registryAttempts, maxBytes)
	return t, err
}

// logger logs what Watermill calls information at the debug level: an operator has no use for it.
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
		messages[i] = messageOf(ctx, &records[i])
	}
	to := t.nodes
	switch topic { //nolint:exhaustive // the rest is what nodes send each other
	case bus.Events, bus.DeadLetters:
		to = t.events
	case bus.Registry:
		to = t.registry
	}
	if err := to.Publish(t.options.Prefix+string(topic), messages...); err != nil {
		return fmt.Errorf("publishing to %s: %w", topic, err)
	}
	return nil
}

// messageOf is a record as Watermill has it.
func messageOf(ctx context.Context, r *bus.Record) *message.Message {
	m := message.NewMessageWithContext(ctx, uuid.NewString(), r.Value)
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
	c.Consumer.Return.Errors = false                 // Watermill does not read them, and the client blocks on errors that nobody reads
	backoff := time.NewTicker(2 * backOff)
	defer backoff.Stop()
	if ready == nil {
		ready = func() {}
	}
	ready = sync.OnceFunc(ready)
	for {
		err := t.follow(ctx, topic, c, ready, handle)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		t.options.Log.Debug("following a topic failed", "topic", topic, "error", err)
		select {
		case <-backoff.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// follow passes records to handle until ctx ends or the topic cannot be read.
func (t *Topics) follow(ctx context.Context, topic bus.Topic, c *sarama.Config, ready func(), handle func(bus.Record)) error {
	if err := t.options.ensureFollowed(topic); err != nil {
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
	var closing sync.WaitGroup
	var errs [3]error
	for i, p := range []*publisher{t.events, t.nodes, t.registry} {
		if p != nil {
			closing.Go(func() { errs[i] = p.Close() })
		}
	}
	closing.Wait()
	return errors.Join(errs[:]...)
}

// marshaler reads messages as Watermill's own does, with their key and partition.
type marshaler struct{ wkafka.DefaultMarshaler }

// Unmarshal implements wkafka.Unmarshaler.
func (d marshaler) Unmarshal(record *sarama.ConsumerMessage) (*message.Message, error) {
	m, err := d.DefaultMarshaler.Unmarshal(record)
	if err != nil {
		return nil, err
	}
	m.Metadata[metaKey], m.Metadata[metaPartition] = string(record.Key), strconv.Itoa(int(record.Partition))
	return m, nil
}
