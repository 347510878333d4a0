package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"callchain/engine/bus"

	"github.com/IBM/sarama"
	"github.com/google/uuid"
)

// reader reads a lane. Each lane has its own connections: a fetch response has all partitions of its connection, so a flood of data on the same one
// would delay the calls.
type reader struct {
	in       *Inbox
	lane     bus.Lane
	topic    string
	client   sarama.Client
	consumer sarama.Consumer

	mu         sync.Mutex
	room       *sync.Cond // signaled when messages were taken
	partitions map[int32]*partitionReader
	closing    map[int32]chan struct{} // partitions whose source is still closing: it cannot be opened before that is done
	begun      bool
	closed     bool

	caughtUp atomic.Bool // all targets are passed; reset with every new one
	runs     sync.WaitGroup
}

// partitionReader is a partition that is read.
type partitionReader struct {
	topic  uuid.UUID // as it was when the reading began
	source sarama.PartitionConsumer
	next   int64 // the offset after the last one that was delivered
	target int64 // the end of the topic when the reading began or resumed
	ended  bool  // it is not delivered any more
}

func openReader(in *Inbox, lane bus.Lane) (*reader, error) {
	c, err := in.options.consumerConfig("inbox-reader")
	if err != nil {
		return nil, err
	}
	r := &reader{in: in, lane: lane, topic: in.options.Prefix + laneTopics[lane], partitions: map[int32]*partitionReader{}, closing: map[int32]chan struct{}{}}
	r.room = sync.NewCond(&r.mu)
	if r.client, err = sarama.NewClient(in.options.Brokers, c); err != nil {
		return nil, err
	}
	if r.consumer, err = sarama.NewConsumerFromClient(r.client); err != nil {
		return nil, errors.Join(err, r.client.Close())
	}
	return r, nil
}

// findStarts finds where the reading of partitions begins, and stores it in from.
func (r *reader) findStarts(ctx context.Context, topic uuid.UUID, from []bus.From) ([]partitionReader, error) {
	starts := make([]partitionReader, len(from))
	for i, f := range from {
		err := retryTemporary(ctx, func() (err error) {
			starts[i], err = r.findStart(topic, f)
			return err
		})
		if err != nil {
			return nil, err
		}
		if f.Next[r.lane].Topic != uuid.Nil {
			from[i].Next[r.lane] = bus.Place{Topic: topic, Offset: starts[i].next}
		}
	}
	return starts, nil
}

// begin reads the partitions from their starts on, except those that it reads already. It answers which it began, also when it fails.
func (r *reader) begin(ctx context.Context, topic uuid.UUID, from []bus.From, starts []partitionReader) (began []int32, err error) {
	for i, f := range from {
		if err := r.waitClosed(ctx, f.Partition); err != nil {
			return began, err
		}
		starts[i].topic = topic
		fresh, err := r.startReading(f.Partition, starts[i])
		if err != nil {
			return began, err
		}
		if fresh {
			began = append(began, f.Partition)
		}
	}
	r.mu.Lock()
	r.begun = true // not before: it would report that it caught up
	r.mu.Unlock()
	return began, nil
}

// waitClosed waits until an earlier reading of a partition is closed.
func (r *reader) waitClosed(ctx context.Context, partition int32) error {
	r.mu.Lock()
	closing := r.closing[partition]
	r.mu.Unlock()
	if closing == nil {
		return nil
	}
	select {
	case <-closing:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("reading %s partition %d: it is still being closed: %w", r.topic, partition, ctx.Err())
	}
}

// end stops the reading of partitions. When it returns, nothing of them is delivered any more.
func (r *reader) end(numbers []int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range numbers {
		p := r.partitions[n]
		if p == nil {
			continue
		}
		p.ended = true
		delete(r.partitions, n)
		done := make(chan struct{})
		r.closing[n] = done
		p.source.AsyncClose()
		r.runs.Go(func() {
			for range p.source.Messages() { // until it is closed
			}
			r.mu.Lock()
			delete(r.closing, n)
			r.mu.Unlock()
			close(done)
		})
	}
	r.caughtUp.Store(false)
	r.room.Broadcast() // for readers of these partitions that wait for room
}

// findStart finds where the reading of a partition begins. It does not use the connection of the reader: there each answer waits behind a fetch.
func (r *reader) findStart(topic uuid.UUID, f bus.From) (partitionReader, error) {
	oldest, err := r.in.health.client.GetOffset(r.topic, f.Partition, sarama.OffsetOldest)
	if err != nil {
		return partitionReader{}, fmt.Errorf("asking for the oldest message of %s partition %d: %w", r.topic, f.Partition, err)
	}
	newest, err := r.in.health.client.GetOffset(r.topic, f.Partition, sarama.OffsetNewest)
	if err != nil {
		return partitionReader{}, fmt.Errorf("asking for the newest message of %s partition %d: %w", r.topic, f.Partition, err)
	}
	at := f.Next[r.lane]
	detail := ""
	switch {
	case at.Topic == uuid.Nil:
		return partitionReader{next: oldest, target: newest}, nil
	case at.Topic != topic:
		detail = fmt.Sprintf("the topic was made anew: the offset is of topic %s, this is topic %s", at.Topic, topic)
	case at.Offset < oldest:
		detail = fmt.Sprintf("offsets %d to %d of partition %d were removed before they were taken", at.Offset, oldest-1, f.Partition)
	case at.Offset > newest:
		detail = fmt.Sprintf("partition %d ends before offset %d, but offset %d was taken already", f.Partition, newest, at.Offset-1)
	default:
		return partitionReader{next: at.Offset, target: newest}, nil
	}
	if r.in.options.Resume != ResumeOldest {
		return partitionReader{}, &bus.LostError{Topic: r.topic, Partition: f.Partition, Detail: detail + "; bus.kafka.resume=oldest continues with what is there"}
	}
	r.in.options.Log.Warn("messages of the inbox were lost; continuing with the oldest that is there", "topic", r.topic, "partition", f.Partition, "detail", detail)
	return partitionReader{next: oldest, target: newest}, nil
}

