package nodes

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"
)

// Problem is one mistake in a config. Path leads to it from the config: keys, and indexes as digits.
type Problem struct {
	Path []string
	Text string
}

// ConfigError tells all mistakes that a config has.
type ConfigError struct{ Problems []Problem }

// Error is all problems, separated by semicolons.
func (e *ConfigError) Error() string {
	texts := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		texts[i] = p.Text
		if len(p.Path) > 0 {
			texts[i] = strings.Join(p.Path, ".") + ": " + p.Text
		}
	}
	return strings.Join(texts, "; ")
}

// Wrong is the error of a constructor that refuses the value of a field. The path is dotted: "metadata.room".
func Wrong(path, format string, args ...any) error {
	return &ConfigError{Problems: []Problem{{Path: strings.Split(path, "."), Text: fmt.Sprintf(format, args...)}}}
}

func asConfigError(err error) error {
	if ce, ok := errors.AsType[*ConfigError](err); ok {
		return ce
	}
	return &ConfigError{Problems: []Problem{{Text: err.Error()}}}
}

// decoder fills a config struct and collects what is wrong.
type decoder struct{ problems []Problem }

func (d *decoder) wrong(path []string, format string, args ...any) {
	d.problems = append(d.problems, Problem{Path: slices.Clone(path), Text: fmt.Sprintf(format, args...)})
}

// object fills a struct. A field that is left out or null gets its default.
func (d *decoder) object(target reflect.Value, given map[string]any, path []string) {
	fields := fieldsOf(target.Type())
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.Name
		at := append(path[:len(path):len(path)], f.Name)
		switch v := given[f.Name]; {
		case v != nil:
			d.set(target.Field(f.index), v, f, at)
		case f.Required:
			d.wrong(path, "field %q is missing; it is required", f.Name)
		default:
			d.preset(target.Field(f.index), f, at)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(given)) {
		if !slices.Contains(names, key) {
			d.wrong(append(path[:len(path):len(path)], key), "unknown field %q%s", key, hint(key, names))
		}
	}
}

// preset sets the default of a field; a struct without one still has the defaults of its own fields.
func (d *decoder) preset(target reflect.Value, f Field, path []string) {
	switch {
	case f.Default != nil:
		d.set(target, f.Default, f, path)
	case target.Kind() == reflect.Struct:
		d.object(target, nil, path)
	}
}

func (d *decoder) set(target reflect.Value, v any, f Field, path []string) {
	if target.Type() == reflect.TypeFor[uuid.UUID]() {
		d.setID(target, v, path)
		return
	}
	switch target.Kind() {
	case reflect.Pointer:
		target.Set(reflect.New(target.Type().Elem()))
		d.set(target.Elem(), v, f, path)
	case reflect.Interface:
		target.Set(reflect.ValueOf(v))
	case reflect.String:
		d.setText(target, v, f, path)
	case reflect.Bool:
		if b, ok := v.(bool); ok {
			target.SetBool(b)
			return
		}
		d.wrong(path, "is %s, but must be true or false", describe(v))
	case reflect.Int, reflect.Int32, reflect.Int64, reflect.Float64:
		d.setNumber(target, v, f, path)
	case reflect.Slice:
		d.setList(target, v, f, path)
	case reflect.Map:
		d.setMap(target, v, f, path)
	case reflect.Struct:
		if o, ok := v.(map[string]any); ok {
			d.object(target, o, path)
			return
		}
		d.wrong(path, "is %s, but must be an object", describe(v))
	default:
		panic(fmt.Sprintf("nodes: config field %s has the type %s, which no chain can give", f.Name, target.Type()))
	}
}

func (d *decoder) setID(target reflect.Value, v any, path []string) {
	text, ok := v.(string)
	if !ok {
		d.wrong(path, "is %s, but must be a UUID", describe(v))
		return
	}
	id, err := uuid.Parse(text)
	if err != nil {
		d.wrong(path, "%q is not a UUID", text)
		return
	}
	target.Set(reflect.ValueOf(id))
}

func (d *decoder) setText(target reflect.Value, v any, f Field, path []string) {
	s, ok := v.(string)
	if !ok {
		d.wrong(path, "is %s, but must be text", describe(v))
		return
	}
	if len(f.Enum) > 0 && !slices.Contains(f.Enum, s) {
		d.wrong(path, "%q is not one of %s%s", s, strings.Join(f.Enum, ", "), hint(s, f.Enum))
		return
	}
	d.bounds(float64(utf8.RuneCountInString(s)), f, path, "characters")
	target.SetString(s)
}

func (d *decoder) setNumber(target reflect.Value, v any, f Field, path []string) {
	whole, isWhole := v.(int64)
	number, isNumber := v.(float64)
	switch {
	case isWhole:
		number = float64(whole)
	case isNumber && number == math.Trunc(number) && math.Abs(number) < 1<<53:
		whole, isWhole = int64(number), true
	}
	switch {
	case !isWhole && !isNumber:
		d.wrong(path, "is %s, but must be a number", describe(v))
	case target.CanFloat():
		d.bounds(number, f, path, "")
		target.SetFloat(number)
	case !isWhole || target.OverflowInt(whole):
		d.wrong(path, "is %v, but must be a whole number", v)
	default:
		d.bounds(number, f, path, "")
		target.SetInt(whole)
	}
}

func (d *decoder) setList(target reflect.Value, v any, f Field, path []string) {
	list, ok := v.([]any)
	if !ok {
		d.wrong(path, "is %s, but must be a list", describe(v))
		return
	}
	d.bounds(float64(len(list)), f, path, "items")
	item := Field{Name: f.Name, Enum: f.Enum}
	target.Set(reflect.MakeSlice(target.Type(), len(list), len(list)))
	for i, v := range list {
		d.set(target.Index(i), v, item, append(path[:len(path):len(path)], strconv.Itoa(i)))
	}
}

func (d *decoder) setMap(target reflect.Value, v any, f Field, path []string) {
	o, ok := v.(map[string]any)
	if !ok {
		d.wrong(path, "is %s, but must be an object", describe(v))
		return
	}
	d.bounds(float64(len(o)), f, path, "entries")
	target.Set(reflect.MakeMapWithSize(target.Type(), len(o)))
	for _, k := range slices.Sorted(maps.Keys(o)) {
		item := reflect.New(target.Type().Elem()).Elem()
		d.set(item, o[k], Field{Name: k}, append(path[:len(path):len(path)], k))
		target.SetMapIndex(reflect.ValueOf(k), item)
	}
}

func (d *decoder) bounds(n float64, f Field, path []string, unit string) {
	if unit != "" {
		unit = " " + unit
	}
	if f.Min != nil && n < *f.Min {
		d.wrong(path, "has %v%s, fewer than %v", n, unit, *f.Min)
	}
	if f.Max != nil && n > *f.Max {
		d.wrong(path, "has %v%s, more than %v", n, unit, *f.Max)
	}
}

// describe names a value in the words of a chain's file.
func describe(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		return "the text " + strconv.Quote(v)
	case bool:
		return strconv.FormatBool(v)
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	}
	return fmt.Sprintf("the number %v", v)
}
