package kafka

import (
	"errors"
	"fmt"
	"math"
	"time"

	"callchain/engine/bus"

	"github.com/IBM/sarama"
)

// batch is the records of one partition that go together.
type batch struct {
	records  []*record
	encoded  *sarama.RecordBatch
	bytes    int
	began    time.Time // when it could be sent first
	sent     int       // requests that had it
	failures int       // requests and lookups that failed
	retryAt  time.Time
	err      error // of the last attempt
}

// request is a produce request in flight.
type request struct {
	leader   *sarama.Broker
	queues   []*partitionQueue
	bytes    int
	began    time.Time
	message  *sarama.ProduceRequest
	response *sarama.ProduceResponse
	err      error
}

// dispatch sends to each idle leader what waits for its partitions.
func (p *producer) dispatch(now time.Time) {
	if p.fenced { // what is in flight needs new numbers first
		p.renewIdentity(now)
		return
	}
	p.collect(now)
	for _, r := range p.requests {
		p.busy[r.leader] = struct{}{}
		p.background.Go(func() {
			r.response, r.err = r.leader.Produce(r.message)
			select {
			case p.responses <- r:
			case <-p.done:
			}
		})
	}
	clear(p.requests)
}

// collect makes the requests that can be sent now. What does not fit one goes first into the next.
func (p *producer) collect(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	rest := p.ready[:0]
	for _, q := range p.ready {
		switch leader := q.leader(); {
		case q.batch == nil && len(q.queue) == 0: // its records expired
			q.active = false
		case leader == nil:
			q.fillBatch(p.limit(q.topic.name), now)
			p.lookUpLeaders(q.topic, now)
			rest = append(rest, q)
		case !p.addRequest(leader, q, now):
			rest = append(rest, q)
		}
	}
	clear(p.ready[len(rest):])
	p.ready = rest
}

// addRequest adds the batch of a partition to the request to its leader; false: it cannot be sent now.
func (p *producer) addRequest(leader *sarama.Broker, q *partitionQueue, now time.Time) bool {
	if _, busy := p.busy[leader]; busy || q.batch != nil && now.Before(q.batch.retryAt) {
		return false
	}
	r := p.requests[leader]
	if r == nil {
		r = &request{leader: leader, began: now, message: &sarama.ProduceRequest{
			Version: 9, RequiredAcks: sarama.WaitForAll, Timeout: int32(ackTimeout / time.Millisecond),
		}}
		p.requests[leader] = r
	}
	if r.bytes > maxRequestBytes {
		return false
	}
	q.fillBatch(p.limit(q.topic.name), now)
	b := q.batch
	b.sent++
	b.encoded.ProducerID, b.encoded.ProducerEpoch, b.encoded.FirstSequence = p.identity.id, p.identity.epoch, q.sequence
	if !p.idempotent() {
		b.encoded.FirstSequence = -1
	}
	r.message.AddBatch(q.topic.name, q.partition, b.encoded)
	r.queues, r.bytes = append(r.queues, q), r.bytes+b.bytes
	return true
}

func (q *partitionQueue) leader() *sarama.Broker {
	if 0 <= q.partition && int(q.partition) < len(q.topic.leaders) {
		return q.topic.leaders[q.partition]
	}
	return nil
}

// fillBatch makes a batch of what waits, unless there is one already.
func (q *partitionQueue) fillBatch(limit int, now time.Time) {
	if q.batch != nil {
		return
	}
	most := maxBatchRecords
	if q.batchRecords > 0 {
		most = q.batchRecords
	}
	limit = min(maxBatchBytes, limit)
	n, bytes := 0, 0
	for n < len(q.queue) && n < most && (n == 0 || bytes+q.queue[n].bytes <= limit) {
		bytes += q.queue[n].bytes
		n++
	}
	b := &batch{records: q.queue[:n:n], bytes: bytes, began: now}
	if q.queue = q.queue[n:]; len(q.queue) == 0 {
		q.queue = nil
	}
	first := b.records[0].enqueued
	b.encoded = &sarama.RecordBatch{Version: 2, FirstTimestamp: first, MaxTimestamp: first, LastOffsetDelta: int32(n - 1), Records: make([]*sarama.Record, n)}
	for i, r := range b.records {
		r.OffsetDelta, r.TimestampDelta = int64(i), r.enqueued.Sub(first)
		b.encoded.Records[i] = &r.Record
		if r.enqueued.After(b.encoded.MaxTimestamp) {
			b.encoded.MaxTimestamp = r.enqueued
		}
	}
	q.batch = b
}

