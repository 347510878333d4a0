package kafka

import (
	"fmt"
	"slices"
	"time"

	"github.com/IBM/sarama"
)

// The versions of the requests that brokers of 2.8 know, but for JoinGroup, whose version the library chooses.
const (
	syncVersion      = 5
	heartbeatVersion = 4
	leaveVersion     = 4
	metadataVersion  = 1 // with the partitions that a member has
)

// protocol is the type of group that consumers have, so that their tools show it.
const protocol = "consumer"

// join takes part in the next sharing, and answers what is this node's then, sorted.
func (s *seat) join() ([]int32, error) {
	request, err := s.request()
	if err != nil {
		return nil, err
	}
	var answer *sarama.JoinGroupResponse
	for range 2 { // the coordinator may only give a name first
		request.MemberId = s.id
		err := s.line.wait(func(b *sarama.Broker) (err error) {
			answer, err = b.JoinGroup(request)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("joining the group: %w", err)
		}
		if answer.MemberId != "" {
			s.id = answer.MemberId
		}
		if answer.Err != sarama.ErrMemberIdRequired {
			break
		}
	}
	if answer.Err != sarama.ErrNoError {
		return nil, fmt.Errorf("joining the group: %w", answer.Err)
	}
	s.generation = answer.GenerationId
	plan, err := s.plan(answer)
	if err != nil {
		return nil, fmt.Errorf("sharing the partitions out: %w", err)
	}
	return s.sync(plan)
}

// request is what this node says of itself: which partitions it has.
func (s *seat) request() (*sarama.JoinGroupRequest, error) {
	r := sarama.NewJoinGroupRequest(s.line.config.Version)
	r.GroupId, r.ProtocolType, r.GroupInstanceId = s.group, protocol, &s.options.Node
	r.SessionTimeout, r.RebalanceTimeout = int32(groupSession/time.Millisecond), int32(groupRebalance/time.Millisecond)
	about := &sarama.ConsumerGroupMemberMetadata{Version: metadataVersion, Topics: []string{s.group}, GenerationID: s.generation}
	if len(s.held) > 0 {
		about.OwnedPartitions = []*sarama.OwnedPartition{{Topic: s.group, Partitions: s.held}}
	}
	if says, ok := s.strategy.(sarama.SubscriptionUserDataBalanceStrategy); ok {
		data, err := says.SubscriptionUserData(about.Topics)
		if err != nil {
			return nil, err
		}
		about.UserData = data
	}
	return r, r.AddGroupProtocolMetadata(s.strategy.Name(), about)
}

// plan shares the partitions out, if the coordinator has chosen this node to do it.
func (s *seat) plan(joined *sarama.JoinGroupResponse) ([]sarama.SyncGroupRequestAssignment, error) {
	if joined.LeaderId != joined.MemberId {
		return nil, nil
	}
	members, err := joined.GetMembers()
	if err != nil {
		return nil, err
	}
	all := make([]int32, s.options.Partitions) // whatever has become of the topic
	for p := range all {
		all[p] = int32(p)
	}
	shares, err := s.strategy.Plan(members, map[string][]int32{s.group: all})
	if err != nil {
		return nil, err
	}
	var r sarama.SyncGroupRequest
	for id := range members {
		share := &sarama.ConsumerGroupMemberAssignment{Topics: shares[id]}
		if share.UserData, err = s.strategy.AssignmentData(id, shares[id], joined.GenerationId); err != nil {
			return nil, err
		}
		if err := r.AddGroupAssignmentMember(id, share); err != nil {
			return nil, err
		}
	}
	return r.GroupAssignments, nil
}

// sync hands in the plan, if there is one, and answers this node's part.
func (s *seat) sync(plan []sarama.SyncGroupRequestAssignment) ([]int32, error) {
	kind, name := protocol, s.strategy.Name()
	request := &sarama.SyncGroupRequest{
		Version: syncVersion, GroupId: s.group, MemberId: s.id, GroupInstanceId: &s.options.Node, GenerationId: s.generation,
		ProtocolType: &kind, ProtocolName: &name, GroupAssignments: plan,
	}
	var answer *sarama.SyncGroupResponse
	err := s.line.wait(func(b *sarama.Broker) (err error) {
		answer, err = b.SyncGroup(request)
		return err
	})
	if err == nil && answer.Err != sarama.ErrNoError {
		err = answer.Err
	}
	if err != nil {
		return nil, fmt.Errorf("asking for this node's part: %w", err)
	}
	share := &sarama.ConsumerGroupMemberAssignment{}
	if len(answer.MemberAssignment) > 0 {
		if share, err = answer.GetMemberAssignment(); err != nil {
			return nil, fmt.Errorf("reading this node's part: %w", err)
		}
	}
	if hears, ok := s.strategy.(sarama.OnAssignmentBalanceStrategy); ok {
		hears.OnAssignment(share, s.generation)
	}
	return slices.Sorted(slices.Values(share.Topics[s.group])), nil
}

// beat tells the coordinator that this node lives.
func (s *seat) beat() error {
	var answer *sarama.HeartbeatResponse
	err := s.line.quick(func(b *sarama.Broker) (err error) {
		answer, err = b.Heartbeat(&sarama.HeartbeatRequest{
			Version: heartbeatVersion, GroupId: s.group, MemberId: s.id, GroupInstanceId: &s.options.Node, GenerationId: s.generation,
		})
		return err
	})
	if err == nil && answer.Err != sarama.ErrNoError {
		err = answer.Err
	}
	if err != nil {
		return fmt.Errorf("keeping the place in the group: %w", err)
	}
	return nil
}

// resign takes this node out of the group.
func (s *seat) resign() error {
	request := &sarama.LeaveGroupRequest{Version: leaveVersion, GroupId: s.group, Members: []sarama.MemberIdentity{{MemberId: s.id, GroupInstanceId: &s.options.Node}}}
	var answer *sarama.LeaveGroupResponse
	err := s.line.quick(func(b *sarama.Broker) (err error) {
		answer, err = b.LeaveGroup(request)
		return err
	})
	if err == nil && answer.Err != sarama.ErrNoError {
		err = answer.Err
	}
	return err
}
