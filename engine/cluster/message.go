package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"callchain/engine/rpc"

	"github.com/google/uuid"
)

// Message is a message of an owner to one node: one of the fields is set.
type Message struct {
	Decided    *Decided    `json:"judged,omitempty"`
	Completed  *Completed  `json:"settled,omitempty"`
	Sent       *Sent       `json:"taken,omitempty"`
	Deliver    *Delivery   `json:"deliver,omitempty"`
	Respond    *Response   `json:"respond,omitempty"`
	Close      *Close      `json:"close,omitempty"`
	Attributes *Attributes `json:"give,omitempty"`
	Push       *Push       `json:"push,omitempty"`
}

// Decided gives the sender of a command the owner's decision.
type Decided struct {
	Waiter uuid.UUID `json:"waiter"`
	Code   string    `json:"code,omitempty"` // of a refusal; "" and no error: accepted
	Detail string    `json:"detail,omitempty"`
	Rerun  bool      `json:"rerun,omitempty"` // it is the refusal of a dead letter's rerun
	Error  string    `json:"error,omitempty"` // an error other than a refusal
	Name   string    `json:"name,omitempty"`  // of that error, if both sides know it
}

// Completed reports to callers how a call ended, or that it is stored and no caller need wait.
type Completed struct {
	Call     uuid.UUID   `json:"call"`
	Phase    rpc.Phase   `json:"phase"`
	Code     rpc.Code    `json:"code,omitempty"`
	Detail   string      `json:"detail,omitempty"`
	Response rpc.Payload `json:"response,omitzero"`
	Content  []byte      `json:"content,omitempty"` // digest of the call, for callers whose call was not confirmed yet
}

// Sent reports to the callers of a one-way call that it left for its device.
type Sent struct {
	Call uuid.UUID `json:"call"`
}

// Delivery is a command for a device that is connected to the node.
type Delivery struct {
	Session   uuid.UUID   `json:"session"`
	Device    uuid.UUID   `json:"device"`
	Partition int32       `json:"partition"`
	Epoch     int64       `json:"epoch"` // of the partition: older ones are refused
	Call      uuid.UUID   `json:"call"`
	Wire      int32       `json:"wire"`
	Method    string      `json:"method"`
	Params    []byte      `json:"params,omitempty"` // JSON, byte for byte as the device gets it
	Deadline  rpc.Instant `json:"deadline"`         // not sent any more when passed
	Attempt   int16       `json:"attempt"`
	Trace     string      `json:"trace,omitempty"`   // W3C traceparent
	Callers   []string    `json:"callers,omitempty"` // processes that wait until it has left
}

// Response answers a device's own call.
type Response struct {
	Session uuid.UUID `json:"session"`
	Request int32     `json:"request"`
	Body    []byte    `json:"body"`
}

// Close ends a connection.
type Close struct {
	Session uuid.UUID `json:"session"`
	Why     string    `json:"why"`
}

// Attributes answer a device's request.
type Attributes struct {
	Session uuid.UUID         `json:"session"`
	Request int32             `json:"request"`
	Client  map[string][]byte `json:"client,omitempty"`
	Shared  map[string][]byte `json:"shared,omitempty"`
}

// Push sends changed shared attributes to a device.
type Push struct {
	Session uuid.UUID         `json:"session"`
	Changed map[string][]byte `json:"changed,omitempty"`
	Deleted []string          `json:"deleted,omitempty"`
}

var errEmpty = errors.New("unknown message of another node")

// Append appends the encoded message.
func (m *Message) Append(dst []byte) ([]byte, error) {
	text, err := json.Marshal(m)
	if err != nil {
		return dst, fmt.Errorf("encoding a message to a node: %w", err)
	}
	return append(dst, text...), nil
}

// ReadMessage reads what Append wrote.
func ReadMessage(text []byte) (Message, error) {
	var m Message
	if err := json.Unmarshal(text, &m); err != nil {
		return m, fmt.Errorf("reading a message of another node: %w", err)
	}
	if m == (Message{}) {
		return m, errEmpty
	}
	return m, nil
}

// Bytes is the size of the payload.
func (m *Message) Bytes() (n int) {
	values := func(all map[string][]byte) {
		for _, v := range all {
			n += len(v)
		}
	}
	switch {
	case m.Deliver != nil:
		n = len(m.Deliver.Params)
	case m.Completed != nil:
		n = len(m.Completed.Response.Bytes)
	case m.Respond != nil:
		n = len(m.Respond.Body)
	case m.Attributes != nil:
		values(m.Attributes.Client)
		values(m.Attributes.Shared)
	case m.Push != nil:
		values(m.Push.Changed)
	}
	return n
}

// Late reports whether a delivery's deadline has passed.
func (d *Delivery) Late(now time.Time) bool { return !d.Deadline.Time().After(now) }
