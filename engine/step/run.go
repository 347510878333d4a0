package step

import (
	"fmt"

	"callchain/chains"
	"callchain/engine/rpc"
	"callchain/nodes"

	"github.com/google/uuid"
)

// running is one run while it is being stepped.
type running struct {
	turn    *turn
	program *chains.Program
	run     Run
	server  uuid.UUID // the application's call that the chain is to dispatch
	meta    rpc.Meta
	asked   []parking // in the order of the asks that parked
}

// parking is what a parked ask waits for.
type parking struct {
	call uuid.UUID
	due  rpc.Instant
}

// run sends a message through a chain. server names the application's call that the message stands for, if it does: if
// the run ends and the call was not dispatched, its caller is answered at once.
func (t *turn) run(p *chains.Program, m nodes.Msg, server uuid.UUID) {
	r := &running{turn: t, program: p, server: server, meta: t.cmd.Meta}
	r.meta.Chain = chainName(p)
	r.take(p.Run(r.env(), m))
}

// resume resumes a parked token with its answer.
func (t *turn) resume(run Run, p Parked, a nodes.Answer, kind string) {
	program, known := t.pinned(p.Token.Chain, p.Token.Version)
	if !known {
		return
	}
	r := &running{turn: t, program: program, run: run, server: run.Server, meta: t.cmd.Meta}
	r.emit(RunResumed{Number: p.Number, Answer: kind})
	if program == nil {
		r.emit(RunFailed{Chain: p.Token.Chain, Node: p.Token.Node, Error: fmt.Sprintf("version %d of the chain is gone", p.Token.Version)})
		t.effect(DeadLetter{Reason: ReasonChainGone, Detail: fmt.Sprintf("run %s cannot go on: chain %s@%d is gone", run.ID, p.Token.Chain, p.Token.Version)})
		r.end(nil)
		return
	}
	r.meta.Chain = chainName(program)
	r.take(program.Resume(r.env(), p.Token, a))
}

// pinned is a version of a chain, nil if it is gone; it is requested if it is not in memory.
func (t *turn) pinned(chain uuid.UUID, version int) (p *chains.Program, known bool) {
	v := Version{chain, version}
	if p, known = t.env.Pinned(v); !known {
		t.out.Needs.Chains = append(t.out.Needs.Chains, v)
	}
	return p, known
}

func (r *running) pinned(chain uuid.UUID, version int) *chains.Program {
	p, _ := r.turn.pinned(chain, version) // if it is needed first, what the run does now is dropped
	return p
}

func (t *turn) wake(a Wake) {
	run, ok := t.findRun(a.Run)
	if !ok {
		return
	}
	for _, p := range run.Tokens {
		if p.Number == a.Token && p.Due != 0 && p.Due <= t.cmd.Now {
			t.resume(run, p, nodes.Waited{}, "wait")
			return
		}
	}
}

func (r *running) env() chains.Env {
	t := r.turn
	return chains.Env{
		Chain: t.env.Chain, Pinned: r.pinned, Read: t.env.Values, Ask: r.ask, NewID: t.env.NewID, Trace: t.env.Trace, Sparse: true, Now: int64(t.cmd.Now),
		Default: func(nodes.Entity) *chains.Program { return t.env.Info.Chain },
	}
}

// take applies the chain's result: writes, logs, parked tokens, failures.
func (r *running) take(res chains.Result) {
	t := r.turn
	if res.Needs != nil {
		t.out.Needs.Values = append(t.out.Needs.Values, res.Needs...)
		return
	}
	t.out.Writes = append(t.out.Writes, res.Writes...)
	t.log(res.Logs)
	t.push(res.Writes)
	for i, token := range res.Parked {
		if _, err := token.Msg.Data.Bytes(); err != nil { // it could not be stored; if a body is missing, the step is run again
			r.emit(RunFailed{Chain: token.Chain, Node: token.Node, Error: err.Error()})
			continue
		}
		parked := RunParked{Number: r.run.Last + 1, Token: token, Server: r.server}
		if i < len(r.asked) {
			parked.Call, parked.Due = r.asked[i].call, r.asked[i].due
		}
		r.emit(parked)
	}
	for _, f := range res.Failures {
		r.emit(RunFailed{Chain: f.Chain, Node: f.Node, Error: f.Error})
	}
	r.end(res.Failures)
}

// end closes a run without parked tokens, and answers the caller of a call that it did not dispatch.
func (r *running) end(failures []chains.NodeFailure) {
	t := r.turn
	if len(r.run.Tokens) > 0 {
		if c := t.device.Find(r.server); c != nil && c.Persistent && c.Phase == rpc.PhaseRequested {
			t.effect(NotifyCallers{Call: c.ID, Phase: rpc.PhaseQueued}) // the caller of a persistent call need not wait for the chain
		}
		return
	}
	if _, begun := t.findRun(r.run.ID); begun {
		r.emit(RunEnded{})
	}
	if r.server == uuid.Nil {
		return
	}
	reject := rpc.Reject{Call: r.server, Code: rpc.CodeNotDispatched, Detail: "the rule chain ended without sending the call to the device"}
	if len(failures) > 0 {
		reject.Code = rpc.CodeChainFailed
		reject.Detail = fmt.Sprintf("node %q: %s", failures[0].Node, failures[0].Error)
	}
	t.refused(t.decideAs(r.meta, reject))
}

