// Package bus is the contract of the inbox and the topics: how commands reach the owner of a partition, and how committed events reach
// others.
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
	// ErrFull: the lane has no room now; the message was not taken.
	ErrFull = errors.New("the inbox is full")
	// ErrClosed: the inbox takes no more messages.
	ErrClosed = errors.New("the inbox is closed")
	// ErrAway: the inbox's brokers do not answer. It is unknown whether the message will come.
	ErrAway = errors.New("the bus cannot be written now")
	// ErrTooLarge: the message is larger than the inbox takes; a retry cannot succeed.
	ErrTooLarge = errors.New("the message is larger than the inbox takes")
)

// Lane separates what must not wait for a flood of data from the data.
type Lane uint8

// The lanes.
const (
	RPC  Lane = iota // calls, answers, acknowledgements, presence
	Data             // telemetry, attributes
	Lanes
)

// Place is the position of a message in a durable inbox. The zero Place is none.
type Place struct {
	Topic  uuid.UUID // identifies the topic: a recreated topic has another id
	Offset int64
}

// Message is one command on its way to its owner.
type Message struct {
	Partition int32
	Lane      Lane
	Key       uuid.UUID // the originator: messages of one key in one lane stay in order
	Value     any       // the command; an inbox outside the process encodes it with its Codec
	Priority  bool      // an answer or an acknowledgement: taken up to twice the bound
	// Ephemeral: the message concerns this process only, and no success was reported for it. A durable inbox hands it over
	// without writing it; it may overtake others of its key that are being written.
	Ephemeral bool
	// Done is called once with the result: nil when the message is durable. A durable inbox calls it when it has written the
	// message, and removes it; otherwise the owner calls it when the step is committed. It may be nil, and must not block.
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
	// Encode returns the bytes, and headers (name → value) for readers that do not decode them.
	Encode(value any) ([]byte, map[string]string, error)
	Decode(b []byte) (any, error)
}

// From is where a durable inbox continues a partition: the next place of each lane, zero for its beginning.
type From struct {
	Partition int32
	Next      [Lanes]Place
	Published int64 // events of the partition that are on the topic of events, if there is one: it must be the topic that has them
}

// LostError: messages that an owner has not taken yet are gone, or never existed; or the topic of events is not the one that was published
// to. The partition stops until an operator has decided.
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
	// First is the message that Take would return next; false if the lane is empty.
	First(lane Lane) (Message, bool)
}

// Inbox takes messages of many producers and hands them to one consumer.
type Inbox interface {
	// Put adds a message, or fails with ErrFull, ErrClosed, ErrAway or ErrTooLarge. It does not block and does not call Done when it fails.
	Put(m Message) error
	// Ready delivers a signal after messages came; one signal may cover many.
	Ready() <-chan struct{}
	// Take moves at most most messages of a lane behind into: of each partition and lane in the order in which they were put.
	Take(lane Lane, most int, into []Message) []Message
	// Len is the number of messages that wait in a lane and can be taken.
	Len(lane Lane) int
	// Close refuses further messages; those that wait can still be taken.
	Close()

	// Durable reports whether the inbox stores messages itself, until Begin names a later place.
	Durable() bool
	// Begin lets a durable inbox deliver these partitions from these places on, in addition to those that it delivers already. It fails with
	// *LostError, or when the brokers cannot be reached. If an operator has accepted another place, it writes that into from. An inbox that is not
	// durable does nothing.
	Begin(ctx context.Context, from []From) error
	// End stops the delivery of partitions and removes their waiting messages. It returns the ephemeral ones, which exist nowhere else; an inbox
	// that is not durable returns all. Afterwards no message of the partitions is delivered until Begin names them again.
	End(partitions []int32) []Message
	// CatchingUp reports whether there may be durable RPC messages that cannot be taken yet: no deadline passes before they are. After Begin,
	// and after the brokers could not be reached, it is true until everything written by then was handed over.
	CatchingUp() bool
	// Err is why the inbox cannot serve now, nil while it can.
	Err() error
}
