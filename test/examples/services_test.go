package examples

import (
	"errors"
	"os"
	"strings"
	"testing"

	"callchain/eventstore/pgtest"

	"github.com/IBM/sarama"
	"github.com/google/uuid"
)

// services are the broker and the database of a page that shows them with their default addresses, as pairs: what the page says, what it is in
// this run. The topics begin with a prefix of this run and have few partitions; both are gone afterwards, and so is the database.
func services(t *testing.T, blocks []block) []string {
	t.Helper()
	const brokers, store = "127.0.0.1:9092", "postgres://callchain@127.0.0.1:5432/callchain"
	all := commands(blocks)
	if !strings.Contains(all, brokers) && !strings.Contains(all, store) {
		return nil
	}
	address := os.Getenv("CALLCHAIN_TEST_KAFKA")
	if address == "" {
		t.Skip("NOT RUN: CALLCHAIN_TEST_KAFKA is not set: give it the address that scripts/kafka-up.sh prints")
	}
	prefix := "page-" + uuid.NewString()[:8] + "."
	t.Cleanup(func() { removeTopics(t, address, prefix) })
	return []string{
		"--bus.kafka.prefix example.", "--bus.kafka.prefix " + prefix + " --partitions 4",
		"--prefix example.", "--prefix " + prefix, brokers, address, store, pgtest.Database(t),
	}
}

func removeTopics(t *testing.T, brokers, prefix string) {
	t.Helper()
	admin, err := sarama.NewClusterAdmin([]string{brokers}, nil)
	if err != nil {
		t.Errorf("removing the topics %s…: %v", prefix, err)
		return
	}
	topics, err := admin.ListTopics()
	for name := range topics {
		if strings.HasPrefix(name, prefix) {
			err = errors.Join(err, admin.DeleteTopic(name))
		}
	}
	if err = errors.Join(err, admin.Close()); err != nil {
		t.Errorf("removing the topics %s…: %v", prefix, err)
	}
}
