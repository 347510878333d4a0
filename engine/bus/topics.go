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
	Nodes       Topic = "callchain.nodes"        // what each node tells all others of itself, twice a second
	Owners      Topic = "callchain.owners"       // never written: its partitions stand for those of the inbox, whose owners share them out
	DeadLetters Topic = "callchain.dead-letters" // what could not be processed
)

// NodeTopic is for one node: answers to the callers that wait there. It is made when that node follows it for the first time.
func NodeTopic(node string) Topic { return Topic("callchain.node." + node) }

// Record is one message of a topic.
type Record struct {
	Partition int32             // of Events; other topics have one partition
	Key       string            // records of one key stay in order
	Headers   map[string]string // what a reader may want to know without decoding
	Value     []byte
}

// PartlyError tells that some records of a Publish were not kept. All others were.
type PartlyError struct {
	Topic   Topic
	Refused []int // indexes, rising: what the topic can never take, as a record that is too large for it
	Missed  []int // indexes, rising: what may be kept the next time, or was. Of each partition, all records after its first missed one are missed, too
	Err     error // what became of one of them
}

func (e *PartlyError) Error() string {
	return fmt.Sprintf("%s refused %d records and missed %d: %v", e.Topic, len(e.Refused), len(e.Missed), e.Err)
}

func (e *PartlyError) Unwrap() error { return e.Err }

// Topics publishes and hears what is not a command.
type Topics interface {
	// Publish returns when all records are kept, in order of each partition, or with what went wrong: then any of them may be kept, and
	// it is for the caller to publish them again. Records may come more than once. Events and DeadLetters tell more, with a *PartlyError,
	// and keep the order of each partition over all calls: no record is kept there before the one that precedes it is kept or refused.
	Publish(ctx context.Context, topic Topic, records []Record) error
	// Follow hands over what is published from now on, until ctx ends. It waits out the times when the topics cannot be reached. A
	// record is passed by when handle has returned. ready, if it is not nil, is called once: from then on nothing is missed.
	Follow(ctx context.Context, topic Topic, ready func(), handle func(Record)) error
}
