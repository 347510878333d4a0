package nodes_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"callchain/nodes"

	"github.com/google/uuid"
)

type inner struct {
	Depth int `json:"depth" default:"3" doc:"How deep."`
}

type everything struct {
	Name   string            `json:"name" required:"true" min:"2" max:"5" doc:"A name."`
	Kind   string            `json:"kind" default:"A" enum:"A|B" doc:"A kind."`
	Count  int               `json:"count" default:"7" min:"1" max:"9" doc:"A count."`
	Ratio  float64           `json:"ratio" default:"0.5" doc:"A ratio."`
	On     bool              `json:"on" default:"true" doc:"A switch."`
	ID     uuid.UUID         `json:"id" default:"11111111-1111-4111-8111-111111111111" doc:"An id."`
	List   []string          `json:"list" default:"[\"x\"]" max:"2" doc:"A list."`
	Texts  map[string]string `json:"texts" doc:"Texts."`
	Any    any               `json:"any" doc:"Anything."`
	Maybe  *int64            `json:"maybe" doc:"Perhaps a number."`
	Nested inner             `json:"nested" doc:"More."`
}

// kept is a node that shows the config it was made of.
type kept struct{ everything }

func (kept) Process(m nodes.Msg) nodes.Out { return nodes.Emit(nodes.Success, m) }

func spec(typ string) nodes.Spec {
	return nodes.Spec{
		Type: typ, Class: "org.example." + typ, Category: nodes.Action, Summary: "Does nothing.", Relations: []string{nodes.Success},
		Example: `{"name":"abc"}`,
	}
}

func newKept(c everything) (nodes.Node, error) {
	if c.Name == "bad" {
		return nil, nodes.Wrong("name", "is %s", c.Name)
	}
	return kept{c}, nil
}

func TestConfigDefaults(t *testing.T) {
	n, err := nodes.Define(spec("t"), newKept).New(map[string]any{"name": "abc", "on": nil})
	want := everything{
		Name: "abc", Kind: "A", Count: 7, Ratio: 0.5, On: true, ID: uuid.MustParse("11111111-1111-4111-8111-111111111111"),
		List: []string{"x"}, Nested: inner{3},
	}
	if err != nil || !reflect.DeepEqual(n.(kept).everything, want) {
		t.Errorf("%+v, %v; want %+v", n, err, want)
	}
}

func TestConfigValues(t *testing.T) {
	config, err := nodes.Raw([]byte(`{"name":"abcde","kind":"B","count":9.0,"ratio":2,"on":false,"list":[],"texts":{"a":"b"},
		"any":[1],"maybe":5,"nested":{"depth":4},"id":"22222222-2222-4222-8222-222222222222"}`)).Object()
	if err != nil {
		t.Fatal(err)
	}
	n, err := nodes.Define(spec("t"), newKept).New(config)
	five := int64(5)
	want := everything{
		Name: "abcde", Kind: "B", Count: 9, Ratio: 2, ID: uuid.MustParse("22222222-2222-4222-8222-222222222222"), List: []string{},
		Texts: map[string]string{"a": "b"}, Any: []any{int64(1)}, Maybe: &five, Nested: inner{4},
	}
	if err != nil || !reflect.DeepEqual(n.(kept).everything, want) {
		t.Errorf("%+v, %v; want %+v", n, err, want)
	}
}

func TestConfigProblems(t *testing.T) {
	for text, want := range map[string]string{
		`{}`:                                `field "name" is missing; it is required`,
		`{"name":"a"}`:                      "name: has 1 characters, fewer than 2",
		`{"name":"abcdef"}`:                 "name: has 6 characters, more than 5",
		`{"name":"bad"}`:                    "name: is bad",
		`{"name":7}`:                        "name: is the number 7, but must be text",
		`{"name":"ab","kidn":"A"}`:          `kidn: unknown field "kidn"; did you mean "kind"?`,
		`{"name":"ab","kind":"b"}`:          `kind: "b" is not one of A, B; did you mean "B"?`,
		`{"name":"ab","count":0}`:           "count: has 0, fewer than 1",
		`{"name":"ab","count":1.5}`:         "count: is 1.5, but must be a whole number",
		`{"name":"ab","count":"1"}`:         `count: is the text "1", but must be a number`,
		`{"name":"ab","on":1}`:              "on: is the number 1, but must be true or false",
		`{"name":"ab","id":"x"}`:            `id: "x" is not a UUID`,
		`{"name":"ab","list":"x"}`:          `list: is the text "x", but must be a list`,
		`{"name":"ab","list":["a",true]}`:   "list.1: is true, but must be text",
		`{"name":"ab","list":["","",""]}`:   "list: has 3 items, more than 2",
		`{"name":"ab","texts":{"k":1}}`:     "texts.k: is the number 1, but must be text",
		`{"name":"ab","nested":[]}`:         "nested: is a list, but must be an object",
		`{"name":"ab","nested":{"dpth":1}}`: `nested.dpth: unknown field "dpth"; did you mean "depth"?`,
		`{"count":0,"on":1}`:                `field "name" is missing; it is required; count: has 0, fewer than 1; on: is the number 1, but must be true or false`,
	} {
		config, err := nodes.Raw([]byte(text)).Object()
		if err != nil {
			t.Fatal(err)
		}
		_, err = nodes.Define(spec("t"), newKept).New(config)
		ce, ok := errors.AsType[*nodes.ConfigError](err)
		if !ok || ce.Error() != want {
			t.Errorf("%s: %v; want %s", text, err, want)
		}
	}
}

