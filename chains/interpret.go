package chains

import (
	"fmt"
	"slices"
	"strings"

	"callchain/nodes"

	"github.com/google/uuid"
)

// Run sends a message through the chain until nothing is left to do at once.
func (p *Program) Run(env Env, m nodes.Msg) Result {
	if p.first == nowhere {
		return Result{Acked: true}
	}
	r := newRun(env)
	r.push(delivery{program: p, node: p.first, msg: r.atNow(m)})
	return r.finish()
}

// Resume lets a token go on with its answer. p is the program of the token's chain and version.
func (p *Program) Resume(env Env, t Token, a nodes.Answer) Result {
	r := newRun(env)
	r.res.Steps = t.Steps
	t.Msg = r.atNow(t.Msg)
	i, ok := p.byName[t.Node]
	if !ok {
		r.gone(t, fmt.Sprintf("version %d of the chain %q has no such node", p.Version, p.Name))
		return r.res
	}
	stack, missing := r.frames(t.Stack)
	if missing != "" {
		r.gone(t, missing)
		return r.res
	}
	d := delivery{program: p, node: i, msg: t.Msg, stack: stack}
	resumer, ok := p.nodes[i].node.(nodes.Resumer)
	if !ok {
		r.gone(t, "the node asks for nothing, so it cannot go on with an answer")
		return r.res
	}
	r.res.Steps++
	r.take(d, resumer.Resume(t.Msg, a), true)
	return r.finish()
}

// delivery is a message in front of a node.
type delivery struct {
	program *Program
	node    int
	msg     nodes.Msg
	stack   []frame
}

func (d *delivery) step() *step { return &d.program.nodes[d.node] }

func (d *delivery) place() Place {
	return Place{Chain: d.program.ID, Version: d.program.Version, Node: d.step().name}
}

// frame is a node that a nested chain goes back to.
type frame struct {
	program *Program
	node    int
}

// run is a run while it lasts. Deliveries are taken from the end, so that a branch is finished before the next begins.
type run struct {
	env     Env
	max     int
	todo    []delivery
	space   [2]delivery
	visits  map[Place]int // counted when a run gets long, to name the place if it gets too long
	res     Result
	stopped bool
}

func newRun(env Env) *run {
	r := &run{env: env, max: env.MaxSteps}
	if r.max <= 0 {
		r.max = MaxStepsDefault
	}
	r.todo = r.space[:0]
	return r
}

// atNow gives a message the time at which the run happens.
func (r *run) atNow(m nodes.Msg) nodes.Msg {
	if r.env.Now != 0 {
		m.Now = r.env.Now
	}
	return m
}

func (r *run) push(d delivery) { r.todo = append(r.todo, d) }

func (r *run) finish() Result {
	for len(r.todo) > 0 && !r.stopped {
		last := len(r.todo) - 1
		d := r.todo[last]
		r.todo = r.todo[:last]
		if !r.count(d) {
			break
		}
		r.take(d, d.step().node.Process(d.msg), false)
	}
	if r.res.Needs != nil {
		return Result{Needs: r.res.Needs}
	}
	return r.res
}

// visitsFrom is the number of executions from which on places are counted.
const visitsFrom = 50

// count takes one step, or ends the run when there were too many.
func (r *run) count(d delivery) bool {
	r.res.Steps++
	if r.res.Steps > visitsFrom {
		if r.visits == nil {
			r.visits = map[Place]int{}
		}
		r.visits[d.place()]++
	}
	if r.res.Steps+len(r.todo) <= r.max {
		return true
	}
	at, times := d.place(), 0
	for p, n := range r.visits {
		if n > times || n == times && p.String() < at.String() {
			at, times = p, n
		}
	}
	text := fmt.Sprintf("the message would run through more than %d nodes, %q most often", r.max, at.Node)
	r.fail(d, text)
	return false
}

func (r *run) fail(d delivery, text string) {
	at := d.place()
	r.res.Failures = append(r.res.Failures, NodeFailure{Chain: at.Chain, Version: at.Version, Node: at.Node, Error: text, Msg: d.msg})
}

