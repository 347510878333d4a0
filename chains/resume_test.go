package chains_test

import (
	"fmt"
	"strings"
	"testing"

	"callchain/chains"
	"callchain/nodes"
	"callchain/nodes/builtin"

	"github.com/google/uuid"
)

func program(t *testing.T, id uuid.UUID, version int, text string) *chains.Program {
	t.Helper()
	d, err := chains.Parse("chain.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	p, err := chains.Compile(d, builtin.Registry(), id, version)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func outerText(label string) string {
	return "name: outer\nnodes:\n- {name: sub, type: rule chain, config: {ruleChainId: " + chainID("2").String() +
		"}, to: {done: say}}\n- {name: say, type: log, config: {text: " + label + "}}\n"
}

const innerText = "name: inner\nnodes:\n- {name: wait, type: delay, to: {Success: done}}\n- {name: done, type: output}\n"

func parkAll(nodes.Msg, nodes.Ask, chains.Place, bool) (nodes.Answer, chains.Disposition) {
	return nil, chains.Park
}

// parkedInside runs version 1 of outer until it waits in inner.
func parkedInside(t *testing.T, outer, inner *chains.Program) chains.Token {
	t.Helper()
	env := chains.Env{Chain: func(uuid.UUID) *chains.Program { return inner }, Ask: parkAll}
	res := outer.Run(env, nodes.Msg{Type: "T", Originator: originator, Data: nodes.Raw([]byte("{}"))})
	if len(res.Parked) != 1 || len(res.Parked[0].Stack) != 1 {
		t.Fatalf("%+v", res)
	}
	return stored(t, res.Parked[0])
}

// A parked run goes back to the version that called, as long as that is known, else to the one in force.
func TestResumeFindsTheCallersVersion(t *testing.T) {
	inner := program(t, chainID("2"), 1, innerText)
	one, two := program(t, chainID("1"), 1, outerText("one")), program(t, chainID("1"), 2, outerText("two"))
	token := parkedInside(t, one, inner)
	for want, env := range map[string]chains.Env{
		"[{one}] []": {
			Chain:  func(uuid.UUID) *chains.Program { return two },
			Pinned: func(uuid.UUID, int) *chains.Program { return one },
		},
		"[{two}] []": {Chain: func(uuid.UUID) *chains.Program { return two }},
	} {
		res := inner.Resume(env, token, nodes.Waited{})
		if got := fmt.Sprint(res.Logs, " ", res.Failures); got != want {
			t.Errorf("%s; want %s", got, want)
		}
	}
}

func TestResumeOfWhatIsGone(t *testing.T) {
	inner := program(t, chainID("2"), 1, innerText)
	outer := program(t, chainID("1"), 1, outerText("one"))
	token := parkedInside(t, outer, inner)
	renamed := program(t, chainID("1"), 2, "name: renamed\nnodes:\n- {name: other, type: log}\n")
	for want, resume := range map[string]func() chains.Result{
		"which it would go back to, is gone": func() chains.Result { return inner.Resume(chains.Env{}, token, nodes.Waited{}) },
		`has no node "sub" any more`: func() chains.Result {
			return inner.Resume(chains.Env{Chain: func(uuid.UUID) *chains.Program { return renamed }}, token, nodes.Waited{})
		},
		"has no such node": func() chains.Result { return renamed.Resume(chains.Env{}, token, nodes.Waited{}) },
		"the node asks for nothing": func() chains.Result {
			moved := token
			moved.Node = "done"
			moved.Stack = nil
			return inner.Resume(chains.Env{}, moved, nodes.Waited{})
		},
	} {
		res := resume()
		if len(res.Failures) != 1 || !strings.Contains(res.Failures[0].Error, want) {
			t.Errorf("%+v; want %s", res.Failures, want)
		}
	}
}

// A chain that doubles its messages at each node is stopped by the limit, and quickly.
func TestStepLimitStopsAFlood(t *testing.T) {
	var b strings.Builder
	b.WriteString("name: flood\nnodes:\n")
	for i := range 30 {
		fmt.Fprintf(&b, "- {name: a%d, type: acknowledge, to: {Success: [a%d, b%d]}}\n- {name: b%d, type: acknowledge, to: {Success: [a%d, b%d]}}\n", i, i+1, i+1, i, i+1, i+1)
	}
	b.WriteString("- {name: a30, type: acknowledge}\n- {name: b30, type: acknowledge}\n")
	text := strings.Replace(b.String(), "nodes:\n", "nodes:\n- {name: start, type: acknowledge, to: {Success: [a0, b0]}}\n", 1)
	p := program(t, chainID("1"), 1, text)
	res := p.Run(chains.Env{}, nodes.Msg{Type: "T"})
	if res.Steps > chains.MaxStepsDefault || len(res.Failures) != 1 || !strings.Contains(res.Failures[0].Error, "more than 1000 nodes") {
		t.Errorf("%d steps, %+v", res.Steps, res.Failures)
	}
}

// Running the same message twice gives the same result, whatever the order of maps is.
func TestRunIsDeterministic(t *testing.T) {
	p := program(t, chainID("1"), 1, `
name: many
nodes:
  - name: change
    type: transform
    config: {metadata: {a: "1", b: "2", c: "3"}, msg: 'groupBy(msg.list, # % 3)'}
    to: {Success: log}
  - {name: log, type: log, config: {text: "$[*] ${*}"}, to: {Success: save}}
  - {name: save, type: save time series}
`)
	run := func() string {
		res := p.Run(chains.Env{}, nodes.Msg{Type: nodes.PostTelemetry, Data: nodes.Raw([]byte(`{"list":[1,2,3,4,5,6,7]}`))})
		return fmt.Sprintf("%s %v", res.Logs, res.Writes)
	}
	first := run()
	if !strings.Contains(first, `{"0":[3,6],"1":[1,4,7],"2":[2,5]}`) {
		t.Fatal(first)
	}
	for range 50 {
		if again := run(); again != first {
			t.Fatalf("%s\nand then\n%s", first, again)
		}
	}
}
