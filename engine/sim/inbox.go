package sim

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"callchain/engine/bus"

	"github.com/google/uuid"
)

// Inbox is an inbox that remembers: what Kafka is to the engine, in memory. What was put is kept for whoever opens it next, as bytes.
type Inbox struct {
	codec bus.Codec
	kept  *kept
	ready chan struct{}

	mu     sync.Mutex
	most   int
	local  [bus.Lanes][]bus.Message
	next   [bus.Lanes][]int // of each partition; nil before Begin
	closed bool
	away   bool // nothing can be written or read
}

// kept is what outlives the process.
type kept struct {
	mu     sync.Mutex
	topics [bus.Lanes]uuid.UUID
	bytes  [bus.Lanes][][]keptMessage // by partition
}

type keptMessage struct {
	key   uuid.UUID
	value []byte
}

// NewInbox makes an empty inbox of so many partitions whose lanes hold most messages.
func NewInbox(partitions int32, most int, codec bus.Codec) *Inbox {
	k := &kept{}
	for lane := range k.topics {
		k.topics[lane] = uuid.New()
		k.bytes[lane] = make([][]keptMessage, partitions)
	}
	return open(k, most, codec)
}

func open(k *kept, most int, codec bus.Codec) *Inbox {
	return &Inbox{codec: codec, kept: k, most: most, ready: make(chan struct{}, 1)}
}

// Open is the same inbox in another process: what nobody else took is there, what was fleeting is not.
func (in *Inbox) Open() *Inbox { return open(in.kept, in.most, in.codec) }

// Away lets the inbox be out of reach, or come back.
func (in *Inbox) Away(away bool) {
	in.mu.Lock()
	in.away = away
	in.mu.Unlock()
	in.signal()
}

// Recreate makes a lane's topic anew: what it had is gone.
func (in *Inbox) Recreate(lane bus.Lane) {
	in.kept.mu.Lock()
	defer in.kept.mu.Unlock()
	in.kept.topics[lane] = uuid.New()
	clear(in.kept.bytes[lane])
}

// Keep puts raw bytes where commands are kept, as a stranger would.
func (in *Inbox) Keep(lane bus.Lane, partition int32, value []byte) {
	in.kept.mu.Lock()
	in.kept.bytes[lane][partition] = append(in.kept.bytes[lane][partition], keptMessage{value: value})
	in.kept.mu.Unlock()
	in.signal()
}

// Put implements bus.Inbox.
func (in *Inbox) Put(m bus.Message) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	bound := in.most
	if m.Vital {
		bound *= 2
	}
	switch {
	case in.closed:
		return bus.ErrClosed
	case in.len(m.Lane) >= bound:
		return bus.ErrFull
	}
	if m.Fleeting {
		in.local[m.Lane] = append(in.local[m.Lane], m)
		in.signal()
		return nil
	}
	if in.away {
		return bus.ErrAway
	}
	value, _, err := in.codec.Encode(m.Value)
	if err != nil {
		return err
	}
	in.kept.mu.Lock()
	in.kept.bytes[m.Lane][m.Partition] = append(in.kept.bytes[m.Lane][m.Partition], keptMessage{m.Key, value})
	in.kept.mu.Unlock()
	if m.Done != nil {
		go m.Done(nil)
	}
	in.signal()
	return nil
}

func (in *Inbox) signal() {
	select {
	case in.ready <- struct{}{}:
	default:
	}
}

// Ready implements bus.Inbox.
func (in *Inbox) Ready() <-chan struct{} { return in.ready }

// Take implements bus.Inbox.
func (in *Inbox) Take(lane bus.Lane, most int, into []bus.Message) []bus.Message {
	in.mu.Lock()
	defer in.mu.Unlock()
	n := min(most, len(in.local[lane]))
	into = append(into, in.local[lane][:n]...)
	in.local[lane] = in.local[lane][n:]
	in.kept.mu.Lock()
	if !in.away {
		for p := range in.next[lane] {
			for n < most && in.next[lane][p] >= 0 && in.next[lane][p] < len(in.kept.bytes[lane][p]) {
				into = append(into, in.take(lane, p))
				n++
			}
		}
	}
	in.kept.mu.Unlock()
	if in.len(lane) > 0 {
		in.signal()
	}
	return into
}

func (in *Inbox) take(lane bus.Lane, partition int) bus.Message {
	at := in.next[lane][partition]
	in.next[lane][partition]++
	k := in.kept.bytes[lane][partition][at]
	m := bus.Message{Partition: int32(partition), Lane: lane, Key: k.key, Place: bus.Place{Topic: in.kept.topics[lane], Offset: int64(at)}}
	value, err := in.codec.Decode(k.value)
	if m.Value = value; err != nil {
		m.Value = bus.Spoiled{Bytes: k.value, Err: err}
	}
	return m
}

// Len implements bus.Inbox.
func (in *Inbox) Len(lane bus.Lane) int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.len(lane)
}

func (in *Inbox) len(lane bus.Lane) int {
	n := len(in.local[lane])
	if in.away {
		return n
	}
	in.kept.mu.Lock()
	defer in.kept.mu.Unlock()
	for p, at := range in.next[lane] {
		if at >= 0 {
			n += max(0, len(in.kept.bytes[lane][p])-at)
		}
	}
	return n
}

// Close implements bus.Inbox.
func (in *Inbox) Close() {
	in.mu.Lock()
	in.closed = true
	in.mu.Unlock()
}

// Remembers implements bus.Inbox.
func (in *Inbox) Remembers() bool { return true }

// Begin implements bus.Inbox.
func (in *Inbox) Begin(_ context.Context, from []bus.From) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.kept.mu.Lock()
	defer in.kept.mu.Unlock()
	for lane := range in.next {
		next := in.next[lane]
		if next == nil {
			next = make([]int, len(in.kept.bytes[lane]))
			for p := range next {
				next[p] = -1
			}
		}
		for _, f := range from {
			p := f.Next[lane]
			if p.Topic != uuid.Nil && p.Topic != in.kept.topics[lane] {
				return &bus.LostError{Topic: fmt.Sprintf("lane %d", lane), Partition: f.Partition, Detail: "the topic was made anew"}
			}
			next[f.Partition] = int(p.Offset)
		}
		in.next[lane] = next
	}
	in.signal()
	return nil
}

// End implements bus.Inbox.
func (in *Inbox) End(partitions []int32) []bus.Message { return nil }

// Behind implements bus.Inbox.
func (in *Inbox) Behind() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.away
}

// Trouble implements bus.Inbox.
func (in *Inbox) Trouble() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.away {
		return errors.New("the inbox is away")
	}
	return nil
}
