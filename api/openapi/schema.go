// Package openapi makes an OpenAPI 3.1 document of what a table of routes and the Go types of their bodies say.
//
// It knows JSON, Go types and the form of the document. It must not know what the routes do.
package openapi

import (
	"fmt"
	"reflect"
	"strings"
	"unicode"
)

// Schema is a JSON Schema (draft 2020-12), as OpenAPI 3.1 uses it.
type Schema = map[string]any

// AnyOf are values of types of which one is meant.
type AnyOf []any

// Types makes schemas of Go types. Structs that have a name become components, which others refer to.
type Types struct {
	// Fixed are schemas of types that marshal themselves, or whose values are few.
	Fixed map[reflect.Type]Schema
	// Names are names of components that the Go name does not tell well.
	Names map[reflect.Type]string

	components map[string]Schema
	made       map[string]reflect.Type
}

// side tells which way a body goes. What a server answers has all its fields; what a client sends may leave any out, or say null.
type side bool

const (
	answered side = false
	asked    side = true
)

// of is the schema of a value: of itself if it is a Schema, else of its type.
func (t *Types) of(v any, s side) Schema {
	switch own := v.(type) {
	case Schema:
		return own
	case AnyOf:
		var all []any
		for _, one := range own {
			all = append(all, t.of(one, s))
		}
		return Schema{"anyOf": all}
	}
	return t.schema(reflect.TypeOf(v), s)
}

func (t *Types) schema(g reflect.Type, s side) Schema {
	if own, ok := t.Fixed[g]; ok {
		return own
	}
	switch g.Kind() {
	case reflect.Pointer:
		return nullable(t.schema(g.Elem(), s))
	case reflect.Struct:
		return t.object(g, s)
	case reflect.Slice, reflect.Array:
		return Schema{"type": "array", "items": t.schema(g.Elem(), s)}
	case reflect.Map:
		return Schema{"type": "object", "additionalProperties": t.schema(g.Elem(), s)}
	case reflect.Interface:
		return Schema{}
	}
	return scalar(g)
}

func scalar(g reflect.Type) Schema {
	switch k := g.Kind(); {
	case k == reflect.String:
		return Schema{"type": "string"}
	case k == reflect.Bool:
		return Schema{"type": "boolean"}
	case k >= reflect.Int && k <= reflect.Uint64:
		return Schema{"type": "integer"}
	case k == reflect.Float32 || k == reflect.Float64:
		return Schema{"type": "number"}
	}
	panic(fmt.Sprintf("openapi: no schema for %s; name one in Types.Fixed", g))
}

// nullable is the schema that also takes null.
func nullable(s Schema) Schema {
	if kind, ok := s["type"].(string); ok && s["enum"] == nil {
		out := Schema{}
		for k, v := range s {
			out[k] = v
		}
		out["type"] = []any{kind, "null"}
		return out
	}
	if len(s) == 0 || takesNull(s) {
		return s
	}
	return Schema{"anyOf": []any{s, Schema{"type": "null"}}}
}

func takesNull(s Schema) bool {
	kinds, ok := s["type"].([]any)
	return ok && len(kinds) == 2 || s["anyOf"] != nil
}

// object is a reference to the component of a struct, or the struct's schema if it has no name.
func (t *Types) object(g reflect.Type, s side) Schema {
	if g.Name() == "" {
		return t.fields(g, s)
	}
	name := t.name(g, s)
	if other, known := t.made[name]; known && other != g {
		panic(fmt.Sprintf("openapi: %s and %s are both called %s; tell them apart in Types.Names", g, other, name))
	} else if !known {
		if t.made == nil {
			t.made, t.components = map[string]reflect.Type{}, map[string]Schema{}
		}
		t.made[name] = g
		t.components[name] = t.fields(g, s)
	}
	return Schema{"$ref": "#/components/schemas/" + name}
}

// name is the Go name without "View", with "Body" behind it if it is what a client sends. A generic type is named after its
// parameter, too.
func (t *Types) name(g reflect.Type, s side) string {
	name, ok := t.Names[g]
	if !ok {
		var of string
		name, of, _ = strings.Cut(strings.TrimSuffix(g.Name(), "]"), "[")
		name = capital(strings.TrimSuffix(name, "View"))
		if of != "" {
			name += capital(strings.TrimSuffix(of[strings.LastIndexByte(of, '.')+1:], "View"))
		}
	}
	if s == asked && !strings.HasSuffix(name, "Body") {
		name += "Body"
	}
	return name
}

func capital(s string) string {
	r := []rune(s)
	r[0] = unicode.ToUpper(r[0])
	return string(r)
}

func (t *Types) fields(g reflect.Type, s side) Schema {
	properties, required := Schema{}, []any{}
	t.collect(g, s, properties, &required)
	out := Schema{"type": "object", "properties": properties}
	if len(required) > 0 {
		out["required"] = required
	}
	return out
}

func (t *Types) collect(g reflect.Type, s side, properties Schema, required *[]any) {
	for i := range g.NumField() {
		f := g.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			t.collect(f.Type, s, properties, required)
			continue
		case name == "-" || name == "" && !f.IsExported():
			continue
		case name == "":
			name = f.Name
		}
		one := t.schema(f.Type, s)
		mayMiss := strings.Contains(options, "omit")
		if s == asked {
			one, mayMiss = nullable(one), true
		}
		properties[name] = one
		if !mayMiss {
			*required = append(*required, name)
		}
	}
}
