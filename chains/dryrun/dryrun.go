// Package dryrun runs a message through a chain without a server: nothing is stored, sent or waited for, and everything that
// would have happened is told. The commands that try and test chains are made of it.
package dryrun

import (
	"fmt"
	"slices"
	"strings"

	"callchain/chains"
	"callchain/nodes"

	"github.com/google/uuid"
)

// Input is a message and what the world would say.
type Input struct {
	Msg     nodes.Msg
	Values  nodes.Values                       // stored values; others do not exist
	Answers map[string]nodes.CallEnded         // how calls end, by the node that makes them; others stay unanswered
	Chain   func(id uuid.UUID) *chains.Program // other chains; may be nil
}

// Report is what happened, in order.
type Report struct {
	Path     []string // names of the nodes that were executed
	Steps    []Step
	Asks     []string // "node: what it asked"
	Writes   []string // "SCOPE name = JSON"
	Logs     []string
	Failures []string // "node: reason", of failures that no node handles
	Waiting  []string // nodes whose question nobody answered
}

// Step is one execution of a node.
type Step struct {
	Node  string
	Depth int // of nested chains
	Emits []Emission
}

// Emission is a message that a node sent on.
type Emission struct {
	Relation, Type, Data, Error string
	Metadata                    nodes.Metadata
}

// Run runs the message. A node "delay" waits no time.
func Run(p *chains.Program, in Input) Report {
	w := world{in: in}
	res := p.Run(chains.Env{Chain: in.Chain, Read: w.read, Ask: w.ask, Trace: w.trace}, in.Msg)
	for _, x := range res.Writes {
		scope := x.Key.Scope
		if scope == "" {
			scope = "TIME_SERIES"
		}
		w.out.Writes = append(w.out.Writes, fmt.Sprintf("%s %s = %s", scope, x.Key.Name, x.Value.JSON))
	}
	for _, l := range res.Logs {
		w.out.Logs = append(w.out.Logs, l.Text)
	}
	for _, f := range res.Failures {
		w.out.Failures = append(w.out.Failures, f.Node+": "+f.Error)
	}
	for _, t := range res.Parked {
		w.out.Waiting = append(w.out.Waiting, t.Node)
	}
	return w.out
}

type world struct {
	in  Input
	out Report
}

func (w *world) read(keys []nodes.Key) (nodes.Values, bool) {
	out := nodes.Values{}
	for k, v := range w.in.Values {
		if slices.Contains(keys, k) {
			out[k] = v
		}
	}
	return out, true
}

func (w *world) ask(_ nodes.Msg, a nodes.Ask, at chains.Place, last bool) (nodes.Answer, chains.Disposition) {
	w.out.Asks = append(w.out.Asks, at.Node+": "+question(a))
	switch a := a.(type) {
	case nodes.Wait:
		return nodes.Waited{}, chains.Now
	case nodes.ReplyCall:
		return nodes.Replied{}, chains.Now
	case nodes.CallDevice:
		if ended, ok := w.in.Answers[at.Node]; ok {
			return ended, chains.Now
		}
		if a.Persistent {
			return nodes.CallEnded{Body: fmt.Appendf(nil, `{"rpcId":"%s"}`, a.ID)}, chains.Now
		}
	}
	if last {
		return nil, chains.Drop
	}
	return nil, chains.Park
}

func question(a nodes.Ask) string {
	switch a := a.(type) {
	case nodes.Wait:
		return "wait " + a.For.String()
	case nodes.ReplyCall:
		return fmt.Sprintf("reply to request %d: %s", a.Request, a.Body)
	case nodes.CallDevice:
		words := []string{fmt.Sprintf("call %s(%s)", a.Method, a.Params)}
		if a.Oneway {
			words = append(words, "one-way")
		}
		if a.Persistent {
			words = append(words, "persistent")
		}
		return strings.Join(words, ", ")
	}
	return fmt.Sprintf("%T", a)
}

func (w *world) trace(e chains.TraceEntry) {
	if !e.Resumed {
		w.out.Path = append(w.out.Path, e.Node)
	}
	s := Step{Node: e.Node, Depth: e.Depth}
	for _, o := range e.Out.Emits {
		m := Emission{Relation: o.Relation, Type: o.Msg.Type, Metadata: o.Msg.Metadata}
		data, err := o.Msg.Data.Bytes()
		if m.Data = string(data); err != nil {
			m.Data = err.Error()
		}
		if strings.EqualFold(o.Relation, nodes.Failure) {
			m.Error = o.Msg.Metadata["error"]
		}
		s.Emits = append(s.Emits, m)
	}
	w.out.Steps = append(w.out.Steps, s)
}
