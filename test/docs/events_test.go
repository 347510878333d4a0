package docs_test

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"callchain/engine/deadletter"
	"callchain/engine/owner"
	"callchain/engine/projection"
	"callchain/engine/relay"
	"callchain/engine/rpc"
	"callchain/engine/step"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

const eventSchemaPage = "docs/events.schema.json"

// engineFacts are the facts that the engine makes itself, beside those of calls, devices and runs.
var engineFacts = map[string]any{"Carried": owner.Carried{}, "CommandRejected": deadletter.CommandRejected{}, "DeadLetterRerun": deadletter.DeadLetterRerun{}, "DeadLetterDropped": deadletter.DeadLetterDropped{}}

// TestGeneratedEventSchema compares the schema of events with the types of the code.
func TestGeneratedEventSchema(t *testing.T) {
	want := eventSchema(t, false)
	switch got, err := os.ReadFile(filepath.Join(root, eventSchemaPage)); {
	case err == nil && bytes.Equal(got, want):
	case *rewrite:
		if err := os.WriteFile(filepath.Join(root, eventSchemaPage), want, 0o644); err != nil {
			t.Error(err)
		}
	default:
		t.Errorf("%s is not what the code says: go test ./test/docs -run Generated -rewrite", eventSchemaPage)
	}
}

// eventSchema is the JSON Schema of the values in the topic of events. The strict one refuses properties that it does not know; readers must
// not: fields are added over time.
func eventSchema(t *testing.T, strict bool) []byte {
	t.Helper()
	w := &schemaWriter{comments: map[string]string{}, defs: map[string]any{"Payload": payloadSchema}, strict: strict}
	for _, dir := range []string{"engine/rpc", "engine/step", "engine/projection", "engine/deadletter", "engine/owner"} {
		w.readComments(t, dir)
	}
	facts := eventFacts(t)
	names := slices.Sorted(maps.Keys(facts))
	var cases []any
	for _, name := range names {
		w.defs[name] = w.object(t, facts[name])
		cases = append(cases, map[string]any{
			"if":   map[string]any{"properties": map[string]any{"type": map[string]any{"const": name}}},
			"then": map[string]any{"properties": map[string]any{"data": map[string]any{"$ref": "#/$defs/" + name}}},
		})
	}
	event := w.object(t, projection.Event{})
	properties := event["properties"].(map[string]any)
	properties["type"] = map[string]any{"type": "string", "enum": names, "description": "What happened; it says what data is."}
	properties["data"] = map[string]any{"type": "object", "description": "The content of the fact, by its type."}
	properties["hash"].(map[string]any)["pattern"] = "^[0-9a-f]{64}$"
	properties["trace"].(map[string]any)["pattern"] = "^[0-9a-f]{32}$"
	maps.Copy(event, map[string]any{
		"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "An event of Callchain", "allOf": cases, "$defs": w.defs,
		"$comment": "Written by: go test ./test/docs -run Generated -rewrite",
	})
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(event); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// eventFacts are all facts by their stored name. What the sources declare decides, so that a new one cannot be left out.
func eventFacts(t *testing.T) map[string]any {
	t.Helper()
	out := maps.Clone(engineFacts)
	for _, name := range typesWith(t, "engine/rpc", "isFact") {
		f, err := rpc.DecodeFact(name, rpc.DataVersion, []byte("{}"))
		if err != nil {
			t.Fatal(err)
		}
		out[name] = f
	}
	for _, name := range typesWith(t, "engine/step", "isRunFact") {
		if name == "RunParked" { // there is none without a question
			out[name] = step.RunParked{}
			continue
		}
		f, err := step.DecodeRunFact(name, rpc.DataVersion, []byte("{}"))
		if err != nil {
			t.Fatal(err)
		}
		out[name] = f
	}
	return out
}

// sources are the files of a package without its tests.
func sources(t *testing.T, dir string) []*ast.File {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
	if err != nil || len(names) == 0 {
		t.Fatalf("%s has no sources: %v", dir, err)
	}
	var out []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, f)
	}
	return out
}

// typesWith are the types of a package that have a method.
func typesWith(t *testing.T, dir, method string) []string {
	t.Helper()
	var out []string
	for _, f := range sources(t, dir) {
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv != nil && fn.Name.Name == method {
				out = append(out, fn.Recv.List[0].Type.(*ast.Ident).Name)
			}
		}
	}
	if len(out) == 0 {
		t.Fatalf("%s has no type with %s", dir, method)
	}
	return out
}