// startReading delivers the messages of a partition from now on; false: it did so before, or the reader is closed.
func (r *reader) startReading(partition int32, p partitionReader) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.partitions[partition] != nil {
		return false, nil
	}
	source, err := r.consumer.ConsumePartition(r.topic, partition, p.next)
	if err != nil {
		return false, fmt.Errorf("reading %s partition %d: %w", r.topic, partition, err)
	}
	p.source = source
	r.partitions[partition] = &p
	r.caughtUp.Store(false)
	r.runs.Go(func() { r.deliverAll(partition, &p) })
	r.runs.Go(func() { r.handleErrors(partition, &p) })
	return true, nil
}

// deliverAll delivers what is read from a partition until its source is closed.
func (r *reader) deliverAll(partition int32, p *partitionReader) {
	for record := range p.source.Messages() {
		m := bus.Message{Partition: partition, Lane: r.lane, Place: bus.Place{Topic: p.topic, Offset: record.Offset}}
		if key, err := uuid.ParseBytes(record.Key); err == nil {
			m.Key = key
		}
		value, err := r.in.options.Codec.Decode(record.Value)
		if m.Value = value; err != nil {
			m.Value = bus.Malformed{Bytes: record.Value, Err: err}
		}
		if !r.deliver(p, m) {
			return
		}
	}
}

// deliver waits for room in the lane; false: the reading has ended.
func (r *reader) deliver(p *partitionReader, m bus.Message) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		if r.closed || p.ended || r.in.lost.Load() != nil {
			return false
		}
		err := r.in.waiting.Put(m)
		if err == nil {
			p.next = m.Place.Offset + 1
			return true
		}
		if !errors.Is(err, bus.ErrFull) {
			return false
		}
		r.room.Wait()
	}
}

// signalRoom wakes the readers that wait for room.
func (r *reader) signalRoom() {
	r.mu.Lock()
	r.room.Broadcast()
	r.mu.Unlock()
}

// handleErrors counts and logs read errors. The client retries by itself, except when messages are missing.
func (r *reader) handleErrors(partition int32, p *partitionReader) {
	var loggedAt time.Time
	for err := range p.source.Errors() {
		if errors.Is(err.Err, sarama.ErrOffsetOutOfRange) && !r.ended(p) {
			r.in.reportLoss(&bus.LostError{Topic: r.topic, Partition: partition, Detail: fmt.Sprintf("partition %d lost messages that were not taken", partition)})
		}
		r.in.counts.readErrors[r.lane].Add(1)
		if now := time.Now(); now.Sub(loggedAt) > time.Minute {
			loggedAt = now
			r.in.options.Log.Debug("reading a partition of the inbox failed", "topic", r.topic, "partition", partition, "error", err.Err)
		}
	}
}

// ended reports whether a partition is not delivered any more: a loss then concerns its next owner.
func (r *reader) ended(p *partitionReader) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return p.ended
}

// catchingUp reports whether a message that was in the topic when the reading began is not delivered yet.
func (r *reader) catchingUp() bool {
	if r.caughtUp.Load() { // the common case, once for every batch of the owner
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.begun {
		return true
	}
	for _, p := range r.partitions {
		if p.next < p.target {
			return true
		}
	}
	r.caughtUp.Store(true)
	return false
}

// updateTargets sets the targets to the current ends of the topic.
func (r *reader) updateTargets() error {
	r.mu.Lock()
	numbers := slices.Collect(maps.Keys(r.partitions))
	r.mu.Unlock()
	for _, p := range numbers {
		newest, err := r.in.health.client.GetOffset(r.topic, p, sarama.OffsetNewest)
		if err != nil {
			return err
		}
		r.mu.Lock()
		if found := r.partitions[p]; found != nil {
			found.target = newest
		}
		r.caughtUp.Store(false)
		r.mu.Unlock()
	}
	return nil
}

// lag is the number of messages in the topic that were not delivered, as far as it is known.
func (r *reader) lag() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	var n int64
	for _, p := range r.partitions {
		n += max(0, max(p.source.HighWaterMarkOffset(), p.target)-p.next)
	}
	return n
}

func (r *reader) close() error {
	r.mu.Lock()
	r.closed = true
	r.room.Broadcast()
	sources := make([]sarama.PartitionConsumer, 0, len(r.partitions))
	for _, p := range r.partitions {
		sources = append(sources, p.source)
	}
	r.mu.Unlock()
	for _, s := range sources {
		s.AsyncClose()
	}
	for _, s := range sources {
		for range s.Messages() { // until it is closed
		}
	}
	r.runs.Wait()
	return errors.Join(r.consumer.Close(), closedAlready(r.client.Close()))
}