// complete applies the response to a request.
func (p *producer) complete(r *request) {
	delete(p.busy, r.leader)
	if r.err != nil {
		_ = r.leader.Close() // the next lookup opens it again
	}
	now := time.Now()
	p.mu.Lock()
	for _, q := range r.queues {
		err := r.err
		if err == nil {
			err = sarama.ErrIncompleteResponse
			if block := r.response.GetBlock(q.topic.name, q.partition); block != nil {
				err = block.Err
			}
		}
		p.resolve(q, err, now)
		if q.active = false; q.batch != nil || len(q.queue) > 0 {
			p.activate(q)
		}
	}
	p.mu.Unlock()
	if p.observe == nil {
		return
	}
	failed := 0
	for i := range p.outcomes {
		if p.outcomes[i].err != nil {
			failed++
		}
	}
	p.observe(len(p.outcomes)-failed, failed, now.Sub(r.began))
}

// resolve applies the answer for the batch of a partition.
func (p *producer) resolve(q *partitionQueue, err error, now time.Time) {
	b := q.batch
	switch classify(err) {
	case acknowledged:
		q.sequence = int32((int64(q.sequence) + int64(len(b.records))) & math.MaxInt32)
		if q.batchRecords *= 2; q.batchRecords >= maxBatchRecords {
			q.batchRecords = 0
		}
		q.batch = nil
		p.finish(b.records, nil)
	case rejected:
		p.fenced = p.fenced || p.idempotent() && b.sent > 1 // an earlier attempt may have been written after all
		q.batch = nil
		if n := len(b.records); n > 1 { // one of them, or all together: smaller batches will show
			q.queue, q.batchRecords = append(b.records, q.queue...), n/2
			return
		}
		p.log.Warn("record rejected by the brokers", "topic", q.topic.name, "partition", q.partition, "bytes", b.bytes, "error", err)
		p.finish(b.records, rejection(q.topic.name, b.bytes, err))
	case unknownSequence:
		p.log.Warn("the brokers lost the state of this producer; records may be written twice", "topic", q.topic.name, "partition", q.partition, "error", err)
		p.fenced = true
		p.retry(q, err, now)
	case unknownOutcome:
		p.retry(q, err, now)
	}
}

// rejection is the error of a record that its topic never takes.
func rejection(topic string, bytes int, err error) error {
	if errors.Is(err, sarama.ErrMessageSizeTooLarge) || errors.Is(err, sarama.ErrMessageSetSizeTooLarge) {
		err = fmt.Errorf("%w: %w", bus.ErrTooLarge, err)
	}
	return fmt.Errorf("writing a record of %d bytes to %s: %w", bytes, topic, err)
}

// retry lets the batch of a partition be sent again once its leader was looked up, or gives it up.
func (p *producer) retry(q *partitionQueue, err error, now time.Time) {
	b := q.batch
	b.err = err
	b.failures++
	if !p.idempotent() && b.failures >= p.attempts {
		p.abort(q, fmt.Errorf("%w: topic %s partition %d: %w", bus.ErrAway, q.topic.name, q.partition, err))
	} else if b.failures > 1 { // a connection that was closed while idle, or a leader that moved, needs no wait
		b.retryAt = now.Add(backOff)
	}
	if q.leader() != nil {
		q.topic.leaders[q.partition] = nil
	}
}

// class is what an answer means for a batch.
type class uint8

const (
	unknownOutcome  class = iota // it may be written or not
	acknowledged                 // it is written
	unknownSequence              // the brokers do not know its number any more
	rejected                     // the brokers never take it
)

// What answers mean that are not temporary: a leader moves, a replica returns, a permission is granted.
var classes = map[sarama.KError]class{
	sarama.ErrNoError:                     acknowledged,
	sarama.ErrDuplicateSequenceNumber:     acknowledged,
	sarama.ErrOutOfOrderSequenceNumber:    unknownSequence,
	sarama.ErrUnknownProducerID:           unknownSequence,
	sarama.ErrInvalidProducerEpoch:        unknownSequence,
	sarama.ErrProducerFenced:              unknownSequence,
	sarama.ErrInvalidProducerIDMapping:    unknownSequence,
	sarama.ErrMessageSizeTooLarge:         rejected,
	sarama.ErrMessageSetSizeTooLarge:      rejected,
	sarama.ErrInvalidRecord:               rejected,
	sarama.ErrInvalidTimestamp:            rejected,
	sarama.ErrUnsupportedForMessageFormat: rejected,
}

func classify(err error) class {
	var code sarama.KError
	if errors.As(err, &code) {
		return classes[code]
	}
	return unknownOutcome
}
