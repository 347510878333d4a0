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
	metadataVersion  = 1 // with the partitions that a member owns
)

// protocol is the type of group that consumers have, so that their tools show it.
const protocol = "consumer"

// joinGroup takes part in the next rebalance, and answers this node's assignment, sorted.
func (m *groupMember) joinGroup() ([]int32, error) {
	request, err := m.joinRequest()
	if err != nil {
		return nil, err
	}
	var answer *sarama.JoinGroupResponse
	for range 2 { // the coordinator may first answer with a member id only
		request.MemberId = m.id
		err := m.coordinator.sendBlocking(func(b *sarama.Broker) (err error) {
			answer, err = b.JoinGroup(request)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("joining the group: %w", err)
		}
		if answer.MemberId != "" {
			m.id = answer.MemberId
		}
		if answer.Err != sarama.ErrMemberIdRequired {
			break
		}
	}
	if answer.Err != sarama.ErrNoError {
		return nil, fmt.Errorf("joining the group: %w", answer.Err)
	}
	m.generation = answer.GenerationId
	plan, err := m.plan(answer)
	if err != nil {
		return nil, fmt.Errorf("assigning the partitions: %w", err)
	}
	return m.syncGroup(plan)
}

// joinRequest has the partitions that this node owns.
func (m *groupMember) joinRequest() (*sarama.JoinGroupRequest, error) {
	r := sarama.NewJoinGroupRequest(m.coordinator.config.Version)
	r.GroupId, r.ProtocolType, r.GroupInstanceId = m.group, protocol, &m.options.Node
	r.SessionTimeout, r.RebalanceTimeout = int32(groupSession/time.Millisecond), int32(groupRebalance/time.Millisecond)
	metadata := &sarama.ConsumerGroupMemberMetadata{Version: metadataVersion, Topics: []string{m.group}, GenerationID: m.generation}
	if len(m.assigned) > 0 {
		metadata.OwnedPartitions = []*sarama.OwnedPartition{{Topic: m.group, Partitions: m.assigned}}
	}
	if withData, ok := m.strategy.(sarama.SubscriptionUserDataBalanceStrategy); ok {
		data, err := withData.SubscriptionUserData(metadata.Topics)
		if err != nil {
			return nil, err
		}
		metadata.UserData = data
	}
	return r, r.AddGroupProtocolMetadata(m.strategy.Name(), metadata)
}

// plan assigns the partitions to the members, if the coordinator chose this node as the leader of the group.
func (m *groupMember) plan(joined *sarama.JoinGroupResponse) ([]sarama.SyncGroupRequestAssignment, error) {
	if joined.LeaderId != joined.MemberId {
		return nil, nil
	}
	members, err := joined.GetMembers()
	if err != nil {
		return nil, err
	}
	all := make([]int32, m.options.Partitions) // not of the topic: it may have been deleted
	for p := range all {
		all[p] = int32(p)
	}
	assignments, err := m.strategy.Plan(members, map[string][]int32{m.group: all})
	if err != nil {
		return nil, err
	}
	var r sarama.SyncGroupRequest
	for id := range members {
		assignment := &sarama.ConsumerGroupMemberAssignment{Topics: assignments[id]}
		if assignment.UserData, err = m.strategy.AssignmentData(id, assignments[id], joined.GenerationId); err != nil {
			return nil, err
		}
		if err := r.AddGroupAssignmentMember(id, assignment); err != nil {
			return nil, err
		}
	}
	return r.GroupAssignments, nil
}

// syncGroup sends the plan, if there is one, and answers this node's assignment.
func (m *groupMember) syncGroup(plan []sarama.SyncGroupRequestAssignment) ([]int32, error) {
	kind, name := protocol, m.strategy.Name()
	request := &sarama.SyncGroupRequest{
		Version: syncVersion, GroupId: m.group, MemberId: m.id, GroupInstanceId: &m.options.Node, GenerationId: m.generation,
		ProtocolType: &kind, ProtocolName: &name, GroupAssignments: plan,
	}
	var answer *sarama.SyncGroupResponse
	err := m.coordinator.sendBlocking(func(b *sarama.Broker) (err error) {
		answer, err = b.SyncGroup(request)
		return err
	})
	if err == nil && answer.Err != sarama.ErrNoError {
		err = answer.Err
	}
	if err != nil {
		return nil, fmt.Errorf("requesting this node's assignment: %w", err)
	}
	assignment := &sarama.ConsumerGroupMemberAssignment{}
	if len(answer.MemberAssignment) > 0 {
		if assignment, err = answer.GetMemberAssignment(); err != nil {
			return nil, fmt.Errorf("decoding this node's assignment: %w", err)
		}
	}
	if observer, ok := m.strategy.(sarama.OnAssignmentBalanceStrategy); ok {
		observer.OnAssignment(assignment, m.generation)
	}
	return slices.Sorted(slices.Values(assignment.Topics[m.group])), nil
}

// heartbeat keeps the session alive.
func (m *groupMember) heartbeat() error {
	var answer *sarama.HeartbeatResponse
	err := m.coordinator.send(func(b *sarama.Broker) (err error) {
		answer, err = b.Heartbeat(&sarama.HeartbeatRequest{
			Version: heartbeatVersion, GroupId: m.group, MemberId: m.id, GroupInstanceId: &m.options.Node, GenerationId: m.generation,
		})
		return err
	})
	if err == nil && answer.Err != sarama.ErrNoError {
		err = answer.Err
	}
	if err != nil {
		return fmt.Errorf("sending a heartbeat to the group: %w", err)
	}
	return nil
}

// leaveGroup removes this node from the group.
func (m *groupMember) leaveGroup() error {
	request := &sarama.LeaveGroupRequest{Version: leaveVersion, GroupId: m.group, Members: []sarama.MemberIdentity{{MemberId: m.id, GroupInstanceId: &m.options.Node}}}
	var answer *sarama.LeaveGroupResponse
	err := m.coordinator.send(func(b *sarama.Broker) (err error) {
		answer, err = b.LeaveGroup(request)
		return err
	})
	if err == nil && answer.Err != sarama.ErrNoError {
		err = answer.Err
	}
	return err
}
