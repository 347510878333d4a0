package rpc

import (
	"encoding/json"

	"github.com/google/uuid"
)

// Meta is the metadata of every command and event.
type Meta struct {
	At       Instant // when the owner took the command; never goes back within a partition
	Occurred Instant // the sender's clock; At if it sent no time
	Actor    string  // "user:<id>", "device:<id>", "chain:<id>", "system"
	Cause    string  // "rest", "mqtt", "node:<chain>/<node>", "timer", "recovery"
	Hops     int16
	Trace    [16]byte
	Chain    string // "<chain>@<version>"
}

// Event is a fact: of a call (Call is set, stream rpc/<tenant>/<call>) or of the device (stream device/<id>).
type Event struct {
	Meta
	Call uuid.UUID
	Fact Fact
}

// Fact is the content of an event: one of the types below, a closed set.
type Fact interface {
	// Name is the stored type of the event.
	Name() string
	isFact()
}

// Requested begins the stream of a call.
type Requested struct {
	Direction  Direction       `json:"direction,omitempty"` // 0 to the device, 1 from it
	Method     string          `json:"method"`
	Params     json.RawMessage `json:"params,omitempty"` // absent: the caller gave none
	Oneway     bool            `json:"oneway,omitempty"`
	Persistent bool            `json:"persistent,omitempty"`
	Waiting    bool            `json:"waiting,omitempty"` // a caller waits for the answer
	Expires    Instant         `json:"expires"`
	Retries    *int            `json:"retries,omitempty"`
	Order      Order           `json:"order,omitempty"`
	Info       json.RawMessage `json:"info,omitempty"` // additionalInfo
	Content    []byte          `json:"content,omitempty"`
	Session    uuid.UUID       `json:"session,omitzero"`  // FromDevice
	Request    int32           `json:"request,omitempty"` // FromDevice: the device's request id
}

// Queued dispatches a call: from its commit on it may be sent. A second Queued of the same call begins its next delivery.
type Queued struct {
	Wire   int32           `json:"wire"`
	Method *string         `json:"method,omitempty"` // if the chain changed it
	Params json.RawMessage `json:"params,omitempty"` // if the chain changed them
	Run    uuid.UUID       `json:"run,omitzero"`     // the run that waits for the end
	Again  bool            `json:"again,omitempty"`
}

// Sent: the command left for the device.
type Sent struct {
	Session uuid.UUID `json:"session,omitzero"`
	Attempt int16     `json:"attempt"`
	Ack     bool      `json:"ack,omitempty"` // the protocol will acknowledge it
}

// Delivered: the device has the command, and what proves it.
type Delivered struct {
	Evidence string `json:"evidence"`
}

// Progressed: the device reported its progress.
type Progressed struct {
	Progress json.RawMessage `json:"progress"`
}

// DeliveryFailed: an attempt ended without its acknowledgement; the call goes on.
type DeliveryFailed struct {
	Attempt int16   `json:"attempt"`
	Reason  Code    `json:"reason"`
	Requeue bool    `json:"requeue,omitempty"` // the session is closed and the count of attempts restarts
	RetryAt Instant `json:"retryAt,omitempty"`
}

// CancelRequested: the call is to end.
type CancelRequested struct{}

// AnsweredLate: the device answered after the end, or once more.
type AnsweredLate struct {
	Response Payload `json:"response"`
}

// Removed: the call is hidden from the compatible paths; its terminal fact stays.
type Removed struct{}

// Succeeded ends a call: the device answered, or a one-way call was delivered.
type Succeeded struct {
	Response Payload `json:"response"`
}

// Failed ends a call: something went wrong after it was dispatched.
type Failed struct {
	Code   Code   `json:"code"`
	Detail string `json:"detail,omitempty"`
}

// Expired ends a call at its deadline.
type Expired struct {
	Offline bool `json:"offline,omitempty"` // it never left for the device
}

// Cancelled ends a call on request.
type Cancelled struct{}

// Rejected ends a call that was never dispatched.
type Rejected struct {
	Code   Code   `json:"code"`
	Detail string `json:"detail,omitempty"`
}

// SessionOpened: the device connected.
type SessionOpened struct {
	Session   uuid.UUID `json:"session"`
	Transport string    `json:"transport"`
	Remote    string    `json:"remote,omitempty"`
	Node      string    `json:"node,omitempty"`
	Since     Instant   `json:"since,omitzero"` // the session is older than this event: its partition has another owner now
}

// Subscribed: the session takes calls from here on.
type Subscribed struct {
	Session uuid.UUID `json:"session"`
	Once    bool      `json:"once,omitempty"`    // one call only
	Resumed bool      `json:"resumed,omitempty"` // it did before, too: its partition has another owner now
}

// Unsubscribed: the session takes no calls any more.
type Unsubscribed struct {
	Session uuid.UUID `json:"session"`
}

// SessionClosed: the connection ended.
type SessionClosed struct {
	Session uuid.UUID `json:"session"`
	Why     string    `json:"why"`
}

// Name and isFact of every fact: the stored names never change (docs/decisions/0003).
func (Requested) Name() string       { return "Requested" }
func (Queued) Name() string          { return "Queued" }
func (Sent) Name() string            { return "Sent" }
func (Delivered) Name() string       { return "Delivered" }
func (Progressed) Name() string      { return "Progressed" }
func (DeliveryFailed) Name() string  { return "DeliveryFailed" }
func (CancelRequested) Name() string { return "CancelRequested" }
func (AnsweredLate) Name() string    { return "AnsweredLate" }
func (Removed) Name() string         { return "Removed" }
func (Succeeded) Name() string       { return "Succeeded" }
func (Failed) Name() string          { return "Failed" }
func (Expired) Name() string         { return "Expired" }
func (Cancelled) Name() string       { return "Cancelled" }
func (Rejected) Name() string        { return "Rejected" }
func (SessionOpened) Name() string   { return "SessionOpened" }
func (Subscribed) Name() string      { return "Subscribed" }
func (Unsubscribed) Name() string    { return "Unsubscribed" }
func (SessionClosed) Name() string   { return "SessionClosed" }

func (Requested) isFact()       {}
func (Queued) isFact()          {}
func (Sent) isFact()            {}
func (Delivered) isFact()       {}
func (Progressed) isFact()      {}
func (DeliveryFailed) isFact()  {}
func (CancelRequested) isFact() {}
func (AnsweredLate) isFact()    {}
func (Removed) isFact()         {}
func (Succeeded) isFact()       {}
func (Failed) isFact()          {}
func (Expired) isFact()         {}
func (Cancelled) isFact()       {}
func (Rejected) isFact()        {}
func (SessionOpened) isFact()   {}
func (Subscribed) isFact()      {}
func (Unsubscribed) isFact()    {}
func (SessionClosed) isFact()   {}
