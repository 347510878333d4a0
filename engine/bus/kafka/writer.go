package kafka

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"callchain/engine/bus"

	"github.com/IBM/sarama"
)

// writer writes a lane. One batch is under way at a time, and the next gathers meanwhile: so a failed message can be tried again without
// overtaking others of its key, and nothing waits for a timer.
type writer struct {
	in       *Inbox
	lane     bus.Lane
	topic    string
	client   sarama.Client
	producer sarama.SyncProducer

	mu      sync.Mutex
	queue   []*entry
	writing int // entries of the batch under way
	wake    chan struct{}
	stop    chan struct{}
	done    chan struct{}
	since   atomic.Int64 // when the batch under way began, ns; 0: none
}

// entry is a message on its way.
type entry struct {
	record *sarama.ProducerMessage
	put    time.Time
	vital  bool
	told   atomic.Bool
	tell   func(error)
}

// outcome tells the sender, once.
func (e *entry) outcome(err error) {
	if e.tell != nil && !e.told.Swap(true) {
		e.tell(err)
	}
}

// The bounds of a batch, and how long a sender waits for what is not vital.
const (
	batchRecords = 2_000
	batchBytes   = 4 << 20
	patience     = 5 * time.Second
	closeGrace   = 2 * time.Second
)

func openWriter(in *Inbox, lane bus.Lane) (*writer, error) {
	c, err := in.options.producerConfig("inbox-writer")
	if err != nil {
		return nil, err
	}
	w := &writer{
		in: in, lane: lane, topic: in.options.Prefix + laneTopics[lane],
		wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
	if w.client, err = sarama.NewClient(in.options.Brokers, c); err != nil {
		return nil, err
	}
	if w.producer, err = sarama.NewSyncProducerFromClient(w.client); err != nil {
		return nil, errors.Join(err, w.client.Close())
	}
	go w.run()
	return w, nil
}

// put takes a message into the queue.
func (w *writer) put(m bus.Message) error {
	value, headers, err := w.in.options.Codec.Encode(m.Value)
	if err != nil {
		return fmt.Errorf("encoding a message: %w", err)
	}
	if len(value) > MessageBytesMax-1024 {
		return fmt.Errorf("the message has %d bytes, the inbox takes %d", len(value), MessageBytesMax-1024)
	}
	if !m.Vital && w.in.Trouble() != nil {
		return bus.ErrAway
	}
	record := &sarama.ProducerMessage{Topic: w.topic, Partition: m.Partition, Value: sarama.ByteEncoder(value)}
	record.Key = sarama.StringEncoder(m.Key.String())
	for name, text := range headers {
		record.Headers = append(record.Headers, sarama.RecordHeader{Key: []byte(name), Value: []byte(text)})
	}
	bound := w.in.options.Most
	if m.Vital {
		bound *= 2
	}
	w.mu.Lock()
	if len(w.queue)+w.writing >= bound {
		w.mu.Unlock()
		return bus.ErrFull
	}
	w.queue = append(w.queue, &entry{record: record, put: time.Now(), vital: m.Vital, tell: m.Done})
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
	return nil
}

// run writes batches until stop.
func (w *writer) run() {
	defer close(w.done)
	for {
		batch := w.gather()
		if len(batch) == 0 {
			select {
			case <-w.wake:
				continue
			case <-w.stop:
				return
			}
		}
		w.again(w.write(batch))
	}
}

// gather takes the next batch from the queue.
func (w *writer) gather() []*entry {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, bytes := 0, 0
	for n < len(w.queue) && n < batchRecords && (n == 0 || bytes < batchBytes) {
		bytes += w.queue[n].record.Value.Length()
		n++
	}
	batch := w.queue[:n:n]
	if w.queue = w.queue[n:]; len(w.queue) == 0 {
		w.queue = nil
	}
	w.writing = n
	return batch
}

// write writes a batch and tells the senders; it gives back what is to be tried again.
func (w *writer) write(batch []*entry) (again []*entry) {
	began := time.Now()
	w.since.Store(began.UnixNano())
	impatient := time.AfterFunc(patience, func() { w.giveUp(batch) })
	records := make([]*sarama.ProducerMessage, len(batch))
	for i, e := range batch {
		records[i] = e.record
	}
	err := w.producer.SendMessages(records)
	impatient.Stop()
	w.since.Store(0)
	failed := map[*sarama.ProducerMessage]error{}
	var each sarama.ProducerErrors
	if errors.As(err, &each) {
		for _, one := range each {
			failed[one.Msg] = one.Err
		}
	} else if err != nil {
		for _, r := range records {
			failed[r] = err
		}
	}
	w.in.counts.wrote(w.lane, len(batch)-len(failed), len(failed), time.Since(began))
	for _, e := range batch {
		err := failed[e.record]
		switch {
		case err == nil:
			e.outcome(nil)
		case e.vital && !w.stopping() && !refused(err):
			e.record.Metadata, e.record.Offset = nil, 0
			again = append(again, e)
		default:
			e.outcome(fmt.Errorf("%w: %w", bus.ErrAway, err))
		}
	}
	if len(failed) > 0 {
		w.in.options.Log.Warn("messages could not be written to the inbox", "topic", w.topic, "failed", len(failed), "again", len(again), "error", err)
	}
	return again
}

// giveUp tells the senders of what is not vital that nobody knows what became of it.
func (w *writer) giveUp(batch []*entry) {
	w.mu.Lock()
	queue := w.queue
	w.queue = nil
	for _, e := range queue {
		if e.vital {
			w.queue = append(w.queue, e)
		}
	}
	w.mu.Unlock()
	for _, e := range append(append([]*entry(nil), batch...), queue...) {
		if !e.vital {
			e.outcome(fmt.Errorf("%w: no acknowledgement within %s", bus.ErrAway, patience))
		}
	}
}

// refused tells errors that the same message meets every time.
func refused(err error) bool {
	return errors.Is(err, sarama.ErrMessageSizeTooLarge) || errors.Is(err, sarama.ErrInvalidMessage) || errors.Is(err, sarama.ErrTopicAuthorizationFailed)
}

// again puts entries before the queue.
func (w *writer) again(entries []*entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writing = 0
	if len(entries) > 0 {
		w.queue = append(entries, w.queue...)
	}
}

// underWay is how long the batch under way waits for its acknowledgement.
func (w *writer) underWay(now time.Time) time.Duration {
	if since := w.since.Load(); since != 0 {
		return now.Sub(time.Unix(0, since))
	}
	return 0
}

func (w *writer) stopping() bool {
	select {
	case <-w.stop:
		return true
	default:
		return false
	}
}

// waiting is the number of messages that are not written yet.
func (w *writer) waiting() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.queue) + w.writing
}

// close writes what waits, for two seconds at most; who waits longer is told that nobody knows.
func (w *writer) close() error {
	close(w.stop)
	late := time.NewTimer(closeGrace)
	defer late.Stop()
	select {
	case <-w.done:
	case <-late.C:
		err := closedAlready(w.client.Close()) // a write that waits for a broker ends with it
		w.mu.Lock()
		left := w.queue
		w.queue = nil
		w.mu.Unlock()
		for _, e := range left {
			e.outcome(bus.ErrAway)
		}
		return err
	}
	return errors.Join(w.producer.Close(), closedAlready(w.client.Close()))
}
