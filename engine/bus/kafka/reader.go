package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"callchain/engine/bus"

	"github.com/IBM/sarama"
	"github.com/google/uuid"
)

// reader reads a lane. Each lane has connections of its own: a fetch answers for all partitions of its connection at once, so a flood of data on
// the same one would hold up the calls.
type reader struct {
	in       *Inbox
	lane     bus.Lane
	topic    string
	client   sarama.Client
	consumer sarama.Consumer

	mu      sync.Mutex
	room    *sync.Cond // signalled when messages were taken
	parts   map[int32]*part
	closing map[int32]chan struct{} // partitions whose source has not ended yet: only then it may be opened anew
	begun   bool
	ended   bool

	caughtUp atomic.Bool // all targets are passed; cleared with every new one
	runs     sync.WaitGroup
}

// part is a partition that is read.
type part struct {
	topic  uuid.UUID // as it was when the reading began
	source sarama.PartitionConsumer
	next   int64 // the offset after the last one that was handed over
	target int64 // what was kept when the reading began, or went on, ends before this offset
	over   bool  // it is not to be handed over any more
}

func openReader(in *Inbox, lane bus.Lane) (*reader, error) {
	c, err := in.options.consumerConfig("inbox-reader")
	if err != nil {
		return nil, err
	}
	r := &reader{in: in, lane: lane, topic: in.options.Prefix + laneTopics[lane], parts: map[int32]*part{}, closing: map[int32]chan struct{}{}}
	r.room = sync.NewCond(&r.mu)
	if r.client, err = sarama.NewClient(in.options.Brokers, c); err != nil {
		return nil, err
	}
	if r.consumer, err = sarama.NewConsumerFromClient(r.client); err != nil {
		return nil, errors.Join(err, r.client.Close())
	}
	return r, nil
}

