package docs_test

import (
	"encoding/json"
	"go/ast"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"callchain/chains"
	"callchain/cmd/callchain/settings"
	"callchain/engine/projection"
	"callchain/engine/rpc"

	"github.com/goccy/go-yaml"
	"github.com/google/uuid"
)

// payloadSchema is the stored form of rpc.Payload, which marshals itself.
var payloadSchema = map[string]any{
	"type": "object", "maxProperties": 1, "additionalProperties": false, "description": "What a device or a chain answered: nothing, or one of these.",
	"properties": map[string]any{
		"json":   map[string]any{"description": "JSON, as it was sent."},
		"text":   map[string]any{"type": "string", "description": "Text that is not JSON."},
		"base64": map[string]any{"type": "string", "contentEncoding": "base64", "description": "Bytes that are not UTF-8."},
	},
}

// plain are the schemas of types that marshal themselves, or whose numbers have a meaning.
var plain = map[reflect.Type]map[string]any{
	reflect.TypeFor[uuid.UUID]():       {"type": "string", "format": "uuid"},
	reflect.TypeFor[json.RawMessage](): {},
	reflect.TypeFor[[]byte]():          {"type": "string", "contentEncoding": "base64"},
	reflect.TypeFor[rpc.Instant]():     {"type": "integer", "description": "Microseconds since 1970."},
	reflect.TypeFor[projection.Time](): {"type": "string", "format": "date-time", "description": "RFC 3339 with six decimals, in UTC."},
	reflect.TypeFor[rpc.Payload]():     {"$ref": "#/$defs/Payload"},
	reflect.TypeFor[rpc.Order]():       {"type": "integer", "enum": []int{0, 1, 2, 3}, "description": "0: the device's default; 1: at once; 2: after the acknowledgement of the call before; 3: after its end."},
	reflect.TypeFor[rpc.Direction]():   {"type": "integer", "enum": []int{0, 1}},
	reflect.TypeFor[chains.Token]():    {"type": "object", "description": "What the run needs to go on. It is the server's own; others should not rely on its form."},
}

// schemaWriter makes JSON Schema of Go types. The descriptions are the comments of the sources.
type schemaWriter struct {
	comments map[string]string // by package.Type or package.Type.Field
	defs     map[string]any
	strict   bool
}

func (w *schemaWriter) readComments(t *testing.T, dir string) {
	t.Helper()
	for _, f := range sources(t, dir) {
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, s := range g.Specs {
				if ts, ok := s.(*ast.TypeSpec); ok {
					w.comment(f.Name.Name+"."+ts.Name.Name, ts, g.Doc)
				}
			}
		}
	}
}

func (w *schemaWriter) comment(key string, ts *ast.TypeSpec, doc *ast.CommentGroup) {
	w.comments[key] = sentence(doc.Text())
	body, ok := ts.Type.(*ast.StructType)
	if !ok {
		return
	}
	for _, f := range body.Fields.List {
		text := f.Comment.Text()
		if text == "" {
			text = f.Doc.Text()
		}
		for _, name := range f.Names {
			w.comments[key+"."+name.Name] = sentence(text)
		}
	}
}

// sentence is a comment on one line.
func sentence(text string) string { return strings.Join(strings.Fields(text), " ") }

// object is the schema of a struct; reflect names its type as the comments are kept, package.Type.
func (w *schemaWriter) object(t *testing.T, v any) map[string]any {
	t.Helper()
	typ := reflect.TypeOf(v)
	properties, required := map[string]any{}, []string{}
	for i := range typ.NumField() {
		f := typ.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" {
			t.Fatalf("%s.%s has no name in JSON", typ, f.Name)
		}
		s := w.value(t, f.Type)
		if text := w.comments[typ.String()+"."+f.Name]; text != "" {
			if own, ok := s["description"].(string); ok {
				text += ". " + own
			}
			s["description"] = text
		}
		properties[name] = s
		if !strings.HasPrefix(options, "omit") {
			required = append(required, name)
		}
	}
	out := map[string]any{"type": "object", "description": w.comments[typ.String()], "properties": properties}
	if len(required) > 0 {
		out["required"] = required
	}
	if w.strict {
		out["additionalProperties"] = false
	}
	return out
}

// value is the schema of a field, a map of its own.
func (w *schemaWriter) value(t *testing.T, typ reflect.Type) map[string]any {
	t.Helper()
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	out := map[string]any{}
	if s, ok := plain[typ]; ok {
		for k, v := range s {
			out[k] = v
		}
		return out
	}
	switch typ.Kind() {
	case reflect.String:
		out["type"] = "string"
	case reflect.Bool:
		out["type"] = "boolean"
	case reflect.Int, reflect.Int16, reflect.Int32, reflect.Int64:
		out["type"] = "integer"
	default:
		t.Fatalf("there is no schema for %s: add it to plain", typ)
	}
	return out
}

func readYAML(t *testing.T, page string) any {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, page))
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := yaml.Unmarshal(text, &out); err != nil {
		t.Fatalf("%s: %v", page, err)
	}
	return out
}

// at is the value at a path of keys.
func at(t *testing.T, v any, path ...string) any {
	t.Helper()
	for i, key := range path {
		m, ok := v.(map[string]any)
		if !ok || m[key] == nil {
			t.Fatalf("there is nothing at %s", strings.Join(path[:i+1], "."))
		}
		v = m[key]
	}
	return v
}

// defaultPartitions is the default of the setting partitions.
func defaultPartitions(t *testing.T) string {
	t.Helper()
	f, ok := reflect.TypeFor[settings.Settings]().FieldByName("Partitions")
	if !ok {
		t.Fatal("there is no setting partitions")
	}
	return f.Tag.Get("default")
}
