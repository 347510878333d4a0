package chains_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"callchain/chains"
	"callchain/chains/standard"
	"callchain/nodes"
	"callchain/nodes/builtin"
	"callchain/nodes/script/goja"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

var anyText = rapid.OneOf(
	rapid.StringMatching(`[a-z][a-z ]{0,10}[a-z]`),
	rapid.SampledFrom([]string{"true", "No", "null", "~", "- a", "a: b", "#x", "1", "1.5", "0x1f", "1e3", "a\nb\n", " lead", "trail ", `"q"`, "'", "{}", "[", "&a", "*a", "!t", "|", ">", "%", "@", "`", "?", ": ", "2026-01-31", ".inf", "=", "<<", "é😀", "\u0001\u007f\u2028", "\t", "a\\b", "..."}),
	rapid.String(),
)

func anyValue(depth int) *rapid.Generator[any] {
	scalars := []*rapid.Generator[any]{
		rapid.Just(any(nil)), rapid.Bool().AsAny(), rapid.Int64().AsAny(), anyText.AsAny(),
		rapid.Float64Range(-1e300, 1e300).AsAny(), rapid.SampledFrom([]float64{0, 1, 1e21, -2.5, 1e-7}).AsAny(),
	}
	if depth == 0 {
		return rapid.OneOf(scalars...)
	}
	return rapid.OneOf(append(scalars,
		rapid.Map(rapid.SliceOfN(anyValue(depth-1), 0, 3), func(v []any) any { return v }),
		rapid.Map(anyObject(depth-1), func(v map[string]any) any { return v }))...)
}

func anyObject(depth int) *rapid.Generator[map[string]any] {
	return rapid.MapOfN(anyText, anyValue(depth), 0, 4)
}

var anyDefinition = rapid.Custom(func(t *rapid.T) chains.Definition {
	d := chains.Definition{
		Name: anyText.Draw(t, "name"), Description: anyText.Draw(t, "description"), Root: rapid.Bool().Draw(t, "root"),
		First: rapid.OneOf(rapid.Just(""), anyText).Draw(t, "first"),
	}
	for range rapid.IntRange(0, 4).Draw(t, "nodes") {
		n := chains.NodeDefinition{Name: anyText.Draw(t, "node"), Type: anyText.Draw(t, "type"), Description: anyText.Draw(t, "about")}
		if rapid.Bool().Draw(t, "configured") {
			n.Config = anyObject(2).Draw(t, "config")
		}
		for _, relation := range rapid.SliceOfNDistinct(anyText, 0, 3, rapid.ID[string]).Draw(t, "relations") {
			targets := rapid.SliceOfN(rapid.StringMatching(`.{1,8}`), 1, 3).Draw(t, "targets")
			n.To = append(n.To, chains.Link{Relation: relation, Nodes: targets})
		}
		d.Nodes = append(d.Nodes, n)
	}
	return d
})

// exported is a definition without the places in its file.
func exported(d chains.Definition) any {
	type link struct {
		Relation string
		Nodes    []string
	}
	type node struct {
		Name, Type, Description string
		Config                  map[string]any
		To                      []link
	}
	var list []node
	for _, n := range d.Nodes {
		out := node{n.Name, n.Type, n.Description, n.Config, nil}
		for _, l := range n.To {
			out.To = append(out.To, link{l.Relation, l.Nodes})
		}
		list = append(list, out)
	}
	return []any{d.Name, d.Description, d.Root, d.First, list}
}

func TestParseReadsWhatPrintWrites(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := anyDefinition.Draw(t, "definition")
		text := chains.Print(d)
		got, err := chains.Parse("printed.yaml", text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if want := exported(d); !reflect.DeepEqual(exported(got), want) {
			t.Fatalf("read\n%#v\nwant\n%#v\nof\n%s", exported(got), want, text)
		}
	})
}

// What compiles once compiles again after it was printed, and JSON means the same as YAML.
func TestExamplesSurvivePrinting(t *testing.T) {
	for file, data := range examples(t) {
		d, err := chains.Parse(file, data)
		if err != nil {
			t.Fatal(err)
		}
		printed := chains.Print(d)
		again, err := chains.Parse(file, printed)
		if err != nil || !reflect.DeepEqual(exported(again), exported(d)) {
			t.Errorf("%s changed by printing: %v\n%s", file, err, printed)
		}
		if _, err := chains.Compile(again, builtin.WithScripts(goja.New(0)), uuid.Nil, 1); err != nil {
			t.Error(err)
		}
	}
}

