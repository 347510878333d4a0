package kafka

import (
	"context"
	"fmt"
	"time"

	"callchain/engine/bus"

	"github.com/IBM/sarama"
)

// laneWriter writes the messages of a lane to its topic.
type laneWriter struct {
	*producer
	in    *Inbox
	lane  bus.Lane
	topic string
}

// sendTimeout is how long a sender waits for the acknowledgement of a message without priority.
const sendTimeout = 5 * time.Second

func openLaneWriter(ctx context.Context, in *Inbox, lane bus.Lane) (*laneWriter, error) {
	p, err := openProducer(ctx, in.options, producerOptions{
		purpose: "inbox-writer", log: in.options.Log, expiry: sendTimeout, maxRecords: in.options.Most, maxBytes: maxQueuedBytes,
		limit:   func(string) int { return in.limits[lane] },
		observe: func(acknowledged, failed int, took time.Duration) { in.counts.wrote(lane, acknowledged, failed, took) },
	})
	if err != nil {
		return nil, err
	}
	return &laneWriter{producer: p, in: in, lane: lane, topic: in.options.Prefix + laneTopics[lane]}, nil
}

// put enqueues a message.
func (w *laneWriter) put(m bus.Message) error {
	if m.Partition < 0 || m.Partition >= w.in.options.Partitions {
		return fmt.Errorf("the inbox has no partition %d, it has %d", m.Partition, w.in.options.Partitions)
	}
	if !m.Priority && w.in.Err() != nil {
		return bus.ErrAway
	}
	value, headers, err := w.in.options.Codec.Encode(m.Value)
	if err != nil {
		return fmt.Errorf("encoding a message: %w", err)
	}
	r := newRecord(m.Partition, m.Key.String(), value)
	for name, text := range headers {
		r.addHeader(name, text)
	}
	if r.priority = m.Priority; m.Done != nil {
		r.done = senderDone(m.Done)
	}
	if limit := w.in.limits[w.lane]; r.bytes > limit {
		return fmt.Errorf("%w: it has %d bytes, topic %s takes %d (max.message.bytes)", bus.ErrTooLarge, r.bytes, w.topic, limit)
	}
	return w.enqueue(w.topic, m.Priority, r)
}

// senderDone is the completion of a message.
type senderDone func(error)

func (f senderDone) complete(_ int, err error) { f(err) }

func newRecord(partition int32, key string, value []byte) *record {
	return &record{Record: sarama.Record{Key: []byte(key), Value: value}, partition: partition, enqueued: time.Now(), bytes: len(key) + len(value) + recordOverhead}
}

func (r *record) addHeader(name, value string) {
	r.Headers = append(r.Headers, &sarama.RecordHeader{Key: []byte(name), Value: []byte(value)})
	r.bytes += len(name) + len(value) + recordOverhead
}
