package kafka

import (
	"context"
	"errors"
	"slices"
	"time"

	"callchain/engine/bus"

	"github.com/IBM/sarama"
)

// The times of the group. Brokers accept sessions of six seconds and more, unless an operator says otherwise (group.min.session.timeout.ms).
const (
	groupSession   = 6 * time.Second // a node without a heartbeat for so long loses its partitions
	groupHeartbeat = 500 * time.Millisecond
	groupRebalance = 10 * time.Second // a node that does not join again within that time is removed from the group
	groupRevoke    = 8 * time.Second  // a node may take so long to revoke partitions, so that it joins again in time
	groupRetry     = 2 * backOff
)

// Group is a bus.Group: a consumer group on a topic that has a partition for each of the inbox and never a message. The event store has the offsets,
// and one owner reads both lanes, so the brokers decide the assignment only.
//
// It speaks the group protocol itself; the client library computes the assignment. The library's own consumer group reports partitions one by one,
// from as many goroutines, and not one that it revokes before the reading began; it ends its session when the broker restarts; and it reads the partitions.
type Group struct {
	options *Options
}

var _ bus.Group = (*Group)(nil)

// Group assigns the partitions of the inbox to the nodes.
func (b *Bus) Group() bus.Group { return &Group{&b.options} }

// Join implements bus.Group. The node is a static member (KIP-345): one that restarts after a kill gets its partitions at once, before its old session
// expires.
func (g *Group) Join(ctx context.Context, owner bus.Member) error {
	m := &groupMember{
		options: g.options, owner: owner, group: g.options.Prefix + string(bus.Owners), generation: noGeneration,
		strategy: sarama.NewBalanceStrategyCooperativeSticky(),
	}
	var err error
	if m.coordinator, err = newCoordinator(ctx, g.options, m.group); err != nil {
		return err
	}
	for ctx.Err() == nil {
		if err := m.runGeneration(ctx); err != nil && ctx.Err() == nil {
			pause(ctx, m.handleError(err))
		}
	}
	m.coordinator.disconnect()
	return m.leave(ctx)
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// groupMember is this node as a member of the consumer group. Only one goroutine uses it.
type groupMember struct {
	options     *Options
	owner       bus.Member
	group       string // its name, and that of its topic
	coordinator *coordinator
	strategy    sarama.BalanceStrategy // it stores the generation of its last assignment

	id         string // as the coordinator knows this node; empty: not yet
	generation int32
	reported   bool    // the owner knows its partitions in this session
	assigned   []int32 // sorted; known to the owner, and not revoked
	logged     error   // the last error in the log
}

const noGeneration = -1

// runGeneration joins the group, notifies the owner of what changed, and sends heartbeats until the next rebalance.
func (m *groupMember) runGeneration(ctx context.Context) error {
	isNew := m.id == ""
	assignment, err := m.joinGroup()
	if err != nil {
		return err
	}
	m.logged = nil
	lost := difference(m.assigned, assignment)
	if added := difference(assignment, m.assigned); len(added) > 0 || !m.reported {
		m.reported, m.assigned = true, slices.Sorted(slices.Values(slices.Concat(m.assigned, added)))
		m.owner.Assigned(slices.Clone(m.assigned))
	}
	if len(lost) > 0 { // the next owner gets them when this node joins again without them
		return m.revoke(ctx, lost)
	}
	if isNew {
		// A node that restarts may get its old assignment without a rebalance. If it was killed while it revoked partitions, another member waits for
		// them: this node joins again, and shows that it does not own them any more.
		return nil
	}
	return m.keepAlive(ctx)
}

// difference is the elements of a that are not in b.
func difference(a, b []int32) []int32 {
	return slices.DeleteFunc(slices.Clone(a), func(p int32) bool { return slices.Contains(b, p) })
}

// keepAlive sends heartbeats until the next rebalance.
func (m *groupMember) keepAlive(ctx context.Context) error {
	for {
		wait := groupHeartbeat
		switch err := m.heartbeat(); {
		case errors.Is(err, sarama.ErrRebalanceInProgress):
			return nil
		case err != nil && m.membershipLost(err):
			return err
		case err != nil: // the session does not expire while the brokers are away
			wait = m.handleError(err)
		}
		pause(ctx, wait)
		if ctx.Err() != nil {
			return nil
		}
	}
}

// revoke lets the owner give partitions up, and sends heartbeats meanwhile. It waits for groupRevoke at most.
func (m *groupMember) revoke(ctx context.Context, partitions []int32) error {
	revokeCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), groupRevoke)
	defer cancel()
	revoked := make(chan struct{})
	go func() {
		defer close(revoked)
		m.owner.Revoked(revokeCtx, slices.Clone(partitions))
	}()
	next := time.NewTicker(groupHeartbeat)
	defer next.Stop()
	for {
		select {
		case <-revoked:
		case <-revokeCtx.Done():
		case <-next.C:
			switch err := m.heartbeat(); {
			case err != nil && m.membershipLost(err):
				return err // other members have them already
			case err != nil:
				m.handleError(err)
			}
			continue
		}
		m.assigned = difference(m.assigned, partitions)
		return nil
	}
}

// leave revokes all partitions and leaves the group, so that the others need not wait until the session expires.
func (m *groupMember) leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), groupRevoke+3*time.Second)
	defer cancel()
	var err error
	if m.coordinator, err = newCoordinator(ctx, m.options, m.group); err != nil {
		return err
	}
	if len(m.assigned) > 0 {
		if err := m.revoke(ctx, m.assigned); err != nil {
			m.handleError(err)
		}
	}
	if m.id != "" {
		if err := m.leaveGroup(); err != nil {
			m.options.Log.Debug("could not leave the consumer group; the other nodes take over when this node's session expires", "error", err)
		}
	}
	m.coordinator.disconnect()
	return nil
}

// membershipLost reports whether the other members may have this node's partitions after an error.
func (m *groupMember) membershipLost(err error) bool {
	return errors.Is(err, sarama.ErrUnknownMemberId) || errors.Is(err, sarama.ErrIllegalGeneration) || errors.Is(err, sarama.ErrFencedInstancedId)
}

// handleError resets what an error makes invalid, logs it once, and answers the backoff.
func (m *groupMember) handleError(err error) (backoff time.Duration) {
	backoff = groupRetry
	switch {
	case m.membershipLost(err):
		m.assigned, m.reported, m.generation = nil, false, noGeneration
		if !errors.Is(err, sarama.ErrIllegalGeneration) {
			m.id = ""
		}
	case !errors.Is(err, sarama.ErrRebalanceInProgress):
		m.coordinator.disconnect()
	}
	switch {
	case errors.Is(err, sarama.ErrFencedInstancedId):
		backoff = groupSession // each of them would fence the other, again and again
		m.options.Log.Error("another process runs with the same node.id: give each its own", "node", m.options.Node)
	case m.logged != nil && m.logged.Error() == err.Error():
	case permanent(err):
		m.options.Log.Warn("could not join the consumer group", "error", err)
	default:
		m.options.Log.Debug("consumer group request failed", "error", err)
	}
	m.logged = err
	return backoff
}

// permanent reports whether an answer of a broker needs an operator.
func permanent(err error) bool {
	var answer sarama.KError
	if !errors.As(err, &answer) || temporary(err) {
		return false
	}
	switch answer { //nolint:exhaustive // all others are permanent
	case sarama.ErrRebalanceInProgress, sarama.ErrNotCoordinatorForConsumer, sarama.ErrUnknownMemberId, sarama.ErrIllegalGeneration:
		return false
	}
	return true
}