func TestJSONMeansTheSame(t *testing.T) {
	yaml, err := chains.Parse("a.yaml", []byte("name: x\nnodes:\n- {name: a, type: delay, config: {periodInSeconds: 5}, to: {Success: [b]}}\n- {name: b, type: log}\n"))
	if err != nil {
		t.Fatal(err)
	}
	text := `{"name":"x","nodes":[{"name":"a","type":"delay","config":{"periodInSeconds":5},"to":{"Success":"b"}},{"name":"b","type":"log"}]}`
	if !json.Valid([]byte(text)) {
		t.Fatal("the test's JSON is none")
	}
	js, err := chains.Parse("a.json", []byte(text))
	if err != nil || !reflect.DeepEqual(exported(js), exported(yaml)) {
		t.Errorf("%v\n%#v\n%#v", err, exported(js), exported(yaml))
	}
}

func TestLimits(t *testing.T) {
	big := "name: x\nnodes:\n- {name: a, type: log}\n#" + strings.Repeat("x", chains.BytesMax)
	if p := chains.Lint("f", []byte(big), builtin.WithScripts(goja.New(0))); len(p) != 1 || !strings.Contains(p[0].Text, "bytes, more than 262144") {
		t.Errorf("a file that is too big: %v", p)
	}
	d := chains.Definition{Name: "many"}
	for range chains.NodesMax + 1 {
		d.Nodes = append(d.Nodes, chains.NodeDefinition{Name: "n", Type: "log"})
	}
	_, err := chains.Compile(d, builtin.WithScripts(goja.New(0)), uuid.Nil, 1)
	if p, ok := errors.AsType[chains.Problems](err); !ok || len(p) != 1 || !strings.Contains(p[0].Text, "501 nodes, more than 500") {
		t.Errorf("a chain with too many nodes: %v", err)
	}
	for what, text := range map[string]string{
		"flow": strings.Repeat("[", 100000), "block": strings.Repeat("- ", 100000), "objects": strings.Repeat(`{"a":`, 50000),
	} {
		if p := chains.Lint(what, []byte(text), builtin.WithScripts(goja.New(0))); len(p) == 0 {
			t.Errorf("%s: nesting without end is accepted", what)
		}
	}
}

func TestProblemsAreBounded(t *testing.T) {
	var b strings.Builder
	b.WriteString("name: x\nnodes:\n")
	for range 400 {
		b.WriteString("- {name: a, type: lug}\n")
	}
	p := chains.Lint("f", []byte(b.String()), builtin.WithScripts(goja.New(0)))
	if len(p) != 101 || !strings.Contains(p[100].Text, "more mistakes") {
		t.Errorf("%d problems, the last: %v", len(p), p[len(p)-1])
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("name: x\nnodes:\n- {name: a, type: log}\n"))
	f.Add([]byte(`{"name":"x","nodes":[{"name":"a","type":"delay","config":{"periodInSeconds":5}}]}`))
	f.Add([]byte("a: &x [*x]\n? b\n: |\n  c\n--- !t\n<<: *x"))
	registry := builtin.WithScripts(goja.New(0))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := chains.Parse("f", data)
		chains.Lint("f", data, registry)
		if err != nil {
			return
		}
		again, err := chains.Parse("f", chains.Print(d))
		if err != nil || !reflect.DeepEqual(exported(again), exported(d)) {
			t.Errorf("%q is printed as %q: %v", data, chains.Print(d), err)
		}
	})
}

// A run of the standard chain with any data neither panics nor changes its message.
func FuzzRun(f *testing.F) {
	f.Add(nodes.PostTelemetry, []byte(`{"a":1}`))
	f.Add(nodes.CallToDevice, []byte(`{"method":"m","params":{}}`))
	f.Add("X", []byte("\xff"))
	d, err := chains.Parse("root", standard.Root)
	if err != nil {
		f.Fatal(err)
	}
	p, err := chains.Compile(d, builtin.WithScripts(goja.New(0)), uuid.Nil, 1)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, typ string, data []byte) {
		before := string(data)
		env := chains.Env{
			Read: func([]nodes.Key) (nodes.Values, bool) { return nil, true },
			Ask: func(nodes.Msg, nodes.Ask, chains.Place, bool) (nodes.Answer, chains.Disposition) {
				return nil, chains.Drop
			},
		}
		res := p.Run(env, nodes.Msg{Type: typ, Originator: originator, Data: nodes.Raw(data)})
		if res.Steps < 1 || res.Steps > 2 || string(data) != before {
			t.Errorf("%d steps, data %q", res.Steps, data)
		}
	})
}
