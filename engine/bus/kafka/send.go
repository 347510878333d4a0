package kafka

import (
	"errors"
	"fmt"
	"math"
	"time"

	"callchain/engine/bus"

	"github.com/IBM/sarama"
)

// identity is how the brokers know a writer: they drop a batch of it that they have already.
type identity struct {
	id    int64
	epoch int16
}

// batch is the records of one partition that go together.
type batch struct {
	partition int32
	entries   []*entry
	records   *sarama.RecordBatch
	bytes     int
	began     time.Time // when it was sent first
	attempts  int
	flying    bool
	again     time.Time // not before
	met       error     // at the last attempt
}

// flight is a request on its way to a leader.
type flight struct {
	leader   *sarama.Broker
	batches  []*batch
	bytes    int
	began    time.Time
	response *sarama.ProduceResponse
	err      error
}

// sight is what a look at the cluster has found.
type sight struct {
	leaders  []*sarama.Broker
	identity *identity // nil: it was not asked for
	err      error
}

// run writes until stop, and then what is left.
func (w *writer) run() {
	defer close(w.done)
	look := time.NewTicker(backOff)
	defer look.Stop()
	grace := time.NewTimer(time.Hour)
	defer grace.Stop()
	for stop := w.stop; stop != nil || w.waiting() > 0; {
		w.send(time.Now())
		select {
		case <-w.wake:
		case f := <-w.answers:
			w.landed(f)
		case s := <-w.looked:
			w.saw(s)
		case now := <-look.C:
			w.loseHope(now)
		case <-stop:
			stop = nil
			grace.Reset(closeGrace)
		case <-grace.C:
			if stop == nil {
				w.abandon()
			}
		}
	}
}

// send sends to each leader that is idle what waits for its partitions.
func (w *writer) send(now time.Time) {
	if (w.stale || w.unnamed) && !w.looking && !now.Before(w.lookAt) && (!w.unnamed || len(w.flying) == 0) {
		w.look()
	}
	if w.unnamed {
		return // what is under way needs new numbers first
	}
	for _, f := range w.gather(now) {
		w.flying[f.leader] = struct{}{}
		w.asking.Go(func() {
			f.response, f.err = f.leader.Produce(w.request(f))
			select {
			case w.answers <- f:
			case <-w.done:
			}
		})
	}
}

// gather makes the requests that can be sent now.
func (w *writer) gather(now time.Time) map[*sarama.Broker]*flight {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.count == 0 {
		return nil
	}
	flights := map[*sarama.Broker]*flight{}
	for n := range w.parts {
		i := (w.first + n) % len(w.parts)
		p, leader := &w.parts[i], w.leaders[i]
		if p.batch == nil && len(p.queue) == 0 || p.batch != nil && (p.batch.flying || now.Before(p.batch.again)) {
			continue
		}
		if leader == nil {
			w.stale = true
			w.await(p, int32(i), now)
			continue
		}
		if _, busy := w.flying[leader]; busy {
			continue
		}
		f := flights[leader]
		if f == nil {
			f = &flight{leader: leader, began: now}
			flights[leader] = f
		}
		if f.bytes > requestBytes {
			continue
		}
		w.await(p, int32(i), now)
		p.batch.flying, p.batch.attempts = true, p.batch.attempts+1
		f.batches, f.bytes = append(f.batches, p.batch), f.bytes+p.batch.bytes
	}
	w.first = (w.first + 1) % len(w.parts)
	return flights
}

