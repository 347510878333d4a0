package examples

import (
	"strings"
	"testing"

	"callchain/engine/bus/kafkatest"
	"callchain/eventstore/pgtest"
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
	topics := kafkatest.New(t)
	return []string{
		"--bus.kafka.prefix example.", "--bus.kafka.prefix " + topics.Prefix + " --partitions 4",
		"--prefix example.", "--prefix " + topics.Prefix, brokers, topics.Broker, store, pgtest.Database(t),
	}
}
