package nodes

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// Field is one field of a config, as the tags of its struct tell.
type Field struct {
	Name     string
	Doc      string
	Default  any // as ParseJSON gives it; nil if there is none
	Required bool
	Min, Max *float64
	Enum     []string

	index int
	typ   reflect.Type
}

// Fields are the fields of the kind's config in the order of its struct.
func (k Kind) Fields() []Field { return fieldsOf(k.config) }

func fieldsOf(t reflect.Type) []Field {
	out := make([]Field, 0, t.NumField())
	for i := range t.NumField() {
		sf := t.Field(i)
		f := Field{Name: sf.Tag.Get("json"), Doc: sf.Tag.Get("doc"), Required: sf.Tag.Get("required") == "true", index: i, typ: sf.Type}
		if f.Name == "" || !sf.IsExported() {
			panic(fmt.Sprintf("nodes: %s.%s has no json tag or is not exported", t, sf.Name))
		}
		if e := sf.Tag.Get("enum"); e != "" {
			f.Enum = strings.Split(e, "|")
		}
		f.Min, f.Max = bound(sf, "min"), bound(sf, "max")
		if text, ok := sf.Tag.Lookup("default"); ok {
			f.Default = defaultOf(sf, text)
		}
		out = append(out, f)
	}
	return out
}

func bound(sf reflect.StructField, tag string) *float64 {
	text, ok := sf.Tag.Lookup(tag)
	if !ok {
		return nil
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		panic(fmt.Sprintf("nodes: the %s of config field %s is no number: %q", tag, sf.Name, text))
	}
	return &n
}

func defaultOf(sf reflect.StructField, text string) any {
	t := sf.Type
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() == reflect.String || t == reflect.TypeFor[uuid.UUID]() {
		return text
	}
	v, err := ParseJSON([]byte(text))
	if err != nil {
		panic(fmt.Sprintf("nodes: the default of config field %s is no JSON: %q", sf.Name, text))
	}
	return v
}

// TypeName is the field's type in the words of JSON Schema, a list as "list of string".
func (f Field) TypeName() string { return typeName(f.typ) }

func typeName(t reflect.Type) string {
	if t == reflect.TypeFor[uuid.UUID]() {
		return "string"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return typeName(t.Elem())
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "boolean"
	case reflect.Int, reflect.Int32, reflect.Int64:
		return "integer"
	case reflect.Float64:
		return "number"
	case reflect.Slice:
		return "list of " + typeName(t.Elem())
	case reflect.Map, reflect.Struct:
		return "object"
	}
	return "any"
}

// Schema is the JSON Schema (draft 2020-12) of the kind's config.
func (k Kind) Schema() map[string]any { return schemaOf(k.config) }

func schemaOf(t reflect.Type) map[string]any {
	props := map[string]any{}
	var required []any
	for _, f := range fieldsOf(t) {
		s := typeSchema(f.typ, f)
		if f.Doc != "" {
			s["description"] = f.Doc
		}
		if f.Default != nil {
			s["default"] = f.Default
		}
		props[f.Name] = s
		if f.Required {
			required = append(required, f.Name)
		}
	}
	out := map[string]any{"type": "object", "properties": props, "additionalProperties": false}
	if required != nil {
		out["required"] = required
	}
	return out
}

func typeSchema(t reflect.Type, f Field) map[string]any {
	if t == reflect.TypeFor[uuid.UUID]() {
		return map[string]any{"type": "string", "format": "uuid"}
	}
	s := map[string]any{}
	low, high := "minimum", "maximum"
	switch t.Kind() {
	case reflect.Pointer:
		return typeSchema(t.Elem(), f)
	case reflect.Interface:
		return s
	case reflect.Struct:
		return schemaOf(t)
	case reflect.Slice:
		s["type"], low, high = "array", "minItems", "maxItems"
		s["items"] = typeSchema(t.Elem(), Field{Enum: f.Enum})
		f.Enum = nil
	case reflect.Map:
		s["type"], low, high = "object", "minProperties", "maxProperties"
		s["additionalProperties"] = typeSchema(t.Elem(), Field{})
	case reflect.String:
		s["type"], low, high = "string", "minLength", "maxLength"
	default:
		s["type"] = typeName(t)
	}
	if len(f.Enum) > 0 {
		s["enum"] = asList(f.Enum)
	}
	if f.Min != nil {
		s[low] = *f.Min
	}
	if f.Max != nil {
		s[high] = *f.Max
	}
	return s
}

func asList(texts []string) []any {
	out := make([]any, len(texts))
	for i, t := range texts {
		out[i] = t
	}
	return out
}
