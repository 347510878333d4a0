package kafka

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/IBM/sarama"
)

// identity is how the brokers know an idempotent producer.
type identity struct {
	id    int64
	epoch int16
}

var noIdentity = identity{-1, -1}

// inBackground runs a lookup; run applies its result.
func (p *producer) inBackground(lookUp func() (apply func())) {
	p.background.Go(func() {
		apply := lookUp()
		select {
		case p.results <- apply:
		case <-p.done:
		}
	})
}

// lookUpLeaders asks for the leaders of a topic's partitions, unless that was done a moment ago. A topic that is unknown holds up no other.
func (p *producer) lookUpLeaders(t *topicQueues, now time.Time) {
	if t.lookingUp || now.Before(t.lookUpAfter) {
		return
	}
	t.lookingUp = true
	p.inBackground(func() func() {
		leaders, err := p.leaders(t.name)
		return func() { p.applyLeaders(t, leaders, err) }
	})
}

// leaders are the leaders of a topic's partitions; nil: a partition has none now.
func (p *producer) leaders(topic string) ([]*sarama.Broker, error) {
	if err := p.client.RefreshMetadata(topic); err != nil && !errors.Is(err, sarama.ErrLeaderNotAvailable) {
		return nil, err
	}
	partitions, err := p.client.Partitions(topic)
	if err != nil || len(partitions) == 0 {
		return nil, errors.Join(sarama.ErrUnknownTopicOrPartition, err)
	}
	leaders := make([]*sarama.Broker, slices.Max(partitions)+1)
	for _, n := range partitions {
		if leaders[n], err = p.client.Leader(topic, n); err != nil && !errors.Is(err, sarama.ErrLeaderNotAvailable) {
			return nil, err
		}
	}
	return leaders, nil
}

// applyLeaders stores the leaders that were found. For a partition without one this is a failed attempt.
func (p *producer) applyLeaders(t *topicQueues, leaders []*sarama.Broker, err error) {
	now := time.Now()
	t.lookingUp, t.lookUpAfter = false, now.Add(backOff)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		t.leaders, err = leaders, sarama.ErrLeaderNotAvailable
	}
	idle := true
	for _, q := range t.partitions {
		if q.leader() == nil && q.batch != nil {
			p.retry(q, err, now)
		}
		idle = idle && q.batch == nil && len(q.queue) == 0
	}
	if idle && len(t.leaders) == 0 && !p.idempotent() { // so topics that do not exist take no memory
		delete(p.topics, t.name)
		p.queues = slices.DeleteFunc(p.queues, func(q *partitionQueue) bool { return q.topic == t })
	}
}

// renewIdentity asks for a new identity when nothing is in flight: batches get numbers of it.
func (p *producer) renewIdentity(now time.Time) {
	if p.renewing || now.Before(p.renewAfter) || len(p.busy) > 0 {
		return
	}
	p.renewing = true
	p.inBackground(func() func() {
		identity, err := p.requestIdentity()
		return func() { p.applyIdentity(identity, err) }
	})
}

func (p *producer) applyIdentity(identity identity, err error) {
	p.renewing, p.renewAfter = false, time.Now().Add(backOff)
	if err != nil {
		return
	}
	p.identity, p.fenced = identity, false
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, q := range p.queues {
		q.sequence = 0
	}
}

// requestIdentity asks a broker for an identity that no other producer has.
func (p *producer) requestIdentity() (identity, error) {
	broker := p.client.LeastLoadedBroker()
	if broker == nil {
		return noIdentity, sarama.ErrOutOfBrokers
	}
	answer, err := broker.InitProducerID(&sarama.InitProducerIDRequest{Version: 4, ProducerID: -1, ProducerEpoch: -1, TransactionTimeout: time.Minute})
	if err != nil {
		_ = broker.Close() // the next request opens it again
		return noIdentity, fmt.Errorf("asking for a producer id: %w", err)
	}
	if !errors.Is(answer.Err, sarama.ErrNoError) {
		return noIdentity, fmt.Errorf("asking for a producer id: %w", answer.Err)
	}
	return identity{answer.ProducerID, answer.ProducerEpoch}, nil
}
