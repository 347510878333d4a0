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

// topicSpec is a topic as it must be. Nobody may compact it: a key has many records, and each of them counts.
type topicSpec struct {
	topic      bus.Topic
	name       string // with the prefix
	partitions int32
	retention  time.Duration // of its messages
	lane       bool          // it has what nobody else has: commands that were acknowledged
	later      bool          // made when it is followed first, not at the start
}

// specs are all topics, as the table in docs/operation.md has them, too. What the inbox topics hold is taken within moments; a week of it survives a
// long outage of the database. Events are kept for a week for readers that were away; the store has them for ever.
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
		{topic: bus.NodeTopic(o.Node), partitions: 1, retention: time.Hour, later: true},
	}
	for i := range specs {
		specs[i].name = o.Prefix + string(specs[i].topic)
	}
	return specs
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

// note keeps how many bytes a batch of a topic may have.
func (l *limits) note(topic bus.Topic, bytes int) {
	switch topic {
	case bus.Events:
		l.events = bytes
	case bus.DeadLetters:
		l.letters = bytes
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

// batchOverhead is what a batch has beside its records, and some room.
const batchOverhead = 256

// outageLong is how long the database should be able to be away without the loss of what was acknowledged.
const outageLong = 24 * time.Hour

// checkSettings refuses a topic that would lose messages without a word, warns of one that may, and answers how many bytes a message may have. A topic
// that was just created with the brokers' own number of replicas is made to keep two of three.
func (o *Options) checkSettings(admin sarama.ClusterAdmin, s topicSpec, is *sarama.TopicMetadata, created bool) (limit int, err error) {
	limit = MessageBytesMax - batchOverhead
	values, err := settingsOf(admin, s.name)
	if err != nil && temporary(err) {
		return 0, err
	}
	if err != nil {
		o.Log.Warn("the settings of a topic cannot be read; it must not be compacted, should take large messages and keep two copies", "topic", s.name, "error", err)
		return limit, nil
	}
	if policy := values[keyCleanup]; strings.Contains(policy, "compact") {
		return 0, fmt.Errorf("topic %s has %s=%s: of the messages with one key all but the last would be removed, and nobody told; set it to %s", s.name, keyCleanup, policy, cleanupDelete)
	}
	replicas := len(is.Partitions[0].Replicas)
	if created && replicas > 2 && number(values, keyInSync) < 2 {
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
	if n := number(values, keyMessageBytes); n > 0 && n < MessageBytesMax && s.topic != bus.Registry {
		o.Log.Warn("a topic takes small messages only; larger calls are refused, larger dead letters are not published", "topic", s.name, "bytes", n, "wanted", MessageBytesMax)
		limit = max(int(n)-batchOverhead, 0)
	}
	return limit, nil
}

// warnOfLoss tells how a topic may lose what was acknowledged.
func (o *Options) warnOfLoss(s topicSpec, replicas int, values map[string]string) {
	if inSync := number(values, keyInSync); replicas < 2 || inSync < 2 {
		o.Log.Warn("a broker that is lost may take messages with it; three replicas with min.insync.replicas 2 are safe", "topic", s.name, "replicas", replicas, "inSync", inSync)
	}
	if ms := number(values, keyRetention); ms >= 0 && ms < outageLong.Milliseconds() {
		o.Log.Warn("a topic of the inbox removes messages soon; a longer outage of the database loses what was acknowledged (retention.ms)", "topic", s.name, "after", time.Duration(ms)*time.Millisecond, "wanted", s.retention)
	}
	if most := number(values, keyRetentionBytes); most >= 0 {
		o.Log.Warn("a topic of the inbox removes messages when there are many, also those that were not taken (retention.bytes)", "topic", s.name, "bytes", most, "wanted", -1)
	}
}

// number is a setting that is one; -1 if it is missing.
func number(values map[string]string, name string) int64 {
	n, err := strconv.ParseInt(values[name], 10, 64)
	if err != nil {
		return -1
	}
	return n
}

// settingsOf are the settings of a topic that matter here.
func settingsOf(admin sarama.ClusterAdmin, topic string) (map[string]string, error) {
	about := &sarama.ConfigResource{
		Type: sarama.TopicResource, Name: topic, ConfigNames: []string{keyCleanup, keyRetention, keyRetentionBytes, keyMessageBytes, keyInSync},
	}
	found, err := admin.DescribeConfigs([]*sarama.ConfigResource{about}, sarama.DescribeConfigsOptions{})
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