func TestSchemaAndMarkdown(t *testing.T) {
	k := nodes.Define(spec("t"), newKept)
	s := k.Schema()
	props := s["properties"].(map[string]any)
	for field, want := range map[string]map[string]any{
		"name":  {"type": "string", "minLength": 2.0, "maxLength": 5.0, "description": "A name."},
		"kind":  {"type": "string", "default": "A", "enum": []any{"A", "B"}, "description": "A kind."},
		"count": {"type": "integer", "default": int64(7), "minimum": 1.0, "maximum": 9.0, "description": "A count."},
		"maybe": {"type": "integer", "description": "Perhaps a number."},
		"any":   {"description": "Anything."},
	} {
		if !reflect.DeepEqual(props[field], want) {
			t.Errorf("%s: %v; want %v", field, props[field], want)
		}
	}
	if !reflect.DeepEqual(s["required"], []any{"name"}) || s["additionalProperties"] != false {
		t.Errorf("the schema is open: %v", s)
	}
	for _, want := range []string{"### t\n", "| `count` | integer | `7` | A count. From 1 to 9. |", "| `name` | string | required |", "`org.example.t`"} {
		if !strings.Contains(k.Markdown(), want) {
			t.Errorf("the page lacks %q:\n%s", want, k.Markdown())
		}
	}
}

func TestRegistryPanics(t *testing.T) {
	good := nodes.Define(spec("a"), newKept)
	change := func(f func(*nodes.Spec)) nodes.Kind {
		s := spec("b")
		f(&s)
		return nodes.Define(s, newKept)
	}
	for want, k := range map[string]nodes.Kind{
		`two kinds have the type "a"`: nodes.Define(spec("a"), newKept),
		"two kinds have the class":    change(func(s *nodes.Spec) { s.Class = "org.example.a" }),
		"has no type":                 change(func(s *nodes.Spec) { s.Type = "" }),
		"has no summary":              change(func(s *nodes.Spec) { s.Summary = "" }),
		"has no example":              change(func(s *nodes.Spec) { s.Example = "" }),
		"an example that does not":    change(func(s *nodes.Spec) { s.Example = "{}" }),
		"an example that is no JSON":  change(func(s *nodes.Spec) { s.Example = "[]" }),
		`has the category "x"`:        change(func(s *nodes.Spec) { s.Category = "x" }),
		"emits nothing":               change(func(s *nodes.Spec) { s.Relations = nil }),
		"was not made with Define":    {Spec: spec("b")},
	} {
		func() {
			defer func() {
				if r, ok := recover().(string); !ok || !strings.Contains(r, want) {
					t.Errorf("the panic is %q; want %q", r, want)
				}
			}()
			nodes.NewRegistry(good, k)
			t.Errorf("no panic; want %q", want)
		}()
	}
}

func TestRegistryLookup(t *testing.T) {
	r := nodes.NewRegistry(nodes.Define(spec("b"), newKept), nodes.Define(spec("a"), newKept))
	if got := r.Types(); !reflect.DeepEqual(got, []string{"a", "b"}) {
		t.Errorf("types %v", got)
	}
	if k, ok := r.Lookup("b"); !ok || k.Type != "b" {
		t.Error("b is not found")
	}
	if k, ok := r.LookupClass("org.example.a"); !ok || k.Type != "a" {
		t.Error("the class of a is not found")
	}
	if _, ok := r.Lookup("c"); ok {
		t.Error("c is found")
	}
}

func TestNearest(t *testing.T) {
	words := []string{"timeoutInSeconds", "scope", "log", "rpc call request", "Success"}
	for word, want := range map[string]string{
		"timeoutInSecond": "timeoutInSeconds", "timeout": "timeoutInSeconds", "scpoe": "scope", "SCOPE": "scope", "lgo": "log",
		"succes": "Success", "rpc call": "rpc call request", "quantum": "", "": "", "xy": "",
	} {
		if got := nodes.Nearest(word, words); got != want {
			t.Errorf("%q → %q, want %q", word, got, want)
		}
	}
}
