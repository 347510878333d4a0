package e2e_test

import (
	"errors"
	"strconv"
	"time"

	"callchain/engine/bus"
	"callchain/engine/relay"
	"callchain/eventstore"

	"github.com/IBM/sarama"
)

// checkTopic reads the topic of events as its readers do, after the server has ended: of each partition every event that is stored comes, in order and
// without gaps, once those are dropped whose seq is at or below the last one. That is the promise of the relay's cursor, whatever was killed.
func (c *crashing) checkTopic() {
	store := c.openStore()
	defer store.Close()
	checkpoints, err := store.Checkpoints(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	reader, err := sarama.NewConsumer([]string{c.place.brokers}, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() {
		if err := reader.Close(); err != nil {
			c.t.Error(err)
		}
	}()
	records, events := 0, int64(0)
	for _, cp := range checkpoints {
		if cp.Seq > 0 {
			records += c.readPartition(reader, cp)
		}
		events += cp.Seq
	}
	c.t.Logf("the topic has %d records of %d events", records, events)
}

// readPartition holds a partition of the topic against its checkpoint, and counts its records.
func (c *crashing) readPartition(reader sarama.Consumer, cp eventstore.Checkpoint) (records int) {
	c.t.Helper()
	from, err := reader.ConsumePartition(c.place.prefix+string(bus.Events), cp.Partition, sarama.OffsetOldest)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() {
		if err := from.Close(); err != nil && !errors.Is(err, sarama.ErrClosedClient) {
			c.t.Error(err)
		}
	}()
	late := time.After(20 * time.Second)
	for last := int64(0); last < cp.Seq; {
		select {
		case m := <-from.Messages():
			records++
			seq := seqOf(m)
			if seq > last+1 {
				c.t.Errorf("partition %d: seq %d came after %d, at offset %d", cp.Partition, seq, last, m.Offset)
				return records
			}
			last = max(last, seq)
		case <-late:
			c.t.Errorf("partition %d: the topic ends with seq %d, stored are %d (the cursor is at %d)", cp.Partition, last, cp.Seq, cp.Relayed)
			return records
		}
	}
	return records
}

// seqOf is the seq of a record; -1 if it has none.
func seqOf(m *sarama.ConsumerMessage) int64 {
	for _, h := range m.Headers {
		if string(h.Key) == relay.HeaderSeq {
			if n, err := strconv.ParseInt(string(h.Value), 10, 64); err == nil {
				return n
			}
		}
	}
	return -1
}
