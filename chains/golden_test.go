package chains_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"callchain/chains"
	"callchain/nodes"
	"callchain/nodes/builtin"
	"callchain/nodes/script/goja"

	"github.com/cockroachdb/datadriven"
	"github.com/google/uuid"
)

// The scripts in testdata/refused are definitions and what lint says of them; rewrite them with -rewrite.
func TestRefused(t *testing.T) {
	datadriven.Walk(t, "testdata/refused", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			problems := chains.Lint("chain.yaml", []byte(d.Input), builtin.WithScripts(goja.New(0)))
			if problems == nil {
				return "ok\n"
			}
			return problems.Error() + "\n"
		})
	})
}

// The scripts in testdata/runs are chains, messages and what becomes of them:
//
//	chain id=1                      compiles a chain under an id
//	send chain=1 type=T [k=v …]     runs a message; the input is its data, k=v its metadata
//	store scope=S name=N            sets a stored value; without scope a time series
//	answer token=N kind=call|wait   resumes a parked token (stored and read back first); the input is the body
func TestRuns(t *testing.T) {
	datadriven.Walk(t, "testdata/runs", func(t *testing.T, path string) {
		w := newWorld(t)
		datadriven.RunTest(t, path, w.command)
	})
}

// world is what surrounds a run: chains, values, and what the test decides about asks.
type world struct {
	t       *testing.T
	chains  map[uuid.UUID]*chains.Program
	values  nodes.Values
	parked  []chains.Token
	out     strings.Builder
	ids     byte
	max     int
	missing map[string]bool // names of values that are not at hand at first
}

func newWorld(t *testing.T) *world {
	return &world{t: t, chains: map[uuid.UUID]*chains.Program{}, values: nodes.Values{}, missing: map[string]bool{}}
}

func chainID(s string) uuid.UUID {
	return uuid.MustParse(strings.Repeat("0", 8) + "-0000-4000-8000-" + fmt.Sprintf("%012s", s))
}

var originator = nodes.Entity{Type: nodes.Device, ID: uuid.MustParse("11111111-1111-4111-8111-111111111111")}

func (w *world) command(t *testing.T, d *datadriven.TestData) string {
	w.out.Reset()
	switch d.Cmd {
	case "chain":
		w.compile(d)
	case "store":
		key := nodes.Key{Entity: originator, Name: arg(d, "name"), Scope: arg(d, "scope")}
		w.values[key] = nodes.Value{JSON: []byte(d.Input), TS: 5}
		w.missing[key.Name] = arg(d, "late") != ""
	case "send":
		w.send(d)
	case "limit":
		d.ScanArgs(t, "steps", &w.max)
	case "answer":
		w.answer(d)
	default:
		t.Fatalf("unknown command %s", d.Cmd)
	}
	if w.out.Len() == 0 {
		return "ok\n"
	}
	return w.out.String()
}

func arg(d *datadriven.TestData, key string) string {
	for _, a := range d.CmdArgs {
		if a.Key == key && len(a.Vals) > 0 {
			return a.Vals[0]
		}
	}
	return ""
}

func (w *world) compile(d *datadriven.TestData) {
	def, err := chains.Parse("chain.yaml", []byte(d.Input))
	if err != nil {
		w.t.Fatalf("%s: %v", d.Pos, err)
	}
	id := chainID(arg(d, "id"))
	p, err := chains.Compile(def, builtin.WithScripts(goja.New(0)), id, 1)
	if err != nil {
		w.t.Fatalf("%s: %v", d.Pos, err)
	}
	w.chains[id] = p
}

func (w *world) send(d *datadriven.TestData) {
	m := nodes.Msg{
		ID: chainID("ff"), TS: 1700000000000, Now: 1700000000500000, Type: arg(d, "type"), Originator: originator,
		Metadata: nodes.Metadata{}, Data: nodes.Raw([]byte(d.Input)),
	}
	for _, a := range d.CmdArgs {
		if a.Key != "chain" && a.Key != "type" {
			m.Metadata[a.Key] = strings.Join(a.Vals, ",")
		}
	}
	p := w.chains[chainID(arg(d, "chain"))]
	res := p.Run(w.env(), m)
	for res.Needs != nil {
		for _, k := range res.Needs {
			fmt.Fprintf(&w.out, "needs %s %s\n", k.Scope, k.Name)
			w.missing[k.Name] = false
		}
		w.ids = 0
		res = p.Run(w.env(), m)
	}
	w.tell(res)
}

func (w *world) answer(d *datadriven.TestData) {
	var n int
	d.ScanArgs(w.t, "token", &n)
	token := stored(w.t, w.parked[n-1])
	var a nodes.Answer = nodes.Waited{}
	if arg(d, "kind") == "call" {
		a = nodes.CallEnded{Body: []byte(d.Input), Error: arg(d, "error")}
	}
	env := w.env()
	env.Now = 1700000300000000
	w.tell(w.chains[token.Chain].Resume(env, token, a))
}

func (w *world) env() chains.Env {
	return chains.Env{
		Chain:    func(id uuid.UUID) *chains.Program { return w.chains[id] },
		Default:  func(nodes.Entity) *chains.Program { return w.chains[chainID("d")] },
		NewID:    func() uuid.UUID { w.ids++; return chainID(fmt.Sprintf("f%02x", w.ids)) },
		Read:     w.read,
		Ask:      w.ask,
		MaxSteps: w.max,
		Trace:    w.trace,
	}
}

