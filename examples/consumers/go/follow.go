package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/IBM/sarama"
)

// saveEvery bounds how many events are handled again after a crash.
const saveEvery = 100

// reader reads all partitions of the topic.
type reader struct {
	options
	positions positions
	handle    func(*event) (done bool)
	client    sarama.Client
	newest    map[int32]int64 // offsets that --once reads up to
	unsaved   int
}

// follow hands every event to handle once, in the order of each partition, until handle is done or ctx ends.
func follow(ctx context.Context, o options, p positions, handle func(*event) (done bool)) (err error) {
	c := sarama.NewConfig()
	c.ClientID = "callchain-example"
	r := &reader{options: o, positions: p, handle: handle, newest: map[int32]int64{}}
	if r.client, err = sarama.NewClient(o.brokers, c); err != nil {
		return fmt.Errorf("reaching the brokers %v: %w", o.brokers, err)
	}
	defer func() { err = errors.Join(err, r.client.Close()) }()
	consumer, err := sarama.NewConsumerFromClient(r.client)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, consumer.Close()) }()

	ctx, stop := context.WithCancel(ctx)
	messages, lost := make(chan *sarama.ConsumerMessage), make(chan error)
	var partitions sync.WaitGroup
	defer partitions.Wait()
	defer stop()
	numbers, err := r.client.Partitions(o.topic)
	if err != nil {
		return fmt.Errorf("topic %s: %w", o.topic, err)
	}
	for _, n := range numbers {
		source, err := r.open(consumer, n)
		if err != nil {
			return err
		}
		partitions.Go(func() { forward(ctx, source, messages, lost) })
	}
	return errors.Join(r.read(ctx, messages, lost), r.positions.save(o.state))
}

// forward passes the messages of one partition on. The client waits out the times when the brokers are away; it gives up only when the broker no
// longer has what is to be read next.
func forward(ctx context.Context, source sarama.PartitionConsumer, to chan<- *sarama.ConsumerMessage, lost chan<- error) {
	defer source.AsyncClose()
	for {
		select {
		case m, open := <-source.Messages():
			if !open {
				select {
				case lost <- errors.New("the topic was trimmed or made anew while this program read it"):
				case <-ctx.Done():
				}
				return
			}
			select {
			case to <- m:
			case <-ctx.Done():
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// open begins a partition where the last run ended.
func (r *reader) open(consumer sarama.Consumer, partition int32) (sarama.PartitionConsumer, error) {
	newest, err := r.client.GetOffset(r.topic, partition, sarama.OffsetNewest)
	if err != nil {
		return nil, fmt.Errorf("partition %d of %s: %w", partition, r.topic, err)
	}
	oldest, err := r.client.GetOffset(r.topic, partition, sarama.OffsetOldest)
	if err != nil {
		return nil, fmt.Errorf("partition %d of %s: %w", partition, r.topic, err)
	}
	offset := oldest
	if p, begun := r.positions[partition]; begun {
		if offset = p.Offset; offset < oldest || offset > newest {
			return nil, fmt.Errorf("partition %d of %s has the offsets %d to %d, but %s stands at %d: the topic was trimmed or made anew; remove the file to begin with what is there",
				partition, r.topic, oldest, newest, r.state, offset)
		}
	}
	if offset < newest {
		r.newest[partition] = newest
	}
	source, err := consumer.ConsumePartition(r.topic, partition, offset)
	if err != nil {
		return nil, fmt.Errorf("partition %d of %s: %w", partition, r.topic, err)
	}
	return source, nil
}

// read takes messages until it is done, and keeps the positions now and then. What was handled after they were kept last is handled again
// after a crash.
func (r *reader) read(ctx context.Context, messages <-chan *sarama.ConsumerMessage, lost <-chan error) error {
	for !r.once || len(r.newest) > 0 {
		select {
		case m := <-messages:
			done, err := r.take(m)
			if err != nil || done {
				return err
			}
		case err := <-lost:
			return err
		case <-ctx.Done():
			return nil
		}
		if r.unsaved >= saveEvery {
			if err := r.positions.save(r.state); err != nil {
				return err
			}
			r.unsaved = 0
		}
	}
	return nil
}

// take hands a message over, unless it came before: the server publishes at least once.
func (r *reader) take(m *sarama.ConsumerMessage) (done bool, err error) {
	var e event
	if err := json.Unmarshal(m.Value, &e); err != nil {
		return false, fmt.Errorf("partition %d, offset %d: %w", m.Partition, m.Offset, err)
	}
	last, begun := r.positions[m.Partition]
	switch {
	case begun && e.Seq > last.Seq+1:
		return false, fmt.Errorf("partition %d: event %d follows %d: events in between are missing", m.Partition, e.Seq, last.Seq)
	case e.Seq > last.Seq:
		done, last.Seq = r.handle(&e), e.Seq
	}
	last.Offset = m.Offset + 1
	r.positions[m.Partition] = last
	r.unsaved++
	if last.Offset >= r.newest[m.Partition] {
		delete(r.newest, m.Partition)
	}
	return done, nil
}