// starts finds where the reading of partitions begins, and notes it in from.
func (r *reader) starts(ctx context.Context, topic uuid.UUID, from []bus.From) ([]part, error) {
	starts := make([]part, len(from))
	for i, f := range from {
		err := insist(ctx, func() (err error) {
			starts[i], err = r.start(topic, f)
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

// begin reads the partitions from their starts on, but those that it reads already. It answers which it began, also when it fails.
func (r *reader) begin(ctx context.Context, topic uuid.UUID, from []bus.From, starts []part) (began []int32, err error) {
	for i, f := range from {
		if err := r.closed(ctx, f.Partition); err != nil {
			return began, err
		}
		starts[i].topic = topic
		fresh, err := r.read(f.Partition, starts[i])
		if err != nil {
			return began, err
		}
		if fresh {
			began = append(began, f.Partition)
		}
	}
	r.mu.Lock()
	r.begun = true // not before: it would not be behind what it does not know
	r.mu.Unlock()
	return began, nil
}

// closed waits until a partition that was read before is not read any more.
func (r *reader) closed(ctx context.Context, partition int32) error {
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

// end stops the reading of partitions. When it returns, nothing of them is handed over any more.
func (r *reader) end(partitions []int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range partitions {
		p := r.parts[n]
		if p == nil {
			continue
		}
		p.over = true
		delete(r.parts, n)
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
	r.room.Broadcast() // for those that wait to hand over what is not wanted any more
}

// start finds where the reading of a partition begins. It does not ask on the connection that is read from: there, each answer waits behind a fetch.
func (r *reader) start(topic uuid.UUID, f bus.From) (part, error) {
	oldest, err := r.in.health.client.GetOffset(r.topic, f.Partition, sarama.OffsetOldest)
	if err != nil {
		return part{}, fmt.Errorf("asking for the oldest message of %s partition %d: %w", r.topic, f.Partition, err)
	}
	newest, err := r.in.health.client.GetOffset(r.topic, f.Partition, sarama.OffsetNewest)
	if err != nil {
		return part{}, fmt.Errorf("asking for the newest message of %s partition %d: %w", r.topic, f.Partition, err)
	}
	at := f.Next[r.lane]
	detail := ""
	switch {
	case at.Topic == uuid.Nil:
		return part{next: oldest, target: newest}, nil
	case at.Topic != topic:
		detail = fmt.Sprintf("the topic was made anew: the position is in topic %s, this is topic %s", at.Topic, topic)
	case at.Offset < oldest:
		detail = fmt.Sprintf("the offsets %d to %d of partition %d were removed before they were taken", at.Offset, oldest-1, f.Partition)
	case at.Offset > newest:
		detail = fmt.Sprintf("partition %d ends before offset %d, but offset %d was taken already", f.Partition, newest, at.Offset-1)
	default:
		return part{next: at.Offset, target: newest}, nil
	}
	if r.in.options.Resume != ResumeOldest {
		return part{}, &bus.LostError{Topic: r.topic, Partition: f.Partition, Detail: detail + "; bus.kafka.resume=oldest goes on with what is there"}
	}
	r.in.options.Log.Warn("messages of the inbox were lost; going on with the oldest that is there", "topic", r.topic, "partition", f.Partition, "detail", detail)
	return part{next: oldest, target: newest}, nil
}

// read hands over the messages of a partition from now on; false: it did so before, or the inbox has ended.
func (r *reader) read(partition int32, p part) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended || r.parts[partition] != nil {
		return false, nil
	}
	source, err := r.consumer.ConsumePartition(r.topic, partition, p.next)
	if err != nil {
		return false, fmt.Errorf("reading %s partition %d: %w", r.topic, partition, err)
	}
	p.source = source
	r.parts[partition] = &p
	r.caughtUp.Store(false)
	r.runs.Go(func() { r.messages(partition, &p) })
	r.runs.Go(func() { r.errors(partition, &p) })
	return true, nil
}

func (r *reader) messages(partition int32, p *part) {
	for record := range p.source.Messages() {
		m := bus.Message{Partition: partition, Lane: r.lane, Place: bus.Place{Topic: p.topic, Offset: record.Offset}}
		if key, err := uuid.ParseBytes(record.Key); err == nil {
			m.Key = key
		}
		value, err := r.in.options.Codec.Decode(record.Value)
		if m.Value = value; err != nil {
			m.Value = bus.Malformed{Bytes: record.Value, Err: err}
		}
		if !r.handOver(p, m) {
			return
		}
	}
}

// handOver waits for room in the lane; false: the inbox is closed.
func (r *reader) handOver(p *part, m bus.Message) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		if r.ended || p.over || r.in.lost.Load() != nil {
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

// madeRoom lets those go on that wait for room.
func (r *reader) madeRoom() {
	r.mu.Lock()
	r.room.Broadcast()
	r.mu.Unlock()
}

// errors looks at what keeps a partition from being read. The client tries again by itself, but for what is gone.
func (r *reader) errors(partition int32, p *part) {
	var told time.Time
	for err := range p.source.Errors() {
		if errors.Is(err.Err, sarama.ErrOffsetOutOfRange) && !r.over(p) {
			r.in.losing(&bus.LostError{Topic: r.topic, Partition: partition, Detail: fmt.Sprintf("partition %d lost messages that were not taken", partition)})
		}
		r.in.counts.readErrors[r.lane].Add(1)
		if now := time.Now(); now.Sub(told) > time.Minute {
			told = now
			r.in.options.Log.Debug("a partition of the inbox cannot be read now", "topic", r.topic, "partition", partition, "error", err.Err)
		}
	}
}

// over tells whether a partition is not to be handed over any more: what becomes of it then is for its next owner to see.
func (r *reader) over(p *part) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return p.over
}

// behind tells whether something that was kept when the reading began is not handed over.
func (r *reader) behind() bool {
	if r.caughtUp.Load() { // it is asked for with every batch
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.begun {
		return true
	}
	for _, p := range r.parts {
		if p.next < p.target {
			return true
		}
	}
	r.caughtUp.Store(true)
	return false
}

// lookAhead sets the targets to what is kept now.
func (r *reader) lookAhead() error {
	r.mu.Lock()
	partitions := make([]int32, 0, len(r.parts))
	for p := range r.parts {
		partitions = append(partitions, p)
	}
	r.mu.Unlock()
	for _, p := range partitions {
		newest, err := r.in.health.client.GetOffset(r.topic, p, sarama.OffsetNewest)
		if err != nil {
			return err
		}
		r.mu.Lock()
		if part := r.parts[p]; part != nil {
			part.target = newest
		}
		r.caughtUp.Store(false)
		r.mu.Unlock()
	}
	return nil
}

// lag is the number of messages that are known to be kept and were not handed over.
func (r *reader) lag() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	var n int64
	for _, p := range r.parts {
		n += max(0, max(p.source.HighWaterMarkOffset(), p.target)-p.next)
	}
	return n
}

func (r *reader) close() error {
	r.mu.Lock()
	r.ended = true
	r.room.Broadcast()
	sources := make([]sarama.PartitionConsumer, 0, len(r.parts))
	for _, p := range r.parts {
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
