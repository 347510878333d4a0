package rpc

import (
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
)

// Command is a request or an observation that concerns one device. The JSON forms of actions are stored in the inbox (see engine/step).
type Command struct {
	Meta
	Now Instant // the owner's clock: it decides what is due. At orders; it may be ahead of the clock, because it never goes back
	Do  Action
}

// Action is the content of a command: one of the types below, a closed set.
type Action interface{ isAction() }

// Digest is the SHA-256 of a caller's request; its text form is 64 hex digits.
type Digest [32]byte

// MarshalText implements encoding.TextMarshaler.
func (d Digest) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, d[:]), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Digest) UnmarshalText(b []byte) error {
	if len(b) != hex.EncodedLen(len(d)) {
		return fmt.Errorf("a digest has 64 hex digits, this has %d", len(b))
	}
	_, err := hex.Decode(d[:], b)
	return err
}

// Request asks for a call. It begins the call's stream; what happens next is for the chain to decide.
type Request struct {
	ID         uuid.UUID       `json:"id"`
	Direction  Direction       `json:"direction,omitempty"`
	Method     string          `json:"method"`
	Params     json.RawMessage `json:"params,omitempty"`
	Oneway     bool            `json:"oneway,omitempty"`
	Persistent bool            `json:"persistent,omitempty"`
	Waiting    bool            `json:"waiting,omitempty"`
	Expires    Instant         `json:"expires"`
	Retries    *int            `json:"retries,omitempty"`
	Order      Order           `json:"order,omitempty"`
	Info       json.RawMessage `json:"info,omitempty"`
	Content    Digest          `json:"content,omitzero"`
	Session    uuid.UUID       `json:"session,omitzero"`
	Request    int32           `json:"request,omitempty"`
}

// Dispatch queues a requested call for its device.
type Dispatch struct {
	Call        uuid.UUID
	Method      *string         // nil: as requested
	Params      json.RawMessage // nil: as requested
	Run         uuid.UUID
	FailOffline bool // reject at once when the device takes no calls now
}

// Reject ends a call that was not dispatched.
type Reject struct {
	Call   uuid.UUID
	Code   Code
	Detail string
}

// Written reports that an attempt left for the device.
type Written struct {
	Session uuid.UUID `json:"session"`
	Call    uuid.UUID `json:"call"`
	Attempt int16     `json:"attempt"`
	Ack     bool      `json:"ack,omitempty"`
}

// Acknowledged reports that the device has the command.
type Acknowledged struct {
	Call     uuid.UUID `json:"call"`
	Evidence string    `json:"evidence"`
}

// SendFailed reports that an attempt could not leave.
type SendFailed struct {
	Session   uuid.UUID `json:"session"`
	Call      uuid.UUID `json:"call"`
	Detail    string    `json:"detail,omitempty"`
	Permanent bool      `json:"permanent,omitempty"` // no later attempt can do better
}

// Reply is the device's answer to the call with this wire id.
type Reply struct {
	Wire     int32     `json:"wire"`
	Response Payload   `json:"response"`
	Late     uuid.UUID `json:"-"` // the ended call that the wire id belonged to, looked up by the owner; uuid.Nil if none is known
}

// Answer is a chain's answer to a call of the device.
type Answer struct {
	Session uuid.UUID
	Request int32
	Body    Payload
}

// Cancel ends an open call.
type Cancel struct {
	Call uuid.UUID `json:"call"`
}

// Remove ends a call if it is open, and hides it from the compatible paths.
type Remove struct {
	Call  uuid.UUID `json:"call"`
	Ended bool      `json:"-"` // the owner has seen that the call exists, has ended and was not removed
}

// Connect opens a session; an older one is closed.
type Connect struct {
	Session   uuid.UUID `json:"session"`
	Transport string    `json:"transport"`
	Remote    string    `json:"remote,omitempty"`
	Node      string    `json:"node"`
	Process   string    `json:"process,omitempty"` // of the node: a node that was started again does not have its sessions any more
	Since     Instant   `json:"since,omitzero"`    // a session that lived before the owner did: when it was opened
}

// Subscribe makes the session take calls.
type Subscribe struct {
	Session uuid.UUID `json:"session"`
	Once    bool      `json:"once,omitempty"`    // one call, the first in order; then nothing before the next Subscribe
	Resumed bool      `json:"resumed,omitempty"` // it took calls before the owner changed: what left for it is not sent again
}

// Unsubscribe ends that.
type Unsubscribe struct {
	Session uuid.UUID `json:"session"`
}

// Disconnect ends a session.
type Disconnect struct {
	Session uuid.UUID `json:"session,omitzero"` // uuid.Nil: whichever there is
	Why     string    `json:"why,omitempty"`
}

// Tick says that a deadline of the call may have come.
type Tick struct{ Call uuid.UUID }

// Recover says that the owner's memory was lost, and with it all callers except those of the calls in Keep.
type Recover struct{ Keep []uuid.UUID }

func (Request) isAction()      {}
func (Dispatch) isAction()     {}
func (Reject) isAction()       {}
func (Written) isAction()      {}
func (Acknowledged) isAction() {}
func (SendFailed) isAction()   {}
func (Reply) isAction()        {}
func (Answer) isAction()       {}
func (Cancel) isAction()       {}
func (Remove) isAction()       {}
func (Connect) isAction()      {}
func (Subscribe) isAction()    {}
func (Unsubscribe) isAction()  {}
func (Disconnect) isAction()   {}
func (Tick) isAction()         {}
func (Recover) isAction()      {}

// Code is a stable reason, in snake_case, as REST shows it.
type Code string

// The reasons of this package.
const (
	CodeTimeout         Code = "response_timeout"    // sent, but not answered by the deadline
	CodeOffline         Code = "device_offline"      // never left for the device
	CodeNotDispatched   Code = "not_dispatched"      // the chain ended without sending it
	CodeChainFailed     Code = "chain_failed"        // a node failed before the call was dispatched
	CodeDeliveryTimeout Code = "delivery_timeout"    // no acknowledgement, no retries left
	CodeAnswerTimeout   Code = "answer_timeout"      // OrderOnResponse: no answer in time
	CodeTransport       Code = "transport_error"     // the transport could not send it
	CodeCallerGone      Code = "caller_gone"         // a restart lost the caller before the call was sent
	CodeCancelled       Code = "cancelled"           //
	CodeTooManyOpen     Code = "too_many_open_calls" // Settings.MaxOpen
	CodeKnown           Code = "call_id_in_use"      // the id belongs to another call
	CodeEnded           Code = "already_ended"       // the call has its terminal state
	CodeUnknown         Code = "not_found"           //
	CodeDispatched      Code = "already_dispatched"  //
	CodeSessionGone     Code = "session_ended"       // the command came from a session that is not the device's
	CodeNoAck           Code = "no_acknowledgement"  // of one attempt
)

// Refusal is the error of a command that changes nothing.
type Refusal struct {
	Code   Code
	Detail string
}

func (r *Refusal) Error() string {
	if r.Detail == "" {
		return string(r.Code)
	}
	return string(r.Code) + ": " + r.Detail
}

func refuse(code Code, format string, args ...any) error {
	return &Refusal{Code: code, Detail: fmt.Sprintf(format, args...)}
}
