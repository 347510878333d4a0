package bus

import (
	"context"
	"fmt"
)

// Topic is the name of a topic beside the inbox, without the prefix of the installation.
type Topic string

// The topics, and who reads them.
const (
	Events      Topic = "callchain.events"       // every committed event; partition n has the events of store partition n
	Registry    Topic = "callchain.registry"     // changes of devices, credentials, profiles, chains: for every node
	Nodes       Topic = "callchain.nodes"        // the heartbeat of each node for all others, twice a second
	Owners      Topic = "callchain.owners"       // never written: the consumer group assigns its partitions, which stand for those of the inbox
	DeadLetters Topic = "callchain.dead-letters" // what could not be processed
)

// NodeTopic is for one node: answers to the callers that wait there. It is created when that node first follows it.
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
	Refused []int // indexes, ascending: records that the topic never accepts, such as one that is too large
	Missed  []int // indexes, ascending: records whose outcome is unknown. Of each partition, all records after its first missed one are missed, too
	Err     error // of one of them
}

func (e *PartlyError) Error() string {
	return fmt.Sprintf("%s refused %d records and missed %d: %v", e.Topic, len(e.Refused), len(e.Missed), e.Err)
}

func (e *PartlyError) Unwrap() error { return e.Err }

// Topics publishes and receives records that are not commands.
type Topics interface {
	// Publish returns when all records are written, in order of each partition, or with an error: then any of them may be written, and the caller
	// publishes them again. Records may come more than once. For Events and DeadLetters the error is a *PartlyError, and each partition keeps
	// its order over all calls: no record is written there before the one that precedes it is written or refused.
	Publish(ctx context.Context, topic Topic, records []Record) error
	// Follow calls handle with each record that is published from now on, until ctx ends. It retries while the topics cannot be reached. A record is
	// acknowledged when handle has returned. ready, if it is not nil, is called once: from then on no record is missed.
	Follow(ctx context.Context, topic Topic, ready func(), handle func(Record)) error
}
