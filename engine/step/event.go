package step

import (
	"encoding/json"
	"fmt"

	"callchain/chains"
	"callchain/engine/rpc"

	"github.com/google/uuid"
)

// Event is a fact that a step made, and the stream that it belongs to. The owner gives it its place in the log.
type Event struct {
	Stream Stream
	Event  rpc.Event // Fact is nil for a fact of a run
	Run    RunFact   // nil for a fact of a call or device
}

// Name is the stored type of the event.
func (e *Event) Name() string {
	if e.Run != nil {
		return e.Run.Name()
	}
	return e.Event.Fact.Name()
}

// Version is the version of the event's stored form.
func (e *Event) Version() int16 {
	if e.Run != nil {
		return runSchemas[e.Run.Name()].Version
	}
	return rpc.Version(e.Event.Fact)
}

// AppendData appends the stored form of the event's content.
func (e *Event) AppendData(dst []byte) ([]byte, error) {
	if e.Run == nil {
		return rpc.AppendData(dst, e.Event.Fact)
	}
	b, err := json.Marshal(e.Run)
	if err != nil {
		return dst, fmt.Errorf("encoding %s: %w", e.Run.Name(), err)
	}
	return append(dst, b...), nil
}

// Stream names a stream: its kind and the id that it is about.
type Stream struct {
	Kind StreamKind
	ID   uuid.UUID
}

// StreamKind is the first part of a stream's name.
type StreamKind uint8

// The kinds of streams that a step writes.
const (
	CallStream   StreamKind = iota // rpc/<tenant>/<call>
	DeviceStream                   // device/<id>
	RunStream                      // run/<id>
)

// RunFact is a fact of a parked run.
type RunFact interface {
	Name() string
	isRunFact()
}

// RunParked: a token of the run waits for the world.
type RunParked struct {
	Number int          `json:"number"` // of the token in the run: 1, 2, …
	Token  chains.Token `json:"token"`
	Call   uuid.UUID    `json:"call,omitzero"`   // the call that it waits for
	Due    rpc.Instant  `json:"due,omitempty"`   // when its wait is over
	Server uuid.UUID    `json:"server,omitzero"` // the application's call that the run is still to dispatch
}

// RunResumed: the token got its answer and went on.
type RunResumed struct {
	Number int    `json:"number"`
	Answer string `json:"answer"` // "call", "wait", and the error if it was one
}

// RunFailed: a node failed and nothing was connected behind its Failure.
type RunFailed struct {
	Chain uuid.UUID `json:"chain"`
	Node  string    `json:"node"`
	Error string    `json:"error"`
}

// RunEnded: nothing of the run waits any more.
type RunEnded struct{}

// Name and isRunFact of every fact.
func (RunParked) Name() string  { return "RunParked" }
func (RunResumed) Name() string { return "RunResumed" }
func (RunFailed) Name() string  { return "RunFailed" }
func (RunEnded) Name() string   { return "RunEnded" }
func (RunParked) isRunFact()    {}
func (RunResumed) isRunFact()   {}
func (RunFailed) isRunFact()    {}
func (RunEnded) isRunFact()     {}

// Run is a parked run: the fold of its stream.
type Run struct {
	ID     uuid.UUID
	Tenant uuid.UUID
	Device uuid.UUID
	Server uuid.UUID // the application's call that it is still to dispatch, uuid.Nil if none
	Last   int       // number of the last token
	Tokens []Parked  // that wait
}

// Parked is a token that waits for the world.
type Parked struct {
	Number int
	Token  chains.Token
	Call   uuid.UUID
	Due    rpc.Instant
}

// EvolveRun applies a fact to a run. It never changes what r refers to.
func EvolveRun(r Run, f RunFact) Run {
	switch f := f.(type) {
	case RunParked:
		r.Last, r.Server = f.Number, f.Server
		r.Tokens = append(r.Tokens[:len(r.Tokens):len(r.Tokens)], Parked{Number: f.Number, Token: f.Token, Call: f.Call, Due: f.Due})
	case RunResumed:
		rest := make([]Parked, 0, len(r.Tokens))
		for _, p := range r.Tokens {
			if p.Number != f.Number {
				rest = append(rest, p)
			}
		}
		r.Tokens = rest
	case RunEnded:
		r.Tokens = nil
	}
	return r
}

// runSchemas are the schemas of the facts of runs.
var runSchemas = rpc.Schemas[RunFact]{
	RunParked{}.Name():  {Version: rpc.DataVersion, Read: rpc.ReadJSON[RunParked, RunFact](RunParked{}.Name())},
	RunResumed{}.Name(): {Version: rpc.DataVersion, Read: rpc.ReadJSON[RunResumed, RunFact](RunResumed{}.Name())},
	RunFailed{}.Name():  {Version: rpc.DataVersion, Read: rpc.ReadJSON[RunFailed, RunFact](RunFailed{}.Name())},
	RunEnded{}.Name():   {Version: rpc.DataVersion, Read: func([]byte) (RunFact, error) { return RunEnded{}, nil }},
}

// DecodeRunFact reads the stored form of a fact of a run. Errors: see rpc.Schemas.
func DecodeRunFact(name string, version int16, data []byte) (RunFact, error) {
	return runSchemas.Decode(name, version, data)
}
