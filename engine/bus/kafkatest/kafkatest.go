// Package kafkatest gives a test topics of its own on a Kafka broker.
package kafkatest

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/IBM/sarama"
	"github.com/google/uuid"
)

// Variable names the environment variable with the address of a broker (host:port) on which the tests may make topics.
const Variable = "CALLCHAIN_TEST_KAFKA"

// Topics are those of one test.
type Topics struct {
	Broker string // host:port
	Prefix string // of their names
	Admin  sarama.ClusterAdmin
}

// New gives a test a prefix; the topics that begin with it are removed when the test ends, since a broker that is killed looks through everything
// it holds. Without a broker the test is skipped.
func New(t testing.TB) *Topics {
	t.Helper()
	s := &Topics{Broker: os.Getenv(Variable), Prefix: "test-" + uuid.NewString()[:8] + "."}
	if s.Broker == "" {
		t.Skipf("NOT RUN: %s is not set: give it the address that scripts/kafka-up.sh prints", Variable)
	}
	c := sarama.NewConfig()
	c.Version = sarama.V2_8_0_0
	var err error
	if s.Admin, err = sarama.NewClusterAdmin([]string{s.Broker}, c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.remove(); err != nil {
			t.Errorf("removing the topics %s…: %v", s.Prefix, err)
		}
	})
	return s
}

// Served names a partition that the broker does not serve yet, nil if it serves all of the topics that begin with the prefix. A broker that was killed
// looks through what it holds, and answers on its port before it leads the last partition.
func Served(broker, prefix string) error {
	c := sarama.NewConfig()
	c.Metadata.Retry.Max = 0
	client, err := sarama.NewClient([]string{broker}, c)
	if err != nil {
		return err
	}
	defer client.Close()
	topics, err := client.Topics()
	if err != nil {
		return err
	}
	for _, topic := range topics {
		if !strings.HasPrefix(topic, prefix) {
			continue
		}
		partitions, err := client.Partitions(topic)
		if err != nil {
			return err
		}
		for _, p := range partitions {
			if _, err := client.GetOffset(topic, p, sarama.OffsetNewest); err != nil {
				return fmt.Errorf("%s partition %d: %w", topic, p, err)
			}
		}
	}
	return nil
}

// remove takes a connection of its own: the test may have stopped the broker in between.
func (s *Topics) remove() error {
	err := s.Admin.Close()
	admin, failed := sarama.NewClusterAdmin([]string{s.Broker}, nil)
	if failed != nil {
		return errors.Join(err, failed)
	}
	topics, failed := admin.ListTopics()
	err = errors.Join(err, failed)
	for name := range topics {
		if strings.HasPrefix(name, s.Prefix) {
			err = errors.Join(err, admin.DeleteTopic(name))
		}
	}
	return errors.Join(err, admin.Close())
}
