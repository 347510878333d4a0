package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"

	"callchain/engine/bus"

	"github.com/IBM/sarama"
	wkafka "github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
)

// publisher is a message.Publisher on a producer. Watermill's own waits for each acknowledgement before it sends the next message, which is too
// slow for every committed event.
type publisher struct {
	*producer
	prefix string // of topics
}

// maxPublishing bounds the records of all calls of Publish together; those who publish in a loop have bounds of their own, far below.
const maxPublishing = 100_000

func openPublisher(o *Options, purpose string, attempts int, maxBytes limits) (*publisher, error) {
	limits := map[string]int{o.Prefix + string(bus.Events): maxBytes.events, o.Prefix + string(bus.DeadLetters): maxBytes.deadLetters}
	p, err := openProducer(context.Background(), o, producerOptions{
		purpose: purpose, log: slog.New(slog.DiscardHandler), attempts: attempts, maxRecords: maxPublishing, maxBytes: maxQueuedBytes, // callers log what is lost
		limit: func(topic string) int {
			if limit, known := limits[topic]; known {
				return limit
			}
			return MessageBytesMax - batchOverhead
		},
	})
	if err != nil {
		return nil, err
	}
	return &publisher{producer: p, prefix: o.Prefix}, nil
}

// Publish implements message.Publisher. It ends with the context of the first message; the records may be written then. Its error is a
// *bus.PartlyError when a broker was asked.
func (p *publisher) Publish(topic string, messages ...*message.Message) error {
	if len(messages) == 0 {
		return nil
	}
	call := &publication{unresolved: len(messages), done: make(chan struct{}), partly: bus.PartlyError{Topic: bus.Topic(strings.TrimPrefix(topic, p.prefix))}}
	records := make([]*record, 0, len(messages))
	for i, m := range messages {
		r, err := recordFor(m)
		if err != nil {
			return err
		}
		if r.index, r.done = i, call; r.bytes > MessageBytesMax { // a request of that size might be no request for the broker
			call.complete(i, rejection(topic, r.bytes, sarama.ErrMessageSizeTooLarge))
			continue
		}
		records = append(records, r)
	}
	if err := p.enqueue(topic, false, records...); err != nil {
		return err
	}
	select {
	case <-call.done:
		if call.partly.Err == nil {
			return nil
		}
		slices.Sort(call.partly.Refused)
		slices.Sort(call.partly.Missed)
		return &call.partly
	case <-messages[0].Context().Done():
		return messages[0].Context().Err()
	}
}

// recordFor is a message as it is written; any client reads it, and Watermill's finds the id that it wants.
func recordFor(m *message.Message) (*record, error) {
	partition, err := strconv.ParseInt(m.Metadata[metaPartition], 10, 32)
	if err != nil {
		return nil, fmt.Errorf("the partition of a message: %w", err)
	}
	r := newRecord(int32(partition), m.Metadata[metaKey], m.Payload)
	r.addHeader(wkafka.UUIDHeaderKey, m.UUID)
	for _, name := range slices.Sorted(maps.Keys(m.Metadata)) {
		if name != metaKey && name != metaPartition {
			r.addHeader(name, m.Metadata[name])
		}
	}
	return r, nil
}

// publication gathers the outcomes of a Publish.
type publication struct {
	unresolved int
	partly     bus.PartlyError
	done       chan struct{}
}

func (c *publication) complete(index int, err error) {
	switch {
	case err == nil:
	case errors.Is(err, bus.ErrAway):
		c.partly.Missed, c.partly.Err = append(c.partly.Missed, index), err
	default:
		c.partly.Refused, c.partly.Err = append(c.partly.Refused, index), err
	}
	if c.unresolved--; c.unresolved == 0 {
		close(c.done)
	}
}

// Close implements message.Publisher.
func (p *publisher) Close() error { return p.close() }
