package step

import (
	"callchain/engine/rpc"

	"github.com/google/uuid"
)

// Effect is to be executed after the events of its step are committed. Effects follow from
// the events; those that must not be lost are derived again with rpc.Outstanding and from the parked runs.
type Effect interface{ isEffect() }

// Deliver sends a call to its device.
type Deliver struct {
	Device uuid.UUID
	rpc.Delivery
	Body *rpc.Body // nil: to be read from the call's stream
}

// NotifyCallers answers the callers of a call: it ended, or (Phase queued) it is stored and they need not wait.
type NotifyCallers struct {
	Call     uuid.UUID
	Phase    rpc.Phase
	Code     rpc.Code
	Detail   string
	Response rpc.Payload
}

// Respond answers a call that a device made.
type Respond struct {
	Call    uuid.UUID
	Session uuid.UUID
	Request int32
	Body    []byte
}

// CloseSession ends a connection.
type CloseSession struct {
	Session uuid.UUID
	Why     string
}

// GiveAttributes answers a device's request for attributes.
type GiveAttributes struct {
	Session uuid.UUID
	Request int32
	Client  map[string][]byte
	Shared  map[string][]byte
}

// PushAttributes sends changed shared attributes to a device.
type PushAttributes struct {
	Session uuid.UUID
	Changed map[string][]byte
	Deleted []string
}

// LogLine is a line of a log node.
type LogLine struct {
	Device uuid.UUID
	Text   string
}

// The reasons of DeadLetter.
const (
	ReasonCausationLoop = "causation_loop" // life-cycle facts re-entered the chain too often
	ReasonChainGone     = "chain_gone"     // a parked run cannot go on: its version of the chain was removed
)

// DeadLetter reports that part of a chain's work was cut off; the command itself was processed.
type DeadLetter struct {
	Reason string
	Detail string
}

func (Deliver) isEffect()        {}
func (NotifyCallers) isEffect()  {}
func (Respond) isEffect()        {}
func (CloseSession) isEffect()   {}
func (GiveAttributes) isEffect() {}
func (PushAttributes) isEffect() {}
func (LogLine) isEffect()        {}
func (DeadLetter) isEffect()     {}