// emit adds a fact to the run's stream; the run gets its id with its first fact.
func (r *running) emit(f RunFact) {
	t := r.turn
	id := r.id()
	r.run = EvolveRun(r.run, f)
	if t.runs == nil {
		t.runs = map[uuid.UUID]Run{}
	}
	t.runs[id] = r.run
	meta := r.meta
	meta.Hops = t.hops
	t.out.Events = append(t.out.Events, Event{Stream: Stream{Kind: RunStream, ID: id}, Event: rpc.Event{Meta: meta}, Run: f})
}

func (r *running) id() uuid.UUID {
	if r.run.ID == uuid.Nil {
		r.run = Run{ID: r.turn.env.NewID(), Tenant: r.turn.cmd.Tenant, Device: r.turn.cmd.Device, Server: r.server}
	}
	return r.run.ID
}

// ask answers the question of a node, or has it wait.
func (r *running) ask(m nodes.Msg, a nodes.Ask, at chains.Place, last bool) (nodes.Answer, chains.Disposition) {
	r.meta.Cause = "node:" + at.String()
	switch a := a.(type) {
	case nodes.CallDevice:
		return r.callDevice(m, a, last)
	case nodes.ReplyCall:
		err := r.turn.decideAs(r.meta, rpc.Answer{Session: a.Session, Request: a.Request, Body: rpc.NewPayload(a.Body)})
		if err != nil {
			return nodes.Replied{Error: err.Error()}, chains.Now
		}
		return nodes.Replied{}, chains.Now
	case nodes.Wait:
		if last {
			return nil, chains.Drop
		}
		r.asked = append(r.asked, parking{due: r.turn.cmd.Now.Add(a.For)})
		return nil, chains.Park
	}
	panic(fmt.Sprintf("step: unknown ask %T", a))
}

// callDevice dispatches the application's own call, or makes a new one.
func (r *running) callDevice(m nodes.Msg, a nodes.CallDevice, last bool) (nodes.Answer, chains.Disposition) {
	t := r.turn
	waits := !last && !a.Persistent
	dispatch := rpc.Dispatch{Call: a.ID}
	if waits {
		dispatch.Run = r.id()
	}
	own := t.device.Find(a.ID)
	switch {
	case a.FromREST && own != nil && own.Direction == rpc.ToDevice:
		dispatch.FailOffline = t.failOffline()
		dispatch.Method, dispatch.Params = t.changed(own.ID, a)
		r.server = uuid.Nil
	case a.FromREST && a.ID == r.server: // it was cancelled or expired while the run waited
		return nodes.CallEnded{Error: "TIMEOUT"}, chains.Now
	default:
		if err := r.newCall(&dispatch, a); err != nil {
			return nodes.CallEnded{Error: "INTERNAL"}, chains.Now
		}
	}
	if err := t.decideAs(r.meta, dispatch); err != nil {
		return nodes.CallEnded{Error: "INTERNAL"}, chains.Now
	}
	switch c := t.device.Find(dispatch.Call); {
	case a.Persistent:
		return nodes.CallEnded{Body: fmt.Appendf(nil, `{"rpcId":"%s"}`, dispatch.Call)}, chains.Now
	case c == nil: // rejected at once
		return nodes.CallEnded{Error: "NO_ACTIVE_CONNECTION"}, chains.Now
	case !waits:
		return nil, chains.Drop
	}
	r.asked = append(r.asked, parking{call: dispatch.Call})
	return nil, chains.Park
}

// newCall begins a call that a chain makes by itself.
func (r *running) newCall(dispatch *rpc.Dispatch, a nodes.CallDevice) error {
	t := r.turn
	if a.ID == uuid.Nil || a.FromREST || t.device.Find(a.ID) != nil || t.last(a.ID).Phase != rpc.PhaseNone {
		dispatch.Call = t.env.NewID()
	}
	expires := rpc.Instant(a.Expires)
	if expires == 0 {
		expires = t.cmd.Now.Add(a.Timeout)
	}
	return t.decideAs(r.meta, rpc.Request{
		ID: dispatch.Call, Method: a.Method, Params: a.Params, Oneway: a.Oneway, Persistent: a.Persistent,
		Expires: expires, Retries: a.Retries, Info: a.Info,
	})
}

// changed is what the chain changed of the application's request.
func (t *turn) changed(call uuid.UUID, a nodes.CallDevice) (method *string, params []byte) {
	b, ok := t.bodies[call]
	if !ok {
		if b, ok = t.env.Body(call); !ok {
			t.out.Needs.Bodies = append(t.out.Needs.Bodies, call)
			return nil, nil
		}
	}
	if b.Method != a.Method {
		method = &a.Method
	}
	was := string(b.Params)
	if was == "" {
		was = "null"
	}
	if was != string(a.Params) {
		params = a.Params
	}
	return method, params
}

func (t *turn) failOffline() bool {
	c, ok := t.cmd.Do.(Call)
	return ok && c.FailOffline
}
