package api

import (
	"bytes"
	"encoding/json"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// allRoutes is the table as the server has it.
func allRoutes(t *testing.T) []route {
	t.Helper()
	s := &server{}
	return s.documented(s.routes(prometheus.NewRegistry()))
}

func TestEveryRouteIsDescribed(t *testing.T) {
	there, said := map[string]bool{}, map[string]string{}
	for tag, list := range described() {
		for name, o := range list {
			if other, twice := said[name]; twice {
				t.Errorf("%s is described in %q and in %q", name, other, tag)
			}
			if said[name] = tag; !strings.HasSuffix(o.Summary, ".") {
				t.Errorf("%s: the summary %q is no sentence", name, o.Summary)
			}
		}
	}
	for _, r := range allRoutes(t) {
		name := r.method + " " + r.path
		if there[name] = true; said[name] == "" {
			t.Errorf("%s is not described: add it to described()", name)
		}
	}
	for name := range said {
		if !there[name] {
			t.Errorf("%s is described, but there is no such route", name)
		}
	}
}

// contract is the document, with which answers are compared.
type contract struct {
	routes   []route
	compiler *jsonschema.Compiler
	mu       sync.Mutex
	schemas  map[string]*jsonschema.Schema
	doc      map[string]any
}

func readContract(t *testing.T, h *house) *contract {
	t.Helper()
	text := h.do("GET", "/api/openapi.json", "", "").Body.Bytes()
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := &contract{routes: allRoutes(t), compiler: jsonschema.NewCompiler(), schemas: map[string]*jsonschema.Schema{}}
	c.compiler.DefaultDraft(jsonschema.Draft2020)
	c.compiler.AssertFormat()
	if err := c.compiler.AddResource("openapi.json", value); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &c.doc); err != nil {
		t.Fatal(err)
	}
	return c
}

// find is the line of the table that a request goes to.
func (c *contract) find(method, path string) (string, bool) {
	path, _, _ = strings.Cut(path, "?")
	best, found := "", false
	for _, r := range c.routes {
		if r.method == method && fits(r.path, path) && (!found || strings.Count(r.path, ":") < strings.Count(best, ":")) {
			best, found = r.path, true
		}
	}
	return best, found
}

func fits(pattern, path string) bool {
	want, got := strings.Split(pattern, "/"), strings.Split(path, "/")
	if len(want) != len(got) {
		return false
	}
	for i := range want {
		if want[i] != got[i] && !strings.HasPrefix(want[i], ":") {
			return false
		}
	}
	return true
}

// check compares an answer with what the document says of it. Requests that go to no route are not its business.
func (c *contract) check(t *testing.T, method, path string, w *httptest.ResponseRecorder) {
	t.Helper()
	pattern, found := c.find(method, path)
	if !found {
		return
	}
	var parts []string
	for part := range strings.SplitSeq(pattern, "/") {
		if name, ok := strings.CutPrefix(part, ":"); ok {
			part = "{" + name + "}"
		}
		parts = append(parts, part)
	}
	at := []string{"paths", strings.Join(parts, "/"), strings.ToLower(method), "responses", strconv.Itoa(w.Code)}
	answer, ok := c.at(at...)
	if !ok {
		t.Errorf("%s %s answered %d, which the document does not have", method, path, w.Code)
		return
	}
	if (w.Code == 429 || w.Code == 503) && w.Header().Get("Retry-After") == "" {
		t.Errorf("%s %s answered %d without Retry-After", method, path, w.Code)
	}
	if w.Body.Len() == 0 {
		if answer["content"] != nil && !strings.Contains(pattern, "/rpc/") { // a device may answer nothing
			t.Errorf("%s %s answered %d without a body", method, path, w.Code)
		}
		return
	}
	form, _, _ := strings.Cut(w.Header().Get("Content-Type"), ";")
	if _, ok := c.at(append(at, "content", form)...); !ok {
		t.Errorf("%s %s answered %d with %q, which the document does not have", method, path, w.Code, form)
		return
	}
	if form == "application/json" {
		c.validate(t, append(at, "content", form, "schema"), w.Body.Bytes())
	}
}

func (c *contract) at(names ...string) (map[string]any, bool) {
	v := c.doc
	for _, name := range names {
		next, ok := v[name].(map[string]any)
		if !ok {
			return nil, false
		}
		v = next
	}
	return v, true
}

var pointer = strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D")

func (c *contract) validate(t *testing.T, at []string, body []byte) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	where := "openapi.json#"
	for _, name := range at {
		where += "/" + pointer.Replace(name)
	}
	schema, ok := c.schemas[where]
	if !ok {
		var err error
		if schema, err = c.compiler.Compile(where); err != nil {
			t.Fatal(err)
		}
		c.schemas[where] = schema
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		t.Errorf("%s: %v in %s", where, err, body)
		return
	}
	if err := schema.Validate(value); err != nil {
		t.Errorf("%s: %v in %s", where, err, body)
	}
}

// TestSchemasAreSchemas: every component compiles, and nothing is referred to that is not there.
func TestSchemasAreSchemas(t *testing.T) {
	c := readContract(t, newHouse(t))
	schemas, ok := c.at("components", "schemas")
	if !ok || len(schemas) < 20 {
		t.Fatalf("%d components", len(schemas))
	}
	for name := range schemas {
		if _, err := c.compiler.Compile("openapi.json#/components/schemas/" + name); err != nil {
			t.Error(err)
		}
	}
	ids := map[string]bool{}
	paths, _ := c.at("paths")
	for path := range paths {
		methods, _ := c.at("paths", path)
		for method := range methods {
			o, _ := c.at("paths", path, method)
			id, _ := o["operationId"].(string)
			if id == "" || ids[id] {
				t.Errorf("%s %s: the operation's id %q is empty or not unique", method, path, id)
			}
			ids[id] = true
		}
	}
}