// TestEventsOfTheEngineAreKnown: whoever has the engine make a fact of a new type must document it here.
func TestEventsOfTheEngineAreKnown(t *testing.T) {
	found := map[string]bool{}
	for _, f := range sources(t, "engine/owner") {
		ast.Inspect(f, func(n ast.Node) bool {
			lit, ok := n.(*ast.CompositeLit)
			if !ok || !isEventType(lit.Type) {
				return true
			}
			for _, e := range lit.Elts {
				if kv, ok := e.(*ast.KeyValueExpr); ok && kv.Key.(*ast.Ident).Name == "Type" {
					if text, ok := kv.Value.(*ast.BasicLit); ok {
						found[strings.Trim(text.Value, `"`)] = true
					}
				}
			}
			return true
		})
	}
	if got, want := slices.Sorted(maps.Keys(found)), slices.Sorted(maps.Keys(engineFacts)); !slices.Equal(got, want) {
		t.Errorf("the engine stores events of the types %v, documented are %v", got, want)
	}
}

func isEventType(e ast.Expr) bool {
	s, ok := e.(*ast.SelectorExpr)
	return ok && s.Sel.Name == "Event" && s.X.(*ast.Ident).Name == "eventstore"
}

// TestStoredExamplesFitTheSchema holds what was really stored against the schema, without room for fields that it does not name.
func TestStoredExamplesFitTheSchema(t *testing.T) {
	schema := compileSchema(t, eventSchema(t, true))
	seen := map[string]bool{}
	for _, pattern := range []string{"engine/rpc/testdata/events/*.json", "engine/step/testdata/events/*.json"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(files), err)
		}
		for _, file := range files {
			name, _, _ := strings.Cut(filepath.Base(file), ".")
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			seen[name] = true
			if err := schema.Validate(eventWith(t, name, data)); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		}
	}
	for name, fact := range engineFacts {
		data, err := json.Marshal(fact)
		if err != nil {
			t.Fatal(err)
		}
		seen[name] = true
		if err := schema.Validate(eventWith(t, name, data)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name := range eventFacts(t) {
		if !seen[name] {
			t.Errorf("no stored example of %s was held against the schema", name)
		}
	}
}

// TestSchemaRefuses shows that the schema says something.
func TestSchemaRefuses(t *testing.T) {
	schema := compileSchema(t, eventSchema(t, false))
	if err := schema.Validate(eventWith(t, "Sent", []byte(`{"attempt":1,"later":true}`))); err != nil {
		t.Errorf("a field that comes later: %v", err)
	}
	for name, data := range map[string]string{
		"Invented": `{}`, "Sent": `{}`, "Delivered": `{"evidence":7}`, "Succeeded": `{"response":{"json":1,"text":"x"}}`, "Expired": `[]`, "Queued": `{"wire":"1"}`,
	} {
		if schema.Validate(eventWith(t, name, []byte(data))) == nil {
			t.Errorf("%s with %s fits", name, data)
		}
	}
	bare := eventWith(t, "Removed", []byte("{}")).(map[string]any)
	delete(bare, "seq")
	if schema.Validate(bare) == nil {
		t.Error("an event without seq fits")
	}
}

// eventWith is the value of a message, as a JSON library reads it.
func eventWith(t *testing.T, name string, data []byte) any {
	t.Helper()
	e := projection.Event{
		Stream: "device/1", Began: 1, Version: 1, Seq: 1, Type: name, TypeVersion: 1, At: 1, Occurred: 1, Actor: "system", Cause: "timer",
		Trace: strings.Repeat("0f", 16), Data: data, Hash: strings.Repeat("0f", 32),
	}
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatalf("%s with %s: %v", name, data, err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func compileSchema(t *testing.T, text []byte) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("event.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("event.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// TestAsyncAPINamesTheHeaders compares what the description of the topic says by hand with the code.
func TestAsyncAPINamesTheHeaders(t *testing.T) {
	page := readYAML(t, "docs/asyncapi.yaml")
	headers := at(t, page, "components", "messages", "event", "headers").(map[string]any)
	got := slices.Sorted(maps.Keys(headers["properties"].(map[string]any)))
	want := []string{
		relay.HeaderType, relay.HeaderTypeVersion, relay.HeaderSeq, relay.HeaderTenant, relay.HeaderDevice, relay.HeaderTraceID, "_watermill_message_uuid",
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("docs/asyncapi.yaml names the headers %v, the code writes %v", got, want)
	}
	if got := at(t, page, "components", "messages", "event", "payload", "$ref"); got != "./events.schema.json" {
		t.Errorf("the payload is %v", got)
	}
	if got := at(t, page, "channels", "events", "bindings", "kafka", "partitions"); strconv.Itoa(int(got.(uint64))) != defaultPartitions(t) {
		t.Errorf("the topic has %v partitions, the setting's default is %s", got, defaultPartitions(t))
	}
}
