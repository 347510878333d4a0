package kafka_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"callchain/engine/bus"
	"callchain/engine/bus/kafka"

	"github.com/IBM/sarama"
)

// No topic may be compacted: of the commands and events with one key, all but the last would be removed without notice.
func TestOpenOnACompactedTopic(t *testing.T) {
	for n, policy := range []string{"compact", "compact,delete"} {
		for _, topic := range []bus.Topic{"callchain.inbox", "callchain.data", bus.Events, bus.Registry, bus.DeadLetters}[2*n:] {
			t.Run(fmt.Sprint(policy, " ", topic), func(t *testing.T) {
				s := newSite(t)
				s.create(t, topic, partitions, map[string]string{"cleanup.policy": policy})
				_, err := kafka.Open(context.Background(), s.options(t))
				wantError(t, err, s.prefix+string(topic), "cleanup.policy="+policy, "set it to delete")
				remove := "delete"
				change := map[string]sarama.IncrementalAlterConfigsEntry{"cleanup.policy": {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &remove}}
				if err := s.admin.IncrementalAlterConfig(sarama.TopicResource, s.prefix+string(topic), change, false); err != nil {
					t.Fatal(err)
				}
				s.settled(t, topic, "cleanup.policy", remove)
				s.open(t, s.options(t))
			})
		}
	}
}

// A topic of the inbox that may lose what was acknowledged is taken, and warned of, each by its name.
func TestOpenWarnsOfLoss(t *testing.T) {
	s := newSite(t)
	s.create(t, "callchain.inbox", partitions, map[string]string{"retention.ms": "3600000", "min.insync.replicas": "1"})
	s.create(t, "callchain.data", partitions, map[string]string{"retention.bytes": "1000000", "retention.ms": "-1"})
	s.create(t, bus.Events, partitions, map[string]string{"retention.ms": "1000"})
	var lines strings.Builder
	o := s.options(t)
	o.Log = logTo(&lines)
	s.open(t, o)
	for _, want := range []string{
		`(retention.ms)" topic=` + s.prefix + "callchain.inbox after=1h0m0s wanted=168h0m0s",
		`(retention.bytes)" topic=` + s.prefix + "callchain.data bytes=1000000 wanted=-1",
		`2 are safe" topic=` + s.prefix + "callchain.inbox replicas=1 inSync=1",
		`2 are safe" topic=` + s.prefix + "callchain.data replicas=1 inSync=1",
	} {
		if strings.Count(lines.String(), want) != 1 {
			t.Errorf("the log does not say %q once:\n%s", want, lines.String())
		}
	}
	for _, not := range []string{`(retention.ms)" topic=` + s.prefix + "callchain.data", `(retention.bytes)" topic=` + s.prefix + "callchain.inbox", "topic=" + s.prefix + string(bus.Events) + " after"} {
		if strings.Contains(lines.String(), not) {
			t.Errorf("the log says %q:\n%s", not, lines.String())
		}
	}
}
