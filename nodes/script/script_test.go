package script_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"callchain/nodes"
	"callchain/nodes/script"
)

// fixed is an engine whose scripts all give the same.
type fixed struct {
	value any
	err   error
}

func (f fixed) Compile(_ script.Lang, body string) (script.Script, error) {
	if body == "wrong" {
		return nil, &script.SyntaxError{Line: 2, Column: 3, Text: "bad"}
	}
	return f, nil
}

func (f fixed) Run(nodes.Msg, string) (any, error) { return f.value, f.err }

func function(t *testing.T, e script.Engine) script.Function {
	t.Helper()
	f, err := script.Config{JS: "return 1;"}.Compile(e)
	if err != nil {
		t.Fatal(err)
	}
	return f.Named("n")
}

func came() nodes.Msg {
	return nodes.Msg{Type: "T", Metadata: nodes.Metadata{"a": "1", "b": "2"}, Data: nodes.Raw([]byte(`{ "t": 1.0 }`))}
}

func TestMessages(t *testing.T) {
	m := came()
	same, err := m.Data.Value()
	if err != nil {
		t.Fatal(err)
	}
	many := make([]any, script.MessagesMax+1)
	for i := range many {
		many[i] = map[string]any{}
	}
	for _, c := range []struct {
		gives any
		want  string
	}{
		{map[string]any{}, `T map[a:1 b:2] { "t": 1.0 }`},
		{map[string]any{"msg": same, "metadata": m.Metadata, "msgType": "U"}, `U map[a:1 b:2] { "t": 1.0 }`},
		{map[string]any{"msg": map[string]any{"t": 1.0}}, `T map[a:1 b:2] {"t":1}`},
		{map[string]any{"msg": nil, "other": true}, `T map[a:1 b:2] null`},
		{map[string]any{"msg": "x", "metadata": nil, "msgType": nil}, `T map[a:1 b:2] "x"`},
		{map[string]any{"metadata": map[string]any{"n": int64(5), "x": nil, "o": map[string]any{"k": true}, "f": 0.5}}, `T map[f:0.5 n:5 o:{"k":true}] { "t": 1.0 }`},
		{[]any{map[string]any{"msgType": "A"}, map[string]any{"msg": int64(2)}}, `A map[a:1 b:2] { "t": 1.0 }; T map[a:1 b:2] 2`},
		{[]any{}, `the script of node "n" gave an empty list: there is no message to send on`},
		{many, `the script of node "n" gave 501 messages, more than 500`},
		{script.Undefined{}, `Wrong result type: the script of node "n" must give an object {msg, metadata, msgType} or a list of them, but gave nothing: it lacks a return`},
		{nil, `Wrong result type: the script of node "n" must give an object {msg, metadata, msgType} or a list of them, but gave null`},
		{[]any{true}, `Wrong result type: the script of node "n" must give an object {msg, metadata, msgType} or a list of them, but gave true`},
		{map[string]any{"metadata": []any{}}, `Wrong result type: the script of node "n" must give metadata that is an object, but gave a list`},
		{map[string]any{"msgType": 1.5}, `Wrong result type: the script of node "n" must give a msgType that is a text, but gave the number 1.5`},
		{map[string]any{"msgType": ""}, `the script of node "n" gave an empty msgType`},
	} {
		got, err := function(t, fixed{value: c.gives}).Messages(m)
		shown := fmt.Sprint(err)
		if err == nil {
			var all []string
			for _, m := range got {
				data, err := m.Data.Bytes()
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, fmt.Sprintf("%s %v %s", m.Type, m.Metadata, data))
			}
			shown = strings.Join(all, "; ")
		}
		if shown != c.want {
			t.Errorf("%v:\n%s\nwant\n%s", c.gives, shown, c.want)
		}
	}
}

func TestBoolTextAndRelations(t *testing.T) {
	names := make([]any, script.RelationsMax+1)
	for i := range names {
		names[i] = fmt.Sprint(i)
	}
	for _, c := range []struct{ gives, truth, text, any, relations any }{
		{true, true, "gave true", "true", "gave true"},
		{"a", "gave a text", "a", "a", "[a]"},
		{int64(1), "gave the number 1", "gave the number 1", "1", "gave the number 1"},
		{script.Undefined{}, "lacks a return", "lacks a return", "lacks a return", "lacks a return"},
		{[]any{"a", "b", "a"}, "gave a list", "gave a list", `["a","b","a"]`, "[a b]"},
		{[]any{}, "gave a list", "gave a list", "[]", "[]"},
		{[]any{"a", ""}, "gave a list", "gave a list", `["a",""]`, "has no name"},
		{names, "gave a list", "gave a list", `["0","1"`, "names 51 relations, more than 50"},
	} {
		f := function(t, fixed{value: c.gives})
		b, err := f.Bool(came())
		expect(t, c.gives, c.truth, b, err)
		s, err := f.Text(came())
		expect(t, c.gives, c.text, s, err)
		s, err = f.AnyText(came())
		expect(t, c.gives, c.any, s, err)
		r, err := f.Relations(came())
		expect(t, c.gives, c.relations, r, err)
	}
}

func expect(t *testing.T, gives, want, got any, err error) {
	t.Helper()
	text := fmt.Sprint(got)
	if err != nil {
		text = err.Error()
	}
	if !strings.Contains(text, fmt.Sprint(want)) {
		t.Errorf("%v: %s; want %v", gives, text, want)
	}
}

func TestErrorsNameTheNode(t *testing.T) {
	for want, err := range map[string]error{
		`Error: x (line 2, column 5 of the script of node "n")`:                      &script.Thrown{Text: "Error: x", Line: 2, Column: 5},
		`Error: x (the script of node "n")`:                                          &script.Thrown{Text: "Error: x"},
		`budget_exceeded: the script of node "n" ran longer than its budget of 50ms`: &script.Excess{Budget: 50 * time.Millisecond},
		`budget_exceeded: the script of node "n" is suspended until 1970-01-01T00:01:00Z, because it exceeded its budget of 50ms three times in a minute`: &script.Excess{Budget: 50 * time.Millisecond, Until: 60_000_000},
		`the script of node "n": too large`: errors.New("too large"),
	} {
		if _, got := function(t, fixed{err: err}).Bool(came()); got == nil || got.Error() != want {
			t.Errorf("%v; want %s", got, want)
		}
	}
}

func TestConfig(t *testing.T) {
	for _, c := range []struct {
		config script.Config
		want   string
	}{
		{script.Config{JS: "a"}, "JS jsScript a"},
		{script.Config{JS: "a", TBEL: "b"}, "JS jsScript a"},
		{script.Config{TBEL: "b"}, "TBEL tbelScript b"},
		{script.Config{Lang: "TBEL", JS: "a", TBEL: "b"}, "TBEL tbelScript b"},
		{script.Config{Lang: "JS", TBEL: "b"}, "JS jsScript "},
	} {
		lang, body, field := c.config.Chosen()
		if got := fmt.Sprintf("%s %s %s", lang, field, body); got != c.want {
			t.Errorf("%+v: %s, want %s", c.config, got, c.want)
		}
	}
	for want, c := range map[string]script.Config{
		"tbelScript: the script is empty":                {},
		"jsScript: the script is empty":                  {Lang: "JS", TBEL: "return 1;"},
		"jsScript: the script has 50001 bytes":           {JS: strings.Repeat(" ", script.BodyMax) + "1"},
		"jsScript: bad (line 2, column 3 of the script)": {JS: "wrong"},
	} {
		if _, err := c.Compile(fixed{}); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v; want %s", err, want)
		}
	}
}
