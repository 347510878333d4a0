package kafka

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"callchain/engine/bus"

	"github.com/IBM/sarama"
)

// manualProducer is a producer whose requests the test takes and answers: nothing runs, and no broker is asked.
type manualProducer struct {
	*producer
	t        *testing.T
	leader   *sarama.Broker
	now      time.Time
	outcomes []string // "index" of an acknowledged record, "index: error" of another
}

const manualTopic = "topic"

func newManualProducer(t *testing.T, attempts int) *manualProducer {
	t.Helper()
	p := newProducer(producerOptions{
		log: slog.New(slog.DiscardHandler), attempts: attempts, expiry: sendTimeout, maxRecords: 10, maxBytes: 4_000, limit: func(string) int { return 1_000 },
	})
	return &manualProducer{producer: p, t: t, leader: sarama.NewBroker("127.0.0.1:1"), now: time.Now()}
}

// note stores an outcome.
func (m *manualProducer) note(index int, err error) {
	text := fmt.Sprint(index)
	for name, sentinel := range map[string]error{"away": bus.ErrAway, "too large": bus.ErrTooLarge} {
		if errors.Is(err, sentinel) {
			text += ": " + name
		}
	}
	m.outcomes = append(m.outcomes, text)
}

type noted struct{ m *manualProducer }

func (n noted) complete(index int, err error) { n.m.note(index, err) }

// put enqueues records of these sizes, numbered from first.
func (m *manualProducer) put(partition int32, priority bool, first int, sizes ...int) error {
	records := make([]*record, len(sizes))
	for i, size := range sizes {
		records[i] = &record{partition: partition, index: first + i, bytes: size, priority: priority, enqueued: m.now, done: noted{m}}
	}
	err := m.enqueue(manualTopic, priority, records...)
	if t := m.topics[manualTopic]; t != nil {
		t.leaders = []*sarama.Broker{m.leader, m.leader, m.leader}
	}
	return err
}

func (m *manualProducer) mustPut(partition int32, first int, sizes ...int) {
	m.t.Helper()
	if err := m.put(partition, false, first, sizes...); err != nil {
		m.t.Fatal(err)
	}
}

// next is the request that is sent now, nil if there is none.
func (m *manualProducer) next() *request {
	if t := m.topics[manualTopic]; t != nil {
		t.leaders = []*sarama.Broker{m.leader, m.leader, m.leader}
	}
	clear(m.requests)
	m.collect(m.now)
	r := m.requests[m.leader]
	if r != nil {
		m.busy[r.leader] = struct{}{}
	}
	return r
}

// answer answers a request: code is for all its partitions.
func (m *manualProducer) answer(r *request, code sarama.KError) {
	blocks := map[int32]*sarama.ProduceResponseBlock{}
	for _, q := range r.queues {
		blocks[q.partition] = &sarama.ProduceResponseBlock{Err: code}
	}
	r.response = &sarama.ProduceResponse{Blocks: map[string]map[int32]*sarama.ProduceResponseBlock{manualTopic: blocks}}
	m.producer.complete(r)
	m.report()
}

// wantBatch: the request has one partition, whose batch has these records and this number.
func (m *manualProducer) wantBatch(r *request, sequence int32, indexes ...int) {
	m.t.Helper()
	if r == nil || len(r.queues) != 1 {
		m.t.Fatalf("the request is %+v, want one with a batch", r)
	}
	b := r.queues[0].batch
	var got []int
	for i, one := range b.records {
		if b.encoded.Records[i] != &one.Record || one.OffsetDelta != int64(i) {
			m.t.Errorf("record %d is not encoded at its place", one.index)
		}
		got = append(got, one.index)
	}
	if !slices.Equal(got, indexes) || b.encoded.FirstSequence != sequence {
		m.t.Fatalf("the batch has records %v from sequence %d on, want %v from %d on", got, b.encoded.FirstSequence, indexes, sequence)
	}
}

func (m *manualProducer) wantOutcomes(want ...string) {
	m.t.Helper()
	if !slices.Equal(m.outcomes, want) {
		m.t.Fatalf("the outcomes are %q, want %q", m.outcomes, want)
	}
	m.outcomes = nil
}

// What waits is bounded in records and in bytes, with priority at twice as many.
func TestProducerIsBounded(t *testing.T) {
	m := newManualProducer(t, 0)
	m.mustPut(0, 0, slices.Repeat([]int{1}, 10)...)
	if err := m.put(0, false, 10, 1); !errors.Is(err, bus.ErrFull) {
		t.Errorf("the eleventh record: %v", err)
	}
	for i := range 10 {
		if err := m.put(0, true, 10+i, 1); err != nil {
			t.Errorf("record %d with priority: %v", 10+i, err)
		}
	}
	if err := m.put(0, true, 20, 1); !errors.Is(err, bus.ErrFull) {
		t.Errorf("record 20 with priority: %v", err)
	}
	m.answer(m.next(), sarama.ErrNoError)
	if m.pending() != 0 || m.bytes != 0 {
		t.Errorf("%d records with %d bytes are left", m.pending(), m.bytes)
	}
	m.mustPut(0, 0, 2_000, 2_000)
	if err := m.put(0, false, 2, 1); !errors.Is(err, bus.ErrFull) {
		t.Errorf("a record beyond the bytes: %v", err)
	}
	if err := m.put(0, true, 2, 1); err != nil {
		t.Errorf("a record with priority beyond the bytes: %v", err)
	}
	m.refuse()
	if err := m.put(0, true, 3, 1); !errors.Is(err, bus.ErrClosed) {
		t.Errorf("a record after the end: %v", err)
	}
}

