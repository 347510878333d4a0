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
	groupSession   = 6 * time.Second // a node that is not heard for so long loses its partitions
	groupHeartbeat = 500 * time.Millisecond
	groupRebalance = 10 * time.Second // a node that does not join again within that time is put out of the group
	groupRevoke    = 8 * time.Second  // a node may take so long to give partitions up, so that it joins again in time
	groupRetry     = 2 * backOff
)

// Group is a bus.Group: a consumer group on a topic that has a partition for each of the inbox and never a message. Positions stand in the event store,
// and one owner reads both lanes, so nothing but the assignment is left to the brokers.
//
// It speaks the protocol of groups itself and leaves to the client library what is hard, the sharing out. The library's own consumer group
// tells of partitions one by one, from as many goroutines, and not of one that it takes away before its reading began; it gives its session up
// when the broker restarts; and it reads the partitions.
type Group struct {
	options *Options
}

var _ bus.Group = (*Group)(nil)

// Group shares the partitions of the inbox out among the nodes.
func (b *Bus) Group() bus.Group { return &Group{&b.options} }

// Join implements bus.Group. The node has a name of its own in the group: one that is started again after a kill gets what it had at once, and need
// not be missed first.
func (g *Group) Join(ctx context.Context, m bus.Member) error {
	s := &seat{
		options: g.options, member: m, group: g.options.Prefix + string(bus.Owners), generation: noGeneration,
		strategy: sarama.NewBalanceStrategyCooperativeSticky(),
	}
	var err error
	if s.line, err = newLine(ctx, g.options, s.group); err != nil {
		return err
	}
	for ctx.Err() == nil {
		if err := s.turn(ctx); err != nil && ctx.Err() == nil {
			pause(ctx, s.met(err))
		}
	}
	s.line.forget()
	return s.leave(ctx)
}

func pause(ctx context.Context, long time.Duration) {
	over := time.NewTimer(long)
	defer over.Stop()
	select {
	case <-over.C:
	case <-ctx.Done():
	}
}

// seat is this node's place in the group. One goroutine works on it.
type seat struct {
	options  *Options
	member   bus.Member
	group    string // its name, and that of its topic
	line     *line
	strategy sarama.BalanceStrategy // it remembers the generation that it spoke of last

	id         string // as the coordinator knows this node; empty: not yet
	generation int32
	within     bool    // the member was told what it has in this session
	held       []int32 // sorted; told to the member, and not given up
	told       error   // the last trouble that is in the log
}

const noGeneration = -1

// turn joins the group, tells the member what has changed, and stays until the group is shared out anew.
func (s *seat) turn(ctx context.Context) error {
	arrives := s.id == ""
	assigned, err := s.join()
	if err != nil {
		return err
	}
	s.told = nil
	lost := without(s.held, assigned)
	if added := without(assigned, s.held); len(added) > 0 || !s.within {
		s.within, s.held = true, slices.Sorted(slices.Values(slices.Concat(s.held, added)))
		s.member.Assigned(slices.Clone(s.held))
	}
	if len(lost) > 0 { // whoever gets them gets them when this node joins again without them
		return s.revoke(ctx, lost)
	}
	if arrives {
		// A node that is started again may have got its old part without a new sharing. If it was killed while it gave partitions up, somebody waits for
		// these: joining again with what it has shows that it has not those.
		return nil
	}
	return s.stay(ctx)
}

// without are those of a that are not in b.
func without(a, b []int32) []int32 {
	return slices.DeleteFunc(slices.Clone(a), func(p int32) bool { return slices.Contains(b, p) })
}

// stay keeps the seat until the others wait for this node to join again.
func (s *seat) stay(ctx context.Context) error {
	for {
		long := groupHeartbeat
		switch err := s.beat(); {
		case errors.Is(err, sarama.ErrRebalanceInProgress):
			return nil
		case err != nil && s.out(err):
			return err
		case err != nil: // the brokers keep the seat, as long as they are away
			long = s.met(err)
		}
		pause(ctx, long)
		if ctx.Err() != nil {
			return nil
		}
	}
}

// revoke lets the member give partitions up, and keeps the seat meanwhile. A member that takes too long is not waited for.
func (s *seat) revoke(ctx context.Context, partitions []int32) error {
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), groupRevoke)
	defer cancel()
	given := make(chan struct{})
	go func() {
		defer close(given)
		s.member.Revoked(within, slices.Clone(partitions))
	}()
	next := time.NewTicker(groupHeartbeat)
	defer next.Stop()
	for {
		select {
		case <-given:
		case <-within.Done():
		case <-next.C:
			switch err := s.beat(); {
			case err != nil && s.out(err):
				return err // others have them already: the member need not hurry for anybody
			case err != nil:
				s.met(err)
			}
			continue
		}
		s.held = without(s.held, partitions)
		return nil
	}
}

// leave gives all up and tells the coordinator, so that the others need not wait for the end of the session.
func (s *seat) leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), groupRevoke+3*time.Second)
	defer cancel()
	var err error
	if s.line, err = newLine(ctx, s.options, s.group); err != nil {
		return err
	}
	if len(s.held) > 0 {
		if err := s.revoke(ctx, s.held); err != nil {
			s.met(err)
		}
	}
	if s.id != "" {
		if err := s.resign(); err != nil {
			s.options.Log.Debug("the group of the partitions' owners cannot be left now; the others take over when this node's session ends", "error", err)
		}
	}
	s.line.forget()
	return nil
}

// out tells errors after which the others may have this node's partitions.
func (s *seat) out(err error) bool {
	return errors.Is(err, sarama.ErrUnknownMemberId) || errors.Is(err, sarama.ErrIllegalGeneration) || errors.Is(err, sarama.ErrFencedInstancedId)
}

// met draws the consequences of an error, and tells how long to wait before it is tried again.
func (s *seat) met(err error) (long time.Duration) {
	long = groupRetry
	switch {
	case s.out(err):
		s.held, s.within, s.generation = nil, false, noGeneration
		if !errors.Is(err, sarama.ErrIllegalGeneration) {
			s.id = ""
		}
	case !errors.Is(err, sarama.ErrRebalanceInProgress):
		s.line.forget()
	}
	switch {
	case errors.Is(err, sarama.ErrFencedInstancedId):
		long = groupSession // each of them would take it from the other, again and again
		s.options.Log.Error("another process runs with the same node.id: give each its own", "node", s.options.Node)
	case s.told != nil && s.told.Error() == err.Error():
	case refused(err):
		s.options.Log.Warn("the brokers do not let this node share the partitions with others", "error", err)
	default:
		s.options.Log.Debug("this node's place in the group of the partitions' owners is not sure now", "error", err)
	}
	s.told = err
	return long
}

// refused tells answers of brokers that do not pass by themselves.
func refused(err error) bool {
	var answer sarama.KError
	if !errors.As(err, &answer) || temporary(err) {
		return false
	}
	switch answer { //nolint:exhaustive // all others are refusals
	case sarama.ErrRebalanceInProgress, sarama.ErrNotCoordinatorForConsumer, sarama.ErrUnknownMemberId, sarama.ErrIllegalGeneration:
		return false
	}
	return true
}
