// Package bus is the contract of the inbox and the topics: how commands reach the owner of a partition, and how others hear
// of what was committed.
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
	// ErrFull: the lane has no room now; nothing was taken.
	ErrFull = errors.New("the inbox is full")
	// ErrClosed: the inbox takes nothing any more.
	ErrClosed = errors.New("the inbox is closed")
	// ErrAway: what remembers for the inbox does not answer. Whether the message will come is not known.
	ErrAway = errors.New("the inbox cannot be written now")
	// ErrTooLarge: the message is larger than the inbox takes; it will be as large the next time.
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

// Place is where a message stands in an inbox that remembers. The zero Place is nowhere.
type Place struct {
	Topic  uuid.UUID // tells a topic that was made anew from the old one
	Offset int64
}

// Message is one command on its way to its owner.
type Message struct {
	Partition int32
	Lane      Lane
	Key       uuid.UUID // the originator: messages of one key in one lane stay in order
	Value     any       // the command; an inbox outside the process encodes it with its Codec
	Priority  bool      // an answer or its proof: taken beyond the bound, up to twice of it
	// Ephemeral: nobody was promised anything on the strength of this message, and it makes sense to this process only. An inbox that
	// remembers hands it over without writing it down; it may overtake others of its key that are being written.
	Ephemeral bool
	// Done is called once with the outcome: nil when the message is durable. An inbox that remembers calls it when it has written the
	// message, and takes it off; otherwise the owner calls it when the step is committed. It may be nil, and must not block.
	Done func(error)
	// Place of a message that was taken from an inbox that remembers; set by the inbox.
	Place Place
}

// Malformed is the Value of a taken message whose bytes the Codec cannot read.
type Malformed struct {
	Bytes []byte
	Err   error
}

// Codec turns a message's Value into bytes and back.
type Codec interface {
	// Encode answers the bytes and what a reader may want to know without decoding them (header name → value).
	Encode(value any) ([]byte, map[string]string, error)
	Decode(b []byte) (any, error)
}

// From is where an inbox that remembers is to go on with a partition: the next place of each lane, zero for its beginning.
type From struct {
	Partition int32
	Next      [Lanes]Place
	Published int64 // events of the partition that are on the topic of events, if there is one: it must be the topic that has them
}

// LostError: what an owner has not taken yet is not there any more, or never was; or the topic of events is not the one that has what was
// published. The partition must not go on before an operator has decided.
type LostError struct {
	Topic     string
	Partition int32
	Detail    string // "the topic was made anew", "offsets 17 to 40 were removed", …
}

func (e *LostError) Error() string {
	return "topic " + e.Topic + ": " + e.Detail
}

// Peeker is an Inbox that shows what waits longest, for those who measure.
type Peeker interface {
	// First is the message that Take would give next; false if the lane is empty.
	First(lane Lane) (Message, bool)
}

// Inbox takes messages from anybody and hands them to one consumer.
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

	// Durable reports whether the inbox keeps messages by itself, until Begin names a later place.
	Durable() bool
	// Begin lets an inbox that remembers deliver these partitions from these places on, beside those that it delivers already. It fails with
	// *LostError, or when what remembers cannot be reached. Where an operator lets it go on elsewhere, it writes into from where. One without a memory
	// does nothing.
	Begin(ctx context.Context, from []From) error
	// End stops the delivery of partitions and takes what waits of them out of the inbox. It answers what is ephemeral: nobody else has that.
	// Afterwards nothing of them is taken until Begin names them again. One without a memory answers all that waits of them.
	End(partitions []int32) []Message
	// CatchingUp reports whether RPC messages are kept, or may be, that cannot be taken yet: no deadline is judged before they are. After Begin,
	// and after a time when what remembers could not be reached, it is true until everything kept by then was handed over.
	CatchingUp() bool
	// Err is why the inbox cannot serve now, nil while it can.
	Err() error
}
