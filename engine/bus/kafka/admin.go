package kafka

import (
	"errors"
	"fmt"
	"slices"
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

// limits are how many bytes a batch of a topic may have, and so a message.
type limits struct {
	lanes           [bus.Lanes]int
	events, letters int
}

// envelopeBytes is what an event has beside what its command brought: ids, names, times, hashes.
const envelopeBytes = 16 << 10

// commands are how many bytes a command of each lane may have: what becomes of it must fit the topic of events, too.
func (l *limits) commands() [bus.Lanes]int {
	most := l.lanes
	for lane := range most {
		most[lane] = max(0, min(most[lane], l.events-envelopeBytes))
	}
	return most
}

// prepare creates the topics that are missing and checks the others. It answers how many bytes their messages may have.
// created has those that were created; it grows over several tries.
func (o *Options) prepare(admin sarama.ClusterAdmin, created map[string]bool) (most limits, err error) {
	specs := o.specs()
	names := make([]string, len(specs))
	for i, s := range specs {
		names[i] = s.name
	}
	known, err := describe(admin, names)
	if err != nil {
		return most, err
	}
	missing := ""
	for _, spec := range specs {
		if is := known[spec.name]; is != nil && !errors.Is(is.Err, sarama.ErrUnknownTopicOrPartition) {
			err = checkTopic(spec, is)
		} else {
			missing = spec.name
			err = o.create(admin, spec, created)
		}
		if err != nil {
			return most, err
		}
	}
	if missing != "" { // it was created a moment ago, here or by another node: look again
		return most, fmt.Errorf("topic %s: %w", missing, sarama.ErrUnknownTopicOrPartition)
	}
	for name, limit := range map[string]*int{
		laneTopics[bus.RPC]: &most.lanes[bus.RPC], laneTopics[bus.Data]: &most.lanes[bus.Data], string(bus.Events): &most.events, string(bus.DeadLetters): &most.letters,
	} {
		name = o.Prefix + name
		if *limit, err = o.checkSafety(admin, name, known[name], created[name]); err != nil {
			return most, err
		}
	}
	return most, nil
}

func describe(admin sarama.ClusterAdmin, names []string) (map[string]*sarama.TopicMetadata, error) {
	found, err := admin.DescribeTopics(names)
	if err != nil {
		return nil, fmt.Errorf("asking for the topics: %w", err)
	}
	known := map[string]*sarama.TopicMetadata{}
	for _, t := range found {
		known[t.Name] = t
	}
	return known, nil
}

func checkTopic(s topicSpec, is *sarama.TopicMetadata) error {
	switch {
	case !errors.Is(is.Err, sarama.ErrNoError):
		return fmt.Errorf("topic %s: %w", s.name, is.Err)
	case int32(len(is.Partitions)) < s.partitions:
		return fmt.Errorf("topic %s has %d partitions, partitions is %d: add partitions to the topic", s.name, len(is.Partitions), s.partitions)
	}
	return nil
}

func (o *Options) create(admin sarama.ClusterAdmin, s topicSpec, created map[string]bool) error {
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
	err := admin.CreateTopic(s.name, detail, false)
	if errors.Is(err, sarama.ErrTopicAlreadyExists) {
		return nil // another node was quicker
	}
	if err != nil {
		return fmt.Errorf("topic %s does not exist and cannot be created: %w; create it with %d partitions, or let this user create topics", s.name, err, s.partitions)
	}
	created[s.name] = true
	o.Log.Info("topic created", "topic", s.name, "partitions", s.partitions)
	return nil
}

// The settings of a topic that decide what it takes and how safe that is.
const (
	keyMessageBytes = "max.message.bytes"
	keyInSync       = "min.insync.replicas"
)

// batchOverhead is what a batch has beside its records, and some room.
const batchOverhead = 256

// checkSafety tells an operator whose brokers may lose messages, and answers how many bytes a message may have. A topic that was just created
// with the brokers' own number of replicas is made to keep two of three.
func (o *Options) checkSafety(admin sarama.ClusterAdmin, topic string, is *sarama.TopicMetadata, created bool) (limit int, err error) {
	limit = MessageBytesMax - batchOverhead
	values, err := settingsOf(admin, topic)
	if err != nil && temporary(err) {
		return 0, err
	}
	if err != nil {
		o.Log.Warn("the settings of a topic cannot be read; it should take large messages and keep two copies", "topic", topic, "error", err)
		return limit, nil
	}
	replicas := len(is.Partitions[0].Replicas)
	if created && replicas > 2 && values[keyInSync] < 2 {
		two := "2"
		err := admin.IncrementalAlterConfig(sarama.TopicResource, topic, map[string]sarama.IncrementalAlterConfigsEntry{
			keyInSync: {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &two},
		}, false)
		if err != nil {
			return 0, fmt.Errorf("setting %s of topic %s: %w", keyInSync, topic, err)
		}
		values[keyInSync] = 2
	}
	if lane := bus.RPC; topic == o.Prefix+laneTopics[lane] && (replicas < 2 || values[keyInSync] < 2) { // the others are as this one; one line is enough
		o.Log.Warn("a broker that is lost may take messages with it; three replicas with min.insync.replicas 2 are safe", "topic", topic, "replicas", replicas, "inSync", values[keyInSync])
	}
	if n := values[keyMessageBytes]; n > 0 && n < MessageBytesMax {
		o.Log.Warn("a topic takes small messages only; larger calls are refused, larger dead letters are not published", "topic", topic, "bytes", n, "wanted", MessageBytesMax)
		limit = max(n-batchOverhead, 0)
	}
	return limit, nil
}

// settingsOf are the settings of a topic that are numbers.
func settingsOf(admin sarama.ClusterAdmin, topic string) (map[string]int, error) {
	about := &sarama.ConfigResource{Type: sarama.TopicResource, Name: topic, ConfigNames: []string{keyMessageBytes, keyInSync}}
	found, err := admin.DescribeConfigs([]*sarama.ConfigResource{about}, sarama.DescribeConfigsOptions{})
	if err != nil {
		return nil, err
	}
	values := map[string]int{}
	for _, f := range found {
		if !errors.Is(f.ErrorCode, sarama.ErrNoError) {
			return nil, f.ErrorCode
		}
		for _, s := range f.Configs {
			if n, err := strconv.Atoi(s.Value); err == nil {
				values[s.Name] = n
			}
		}
	}
	return values, nil
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
	if slices.Contains(ids[:], uuid.Nil) {
		return ids, errors.New("the brokers give topics no ids: Apache Kafka 2.8 or newer is needed")
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
