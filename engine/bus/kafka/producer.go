package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"callchain/engine/bus"

	"github.com/IBM/sarama"
)

// producer writes records to topics, over connections of its own. A partition has one batch in flight; the next gathers meanwhile, so no record
// waits for a timer, and none overtakes another of its partition.
//
// An idempotent producer numbers a batch once and retries it, however long the brokers are away: they drop a batch that they have already. (The
// client library's producer gives a batch up when its leader is away, and a record that is sent again then has another number.) Any other
// producer gives a batch up after some attempts, and with it all records that wait behind it in the partition; a batch may be written twice.
type producer struct {
	producerOptions
	client sarama.Client

	mu      sync.Mutex
	topics  map[string]*topicQueues
	queues  []*partitionQueue // of all topics
	ready   []*partitionQueue // with records to send, and none in flight
	records int               // without an outcome
	bytes   int               // of these records
	closed  bool

	wake       chan struct{}
	responses  chan *request
	results    chan func() // of lookups
	stop       chan struct{}
	done       chan struct{}
	background sync.WaitGroup // requests and lookups

	// Only run uses these.
	identity   identity
	fenced     bool // it needs a new identity
	renewing   bool
	renewAfter time.Time
	busy       map[*sarama.Broker]struct{} // with a request in flight
	requests   map[*sarama.Broker]*request // that dispatch makes
	outcomes   []outcome                   // not reported yet
}

// producerOptions are what distinguishes one producer from another.
type producerOptions struct {
	purpose    string // part of the client id
	log        *slog.Logger
	attempts   int                    // of a batch; 0: the producer is idempotent
	expiry     time.Duration          // after which a record without priority completes with bus.ErrAway; 0: never
	maxRecords int                    // without an outcome; twice as many with priority
	maxBytes   int                    // likewise
	limit      func(topic string) int // bytes of a batch
	observe    func(acknowledged, failed int, took time.Duration)
}

// record is a record on its way, and who waits for its outcome.
type record struct {
	sarama.Record
	partition int32
	index     int // for done
	bytes     int
	enqueued  time.Time
	priority  bool
	reported  bool       // only run uses it
	done      completion // it may be nil
}

// completion is called once for a record: err is nil when the brokers have it, wraps bus.ErrAway when its outcome is unknown, and is another one
// when they never take it. It must not block.
type completion interface {
	complete(index int, err error)
}

type outcome struct {
	record *record
	err    error
}

// topicQueues are the partitions of a topic that had records to write.
type topicQueues struct {
	name        string
	partitions  map[int32]*partitionQueue
	leaders     []*sarama.Broker // by partition; only run uses it
	lookingUp   bool
	lookUpAfter time.Time
}

// partitionQueue is what a partition has to write.
type partitionQueue struct {
	topic        *topicQueues
	partition    int32
	active       bool // it is in ready, or in flight
	queue        []*record
	batch        *batch
	sequence     int32 // of the next record
	batchRecords int   // of the next batch, at most; 0: as many as fit
}

// The bounds of a batch, and the time that close waits.
const (
	maxBatchRecords = 2_000
	maxBatchBytes   = 1 << 20 // but for a record that is larger alone
	maxRequestBytes = 8 << 20
	maxQueuedBytes  = 256 << 20
	recordOverhead  = 64 // bytes of a record beside key, value and headers, at most; and likewise of a header
	closeGrace      = 2 * time.Second
)

func openProducer(ctx context.Context, o *Options, options producerOptions) (*producer, error) {
	c, err := o.config(options.purpose)
	if err != nil {
		return nil, err
	}
	p := newProducer(options)
	if p.client, err = sarama.NewClient(o.Brokers, c); err != nil {
		return nil, err
	}
	if p.idempotent() {
		err = retryTemporary(ctx, func() (err error) {
			p.identity, err = p.requestIdentity()
			return err
		})
	}
	if err != nil {
		_ = p.client.Close() // the first error says more
		return nil, err
	}
	go p.run()
	return p, nil
}

// newProducer makes a producer that does not run yet.
func newProducer(options producerOptions) *producer {
	return &producer{
		producerOptions: options, topics: map[string]*topicQueues{}, identity: noIdentity, busy: map[*sarama.Broker]struct{}{}, requests: map[*sarama.Broker]*request{},
		wake: make(chan struct{}, 1), responses: make(chan *request), results: make(chan func()), stop: make(chan struct{}), done: make(chan struct{}),
	}
}

func (p *producer) idempotent() bool { return p.attempts == 0 }

