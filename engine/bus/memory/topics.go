package memory

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"callchain/engine/bus"
)

// topics are the bus.Topics of a node.
type topics struct{ n *Node }

var _ bus.Topics = topics{}

// follower is one Follow. Its queue grows with what is published: a test is not long.
type follower struct {
	n     *Node
	topic bus.Topic
	wake  chan struct{}

	// The cluster's lock guards these.
	begun bool
	queue []bus.Record
}

// Publish implements bus.Topics. While the node is paused, it waits; while the brokers are away, it fails at once.
func (t topics) Publish(ctx context.Context, topic bus.Topic, records []bus.Record) error {
	if err := t.n.reach(ctx); err != nil {
		return fmt.Errorf("publishing to %s: %w", topic, err)
	}
	c := t.n.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if strings.HasPrefix(string(topic), string(bus.NodeTopic(""))) && !c.topics[topic] {
		return fmt.Errorf("publishing to %s: there is no such topic", topic)
	}
	for f := range c.followers {
		if f.topic != topic || !f.begun {
			continue
		}
		for _, r := range records {
			r.Value, r.Headers = slices.Clone(r.Value), maps.Clone(r.Headers)
			if r.Headers == nil {
				r.Headers = map[string]string{}
			}
			f.queue = append(f.queue, r)
		}
		signal(f.wake)
	}
	return nil
}

// Follow implements bus.Topics.
func (t topics) Follow(ctx context.Context, topic bus.Topic, ready func(), handle func(bus.Record)) error {
	f := &follower{n: t.n, topic: topic, wake: make(chan struct{}, 1)}
	c := t.n.c
	c.mu.Lock()
	c.followers[f] = struct{}{}
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.followers, f)
		c.mu.Unlock()
	}()
	for signal(f.wake); ; {
		select {
		case <-f.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
		first, came := f.look()
		if first && ready != nil {
			ready()
		}
		for _, r := range came {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			handle(r)
		}
	}
}

// look takes the queued records, and reports whether the follower has just become ready.
func (f *follower) look() (first bool, came []bus.Record) {
	c := f.n.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if !f.n.running() {
		return false, nil
	}
	if !f.begun && !c.away {
		f.begun, first = true, true
		c.topics[f.topic] = true
	}
	came, f.queue = f.queue, nil
	return first, came
}