// A batch takes what its topic takes, in order, and a record that is larger goes alone. The next one follows when the first is acknowledged.
func TestBatchIsBoundedInBytes(t *testing.T) {
	m := newManualProducer(t, 0)
	m.mustPut(1, 0, 400, 600, 300, 1_500, 400)
	for _, want := range [][]int{{0, 1}, {2}, {3}, {4}} {
		r := m.next()
		m.wantBatch(r, int32(want[0]), want...)
		if again := m.next(); again != nil {
			t.Fatalf("a second request is in flight: %+v", again)
		}
		m.answer(r, sarama.ErrNoError)
	}
	m.wantOutcomes("0", "1", "2", "3", "4")
	if m.next() != nil || m.topics[manualTopic].partitions[1].active {
		t.Error("the partition is still served")
	}
}

// A request has at most its bytes, and what does not fit one goes first into the next.
func TestRequestIsBoundedInBytes(t *testing.T) {
	m := newManualProducer(t, 0)
	m.maxBytes, m.producerOptions.limit = 100<<20, func(string) int { return maxBatchBytes }
	for p := range int32(3) {
		m.mustPut(p, int(p), maxRequestBytes+1)
	}
	for p := range int32(3) {
		if p == 1 {
			m.mustPut(0, 3, 1)
		}
		r := m.next()
		m.wantBatch(r, 0, int(p))
		if m.next() != nil {
			t.Fatal("a second request to the leader is in flight")
		}
		m.answer(r, sarama.ErrNoError)
	}
}

// An idempotent producer retries the same batch with the same number, whatever comes meanwhile, and counts records.
func TestIdempotentProducerRetries(t *testing.T) {
	m := newManualProducer(t, 0)
	m.mustPut(0, 0, 1, 1)
	for n := range 5 {
		r := m.next()
		m.wantBatch(r, 0, 0, 1)
		m.answer(r, sarama.ErrNotLeaderForPartition)
		m.now = time.Now()
		if again := m.next(); n == 0 && again == nil || n > 0 && again != nil {
			t.Fatalf("after %d attempts the request is %+v: only the first retry is at once", n+1, again)
		} else if n == 0 {
			m.answer(again, sarama.ErrNotLeaderForPartition)
		}
		m.now = time.Now().Add(2 * backOff)
	}
	m.mustPut(0, 2, 1)
	r := m.next()
	m.wantBatch(r, 0, 0, 1)
	m.answer(r, sarama.ErrDuplicateSequenceNumber)
	m.wantOutcomes("0", "1")
	r = m.next()
	m.wantBatch(r, 2, 2)
	m.answer(r, sarama.ErrOutOfOrderSequenceNumber)
	if !m.fenced {
		t.Fatal("the producer goes on with numbers that the brokers do not know")
	}
	m.applyIdentity(identity{7, 1}, nil)
	m.now = m.now.Add(2 * backOff)
	r = m.next()
	m.wantBatch(r, 0, 2)
	if e := r.queues[0].batch.encoded; e.ProducerID != 7 || e.ProducerEpoch != 1 || m.fenced {
		t.Errorf("the batch is of producer %d, epoch %d; fenced: %t", e.ProducerID, e.ProducerEpoch, m.fenced)
	}
	m.answer(r, sarama.ErrNoError)
	m.wantOutcomes("2")
}

// Any other producer gives a batch up, and all that waits behind it in its partition: none may be kept before it.
func TestProducerGivesUp(t *testing.T) {
	m := newManualProducer(t, 2)
	m.mustPut(0, 0, 600, 600)
	m.mustPut(1, 2, 1)
	r := m.next()
	if len(r.queues) != 2 {
		t.Fatalf("the request has %d partitions", len(r.queues))
	}
	r.err = errors.New("connection lost")
	m.answer(r, sarama.ErrNoError)
	m.wantOutcomes()
	m.answer(m.next(), sarama.ErrNotEnoughReplicas)
	m.wantOutcomes("0: away", "1: away", "2: away")
	if m.pending() != 0 || m.bytes != 0 {
		t.Errorf("%d records with %d bytes are left", m.pending(), m.bytes)
	}
	m.mustPut(0, 3, 1)
	r = m.next()
	m.wantBatch(r, -1, 3)
	m.answer(r, sarama.ErrNoError)
	m.wantOutcomes("3")
}

