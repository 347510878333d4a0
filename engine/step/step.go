// Package step composes calls and rule chains into the one pure function of a partition: a state and a command in, events
// and effects out.
//
// Step only reads the state; Apply takes what it answered over. A panic in between leaves nothing behind. There is no clock,
// no I/O and no randomness: what the outside knows (the device's row, values, bodies, ids) is handed in with Env.
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

// State is the memory of one or more partitions: the devices with something open, and the runs that are parked.
type State struct {
	Devices map[uuid.UUID]rpc.Device
	Runs    map[uuid.UUID]Run
}

// NewState is an empty State.
func NewState() *State {
	return &State{Devices: map[uuid.UUID]rpc.Device{}, Runs: map[uuid.UUID]Run{}}
}

// Command is one entry of the inbox.
type Command struct {
	rpc.Meta
	Tenant uuid.UUID
	Device uuid.UUID
	Span   Span
	Waiter Waiter
	Do     Action
}

// Span is the place of a command's sender in the trace Meta.Trace (W3C trace context: parent-id and the flag sampled); the step does not look
// at it. The zero Span is none.
type Span struct {
	ID      [8]byte
	Sampled bool
}

// Waiter is who is to be told how a command was judged; the step does not look at it. The zero Waiter is nobody.
type Waiter struct {
	Node string    `json:"node"` // the process that waits
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

// Env is what a step may look at beside the state. Its functions must give the same answers whenever the step is run again.
type Env struct {
	Info   Info
	Chain  func(id uuid.UUID) *chains.Program              // the active version
	Pinned func(id uuid.UUID, version int) *chains.Program // any version: parked runs go on in theirs
	Values func(keys []nodes.Key) (nodes.Values, bool)     // false: to be fetched, then the step is run again
	Body   func(call uuid.UUID) (rpc.Body, bool)           // likewise
	Ended  func(call uuid.UUID) rpc.Call                   // a call that has ended and that the command names
	NewID  func() uuid.UUID
	Trace  func(chains.TraceEntry) // may be nil
}

// Result is what a step answers.
type Result struct {
	Events  []Event
	Effects []Effect
	Writes  []nodes.Write
	Refusal error // the command was refused; Events and Effects may still tell of it

	// Needs and NeedBodies name what must be at hand before the command can be stepped; everything else is empty then.
	Needs      []nodes.Key
	NeedBodies []uuid.UUID

	// Calls are the calls that the step changed, each in its last state.
	Calls []rpc.Call

	device uuid.UUID
	after  rpc.Device
	runs   map[uuid.UUID]Run
}

// After is the device's state after the step.
func (r *Result) After() rpc.Device { return r.after }

// Runs are the runs that the step changed; one without tokens has ended.
func (r *Result) Runs() map[uuid.UUID]Run { return r.runs }

// Step judges one command. It changes nothing.
func Step(s *State, env Env, cmd Command) Result {
	t := newTurn(s, env, cmd)
	t.do(cmd.Do)
	t.settle()
	return t.result()
}

// Apply takes over what a step answered.
func (s *State) Apply(r Result) {
	if r.device != uuid.Nil {
		s.Devices[r.device] = r.after
	}
	for id, run := range r.runs {
		if len(run.Tokens) == 0 {
			delete(s.Runs, id)
		} else {
			s.Runs[id] = run
		}
	}
}
