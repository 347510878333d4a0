// Package step composes calls and rule chains into one pure function: a device, the parked runs and a command in, events and
// effects out.
//
// Step does not change its arguments: the Result holds the state after the command, and dropping it undoes everything. There is no
// clock, no I/O and no randomness: the device's row, values, bodies and ids come in with Env.
package step

import (
	"encoding/json"

	"callchain/chains"
	"callchain/engine/rpc"
	"callchain/nodes"

	"github.com/google/uuid"
)

// HopsMax is how often life-cycle facts may re-enter a chain on behalf of one command; one more is a causation loop.
const HopsMax = 16

// Command is one entry of the inbox.
type Command struct {
	rpc.Meta
	Now    rpc.Instant // the owner's clock (see rpc.Command)
	Tenant uuid.UUID
	Device uuid.UUID
	Span   Span
	Waiter Waiter
	Do     Action

	// Info is the row of the device as the sender read it, in a generation of the registry; nil: it must be read. It stays in the process.
	Info       *Info
	Generation uint64
}

// Span is the place of a command's sender in the trace Meta.Trace (W3C trace context: parent-id and the flag sampled); the step does not look
// at it. The zero Span is none.
type Span struct {
	ID      [8]byte
	Sampled bool
}

// Waiter is the sender that waits for the decision on a command; the step does not look at it. The zero Waiter is none.
type Waiter struct {
	Node string    `json:"node"` // the process
	ID   uuid.UUID `json:"id"`   // known to that process
}

// Action is the content of a command: one of the types below.
type Action interface{ isAction() }

// Call is an application's call: it enters the chain as RPC_CALL_FROM_SERVER_TO_DEVICE.
type Call struct {
	rpc.Request
	Customer    uuid.UUID `json:"customer,omitzero"`
	FailOffline bool      `json:"failOffline,omitempty"`
	Chosen      bool      `json:"chosen,omitempty"` // the caller chose the id: the call may be known; the step does not look at it
}

// DeviceCall is a device's call: it enters the chain as TO_SERVER_RPC_REQUEST.
type DeviceCall struct {
	rpc.Request
	Service string `json:"service"` // metadata serviceId: the node that holds the session
}

// RPC is a command of the life cycle that concerns no chain by itself.
type RPC struct{ Do rpc.Action }

// Data is telemetry or client attributes as the device sent them.
type Data struct {
	Type    string          `json:"type"` // nodes.PostTelemetry or nodes.PostAttributes
	Payload json.RawMessage `json:"payload"`
}

// AskAttributes is a device's request for attributes.
type AskAttributes struct {
	Session uuid.UUID `json:"session"`
	Request int32     `json:"request"`
	Client  []string  `json:"client,omitempty"`
	Shared  []string  `json:"shared,omitempty"`
}

// ChangeAttributes sets or deletes attributes from outside.
type ChangeAttributes struct {
	Scope  string                     `json:"scope"`
	Set    map[string]json.RawMessage `json:"set,omitempty"`
	Delete []string                   `json:"delete,omitempty"`
}

// Wake says that the wait of a parked run is over.
type Wake struct {
	Run   uuid.UUID `json:"run"`
	Token int       `json:"token"`
}

func (Call) isAction()             {}
func (DeviceCall) isAction()       {}
func (RPC) isAction()              {}
func (Data) isAction()             {}
func (AskAttributes) isAction()    {}
func (ChangeAttributes) isAction() {}
func (Wake) isAction()             {}

// Info is what the registry knows of the command's device.
type Info struct {
	Name       string
	Type       string
	Customer   uuid.UUID
	Chain      *chains.Program // of its profile, or the root chain; nil: none
	Settings   rpc.Settings
	LightFacts bool // life-cycle facts of light calls enter the chain, too
}

// Env is a step's input besides the state. Its functions must give the same answers whenever the step is run again.
type Env struct {
	Info   Info
	Run    func(id uuid.UUID) (Run, bool)                  // a parked run
	Chain  func(id uuid.UUID) *chains.Program              // the active version
	Pinned func(v Version) (p *chains.Program, known bool) // any version, nil if it is gone: parked runs go on in theirs
	Values func(keys []nodes.Key) (nodes.Values, bool)     // false: to be read, then the step is run again
	Body   func(call uuid.UUID) (rpc.Body, bool)           // likewise
	Ended  func(call uuid.UUID) rpc.Call                   // a call that has ended and that the command names
	NewID  func() uuid.UUID
	Trace  func(chains.TraceEntry) // may be nil
}

// Needs is what a step must look at and Env does not have.
type Needs struct {
	Values []nodes.Key
	Bodies []uuid.UUID // of calls
	Chains []Version
}

// None reports whether nothing is needed.
func (n *Needs) None() bool { return n.Values == nil && n.Bodies == nil && n.Chains == nil }

// Version names a version of a rule chain.
type Version struct {
	Chain  uuid.UUID
	Number int
}

// Result is the result of a step.
type Result struct {
	Events  []Event
	Effects []Effect
	Writes  []nodes.Write
	Refusal error // the command was refused; Events and Effects may still record it

	// Needs names what must be read before the command can be stepped; everything else is empty then.
	Needs Needs

	// Calls are the calls that the step changed, each in its last state.
	Calls []rpc.Call

	after rpc.Device
	runs  map[uuid.UUID]Run
}

// After is the device's state after the step.
func (r *Result) After() rpc.Device { return r.after }

// Runs are the runs that the step changed; one without tokens has ended.
func (r *Result) Runs() map[uuid.UUID]Run { return r.runs }

// Step runs one command on its device.
func Step(device rpc.Device, env Env, cmd Command) Result {
	t := newTurn(device, env, cmd)
	t.do(cmd.Do)
	t.followUp()
	return t.result()
}