// await makes a batch of what waits for a partition, unless there is one already.
func (w *writer) await(p *outgoing, partition int32, now time.Time) {
	if p.batch != nil {
		return
	}
	most := batchRecords
	if p.most > 0 {
		most = p.most
	}
	limit := min(batchBytes, w.in.limits[w.lane])
	n, bytes := 0, 0
	for n < len(p.queue) && n < most && (n == 0 || bytes+p.queue[n].bytes <= limit) {
		bytes += p.queue[n].bytes
		n++
	}
	b := &batch{partition: partition, entries: p.queue[:n:n], bytes: bytes, began: now}
	if p.queue = p.queue[n:]; len(p.queue) == 0 {
		p.queue = nil
	}
	b.records = &sarama.RecordBatch{
		Version: 2, FirstTimestamp: b.entries[0].put, MaxTimestamp: b.entries[0].put, LastOffsetDelta: int32(n - 1), Records: make([]*sarama.Record, n),
		ProducerID: w.identity.id, ProducerEpoch: w.identity.epoch, FirstSequence: p.sequence,
	}
	for i, e := range b.entries {
		e.record.OffsetDelta, e.record.TimestampDelta = int64(i), e.put.Sub(b.records.FirstTimestamp)
		b.records.Records[i] = e.record
		if e.put.After(b.records.MaxTimestamp) {
			b.records.MaxTimestamp = e.put
		}
	}
	p.batch = b
}

func (w *writer) request(f *flight) *sarama.ProduceRequest {
	r := &sarama.ProduceRequest{Version: 9, RequiredAcks: sarama.WaitForAll, Timeout: int32(ackTimeout / time.Millisecond)}
	for _, b := range f.batches {
		r.AddBatch(w.topic, b.partition, b.records)
	}
	return r
}

// verdict is what an answer means for a batch.
type verdict uint8

const (
	tryAgain verdict = iota // it may be written or not
	written
	renumber // the brokers do not know its number any more
	faulty   // it is refused for what is in it
)

// What other answers mean than that it may pass: a leader moves, a replica returns, a right is granted.
var verdicts = map[sarama.KError]verdict{
	sarama.ErrNoError:                     written,
	sarama.ErrDuplicateSequenceNumber:     written,
	sarama.ErrOutOfOrderSequenceNumber:    renumber,
	sarama.ErrUnknownProducerID:           renumber,
	sarama.ErrInvalidProducerEpoch:        renumber,
	sarama.ErrProducerFenced:              renumber,
	sarama.ErrInvalidProducerIDMapping:    renumber,
	sarama.ErrMessageSizeTooLarge:         faulty,
	sarama.ErrMessageSetSizeTooLarge:      faulty,
	sarama.ErrInvalidRecord:               faulty,
	sarama.ErrInvalidTimestamp:            faulty,
	sarama.ErrUnsupportedForMessageFormat: faulty,
}

func judge(err error) verdict {
	var code sarama.KError
	if errors.As(err, &code) {
		return verdicts[code]
	}
	return tryAgain
}

// landed takes the answer to a request.
func (w *writer) landed(f *flight) {
	delete(w.flying, f.leader)
	if f.err != nil {
		_ = f.leader.Close() // the next request opens it again
	}
	now := time.Now()
	tell := map[*batch]error{}
	records, failed := 0, 0
	w.mu.Lock()
	for _, b := range f.batches {
		err := f.err
		if err == nil {
			err = sarama.ErrIncompleteResponse
			if block := f.response.GetBlock(w.topic, b.partition); block != nil {
				err = block.Err
			}
		}
		if outcome, ended := w.settle(b, err, now); ended {
			tell[b] = outcome
			if records += len(b.entries); outcome != nil {
				failed += len(b.entries)
			}
		}
	}
	w.mu.Unlock()
	w.in.counts.wrote(w.lane, records-failed, failed, now.Sub(f.began))
	for _, b := range f.batches { // in order of the partitions
		if outcome, ended := tell[b]; ended {
			for _, e := range b.entries {
				e.outcome(outcome)
			}
		}
	}
}

