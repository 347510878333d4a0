package template_test

import (
	"testing"

	"callchain/nodes"
	"callchain/nodes/internal/template"
)

func TestFill(t *testing.T) {
	m := nodes.Msg{Metadata: nodes.Metadata{"room": "kitchen"}, Data: nodes.Raw([]byte(`{"a":{"b":7},"s":"x","l":[1,2]}`))}
	for text, want := range map[string]string{
		"plain":               "plain",
		"in ${room}":          "in kitchen",
		"${room}/${room}":     "kitchen/kitchen",
		"b=$[a.b] s=$[s]":     "b=7 s=x",
		"$[l]":                "[1,2]",
		"${*} $[*]":           `{"room":"kitchen"} {"a":{"b":7},"s":"x","l":[1,2]}`,
		"${none} $[none.sub]": "${none} $[none.sub]",
		"$[a.b.c]":            "$[a.b.c]",
		"cost $5 ${ open":     "cost $5 ${ open",
		"$":                   "$",
		"${room} $x":          "kitchen $x",
	} {
		if got := template.Fill(text, m); got != want {
			t.Errorf("%q = %q, want %q", text, got, want)
		}
	}
}

func TestFillWithoutData(t *testing.T) {
	if got := template.Fill("$[a] $[*]", nodes.Msg{Data: nodes.Raw([]byte("no json"))}); got != "$[a] no json" {
		t.Errorf("got %q", got)
	}
}