// Of a topic that nobody knows nothing is kept, neither its records nor its name.
func TestProducerForgetsUnknownTopic(t *testing.T) {
	m := newManualProducer(t, 2)
	m.mustPut(0, 0, 1)
	topic := m.topics[manualTopic]
	topic.leaders, topic.lookingUp = nil, true // by hand below
	for range 2 {
		m.collect(m.now)
		m.applyLeaders(topic, nil, sarama.ErrUnknownTopicOrPartition)
		topic.lookingUp = true
	}
	m.report()
	m.wantOutcomes("0: away")
	if len(m.topics) != 0 {
		t.Error("the topic is still there")
	}
}

// A sender without priority gets its outcome once, after the timeout. What was not sent is taken back; what was is retried.
func TestRecordsExpire(t *testing.T) {
	m := newManualProducer(t, 0)
	m.mustPut(0, 0, 600)
	r := m.next()
	m.mustPut(0, 1, 600)
	if err := m.put(0, true, 2, 600); err != nil {
		t.Fatal(err)
	}
	for _, after := range []time.Duration{sendTimeout, sendTimeout + time.Millisecond, 2 * sendTimeout} {
		m.expire(m.now.Add(after))
		m.report()
		if after == sendTimeout {
			m.wantOutcomes()
		}
	}
	m.wantOutcomes("0: away", "1: away")
	if m.pending() != 2 || m.bytes != 1_200 {
		t.Errorf("%d records with %d bytes are left, want those in flight and with priority", m.pending(), m.bytes)
	}
	m.answer(r, sarama.ErrNoError)
	r = m.next()
	m.wantBatch(r, 1, 2)
	m.answer(r, sarama.ErrNoError)
	m.wantOutcomes("2")
}

// A rejected batch is sent in halves, until the record that is to blame is alone. All others are kept, in order.
func TestRejectedBatchIsSplit(t *testing.T) {
	m := newManualProducer(t, 0)
	m.mustPut(0, 0, 1, 1, 1, 1)
	sequence := int32(0)
	var got []int
	for r := m.next(); r != nil; r = m.next() {
		if m.outcomes == nil && m.pending() == 4 {
			m.mustPut(0, 4, 1)
		}
		b := r.queues[0].batch
		if b.encoded.FirstSequence != sequence {
			t.Fatalf("a batch has the sequence %d, want %d", b.encoded.FirstSequence, sequence)
		}
		if slices.ContainsFunc(b.records, func(r *record) bool { return r.index == 2 }) {
			m.answer(r, sarama.ErrMessageSizeTooLarge)
			continue
		}
		for _, one := range b.records {
			got = append(got, one.index)
		}
		sequence += int32(len(b.records))
		m.answer(r, sarama.ErrNoError)
	}
	if !slices.Equal(got, []int{0, 1, 3, 4}) {
		t.Errorf("%v were written", got)
	}
	m.wantOutcomes("0", "1", "2: too large", "3", "4")
	if m.fenced || m.pending() != 0 {
		t.Errorf("fenced: %t; %d records are left", m.fenced, m.pending())
	}
}

// When an earlier attempt of a rejected batch may have been written, the numbers of the brokers are unknown.
func TestRejectedBatchAfterRetry(t *testing.T) {
	m := newManualProducer(t, 0)
	m.mustPut(0, 0, 1)
	m.answer(m.next(), sarama.ErrRequestTimedOut)
	m.answer(m.next(), sarama.ErrInvalidRecord)
	m.wantOutcomes("0")
	if !m.fenced {
		t.Error("the producer goes on with the same numbers")
	}
}

// A Publish reports unknown outcomes and refusals apart, and ends with the last of its records.
func TestPublicationOfRecords(t *testing.T) {
	call := &publication{unresolved: 4, done: make(chan struct{})}
	for i, err := range []error{nil, fmt.Errorf("no leader: %w", bus.ErrAway), rejection("t", 1, sarama.ErrMessageSizeTooLarge), nil} {
		select {
		case <-call.done:
			t.Fatalf("it ended before record %d", i)
		default:
		}
		call.complete(i, err)
	}
	<-call.done
	if p := call.partly; !slices.Equal(p.Missed, []int{1}) || !slices.Equal(p.Refused, []int{2}) || !errors.Is(p.Err, sarama.ErrMessageSizeTooLarge) {
		t.Errorf("it reports %+v", p)
	}
}

// At the end all that waits has an outcome, once.
func TestProducerAbandons(t *testing.T) {
	m := newManualProducer(t, 0)
	m.mustPut(0, 0, 600)
	m.next()
	m.mustPut(0, 1, 600)
	m.abandon()
	m.report()
	m.wantOutcomes("0: away", "1: away")
	if m.pending() != 0 {
		t.Errorf("%d records are left", m.pending())
	}
}
