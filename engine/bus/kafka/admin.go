package kafka

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"callchain/engine/bus"

	"github.com/IBM/sarama"
	"github.com/google/uuid"
)

// ensureTopics creates the topics that are missing and checks the others. It answers how many bytes their batches may have.
// created has the topics that were created; it grows over several attempts.
func (o *Options) ensureTopics(admin sarama.ClusterAdmin, created map[string]bool) (maxBytes limits, err error) {
	specs := slices.DeleteFunc(o.specs(), func(s topicSpec) bool { return s.onFollow })
	names := make([]string, len(specs))
	for i, s := range specs {
		names[i] = s.name
	}
	known, err := describe(admin, names)
	if err != nil {
		return maxBytes, err
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
			return maxBytes, err
		}
	}
	if missing != "" { // it was created a moment ago, here or by another node: look again
		return maxBytes, fmt.Errorf("topic %s: %w", missing, sarama.ErrUnknownTopicOrPartition)
	}
	for _, spec := range specs {
		limit, err := o.checkSettings(admin, spec, known[spec.name], created[spec.name])
		if err != nil {
			return maxBytes, err
		}
		maxBytes.set(spec.topic, limit)
	}
	return maxBytes, nil
}

// ensureFollowed creates a topic that is created when a node first follows it.
func (o *Options) ensureFollowed(topic bus.Topic) (err error) {
	specs := o.specs()
	i := slices.IndexFunc(specs, func(s topicSpec) bool { return s.topic == topic && s.onFollow })
	if i < 0 {
		return nil
	}
	c, err := o.config("admin")
	if err != nil {
		return err
	}
	admin, err := sarama.NewClusterAdmin(o.Brokers, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, admin.Close()) }()
	known, err := describe(admin, []string{specs[i].name})
	if err != nil {
		return err
	}
	if is := known[specs[i].name]; is != nil && !errors.Is(is.Err, sarama.ErrUnknownTopicOrPartition) {
		return checkTopic(specs[i], is)
	}
	return o.create(admin, specs[i], map[string]bool{})
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
	retention := strconv.FormatInt(s.retention.Milliseconds(), 10)
	bytes := strconv.Itoa(MessageBytesMax)
	remove := cleanupDelete
	detail := &sarama.TopicDetail{NumPartitions: s.partitions, ReplicationFactor: -1, ConfigEntries: map[string]*string{
		keyCleanup: &remove, keyRetention: &retention, keyMessageBytes: &bytes,
	}}
	if o.Replication > 0 {
		detail.ReplicationFactor = o.Replication
		safe := strconv.Itoa(max(1, int(o.Replication)-1))
		detail.ConfigEntries[keyInSync] = &safe
	}
	err := admin.CreateTopic(s.name, detail, false)
	if errors.Is(err, sarama.ErrTopicAlreadyExists) {
		return nil // another node was faster
	}
	if err != nil {
		return fmt.Errorf("topic %s does not exist and cannot be created: %w; create it with %d partitions, or let this user create topics", s.name, err, s.partitions)
	}
	created[s.name] = true
	o.Log.Info("topic created", "topic", s.name, "partitions", s.partitions)
	return nil
}

// topicIDs distinguish topics from others that had or have the same names.
type topicIDs struct {
	lanes  [bus.Lanes]uuid.UUID
	events uuid.UUID
}

// topicIDs asks a broker for the ids of the topics that must stay the same, and checks that all partitions of the lanes have a leader. Events can wait in
// the store until theirs have one.
func (o *Options) topicIDs(client sarama.Client) (ids topicIDs, err error) {
	targets := map[string]*uuid.UUID{o.Prefix + string(bus.Events): &ids.events}
	for lane, t := range laneTopics {
		targets[o.Prefix+t] = &ids.lanes[lane]
	}
	answer, err := requestMetadata(client, sarama.NewMetadataRequest(client.Config().Version, slices.Sorted(maps.Keys(targets))))
	if err != nil {
		return ids, err
	}
	for _, t := range answer.Topics {
		target := targets[t.Name]
		if target == nil {
			continue
		}
		if !errors.Is(t.Err, sarama.ErrNoError) {
			return ids, fmt.Errorf("topic %s: %w", t.Name, t.Err)
		}
		if *target = uuid.UUID(t.Uuid); *target == uuid.Nil {
			return ids, errors.New("the brokers do not support topic ids: use Apache Kafka 2.8 or newer")
		}
		for _, p := range t.Partitions {
			if target != &ids.events && !errors.Is(p.Err, sarama.ErrNoError) && !errors.Is(p.Err, sarama.ErrReplicaNotAvailable) {
				return ids, fmt.Errorf("topic %s partition %d: %w", t.Name, p.ID, p.Err)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(targets)) {
		if *targets[name] == uuid.Nil {
			return ids, fmt.Errorf("topic %s: missing from the metadata of the brokers", name)
		}
	}
	return ids, nil
}

// requestMetadata sends a request to the first broker that answers.
func requestMetadata(client sarama.Client, request *sarama.MetadataRequest) (*sarama.MetadataResponse, error) {
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
		_ = b.Close() // the next request opens it again
	}
	return nil, err
}
