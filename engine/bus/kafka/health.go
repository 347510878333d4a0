package kafka

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"callchain/engine/bus"

	"github.com/IBM/sarama"
	"github.com/google/uuid"
)

// health asks the brokers twice a second whether the inbox's topics can be written and read, and whether they, and the topic of events, are still the same.
type health struct {
	in     *Inbox
	client sarama.Client
	asking sync.Mutex

	trouble atomic.Pointer[trouble]
	topics  atomic.Pointer[topicIDs] // those that Begin found
	stop    chan struct{}
	done    chan struct{}
}

// trouble is why the brokers cannot serve.
type trouble struct {
	since time.Time
	err   error
}

const (
	healthPeriod = 500 * time.Millisecond
	writeLate    = time.Second // an unacknowledged write of this age is trouble, too
)

func watchHealth(in *Inbox) (*health, error) {
	c, err := in.options.config("health")
	if err != nil {
		return nil, err
	}
	c.Net.DialTimeout, c.Net.ReadTimeout, c.Net.WriteTimeout = time.Second, time.Second, time.Second
	h := &health{in: in, stop: make(chan struct{}), done: make(chan struct{})}
	if h.client, err = sarama.NewClient(in.options.Brokers, c); err != nil {
		return nil, fmt.Errorf("no broker answers: %w", err)
	}
	go h.run()
	return h, nil
}

func (h *health) run() {
	defer close(h.done)
	look := time.NewTicker(healthPeriod)
	defer look.Stop()
	for {
		select {
		case <-look.C:
			h.look()
		case <-h.stop:
			return
		}
	}
}

func (h *health) look() {
	ids, err := h.ids()
	if err == nil {
		err = h.in.late(time.Now())
	}
	was := h.trouble.Load()
	if err == nil && was != nil {
		// Deadlines must not be judged before what was kept meanwhile, or just before, is handed over.
		err = h.in.readers[bus.RPC].lookAhead()
	}
	switch {
	case err != nil && was == nil:
		h.trouble.Store(&trouble{time.Now(), err})
		h.in.options.Log.Warn("Kafka is away: new calls are refused, devices stay connected", "error", err)
	case err != nil:
	case was != nil:
		h.trouble.Store(nil)
		h.in.options.Log.Info("Kafka is back", "after", time.Since(was.since).Round(time.Millisecond))
		fallthrough
	default:
		h.compare(ids)
	}
}

// compare notices topics that were made anew under a running server.
func (h *health) compare(ids topicIDs) {
	began := h.topics.Load()
	if began == nil {
		return
	}
	h.same(string(bus.Events), began.events, ids.events, "used")
	for lane, topic := range laneTopics {
		h.same(topic, began.lanes[lane], ids.lanes[lane], "read")
	}
}

func (h *health) same(topic string, was, is uuid.UUID, use string) {
	if was != is {
		h.in.losing(&bus.LostError{
			Topic: h.in.options.Prefix + topic, Detail: fmt.Sprintf("the topic was made anew while it was %s: it was topic %s, this is topic %s", use, was, is),
		})
	}
}

// ids are the ids of the topics, if all of them can be written and read.
func (h *health) ids() (topicIDs, error) {
	h.asking.Lock()
	defer h.asking.Unlock()
	return h.in.options.topicIDs(h.client)
}

// began notes the topics that are read from now on. They must stay the same, also when further partitions are read.
func (h *health) began(ids topicIDs) { h.topics.CompareAndSwap(nil, &ids) }

// away is why the inbox cannot be written or read, nil if it can.
func (h *health) away() error {
	if t := h.trouble.Load(); t != nil {
		return fmt.Errorf("kafka is away since %s: %w", t.since.UTC().Format(time.RFC3339), t.err)
	}
	return nil
}

func (h *health) close() error {
	close(h.stop)
	<-h.done
	return closedAlready(h.client.Close())
}
