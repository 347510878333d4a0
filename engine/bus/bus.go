// Package bus is the contract of the inbox: how commands reach the owner of a partition.
//
// It knows partitions, lanes and opaque values; it does not know what the commands mean. The suite that every inbox passes
// is engine/bus/bustest.
package bus

import (
	"errors"

	"github.com/google/uuid"
)

var (
	// ErrFull: the lane has no room now; nothing was taken.
	ErrFull = errors.New("the inbox is full")
	// ErrClosed: the inbox takes nothing any more.
	ErrClosed = errors.New("the inbox is closed")
)

// Lane separates what must not wait for a flood of data from the data.
type Lane uint8

// The lanes.
const (
	RPC  Lane = iota // calls, answers, acknowledgements, presence
	Data             // telemetry, attributes
	Lanes
)

// Message is one command on its way to its owner.
type Message struct {
	Partition int32
	Lane      Lane
	Key       uuid.UUID // the originator: messages of one key in one lane stay in order
	Value     any       // the command; an inbox outside the process encodes it
	Vital     bool      // an answer or its proof: taken beyond the bound, up to twice of it
	// Done is called once with the outcome: nil when the command is durable. In process that is when its step is committed.
	// It may be nil, and must not block.
	Done func(error)
}

// Inbox takes messages from anybody and hands them to one consumer.
type Inbox interface {
	// Put adds a message, or fails with ErrFull or ErrClosed. It does not block and does not call Done when it fails.
	Put(m Message) error
	// Ready delivers a signal after messages were put; one signal may stand for many.
	Ready() <-chan struct{}
	// Take moves at most most messages of a lane behind into, in the order in which they were put.
	Take(lane Lane, most int, into []Message) []Message
	// Len is the number of messages that wait in a lane.
	Len(lane Lane) int
	// Close refuses further messages; those that wait can still be taken.
	Close()
}
