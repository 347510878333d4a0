package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"callchain/engine/bus"

	"github.com/IBM/sarama"
)

// The times of the group. Brokers accept sessions of six seconds and more, unless an operator says otherwise (group.min.session.timeout.ms).
const (
	groupSession   = 6 * time.Second // a node that is not heard for so long loses its partitions
	groupHeartbeat = 500 * time.Millisecond
	groupRebalance = 10 * time.Second // a node may take so long to give partitions up
)

// Group is a bus.Group: a consumer group on a topic that has a partition for each of the inbox and never a message. Positions stand in the event store,
// and one owner reads both lanes, so nothing but the assignment is left to the brokers.
type Group struct {
	options *Options
}

var _ bus.Group = (*Group)(nil)

// Group shares the partitions of the inbox out among the nodes.
func (b *Bus) Group() bus.Group { return &Group{&b.options} }

// Join implements bus.Group.
func (g *Group) Join(ctx context.Context, m bus.Member) error {
	c, err := g.config()
	if err != nil {
		return err
	}
	again := time.NewTicker(2 * backOff)
	defer again.Stop()
	for {
		err := g.join(ctx, c, m)
		if ctx.Err() != nil {
			return g.leave(c)
		}
		if errors.Is(err, sarama.ErrFencedInstancedId) {
			g.options.Log.Error("another process runs with the same node.id: give each its own", "node", g.options.Node)
		}
		g.options.Log.Debug("the group of the partitions' owners cannot be joined now", "error", err)
		select {
		case <-again.C:
		case <-ctx.Done():
			return g.leave(c)
		}
	}
}

// leave lets the others take over at once: the brokers would wait for a member that has a name of its own to come back.
func (g *Group) leave(c *sarama.Config) error {
	admin, err := sarama.NewClusterAdmin(g.options.Brokers, c)
	if err != nil {
		return fmt.Errorf("leaving the group: %w", err)
	}
	_, err = admin.RemoveMemberFromConsumerGroup(g.options.Prefix+string(bus.Owners), []string{g.options.Node})
	if err = errors.Join(err, admin.Close()); err != nil {
		return fmt.Errorf("leaving the group: %w", err)
	}
	return nil
}

func (g *Group) config() (*sarama.Config, error) {
	c, err := g.options.consumerConfig("owners")
	if err != nil {
		return nil, err
	}
	c.Consumer.Group.InstanceId = g.options.Node // a node that is started again gets what it had at once, and need not be missed first
	c.Consumer.Group.Session.Timeout, c.Consumer.Group.Heartbeat.Interval = groupSession, groupHeartbeat
	c.Consumer.Group.Rebalance.Timeout = groupRebalance
	c.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategyCooperativeSticky()}
	c.Consumer.Group.Rebalance.Retry.Max, c.Consumer.Group.Rebalance.Retry.Backoff = 2, backOff
	c.Consumer.Offsets.AutoCommit.Enable = false
	c.Consumer.Offsets.Initial = sarama.OffsetNewest
	c.Consumer.Return.Errors = false
	c.ChannelBufferSize = 1
	return c, nil
}

// join takes part until ctx ends or the brokers are away.
func (g *Group) join(ctx context.Context, c *sarama.Config, m bus.Member) (err error) {
	group, err := sarama.NewConsumerGroup(g.options.Brokers, g.options.Prefix+string(bus.Owners), c)
	if err != nil {
		return fmt.Errorf("joining the group: %w", err)
	}
	defer func() { err = errors.Join(err, group.Close()) }()
	for ctx.Err() == nil {
		h := &claims{leaving: ctx, member: m, topic: g.options.Prefix + string(bus.Owners)}
		if err := group.Consume(ctx, []string{h.topic}, h); err != nil {
			return err
		}
	}
	return nil
}

// claims follows one session of the group.
type claims struct {
	leaving context.Context //nolint:containedctx // the handler's methods are called by the library, which has no way to hand it on
	member  bus.Member
	topic   string
	left    sync.Once
}

var _ sarama.ConsumerGroupHandler = (*claims)(nil)

// Setup implements sarama.ConsumerGroupHandler.
func (h *claims) Setup(s sarama.ConsumerGroupSession) error {
	h.assigned(s)
	return nil
}

// Cleanup implements sarama.ConsumerGroupHandler.
func (h *claims) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (h *claims) assigned(s sarama.ConsumerGroupSession) {
	mine := slices.Sorted(slices.Values(s.Claims()[h.topic]))
	h.member.Assigned(mine)
}

// ConsumeClaim implements sarama.ConsumerGroupHandler. It lasts as long as the partition is this node's.
func (h *claims) ConsumeClaim(s sarama.ConsumerGroupSession, c sarama.ConsumerGroupClaim) error {
	h.assigned(s)
	for range c.Messages() { // there are none: it ends with the claim
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(h.leaving), groupRebalance)
	defer cancel()
	switch {
	case h.leaving.Err() != nil:
		h.left.Do(func() { h.member.Revoked(ctx, slices.Sorted(slices.Values(s.Claims()[h.topic]))) })
	case s.Context().Err() == nil: // the session goes on without it
		h.member.Revoked(ctx, []int32{c.Partition()})
	}
	return nil
}
