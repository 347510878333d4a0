package kafka

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"callchain/engine/bus"

	"github.com/IBM/sarama"
)

// The topics of the lanes, without the prefix.
var laneTopics = [bus.Lanes]string{bus.RPC: "callchain.inbox", bus.Data: "callchain.data"}

// topicSpec is what a topic must be like. It must not be compacted: a key has many records, and each is needed.
type topicSpec struct {
	topic      bus.Topic
	name       string // with the prefix
	partitions int32
	retention  time.Duration // of its messages
	lane       bool          // it has acknowledged commands, which no other copy has
	onFollow   bool          // created when a node first follows it, not at the start
}

// specs are all topics; docs/operation.md has the same table. Commands are taken within moments; a week of retention survives a long outage of the
// database. Events are retained for a week for readers that were away; the store has them for ever.
func (o *Options) specs() []topicSpec {
	const day = 24 * time.Hour
	specs := []topicSpec{
		{topic: bus.Topic(laneTopics[bus.RPC]), partitions: o.Partitions, retention: 7 * day, lane: true},
		{topic: bus.Topic(laneTopics[bus.Data]), partitions: o.Partitions, retention: 7 * day, lane: true},
		{topic: bus.Events, partitions: o.Partitions, retention: 7 * day},
		{topic: bus.Registry, partitions: 1, retention: day},
		{topic: bus.Nodes, partitions: 1, retention: time.Hour},
		{topic: bus.Owners, partitions: o.Partitions, retention: time.Hour},
		{topic: bus.DeadLetters, partitions: 1, retention: 28 * day},
		{topic: bus.NodeTopic(o.Node), partitions: 1, retention: time.Hour, onFollow: true},
	}
	for i := range specs {
		specs[i].name = o.Prefix + string(specs[i].topic)
	}
	return specs
}

// limits are how many bytes a batch of a topic may have, and so a message.
type limits struct {
	lanes               [bus.Lanes]int
	events, deadLetters int
}

// envelopeBytes is what an event has beside the body of its command: ids, names, times, hashes.
const envelopeBytes = 16 << 10

// commands are how many bytes a command of each lane may have: its event must fit the topic of events, too.
func (l *limits) commands() [bus.Lanes]int {
	commands := l.lanes
	for lane := range commands {
		commands[lane] = max(0, min(commands[lane], l.events-envelopeBytes))
	}
	return commands
}

// set stores how many bytes a batch of a topic may have.
func (l *limits) set(topic bus.Topic, bytes int) {
	switch topic {
	case bus.Events:
		l.events = bytes
	case bus.DeadLetters:
		l.deadLetters = bytes
	default:
		for lane, name := range laneTopics {
			if name == string(topic) {
				l.lanes[lane] = bytes
			}
		}
	}
}

// The settings of a topic that decide what it takes and how safe that is.
const (
	keyCleanup        = "cleanup.policy"
	keyRetention      = "retention.ms"
	keyRetentionBytes = "retention.bytes"
	keyMessageBytes   = "max.message.bytes"
	keyInSync         = "min.insync.replicas"

	cleanupDelete = "delete"
)

// batchOverhead is what a batch has beside its records, rounded up.
const batchOverhead = 256

// longOutage is how long the database should be able to be down without the loss of acknowledged commands.
const longOutage = 24 * time.Hour

// checkSettings refuses a topic that would lose messages silently, warns of one that may, and answers how many bytes a message may have. It sets
// min.insync.replicas to 2 for a topic that was just created with the brokers' default of three replicas or more.
func (o *Options) checkSettings(admin sarama.ClusterAdmin, s topicSpec, is *sarama.TopicMetadata, created bool) (limit int, err error) {
	limit = MessageBytesMax - batchOverhead
	values, err := settingsOf(admin, s.name)
	if err != nil && temporary(err) {
		return 0, err
	}
	if err != nil {
		o.Log.Warn("could not read the settings of a topic; it must not be compacted, should accept large messages and have min.insync.replicas 2", "topic", s.name, "error", err)
		return limit, nil
	}
	if policy := values[keyCleanup]; strings.Contains(policy, "compact") {
		return 0, fmt.Errorf("topic %s has %s=%s: compaction would remove all but the last message of a key; set it to %s", s.name, keyCleanup, policy, cleanupDelete)
	}
	replicas := len(is.Partitions[0].Replicas)
	if created && replicas > 2 && intSetting(values, keyInSync) < 2 {
		two := "2"
		err := admin.IncrementalAlterConfig(sarama.TopicResource, s.name, map[string]sarama.IncrementalAlterConfigsEntry{
			keyInSync: {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &two},
		}, false)
		if err != nil {
			return 0, fmt.Errorf("setting %s of topic %s: %w", keyInSync, s.name, err)
		}
		values[keyInSync] = two
	}
	if s.lane {
		o.warnOfLoss(s, replicas, values)
	}
	if n := intSetting(values, keyMessageBytes); n > 0 && n < MessageBytesMax && s.topic != bus.Registry {
		o.Log.Warn("topic accepts small messages only; larger calls are refused, larger dead letters are not published", "topic", s.name, "bytes", n, "wanted", MessageBytesMax)
		limit = max(int(n)-batchOverhead, 0)
	}
	return limit, nil
}

// warnOfLoss logs how a topic may lose acknowledged messages.
func (o *Options) warnOfLoss(s topicSpec, replicas int, values map[string]string) {
	if inSync := intSetting(values, keyInSync); replicas < 2 || inSync < 2 {
		o.Log.Warn("the loss of one broker may lose messages; three replicas with min.insync.replicas 2 are safe", "topic", s.name, "replicas", replicas, "inSync", inSync)
	}
	if ms := intSetting(values, keyRetention); ms >= 0 && ms < longOutage.Milliseconds() {
		o.Log.Warn("topic of the inbox has a short retention; a longer outage of the database loses acknowledged messages (retention.ms)", "topic", s.name, "after", time.Duration(ms)*time.Millisecond, "wanted", s.retention)
	}
	if limit := intSetting(values, keyRetentionBytes); limit >= 0 {
		o.Log.Warn("topic of the inbox removes messages by size, also those that were not taken (retention.bytes)", "topic", s.name, "bytes", limit, "wanted", -1)
	}
}

// intSetting is the value of a numeric setting; -1 if it is missing.
func intSetting(values map[string]string, name string) int64 {
	n, err := strconv.ParseInt(values[name], 10, 64)
	if err != nil {
		return -1
	}
	return n
}

// settingsOf are the settings of a topic that this package checks.
func settingsOf(admin sarama.ClusterAdmin, topic string) (map[string]string, error) {
	resource := &sarama.ConfigResource{
		Type: sarama.TopicResource, Name: topic, ConfigNames: []string{keyCleanup, keyRetention, keyRetentionBytes, keyMessageBytes, keyInSync},
	}
	found, err := admin.DescribeConfigs([]*sarama.ConfigResource{resource}, sarama.DescribeConfigsOptions{})
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	for _, f := range found {
		if !errors.Is(f.ErrorCode, sarama.ErrNoError) {
			return nil, f.ErrorCode
		}
		for _, s := range f.Configs {
			values[s.Name] = s.Value
		}
	}
	return values, nil
}
