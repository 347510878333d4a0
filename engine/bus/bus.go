// Package bus is the contract of the inbox and the topics: how commands reach the owner of a partition, and how other processes receive
// committed events.
//
// It knows partitions, lanes and opaque values; it does not know what the commands mean. The suite that every inbox passes
// is engine/bus/bustest.
package bus

import (
	"context"
	"errors"

	"github.com/google/uuid"
)

var (
	// ErrFull: the queue is full; no message was accepted.
	ErrFull = errors.New("the inbox is full")
	// ErrClosed: the inbox accepts no more messages.
	ErrClosed = errors.New("the inbox is closed")
	// ErrAway: the brokers do not acknowledge. Whether the message is written is unknown.
	ErrAway = errors.New("the bus cannot be written now")
	// ErrTooLarge: the message is larger than the inbox accepts; a retry cannot succeed.
	ErrTooLarge = errors.New("the message is larger than the inbox takes")
)

// Lane separates calls from telemetry, so that a flood of data does not delay them.
type Lane uint8

// The lanes.
const (
	RPC  Lane = iota // calls, answers, acknowledgements, presence
	Data             // telemetry, attributes
	Lanes
)

// Place is the offset of a message in a durable inbox. The zero Place is that of a message without one.
type Place struct {
	Topic  uuid.UUID // the topic id: a topic that was deleted and created again has another
	Offset int64
}

// Message is one command on its way to its owner.
type Message struct {
	Partition int32
	Lane      Lane
	Key       uuid.UUID // the originator: messages of one key in one lane stay in order
	Value     any       // the command; an inbox outside the process encodes it with its Codec
	Priority  bool      // an answer or its acknowledgement: accepted beyond the bound, up to twice the bound
	// Ephemeral: no acknowledgement depends on this message, and it makes sense to this process only. A durable inbox delivers it without
	// writing it; it may overtake others of its key that are being written.
	Ephemeral bool
	// Done is called once with the outcome: nil when the message is durable. A durable inbox calls it when the message is written, and delivers
	// the message without it; otherwise the owner calls it when the step is committed. It may be nil, and must not block.
	Done func(error)
	// Place of a message that was taken from a durable inbox; set by the inbox.
	Place Place
}

// Malformed is the Value of a taken message whose bytes the Codec cannot read.
type Malformed struct {
	Bytes []byte
	Err   error
}

// Codec turns a message's Value into bytes and back.
type Codec interface {
	// Encode answers the bytes, and headers (name → value) for readers that do not decode them.
	Encode(value any) ([]byte, map[string]string, error)
	Decode(b []byte) (any, error)
}

// From is where a durable inbox resumes a partition: the next place of each lane, zero for its beginning.
type From struct {
	Partition int32
	Next      [Lanes]Place
	Published int64 // events of the partition that were published: the topic of events must be the one that has them
}

// LostError: messages that an owner has not taken are missing, or the topic of events is not the one that has the published events. The
// partition must not resume before an operator has decided.
type LostError struct {
	Topic     string
	Partition int32
	Detail    string // "the topic was made anew", "offsets 17 to 40 were removed", …
}

func (e *LostError) Error() string {
	return "topic " + e.Topic + ": " + e.Detail
}

// Peeker is an Inbox that shows its oldest message, for metrics.
type Peeker interface {
	// First is the message that Take would give next; false if the lane is empty.
	First(lane Lane) (Message, bool)
}

// Inbox accepts messages from many goroutines and delivers them to one consumer.
type Inbox interface {
	// Put adds a message, or fails with ErrFull, ErrClosed, ErrAway or ErrTooLarge. It does not block and does not call Done when it fails.
	Put(m Message) error
	// Ready delivers a signal after messages came; one signal may stand for many.
	Ready() <-chan struct{}
	// Take moves at most most messages of a lane behind into: of each partition and lane in the order in which they were put.
	Take(lane Lane, most int, into []Message) []Message
	// Len is the number of messages that wait in a lane and can be taken.
	Len(lane Lane) int
	// Close refuses further messages; those that wait can still be taken.
	Close()

	// Durable tells whether the inbox stores messages itself, until Begin names a later place.
	Durable() bool
	// Begin makes a durable inbox deliver these partitions from these places on, beside those that it delivers already. It fails with *LostError,
	// or when the brokers do not answer. Where an operator lets it resume elsewhere, it stores that place in from. An inbox that is not durable does
	// nothing.
	Begin(ctx context.Context, from []From) error
	// End stops the delivery of partitions and removes their messages from the inbox. It answers the ephemeral ones: no other copy exists. Afterwards
	// Take gives no message of them until Begin names them again. An inbox that is not durable answers all their messages.
	End(partitions []int32) []Message
	// CatchingUp tells whether there are, or may be, written RPC messages that cannot be taken yet: no deadline expires before they are. After Begin,
	// and after an outage of the brokers, it is true until all messages written by then are delivered.
	CatchingUp() bool
	// Err is why the inbox cannot serve now, nil while it can.
	Err() error
}