func (w *world) read(keys []nodes.Key) (nodes.Values, bool) {
	out := nodes.Values{}
	for _, k := range keys {
		if w.missing[k.Name] {
			return nil, false
		}
		if v, ok := w.values[k]; ok {
			out[k] = v
		}
	}
	return out, true
}

// ask parks every question, but drops those of which nobody wants the answer, and answers replies at once.
func (w *world) ask(_ nodes.Msg, a nodes.Ask, at chains.Place, last bool) (nodes.Answer, chains.Disposition) {
	what := fmt.Sprintf("%+v", a)
	disposition, answer := chains.Park, nodes.Answer(nil)
	switch a := a.(type) {
	case nodes.CallDevice:
		what = fmt.Sprintf("call %s(%s) timeout=%s oneway=%t persistent=%t rest=%t", a.Method, a.Params, a.Timeout, a.Oneway, a.Persistent, a.FromREST)
	case nodes.Wait:
		what = fmt.Sprintf("wait %s", a.For)
	case nodes.ReplyCall:
		what = fmt.Sprintf("reply %d %s", a.Request, a.Body)
		disposition, answer = chains.Now, nodes.Replied{}
	}
	if last && disposition == chains.Park {
		disposition = chains.Drop
		what += ", nobody waits"
	}
	fmt.Fprintf(&w.out, "ask %s: %s\n", at.Node, what)
	return answer, disposition
}

func (w *world) trace(e chains.TraceEntry) {
	fmt.Fprintf(&w.out, "%s%s", strings.Repeat("  ", e.Depth), e.Node)
	for _, o := range e.Out.Emits {
		data, err := o.Msg.Data.Bytes()
		if err != nil {
			data = []byte(err.Error())
		}
		fmt.Fprintf(&w.out, " -%s-> %s %s", o.Relation, o.Msg.Type, data)
	}
	if e.Error != "" {
		fmt.Fprintf(&w.out, " (%s)", e.Error)
	}
	fmt.Fprintln(&w.out)
}

func (w *world) tell(res chains.Result) {
	for _, x := range res.Writes {
		fmt.Fprintf(&w.out, "write %s %s = %s at %d notify=%t\n", x.Key.Scope, x.Key.Name, x.Value.JSON, x.Value.TS, x.Notify)
	}
	for _, l := range res.Logs {
		fmt.Fprintf(&w.out, "log %s\n", l.Text)
	}
	for _, f := range res.Failures {
		fmt.Fprintf(&w.out, "failed at %s: %s\n", f.Node, f.Error)
	}
	for _, token := range res.Parked {
		w.parked = append(w.parked, token)
		fmt.Fprintf(&w.out, "parked %d at %s\n", len(w.parked), token.Node)
	}
	if res.Acked {
		fmt.Fprintln(&w.out, "acknowledged")
	}
	fmt.Fprintf(&w.out, "%d steps\n", res.Steps)
}

func stored(t *testing.T, token chains.Token) chains.Token {
	t.Helper()
	b, err := token.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	var out chains.Token
	if err := out.UnmarshalJSON(b); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestTokenRoundTrip(t *testing.T) {
	retries := 3
	m := nodes.Msg{
		ID: chainID("1"), TS: 1, Now: 2, Type: "T", Originator: originator, Customer: chainID("c"),
		Metadata: nodes.Metadata{"k": "v<&>"}, Data: nodes.Raw([]byte(`{ "a" : 1.0, "b":"<>" }`)),
	}
	binary := m
	binary.Data = nodes.Raw([]byte{0xff, 0})
	for _, token := range []chains.Token{
		{Chain: chainID("1"), Version: 4, Node: "n", Steps: 7, Msg: m, Ask: nodes.Wait{For: 90 * time.Second}, Stack: []chains.Frame{{Chain: chainID("2"), Version: 1, Node: "x"}}},
		{Node: "n", Msg: binary, Ask: nodes.CallDevice{ID: chainID("9"), Method: "m", Params: []byte(`{"a":1}`), Oneway: true, Persistent: true, FromREST: true, Expires: 5, Timeout: time.Minute, Retries: &retries, Info: []byte(`{}`)}},
		{Node: "n", Msg: m, Ask: nodes.ReplyCall{Service: "s", Session: chainID("8"), Request: 7, Body: []byte("x")}},
	} {
		got := stored(t, token)
		a, err1 := token.Msg.Data.Bytes()
		b, err2 := got.Msg.Data.Bytes()
		if err1 != nil || err2 != nil || !slices.Equal(a, b) {
			t.Errorf("data %q became %q (%v, %v)", a, b, err1, err2)
		}
		if x, y := fmt.Sprintf("%+v", flat(token)), fmt.Sprintf("%+v", flat(got)); x != y {
			t.Errorf("token\n%s became\n%s", x, y)
		}
	}
}

// flat is a token without pointers, for comparison as text.
func flat(t chains.Token) any {
	ask := fmt.Sprintf("%+v", t.Ask)
	if c, ok := t.Ask.(nodes.CallDevice); ok {
		retries := *c.Retries
		c.Retries = nil
		ask = fmt.Sprintf("%+v retries %d", c, retries)
	}
	t.Msg.Data, t.Ask = nil, nil
	return []any{t, ask}
}
