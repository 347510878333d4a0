package kafka

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"callchain/engine/bus"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill/message"
)

// batchPublisher is a message.Publisher that sends all messages of a Publish at once. Watermill's own waits for each acknowledgement before it sends the
// next, which is too slow for every committed event; and the client library's producer may write a batch when it has given up the one before it, so
// that a reader who drops what is at or below its last one would lose events. Here a partition has one batch on its way, and the next follows
// when that is acknowledged or refused. A batch may be written twice.
type batchPublisher struct {
	options *Options
	client  sarama.Client
	most    map[string]int // bytes of a batch, by topic
}

func newBatchPublisher(o *Options, most limits) (*batchPublisher, error) {
	c, err := o.config("batches")
	if err != nil {
		return nil, err
	}
	client, err := sarama.NewClient(o.Brokers, c)
	if err != nil {
		return nil, err
	}
	return &batchPublisher{options: o, client: client, most: map[string]int{
		o.Prefix + string(bus.Events): most.events, o.Prefix + string(bus.DeadLetters): most.letters,
	}}, nil
}

// publishTries is how often a batch is sent in one Publish: a connection that was closed while idle, or a leader that moved, needs no wait of the caller.
const publishTries = 2

// column is what a partition is to take, in order.
type column struct {
	partition int32
	queue     []queued
	sent      int // records of the batch that is on its way
	most      int // records of the next batch; 0: as many as fit
	tries     int
	met       error
}

// queued is a record, and its place in what was given to Publish.
type queued struct {
	index  int
	bytes  int
	record *sarama.Record
}

// Publish implements message.Publisher. Its error is a *bus.PartlyError when a broker was asked.
func (p *batchPublisher) Publish(topic string, messages ...*message.Message) error {
	columns, err := columnsOf(topic, messages)
	if err != nil {
		return err
	}
	partly := &bus.PartlyError{Topic: bus.Topic(strings.TrimPrefix(topic, p.options.Prefix))}
	for left := columns; len(left) > 0; {
		again := false
		p.round(topic, left)
		rest := left[:0:0]
		for _, c := range left {
			p.settle(c, partly)
			switch {
			case len(c.queue) == 0:
			case c.tries < publishTries:
				again = again || c.tries > 0
				rest = append(rest, c)
			default:
				for _, q := range c.queue {
					partly.Missed = append(partly.Missed, q.index)
				}
				partly.Err = fmt.Errorf("partition %d: %w", c.partition, c.met)
			}
		}
		left = rest
		if again {
			_ = p.client.RefreshMetadata(topic) // if it fails, so does the next attempt, and tells why
		}
	}
	slices.Sort(partly.Refused)
	slices.Sort(partly.Missed)
	if partly.Err != nil {
		return partly
	}
	return nil
}

// columnsOf sorts messages by partition.
func columnsOf(topic string, messages []*message.Message) ([]*column, error) {
	var columns []*column
	of := map[int32]*column{}
	for i, m := range messages {
		out, err := (marshaler{}).Marshal(topic, m)
		if err != nil {
			return nil, err
		}
		c := of[out.Partition]
		if c == nil {
			c = &column{partition: out.Partition}
			of[out.Partition], columns = c, append(columns, c)
		}
		key := []byte(m.Metadata[metaKey])
		q := queued{index: i, bytes: recordOverhead + len(key) + len(m.Payload), record: &sarama.Record{Key: key, Value: m.Payload}}
		for h := range out.Headers {
			q.record.Headers = append(q.record.Headers, &out.Headers[h])
			q.bytes += len(out.Headers[h].Key) + len(out.Headers[h].Value) + recordOverhead
		}
		c.queue = append(c.queue, q)
	}
	return columns, nil
}

// round sends the next batch of each partition, and waits for the answers.
func (p *batchPublisher) round(topic string, columns []*column) {
	byLeader := map[*sarama.Broker][]*column{}
	room := map[*sarama.Broker]int{}
	for _, c := range columns {
		c.sent = 0
		if c.queue[0].bytes > MessageBytesMax {
			c.sent, c.met = 1, sarama.ErrMessageSizeTooLarge // a request of that size might be no request for the broker
			continue
		}
		leader, err := p.client.Leader(topic, c.partition)
		if err != nil {
			c.met = err
			continue
		}
		if room[leader] > requestBytes {
			c.met = errLater
			continue
		}
		c.gather(min(batchBytes, p.limit(topic)))
		for _, q := range c.queue[:c.sent] {
			room[leader] += q.bytes
		}
		byLeader[leader] = append(byLeader[leader], c)
	}
	var asking sync.WaitGroup
	for leader, of := range byLeader {
		asking.Go(func() { send(leader, topic, of) })
	}
	asking.Wait()
}

// limit is how many bytes a batch of a topic may have.
func (p *batchPublisher) limit(topic string) int {
	if most, known := p.most[topic]; known {
		return most
	}
	return MessageBytesMax - batchOverhead
}

// errLater: the request was full; the next one is for this partition, too.
var errLater = errors.New("the request was full")

// gather counts the records of the next batch.
func (c *column) gather(limit int) {
	most := batchRecords
	if c.most > 0 {
		most = c.most
	}
	bytes := 0
	for c.sent < len(c.queue) && c.sent < most && (c.sent == 0 || bytes+c.queue[c.sent].bytes <= limit) {
		bytes += c.queue[c.sent].bytes
		c.sent++
	}
}

// send sends a batch of each column to their leader, and notes what it met.
func send(leader *sarama.Broker, topic string, columns []*column) {
	request := &sarama.ProduceRequest{Version: 9, RequiredAcks: sarama.WaitForAll, Timeout: int32(ackTimeout / time.Millisecond)}
	now := time.Now()
	for _, c := range columns {
		b := &sarama.RecordBatch{
			Version: 2, FirstTimestamp: now, MaxTimestamp: now, LastOffsetDelta: int32(c.sent - 1), ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1,
		}
		for i, q := range c.queue[:c.sent] {
			q.record.OffsetDelta = int64(i)
			b.Records = append(b.Records, q.record)
		}
		request.AddBatch(topic, c.partition, b)
	}
	answer, err := leader.Produce(request)
	if err != nil {
		_ = leader.Close() // the next request opens it again
	}
	for _, c := range columns {
		c.met = err
		if err != nil {
			continue
		}
		c.met = sarama.ErrIncompleteResponse
		if block := answer.GetBlock(topic, c.partition); block != nil {
			c.met = block.Err
		}
	}
}

// settle takes the answer for a column's batch.
func (p *batchPublisher) settle(c *column, partly *bus.PartlyError) {
	switch verdict := judge(c.met); {
	case verdict == written:
		c.queue, c.most, c.tries = c.queue[c.sent:], 2*c.most, 0
	case verdict == faulty && c.sent > 1: // one of them, or all together: smaller batches will show
		c.most, c.tries = c.sent/2, 0
	case verdict == faulty:
		partly.Refused = append(partly.Refused, c.queue[0].index)
		partly.Err = fmt.Errorf("a record of %d bytes: %w", c.queue[0].bytes, c.met)
		c.queue, c.tries = c.queue[1:], 0
	case errors.Is(c.met, errLater):
	default:
		c.tries++
	}
}

// Close implements message.Publisher.
func (p *batchPublisher) Close() error { return closedAlready(p.client.Close()) }