func (r *run) gone(t Token, text string) {
	r.res.Failures = append(r.res.Failures, NodeFailure{Chain: t.Chain, Version: t.Version, Node: t.Node, Error: text, Msg: t.Msg})
}

// take does what a node answered.
func (r *run) take(d delivery, out nodes.Out, resumed bool) {
	r.trace(d, out, resumed)
	if out.Reads != nil {
		var ok bool
		if out, ok = r.read(d, out); !ok {
			return
		}
	}
	r.res.Writes = append(r.res.Writes, out.Writes...)
	r.res.Logs = append(r.res.Logs, out.Logs...)
	r.res.Acked = r.res.Acked || out.Ack
	switch {
	case out.Enter != nil:
		r.enter(d, *out.Enter)
	case out.Leave != "":
		r.leave(d, out.Leave, out.Left)
	case out.Ask != nil:
		r.ask(d, out.Ask)
	}
	r.emit(d, out.Emits)
}

// emit queues the messages for the nodes behind, in their order. Copies get ids of their own, as in ThingsBoard.
func (r *run) emit(d delivery, emits []nodes.Emission) {
	if len(emits) == 0 {
		return
	}
	s, from := d.step(), len(r.todo)
	for _, e := range emits {
		targets := s.along(e.Relation)
		if len(targets) == 0 && strings.EqualFold(e.Relation, nodes.Failure) {
			r.fail(delivery{program: d.program, node: d.node, msg: d.msg}, reason(e.Msg))
		}
		for _, t := range targets {
			r.push(delivery{program: d.program, node: t, msg: e.Msg, stack: d.stack})
		}
	}
	fresh := r.todo[from:]
	if len(fresh) < 2 {
		return
	}
	if r.env.NewID != nil {
		for i := range fresh {
			fresh[i].msg.ID = r.env.NewID()
		}
	}
	slices.Reverse(fresh)
}

func reason(m nodes.Msg) string {
	if text := m.Metadata["error"]; text != "" {
		return text
	}
	return "the node went along Failure without a reason"
}

// read runs a node again with the values that it wants. What this run has written is seen, too.
func (r *run) read(d delivery, out nodes.Out) (nodes.Out, bool) {
	reader, ok := d.step().node.(nodes.Reader)
	if !ok {
		panic(fmt.Sprintf("chains: node %s asks for values and cannot take them", d.place()))
	}
	values, ok := nodes.Values{}, false
	if r.env.Read != nil {
		values, ok = r.env.Read(out.Reads)
	}
	if !ok {
		r.res.Needs, r.stopped = out.Reads, true
		return out, false
	}
	again := reader.ProcessWith(d.msg, r.overlay(out.Reads, values))
	if again.Reads != nil {
		panic(fmt.Sprintf("chains: node %s asks for values twice", d.place()))
	}
	r.trace(d, again, false)
	return again, true
}

func (r *run) overlay(keys []nodes.Key, values nodes.Values) nodes.Values {
	var own nodes.Values
	for _, w := range r.res.Writes {
		if !slices.Contains(keys, w.Key) {
			continue
		}
		if own == nil {
			own = make(nodes.Values, len(values)+1)
			for k, v := range values {
				own[k] = v
			}
		}
		if w.Delete {
			delete(own, w.Key)
		} else {
			own[w.Key] = w.Value
		}
	}
	if own == nil {
		return values
	}
	return own
}

// ask puts the question of a node to the world.
func (r *run) ask(d delivery, a nodes.Ask) {
	answer, what := r.env.Ask(d.msg, a, d.place(), len(d.step().to) == 0)
	switch what {
	case Drop:
	case Park:
		r.res.Parked = append(r.res.Parked, d.token(a, r.res.Steps))
	case Now:
		resumer, ok := d.step().node.(nodes.Resumer)
		if !ok {
			panic(fmt.Sprintf("chains: node %s asks and cannot take the answer", d.place()))
		}
		if r.count(d) {
			r.take(d, resumer.Resume(d.msg, answer), true)
		}
	}
}

