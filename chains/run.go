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
	Chain    func(id uuid.UUID) *Program                                                     // other chains, for the node "rule chain"; nil if unknown
	Default  func(originator nodes.Entity) *Program                                          // the chain of the originator's profile; nil if none
	Read     func(keys []nodes.Key) (nodes.Values, bool)                                     // false: not at hand yet; the run is given up and done again later
	Ask      func(m nodes.Msg, a nodes.Ask, at Place, last bool) (nodes.Answer, Disposition) // last: nothing is connected behind the node
	NewID    func() uuid.UUID                                                                // ids of copies when a message fans out
	MaxSteps int                                                                             // node executions; 0 means MaxStepsDefault
	Trace    func(TraceEntry)                                                                // may be nil
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
	Depth    int // nested chains around it
	In       nodes.Msg
	Out      nodes.Out
	Resumed  bool   // Out is the answer to a resumption
	Relation string // of the first emission
	Error    string // reason of a Failure
}
