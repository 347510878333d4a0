package api

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"pgregory.net/rapid"
)

func TestChainsInJSON(t *testing.T) {
	for yaml, want := range map[string]string{
		"name: x\nnodes:\n  - to: {B: 1, A: [true, null, 1.50, \"1\"]}\n": `{"name":"x","nodes":[{"to":{"B":1,"A":[true,null,1.5,"1"]}}]}`,
		`name: "😀 \U0001F600 <&> \e"`:                                     `{"name":"😀 😀 <&> \u001b"}`,
	} {
		got, err := yamlToJSON([]byte(yaml))
		if err != nil || string(got) != want {
			t.Errorf("%s is %s (%v), want %s", yaml, got, err, want)
		}
	}
}

// Whatever text a definition has, it comes out as JSON with that text.
func TestChainsOfAnyTextInJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.String().Draw(t, "text")
		definition, err := yaml.Marshal(map[string]string{"name": name})
		if err != nil {
			t.Skip(err)
		}
		var read map[string]string
		if err := yaml.Unmarshal(definition, &read); err != nil {
			t.Skip(err) // the library cannot read all that it writes
		}
		if read["name"] != name {
			t.Skip("nor as what it was: a tab and a digit become a number")
		}
		text, err := yamlToJSON(definition)
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]string
		if err := json.Unmarshal(text, &got); err != nil || got["name"] != strings.ToValidUTF8(read["name"], "\ufffd") {
			t.Fatalf("%q: %v in %s", definition, err, text)
		}
	})
}
