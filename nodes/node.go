package nodes

import (
	"time"

	"github.com/google/uuid"
)

// Node is one configured rule node. Process must give the same answer to the same message, always.
type Node interface {
	Process(Msg) Out
}

// Reader is a Node whose Process asks for values (Out.Reads); it is then run with them.
type Reader interface {
	Node
	ProcessWith(Msg, Values) Out
}

// Resumer is a Node whose Process asks the world (Out.Ask); it is run again with the answer, maybe much later, maybe on
// another machine.
type Resumer interface {
	Node
	Resume(Msg, Answer) Out
}

// Named is a Node whose behaviour depends on the name that it has in its chain (node "output").
type Named interface {
	Node
	Named(name string) Node
}

// The relations that every node knows.
const (
	Success = "Success"
	Failure = "Failure"
	True    = "True"
	False   = "False"
	Other   = "Other"
)

// Out is what a node answers: messages along relations, or values it must read first, or a question to the world.
// Writes and Logs may go with any of them and are performed only if the whole command commits.
type Out struct {
	Emits  []Emission
	Reads  []Key
	Ask    Ask
	Writes []Write
	Logs   []Log
	Enter  *Enter // go on in another chain (node "rule chain")
	Leave  string // go back to the caller chain along this relation (node "output")
	Left   Msg    // the message that goes back, if Leave is set
	Ack    bool   // the message counts as processed from here on (node "acknowledge")
}

// Emission sends a message along a relation.
type Emission struct {
	Relation string
	Msg      Msg
}

// Emit sends m along one relation.
func Emit(relation string, m Msg) Out {
	return Out{Emits: []Emission{{Relation: relation, Msg: m}}}
}

// Fail sends m along Failure with the reason in metadata "error".
func Fail(m Msg, reason string) Out { return Emit(Failure, m.WithMetadata("error", reason)) }

// Enter lets the message go on at the first node of another chain; Default prefers the chain of the originator's profile.
type Enter struct {
	Chain   uuid.UUID
	Default bool
	Msg     Msg
}

// Key names a value of an entity: an attribute (Scope set) or a latest time-series value (Scope empty).
type Key struct {
	Entity Entity
	Scope  string // CLIENT_SCOPE, SHARED_SCOPE, SERVER_SCOPE
	Name   string
}

// The scopes of attributes.
const (
	ClientScope = "CLIENT_SCOPE"
	SharedScope = "SHARED_SCOPE"
	ServerScope = "SERVER_SCOPE"
)

// Value is a stored value: JSON and its time in ms.
type Value struct {
	JSON []byte
	TS   int64
}

// Values are the answers to Reads; keys without a stored value are absent.
type Values map[Key]Value

// Write stores a value as the latest of its key.
type Write struct {
	Key    Key
	Value  Value
	Delete bool
	Notify bool // tell the device of a changed shared attribute
}

// Log is a line for the server's log.
type Log struct{ Text string }

// Ask is a question to the world: CallDevice, ReplyCall or Wait.
type Ask interface{ isAsk() }

// CallDevice sends an RPC to the originator (ThingsBoard's TbSendRPCRequestNode). The answer is CallEnded.
type CallDevice struct {
	ID         uuid.UUID // metadata requestUUID; uuid.Nil: the engine gives one
	Method     string
	Params     []byte // JSON
	Oneway     bool
	Persistent bool
	FromREST   bool          // the message is the REST caller's own, so its caller gets the answer, too
	Expires    int64         // µs since 1970; 0 = Timeout counts
	Timeout    time.Duration // from the message's Now
	Retries    *int
	Info       []byte // additionalInfo, JSON or nil
}

// ReplyCall answers a device's call (TbSendRPCReplyNode). The answer is Replied.
type ReplyCall struct {
	Service string
	Session uuid.UUID
	Request int32
	Body    []byte
}

// Wait lets time pass. The answer is Waited.
type Wait struct{ For time.Duration }

func (CallDevice) isAsk() {}
func (ReplyCall) isAsk()  {}
func (Wait) isAsk()       {}

// Answer is the world's answer to an Ask: CallEnded, Replied or Waited.
type Answer interface{ isAnswer() }

// CallEnded is how a call to a device ended, or for a persistent call that it is queued (Body then holds {"rpcId":…}).
type CallEnded struct {
	Body  []byte // what the device answered; empty if nothing
	Error string // ThingsBoard's RpcError name ("TIMEOUT", "NO_ACTIVE_CONNECTION", …); empty if the device answered
}

// Replied tells whether the device's call was still waiting for an answer.
type Replied struct{ Error string }

// Waited says that the time is over.
type Waited struct{}

func (CallEnded) isAnswer() {}
func (Replied) isAnswer()   {}
func (Waited) isAnswer()    {}
