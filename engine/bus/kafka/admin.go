package kafka

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"callchain/engine/bus"

	"github.com/IBM/sarama"
	"github.com/google/uuid"
)

// The topics of the lanes, without the prefix.
var laneTopics = [bus.Lanes]string{bus.RPC: "callchain.inbox", bus.Data: "callchain.data"}

// topicSpec is a topic as it must be.
type topicSpec struct {
	name       string
	partitions int32
	retention  time.Duration // of its messages; 0: for ever
}

// specs are all topics. What the inbox topics hold is taken within moments; a week of it survives a long outage of the database. Events are
// kept for a week for readers that were away; the store has them for ever.
func (o *Options) specs() []topicSpec {
	const week = 7 * 24 * time.Hour
	return []topicSpec{
		{o.Prefix + laneTopics[bus.RPC], o.Partitions, week},
		{o.Prefix + laneTopics[bus.Data], o.Partitions, week},
		{o.Prefix + string(bus.Events), o.Partitions, week},
		{o.Prefix + string(bus.Registry), 1, 24 * time.Hour},
		{o.Prefix + string(bus.DeadLetters), 1, 4 * week},
		{o.Prefix + string(bus.NodeTopic(o.Node)), 1, time.Hour},
	}
}

// prepare creates the topics that are missing and checks the others.
func (o *Options) prepare(admin sarama.ClusterAdmin) error {
	specs := o.specs()
	names := make([]string, len(specs))
	for i, s := range specs {
		names[i] = s.name
	}
	found, err := admin.DescribeTopics(names)
	if err != nil {
		return fmt.Errorf("asking for the topics: %w", err)
	}
	known := map[string]*sarama.TopicMetadata{}
	for _, t := range found {
		known[t.Name] = t
	}
	for _, s := range specs {
		if err := o.prepareTopic(admin, s, known[s.name]); err != nil {
			return err
		}
	}
	return o.warnOfLoss(admin)
}

func (o *Options) prepareTopic(admin sarama.ClusterAdmin, s topicSpec, is *sarama.TopicMetadata) error {
	if is == nil || errors.Is(is.Err, sarama.ErrUnknownTopicOrPartition) {
		err := o.create(admin, s)
		if err == nil || errors.Is(err, sarama.ErrTopicAlreadyExists) {
			return nil // another node may have been quicker
		}
		return fmt.Errorf("topic %s does not exist and cannot be created: %w; create it with %d partitions, or let this user create topics", s.name, err, s.partitions)
	}
	switch {
	case !errors.Is(is.Err, sarama.ErrNoError):
		return fmt.Errorf("topic %s: %w", s.name, is.Err)
	case int32(len(is.Partitions)) < s.partitions:
		return fmt.Errorf("topic %s has %d partitions, partitions is %d: add partitions to the topic", s.name, len(is.Partitions), s.partitions)
	}
	return nil
}

// warnOfLoss tells an operator whose brokers keep one copy only.
func (o *Options) warnOfLoss(admin sarama.ClusterAdmin) error {
	found, err := admin.DescribeTopics([]string{o.Prefix + laneTopics[bus.RPC]})
	if err != nil {
		return fmt.Errorf("asking for the replicas of the inbox: %w", err)
	}
	for _, t := range found {
		for _, p := range t.Partitions {
			if len(p.Replicas) < 2 {
				o.Log.Warn("the topics have one replica: a broker that is lost takes messages with it; three, with min.insync.replicas 2, are safe", "topic", t.Name)
				return nil
			}
		}
	}
	return nil
}

func (o *Options) create(admin sarama.ClusterAdmin, s topicSpec) error {
	retention := "-1"
	if s.retention > 0 {
		retention = strconv.FormatInt(s.retention.Milliseconds(), 10)
	}
	bytes := strconv.Itoa(MessageBytesMax)
	remove := "delete"
	detail := &sarama.TopicDetail{NumPartitions: s.partitions, ReplicationFactor: -1, ConfigEntries: map[string]*string{
		"cleanup.policy": &remove, "retention.ms": &retention, "max.message.bytes": &bytes,
	}}
	if o.Replication > 0 {
		detail.ReplicationFactor = o.Replication
		safe := strconv.Itoa(max(1, int(o.Replication)-1))
		detail.ConfigEntries["min.insync.replicas"] = &safe
	}
	if err := admin.CreateTopic(s.name, detail, false); err != nil {
		return err
	}
	o.Log.Info("topic created", "topic", s.name, "partitions", s.partitions)
	return nil
}

// topicIDs asks a broker for the ids of the lanes' topics, and whether all their partitions have a leader.
func (o *Options) topicIDs(client sarama.Client) (ids [bus.Lanes]uuid.UUID, err error) {
	var names []string
	for _, t := range laneTopics {
		names = append(names, o.Prefix+t)
	}
	answer, err := ask(client, sarama.NewMetadataRequest(client.Config().Version, names))
	if err != nil {
		return ids, err
	}
	for _, t := range answer.Topics {
		if !errors.Is(t.Err, sarama.ErrNoError) {
			return ids, fmt.Errorf("topic %s: %w", t.Name, t.Err)
		}
		for _, p := range t.Partitions {
			if !errors.Is(p.Err, sarama.ErrNoError) && !errors.Is(p.Err, sarama.ErrReplicaNotAvailable) {
				return ids, fmt.Errorf("topic %s partition %d: %w", t.Name, p.ID, p.Err)
			}
		}
		for lane := range laneTopics {
			if t.Name == o.Prefix+laneTopics[lane] {
				ids[lane] = uuid.UUID(t.Uuid)
			}
		}
	}
	return ids, nil
}

// ask sends a request to the first broker that answers.
func ask(client sarama.Client, request *sarama.MetadataRequest) (*sarama.MetadataResponse, error) {
	brokers := client.Brokers()
	if len(brokers) == 0 {
		if err := client.RefreshMetadata(); err != nil {
			return nil, err
		}
		brokers = client.Brokers()
	}
	err := sarama.ErrOutOfBrokers
	for _, b := range brokers {
		if e := b.Open(client.Config()); e != nil && !errors.Is(e, sarama.ErrAlreadyConnected) {
			err = e
			continue
		}
		answer, e := b.GetMetadata(request)
		if e == nil {
			return answer, nil
		}
		err = e
		_ = b.Close() // the next question opens it again
	}
	return nil, err
}