// settle takes the answer for a batch; ended: its fate is known.
func (w *writer) settle(b *batch, err error, now time.Time) (outcome error, ended bool) {
	p := &w.parts[b.partition]
	if p.batch != b {
		return nil, false // it was abandoned
	}
	b.flying, b.met = false, err
	switch judge(err) {
	case written:
		p.sequence = int32((int64(p.sequence) + int64(len(b.entries))) & math.MaxInt32)
		if p.most *= 2; p.most >= batchRecords {
			p.most = 0
		}
		p.batch = nil
		w.count -= len(b.entries)
		return nil, true
	case faulty:
		w.unnamed = w.unnamed || b.attempts > 1 // an earlier attempt may have been written after all
		p.batch = nil
		if n := len(b.entries); n > 1 { // one of them, or all together: smaller batches will show
			p.queue, p.most = append(b.entries, p.queue...), n/2
			return nil, false
		}
		w.count--
		w.in.options.Log.Warn("a message cannot be written to the inbox", "topic", w.topic, "partition", b.partition, "bytes", b.bytes, "error", err)
		if errors.Is(err, sarama.ErrMessageSizeTooLarge) || errors.Is(err, sarama.ErrMessageSetSizeTooLarge) {
			err = fmt.Errorf("%w: %w", bus.ErrTooLarge, err)
		}
		return fmt.Errorf("writing to %s: %w", w.topic, err), true
	case renumber:
		w.in.options.Log.Warn("the brokers do not know what was written last; messages of the inbox may be written twice", "topic", w.topic, "partition", b.partition, "error", err)
		w.unnamed = true
	case tryAgain:
	}
	w.leaders[b.partition], w.stale = nil, true
	if b.attempts > 1 { // a connection that was closed while idle, or a leader that moved, needs no wait
		b.again = now.Add(backOff)
	}
	return nil, false
}

// look asks for the leaders of the partitions, and for a new identity if one is needed.
func (w *writer) look() {
	w.looking = true
	unnamed := w.unnamed
	w.asking.Go(func() {
		s := w.find(unnamed)
		select {
		case w.looked <- s:
		case <-w.done:
		}
	})
}

func (w *writer) find(unnamed bool) (s sight) {
	var code sarama.KError
	if err := w.client.RefreshMetadata(w.topic); err != nil && !errors.As(err, &code) {
		s.err = err
		return s // no broker answers
	}
	if unnamed {
		name, err := w.identify()
		if err != nil {
			s.err = err
			return s
		}
		s.identity = &name
	}
	s.leaders = make([]*sarama.Broker, len(w.parts))
	for i := range s.leaders {
		leader, err := w.client.Leader(w.topic, int32(i))
		if err != nil && !errors.As(err, &code) {
			s.err = err
			return s
		}
		s.leaders[i] = leader
	}
	return s
}

// saw takes what a look has found.
func (w *writer) saw(s sight) {
	w.looking, w.lookAt = false, time.Now().Add(backOff)
	if s.err != nil {
		return
	}
	w.stale = false
	for i, leader := range s.leaders {
		w.leaders[i] = leader
		w.stale = w.stale || leader == nil
	}
	if s.identity == nil {
		return
	}
	w.identity, w.unnamed = *s.identity, false
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.parts {
		p := &w.parts[i]
		p.sequence = 0
		if p.batch != nil {
			p.batch.records.ProducerID, p.batch.records.ProducerEpoch, p.batch.records.FirstSequence = w.identity.id, w.identity.epoch, 0
		}
	}
}

// identify asks a broker for an identity of this writer's own.
func (w *writer) identify() (identity, error) {
	broker := w.client.LeastLoadedBroker()
	if broker == nil {
		return identity{}, sarama.ErrOutOfBrokers
	}
	answer, err := broker.InitProducerID(&sarama.InitProducerIDRequest{Version: 4, ProducerID: -1, ProducerEpoch: -1, TransactionTimeout: time.Minute})
	if err != nil {
		_ = broker.Close() // the next request opens it again
		return identity{}, fmt.Errorf("asking for the right to write: %w", err)
	}
	if !errors.Is(answer.Err, sarama.ErrNoError) {
		return identity{}, fmt.Errorf("asking for the right to write: %w", answer.Err)
	}
	return identity{answer.ProducerID, answer.ProducerEpoch}, nil
}