func (d *delivery) token(a nodes.Ask, steps int) Token {
	t := Token{Chain: d.program.ID, Version: d.program.Version, Node: d.step().name, Msg: d.msg, Ask: a, Steps: steps}
	for _, f := range d.stack {
		t.Stack = append(t.Stack, Frame{Chain: f.program.ID, Version: f.program.Version, Node: f.program.nodes[f.node].name})
	}
	return t
}

// enter goes on in another chain, unless that is a loop: the same chain, or a node that is already waiting for a return
// (ThingsBoard: TbRuleChainInputNode, DefaultTbContext.input).
func (r *run) enter(d delivery, e nodes.Enter) {
	var target *Program
	if e.Default && r.env.Default != nil {
		target = r.env.Default(e.Msg.Originator)
	}
	if target == nil && r.env.Chain != nil {
		target = r.env.Chain(e.Chain)
	}
	here := frame{d.program, d.node}
	switch {
	case target == nil:
		r.refuse(d, e.Msg, fmt.Sprintf("there is no chain %s", e.Chain))
	case target.ID == d.program.ID:
		r.refuse(d, e.Msg, fmt.Sprintf("the chain %q would enter itself", target.Name))
	case slices.ContainsFunc(d.stack, func(f frame) bool { return f.program.ID == here.program.ID && f.node == here.node }):
		r.refuse(d, e.Msg, fmt.Sprintf("the chains run in a circle: %q calls %q again", d.program.Name, target.Name))
	case target.first == nowhere:
	default:
		stack := append(slices.Clip(slices.Clone(d.stack)), here)
		r.push(delivery{program: target, node: target.first, msg: e.Msg, stack: stack})
	}
}

// refuse makes a node fail that could not be obeyed.
func (r *run) refuse(d delivery, m nodes.Msg, text string) {
	out := nodes.Fail(m, text)
	r.trace(d, out, true)
	r.emit(d, out.Emits)
}

// leave goes back to the chain that called this one; without one the message ends.
func (r *run) leave(d delivery, relation string, m nodes.Msg) {
	if len(d.stack) == 0 {
		return
	}
	last := len(d.stack) - 1
	f := d.stack[last]
	r.emit(delivery{program: f.program, node: f.node, msg: m, stack: d.stack[:last:last]}, []nodes.Emission{{Relation: relation, Msg: m}})
}

// frames finds the programs of a stored stack: those of the same versions if they are still known, else the ones that are
// in force now.
func (r *run) frames(stored []Frame) (out []frame, missing string) {
	for _, f := range stored {
		p := r.program(f.Chain, f.Version)
		if p == nil {
			return nil, fmt.Sprintf("the chain %s, which it would go back to, is gone", f.Chain)
		}
		i, ok := p.byName[f.Node]
		if !ok {
			return nil, fmt.Sprintf("the chain %q has no node %q any more, which it would go back to", p.Name, f.Node)
		}
		out = append(out, frame{p, i})
	}
	return out, ""
}

func (r *run) program(id uuid.UUID, version int) *Program {
	if r.env.Pinned != nil {
		if p := r.env.Pinned(id, version); p != nil {
			return p
		}
	}
	if r.env.Chain == nil {
		return nil
	}
	return r.env.Chain(id)
}

// wanted tells whether an execution is worth a trace where they are sparse.
func wanted(d delivery, out nodes.Out) bool {
	if debug := d.step().debug; debug.Until > 0 && debug.All(d.msg.Now) {
		return true
	}
	return len(out.Emits) > 0 && strings.EqualFold(out.Emits[0].Relation, nodes.Failure)
}

func (r *run) trace(d delivery, out nodes.Out, resumed bool) {
	if r.env.Trace == nil || out.Reads != nil || r.env.Sparse && !wanted(d, out) {
		return
	}
	e := TraceEntry{Place: d.place(), ID: d.step().id, Debug: d.step().debug, Depth: len(d.stack), In: d.msg, Out: out, Resumed: resumed}
	if len(out.Emits) > 0 {
		e.Relation = out.Emits[0].Relation
		if strings.EqualFold(e.Relation, nodes.Failure) {
			e.Error = reason(out.Emits[0].Msg)
		}
	}
	r.env.Trace(e)
}
