package chains_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"callchain/chains"
	"callchain/chains/standard"
	"callchain/nodes/builtin"
	"callchain/nodes/script/goja"

	"github.com/goccy/go-yaml"
	"github.com/google/uuid"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

func examples(t *testing.T) map[string][]byte {
	t.Helper()
	out := map[string][]byte{"standard/root.yaml": standard.Root}
	files, err := filepath.Glob("../examples/chains/*.yaml")
	if err != nil || len(files) < 3 {
		t.Fatalf("found %d example chains: %v", len(files), err)
	}
	for _, f := range files {
		if strings.HasSuffix(f, ".test.yaml") {
			continue
		}
		if out[f], err = os.ReadFile(f); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func TestExamplesCompile(t *testing.T) {
	for file, data := range examples(t) {
		if problems := chains.Lint(file, data, builtin.WithScripts(goja.New(0))); problems != nil {
			t.Errorf("%v", problems)
		}
		d, err := chains.Parse(file, data)
		if err != nil {
			t.Fatal(err)
		}
		p, err := chains.Compile(d, builtin.WithScripts(goja.New(0)), uuid.Nil, 3)
		if err != nil || p.Name != d.Name || p.Version != 3 {
			t.Errorf("%s: %+v, %v", file, p, err)
		}
	}
}

// The example is what a new tenant really gets.
func TestRootExampleIsTheStandardChain(t *testing.T) {
	if !bytes.Equal(examples(t)["../examples/chains/root.yaml"], standard.Root) {
		t.Error("examples/chains/root.yaml differs from chains/standard/root.yaml; copy the latter over the former")
	}
}

func compiledSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	text, err := json.Marshal(chains.Schema(builtin.WithScripts(goja.New(0))))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("chain.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("chain.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSchemaAcceptsTheExamples(t *testing.T) {
	schema := compiledSchema(t)
	for file, data := range examples(t) {
		text, err := yaml.YAMLToJSON(data)
		if err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(doc); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func TestSchemaRefuses(t *testing.T) {
	schema := compiledSchema(t)
	for what, text := range map[string]string{
		"no nodes":         `{"name":"x"}`,
		"unknown key":      `{"name":"x","nodes":[{"name":"a","type":"log"}],"frist":"a"}`,
		"unknown type":     `{"name":"x","nodes":[{"name":"a","type":"lgo"}]}`,
		"misspelt field":   `{"name":"x","nodes":[{"name":"a","type":"delay","config":{"periodInSecond":1}}]}`,
		"out of range":     `{"name":"x","nodes":[{"name":"a","type":"delay","config":{"periodInSeconds":-1}}]}`,
		"missing config":   `{"name":"x","nodes":[{"name":"a","type":"filter"}]}`,
		"unknown relation": `{"name":"x","nodes":[{"name":"a","type":"log","to":{"Succes":"b"}}]}`,
	} {
		doc, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if schema.Validate(doc) == nil {
			t.Errorf("%s: accepted %s", what, text)
		}
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(`{"name":"x","nodes":[{"name":"a","type":"log","to":{"success":"b"}}]}`))
	if err != nil || schema.Validate(doc) != nil {
		t.Error("a relation in lower case is refused")
	}
}
