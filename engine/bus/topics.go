package bus

import (
	"context"
	"fmt"
)

// Topic is the name of a topic other than the inbox, without the prefix of the installation.
type Topic string

// The topics, and who reads them.
const (
	Events      Topic = "callchain.events"       // every committed event; partition n has the events of store partition n
	Registry    Topic = "callchain.registry"     // changes of devices, credentials, profiles, chains: for every node
	Nodes       Topic = "callchain.nodes"        // the heartbeats of each node, twice a second
	Owners      Topic = "callchain.owners"       // never written: its partitions stand for those of the inbox in the consumer group
	DeadLetters Topic = "callchain.dead-letters" // what could not be processed
)

// NodeTopic carries messages for one node. It is created when that node follows it for the first time.
func NodeTopic(node string) Topic { return Topic("callchain.node." + node) }

// Record is one message of a topic.
type Record struct {
	Partition int32             // of Events; other topics have one partition
	Key       string            // records of one key stay in order
	Headers   map[string]string // for readers that do not decode the value
	Value     []byte
}

// PartlyError: some records of a Publish were not written. All others were.
type PartlyError struct {
	Topic   Topic
	Refused []int // indexes, ascending: records that the topic can never take, such as one that is too large
	Missed  []int // indexes, ascending: records to publish again; they may have been written. After a partition's first missed record, all its later ones are missed
	Err     error // of one of them
}

func (e *PartlyError) Error() string {
	return fmt.Sprintf("%s refused %d records and missed %d: %v", e.Topic, len(e.Refused), len(e.Missed), e.Err)
}

func (e *PartlyError) Unwrap() error { return e.Err }

// Topics publishes and follows everything that is not a command.
type Topics interface {
	// Publish returns when all records are durable, in the order of each partition, or with an error: then any of them may be durable, and
	// the caller must publish them again. Records may come more than once. Events and DeadLetters return a *PartlyError,
	// and preserve the order of each partition over all calls: no record is written before its predecessor is durable or refused.
	Publish(ctx context.Context, topic Topic, records []Record) error
	// Follow hands over what is published from now on, until ctx ends. It retries while the topics cannot be reached. ready, if it
	// is not nil, is called once: from then on no record is missed.
	Follow(ctx context.Context, topic Topic, ready func(), handle func(Record)) error
}
