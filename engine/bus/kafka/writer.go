package kafka

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"callchain/engine/bus"

	"github.com/IBM/sarama"
)

// writer writes a lane. What waits for a partition goes in one batch, and the next gathers until that is acknowledged: nothing waits for
// a timer. A batch keeps its number until its fate is known, however long the brokers are away; so they tell a batch that they have from
// one that they miss, nothing is written twice, and nothing overtakes others of its key. (The client library's own producer gives a batch
// up when its leader is away, and a message that is put again then has another number.)
type writer struct {
	in     *Inbox
	lane   bus.Lane
	topic  string
	client sarama.Client

	mu     sync.Mutex
	parts  []outgoing
	count  int // messages whose fate is not known
	closed bool

	wake    chan struct{}
	answers chan *flight
	looked  chan sight
	stop    chan struct{}
	done    chan struct{}
	asking  sync.WaitGroup // requests under way

	// Only run touches these.
	identity identity
	leaders  []*sarama.Broker // by partition; nil: not known
	flying   map[*sarama.Broker]struct{}
	first    int // the partition that is served first
	looking  bool
	lookAt   time.Time
	stale    bool // a leader is not known
	unnamed  bool // a new identity is needed
}

// outgoing is what a partition has to write.
type outgoing struct {
	queue    []*entry
	batch    *batch // what is under way, or is tried again
	sequence int32  // the number of the next record
	most     int    // records of the next batch; 0: as many as fit
}

// entry is a message on its way.
type entry struct {
	record   *sarama.Record
	bytes    int
	put      time.Time
	priority bool
	told     atomic.Bool
	tell     func(error)
}

// outcome tells the sender, once.
func (e *entry) outcome(err error) {
	if e.tell != nil && !e.told.Swap(true) {
		e.tell(err)
	}
}

// The bounds of a batch, and how long a sender waits for what is not priority.
const (
	batchRecords   = 2_000
	batchBytes     = 1 << 20 // but for a message that is larger alone
	requestBytes   = 8 << 20
	recordOverhead = 64 // bytes of a record beside key, value and headers, at most; and likewise of a header
	patience       = 5 * time.Second
	closeGrace     = 2 * time.Second
)

func openWriter(ctx context.Context, in *Inbox, lane bus.Lane) (*writer, error) {
	c, err := in.options.config("inbox-writer")
	if err != nil {
		return nil, err
	}
	c.Net.MaxOpenRequests = 1
	w := &writer{
		in: in, lane: lane, topic: in.options.Prefix + laneTopics[lane],
		parts: make([]outgoing, in.options.Partitions), leaders: make([]*sarama.Broker, in.options.Partitions), flying: map[*sarama.Broker]struct{}{}, stale: true,
		wake: make(chan struct{}, 1), answers: make(chan *flight), looked: make(chan sight), stop: make(chan struct{}), done: make(chan struct{}),
	}
	if w.client, err = sarama.NewClient(in.options.Brokers, c); err != nil {
		return nil, err
	}
	err = insist(ctx, func() (err error) {
		w.identity, err = w.identify()
		return err
	})
	if err != nil {
		_ = w.client.Close() // the first error tells more
		return nil, err
	}
	go w.run()
	return w, nil
}

// put takes a message into the queue of its partition.
func (w *writer) put(m bus.Message) error {
	if m.Partition < 0 || int(m.Partition) >= len(w.parts) {
		return fmt.Errorf("the inbox has no partition %d, it has %d", m.Partition, len(w.parts))
	}
	if !m.Priority && w.in.Err() != nil {
		return bus.ErrAway
	}
	e, err := w.entry(&m)
	if err != nil {
		return err
	}
	bound := w.in.options.Most
	if m.Priority {
		bound *= 2
	}
	w.mu.Lock()
	switch {
	case w.closed:
		w.mu.Unlock()
		return bus.ErrClosed
	case w.count >= bound:
		w.mu.Unlock()
		return bus.ErrFull
	}
	w.count++
	p := &w.parts[m.Partition]
	p.queue = append(p.queue, e)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
	return nil
}

// entry is a message as it is written.
func (w *writer) entry(m *bus.Message) (*entry, error) {
	value, headers, err := w.in.options.Codec.Encode(m.Value)
	if err != nil {
		return nil, fmt.Errorf("encoding a message: %w", err)
	}
	key := []byte(m.Key.String())
	e := &entry{record: &sarama.Record{Key: key, Value: value}, put: time.Now(), priority: m.Priority, tell: m.Done, bytes: len(key) + len(value) + recordOverhead}
	for name, text := range headers {
		e.record.Headers = append(e.record.Headers, &sarama.RecordHeader{Key: []byte(name), Value: []byte(text)})
		e.bytes += len(name) + len(text) + recordOverhead
	}
	if most := w.in.limits[w.lane]; e.bytes > most {
		return nil, fmt.Errorf("%w: it has %d bytes, topic %s takes %d (max.message.bytes)", bus.ErrTooLarge, e.bytes, w.topic, most)
	}
	return e, nil
}

// underWay is how long the oldest batch waits for its acknowledgement, and what it met last.
func (w *writer) underWay(now time.Time) (oldest time.Duration, met error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.parts {
		if b := w.parts[i].batch; b != nil && now.Sub(b.began) > oldest {
			oldest, met = now.Sub(b.began), b.met
		}
	}
	return oldest, met
}

// waiting is the number of messages whose fate is not known.
func (w *writer) waiting() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.count
}

// loseHope tells the senders of what is not priority, and waited for long, that nobody knows what becomes of it. What was not sent yet is taken
// back.
func (w *writer) loseHope(now time.Time) {
	var lost []*entry
	w.mu.Lock()
	if w.count == 0 {
		w.mu.Unlock()
		return
	}
	hopeless := func(e *entry) bool { return !e.priority && now.Sub(e.put) > patience }
	for i := range w.parts {
		p := &w.parts[i]
		if p.batch != nil {
			for _, e := range p.batch.entries {
				if hopeless(e) {
					lost = append(lost, e) // it is still tried: it may be written already
				}
			}
		}
		if len(p.queue) == 0 || now.Sub(p.queue[0].put) <= patience {
			continue
		}
		keep := p.queue[:0:0]
		for _, e := range p.queue {
			if hopeless(e) {
				lost = append(lost, e)
				w.count--
				continue
			}
			keep = append(keep, e)
		}
		p.queue = keep
	}
	w.mu.Unlock()
	for _, e := range lost {
		e.outcome(fmt.Errorf("%w: no acknowledgement within %s", bus.ErrAway, patience))
	}
}

// abandon tells everybody who waits that nobody knows.
func (w *writer) abandon() {
	var lost []*entry
	w.mu.Lock()
	for i := range w.parts {
		p := &w.parts[i]
		if p.batch != nil {
			lost = append(lost, p.batch.entries...)
		}
		lost = append(lost, p.queue...)
		*p = outgoing{}
	}
	w.count = 0
	w.mu.Unlock()
	for _, e := range lost {
		e.outcome(fmt.Errorf("%w: no acknowledgement before the end", bus.ErrAway))
	}
}

// refuse lets put take nothing any more.
func (w *writer) refuse() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
}

// close writes what waits, for two seconds at most; who waits longer is told that nobody knows.
func (w *writer) close() error {
	w.refuse()
	close(w.stop)
	<-w.done
	err := closedAlready(w.client.Close()) // requests under way end with it
	w.asking.Wait()
	return err
}