// enqueue appends records to the queues of their partitions: all of them, or none with bus.ErrFull or bus.ErrClosed.
func (p *producer) enqueue(topic string, priority bool, records ...*record) error {
	bound := 1
	if priority {
		bound = 2
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return bus.ErrClosed
	case p.records >= bound*p.maxRecords, p.bytes >= bound*p.maxBytes:
		return bus.ErrFull
	}
	t := p.topics[topic]
	if t == nil {
		t = &topicQueues{name: topic, partitions: map[int32]*partitionQueue{}}
		p.topics[topic] = t
	}
	for _, r := range records {
		q := t.partitions[r.partition]
		if q == nil {
			q = &partitionQueue{topic: t, partition: r.partition}
			t.partitions[r.partition], p.queues = q, append(p.queues, q)
		}
		q.queue = append(q.queue, r)
		p.bytes += r.bytes
		p.activate(q)
	}
	p.records += len(records)
	select {
	case p.wake <- struct{}{}:
	default:
	}
	return nil
}

// activate lets a partition be served, unless it is already.
func (p *producer) activate(q *partitionQueue) {
	if !q.active {
		q.active, p.ready = true, append(p.ready, q)
	}
}

// run writes until stop, and then what is left.
func (p *producer) run() {
	defer close(p.done)
	tick := time.NewTicker(backOff)
	defer tick.Stop()
	grace := time.NewTimer(time.Hour)
	defer grace.Stop()
	for stop := p.stop; stop != nil || p.pending() > 0; {
		p.dispatch(time.Now())
		select {
		case <-p.wake:
		case r := <-p.responses:
			p.complete(r)
		case apply := <-p.results:
			apply()
		case now := <-tick.C:
			p.expire(now)
		case <-stop:
			stop = nil
			grace.Reset(closeGrace)
		case <-grace.C:
			if stop == nil {
				p.abandon()
			}
		}
		p.report()
	}
}

// report calls the completions of the records whose outcome is known.
func (p *producer) report() {
	for i := range p.outcomes {
		if r := p.outcomes[i].record; r.done != nil && !r.reported {
			r.reported = true
			r.done.complete(r.index, p.outcomes[i].err)
		}
	}
	clear(p.outcomes)
	p.outcomes = p.outcomes[:0]
}

// pending is the number of records without an outcome.
func (p *producer) pending() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.records
}

// oldestBatch is how long the oldest batch waits for its acknowledgement, and the error of its last attempt.
func (p *producer) oldestBatch(now time.Time) (age time.Duration, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, q := range p.queues {
		if b := q.batch; b != nil && now.Sub(b.began) > age {
			age, err = now.Sub(b.began), b.err
		}
	}
	return age, err
}

// expire reports the records that waited too long. Those that were not sent yet are removed; the batch in flight is still retried.
func (p *producer) expire(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.records == 0 || p.expiry == 0 {
		return
	}
	err := fmt.Errorf("%w: no acknowledgement within %s", bus.ErrAway, p.expiry)
	expired := func(r *record) bool {
		late := !r.priority && now.Sub(r.enqueued) > p.expiry
		if late {
			p.outcomes = append(p.outcomes, outcome{r, err})
		}
		return late
	}
	for _, q := range p.queues {
		if q.batch != nil {
			for _, r := range q.batch.records {
				expired(r)
			}
		}
		q.queue = slices.DeleteFunc(q.queue, func(r *record) bool {
			late := expired(r)
			if late {
				p.records, p.bytes = p.records-1, p.bytes-r.bytes
			}
			return late
		})
	}
}

// finish gives records their outcome.
func (p *producer) finish(records []*record, err error) {
	for _, r := range records {
		p.records, p.bytes = p.records-1, p.bytes-r.bytes
		p.outcomes = append(p.outcomes, outcome{r, err})
	}
}

// abort ends all that a partition has to write.
func (p *producer) abort(q *partitionQueue, err error) {
	if q.batch != nil {
		p.finish(q.batch.records, err)
	}
	p.finish(q.queue, err)
	q.batch, q.queue = nil, nil
}

// abandon ends all that waits.
func (p *producer) abandon() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, q := range p.queues {
		p.abort(q, fmt.Errorf("%w: no acknowledgement before the end", bus.ErrAway))
	}
}

// refuse makes enqueue fail from now on.
func (p *producer) refuse() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
}

// close writes what waits, for two seconds at most; what waits longer has an unknown outcome.
func (p *producer) close() error {
	p.refuse()
	close(p.stop)
	<-p.done
	err := closedAlready(p.client.Close()) // requests in flight end with it
	p.background.Wait()
	return err
}
