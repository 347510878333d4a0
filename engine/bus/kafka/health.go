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

// health checks twice a second whether the topics of the inbox can be written and read, and whether they, and the topic of events, are still the same.
type health struct {
	in     *Inbox
	client sarama.Client
	mu     sync.Mutex

	outage atomic.Pointer[outage]   // nil: the brokers serve
	topics atomic.Pointer[topicIDs] // those that Begin found
	stop   chan struct{}
	done   chan struct{}
}

// outage is since when and why the brokers cannot serve.
type outage struct {
	since time.Time
	err   error
}

const (
	healthPeriod = 500 * time.Millisecond
	writeLate    = time.Second // a batch that is unacknowledged for so long is an outage, too
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
	tick := time.NewTicker(healthPeriod)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			h.check()
		case <-h.stop:
			return
		}
	}
}

func (h *health) check() {
	ids, err := h.ids()
	if err == nil {
		err = h.in.overdueWrite(time.Now())
	}
	was := h.outage.Load()
	if err == nil && was != nil {
		// Deadlines must not expire before the messages that were written meanwhile, or just before, are delivered.
		err = h.in.readers[bus.RPC].updateTargets()
	}
	switch {
	case err != nil && was == nil:
		h.outage.Store(&outage{time.Now(), err})
		h.in.options.Log.Warn("Kafka is away: new calls are refused, devices stay connected", "error", err)
	case err != nil:
	case was != nil:
		h.outage.Store(nil)
		h.in.options.Log.Info("Kafka is back", "after", time.Since(was.since).Round(time.Millisecond))
		fallthrough
	default:
		h.compareTopics(ids)
	}
}

// compareTopics detects topics that were recreated while the server runs.
func (h *health) compareTopics(ids topicIDs) {
	began := h.topics.Load()
	if began == nil {
		return
	}
	h.compareTopic(string(bus.Events), began.events, ids.events, "used")
	for lane, topic := range laneTopics {
		h.compareTopic(topic, began.lanes[lane], ids.lanes[lane], "read")
	}
}

func (h *health) compareTopic(topic string, was, is uuid.UUID, use string) {
	if was != is {
		h.in.reportLoss(&bus.LostError{
			Topic: h.in.options.Prefix + topic, Detail: fmt.Sprintf("the topic was made anew while it was %s: it was topic %s, this is topic %s", use, was, is),
		})
	}
}

// ids are the ids of the topics; it fails unless all of them can be written and read.
func (h *health) ids() (topicIDs, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.in.options.topicIDs(h.client)
}

// began stores the topics that are read from now on. They must stay the same, also when further partitions are read.
func (h *health) began(ids topicIDs) { h.topics.CompareAndSwap(nil, &ids) }

// away is why the inbox cannot be written or read; nil: it can.
func (h *health) away() error {
	if t := h.outage.Load(); t != nil {
		return fmt.Errorf("kafka is away since %s: %w", t.since.UTC().Format(time.RFC3339), t.err)
	}
	return nil
}

func (h *health) close() error {
	close(h.stop)
	<-h.done
	return closedAlready(h.client.Close())
}
