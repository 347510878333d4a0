package chains

import (
	"fmt"

	"callchain/nodes"

	"github.com/google/uuid"
)

// MaxStepsDefault is how many nodes one run may execute when Env.MaxSteps is 0.
const MaxStepsDefault = 1000

// Env is what a run may ask its surroundings. Its functions must give the same answers when the run is done again.
type Env struct {
	// Chain is another chain in the version that is in force, for the node "rule chain"; nil if it is unknown.
	Chain func(id uuid.UUID) *Program
	// Pinned is a chain in a given version, for parked runs that go back to it. May be nil: then Chain has to do.
	Pinned func(id uuid.UUID, version int) *Program
	// Default is the chain of the originator's profile; nil if there is none.
	Default func(originator nodes.Entity) *Program
	// Read gives stored values; false: they are not at hand yet, the run is given up and done again later.
	Read func(keys []nodes.Key) (nodes.Values, bool)
	// Ask puts a node's question to the world. last: nothing is connected behind the node, so nobody uses the answer.
	Ask func(m nodes.Msg, a nodes.Ask, at Place, last bool) (nodes.Answer, Disposition)
	// NewID gives ids to the copies of a message that fans out. May be nil: then copies keep the id.
	NewID func() uuid.UUID
	// Now is µs since 1970, given to every message as its Now; 0 leaves the message's own.
	Now int64
	// MaxSteps bounds the node executions of a run, those before it was parked included; 0 means MaxStepsDefault.
	MaxSteps int
	// Trace is told of each execution. May be nil.
	Trace func(TraceEntry)
	// Sparse: Trace is told only of failures, and of nodes whose chain asks for more (Debug).
	Sparse bool
}

// Disposition is what happens to a run that asked.
type Disposition uint8

// The dispositions.
const (
	Now  Disposition = iota // go on at once with the answer given
	Park                    // keep the token until the answer comes
	Drop                    // nobody waits for the answer
)

// Place is a node of a version of a chain.
type Place struct {
	Chain   uuid.UUID
	Version int
	Node    string
}

// String is chain@version/node.
func (p Place) String() string { return fmt.Sprintf("%s@%d/%s", p.Chain, p.Version, p.Node) }

// Result is what a run did. If Needs is set, the run was given up until these values are at hand, and all else is empty.
type Result struct {
	Writes   []nodes.Write
	Logs     []nodes.Log
	Parked   []Token // in the order of the asks that were answered with Park
	Needs    []nodes.Key
	Failures []NodeFailure // failures that nothing was connected behind
	Steps    int           // node executions
	Acked    bool          // a node "acknowledge" was passed
}

// NodeFailure is a failure that no node handled.
type NodeFailure struct {
	Chain   uuid.UUID
	Version int
	Node    string
	Error   string
	Msg     nodes.Msg // as the node got it
}

// Token is a run that waits at a node for the answer to its question. It survives storage: see MarshalJSON.
type Token struct {
	Chain   uuid.UUID
	Version int
	Node    string
	Stack   []Frame
	Msg     nodes.Msg
	Ask     nodes.Ask
	Steps   int // node executions so far; they count on after the answer
}

// Frame is a node "rule chain" that a nested chain returns to.
type Frame struct {
	Chain   uuid.UUID `json:"chain"`
	Version int       `json:"version"`
	Node    string    `json:"node"`
}

// TraceEntry is one execution of a node.
type TraceEntry struct {
	Place
	ID       uuid.UUID // of the node
	Debug    Debug     // what its chain wants traced
	Depth    int       // nested chains around it
	In       nodes.Msg
	Out      nodes.Out
	Resumed  bool   // the node had asked, and went on with the answer
	Relation string // of the first emission
	Error    string // reason of a Failure
}
