package expression

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"callchain/nodes"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/vm/runtime"
)

var errBudget = fmt.Errorf("the expression costs too much: it may visit %d values and make %d bytes of text", stepsMax, textMax)

// gone are the built-in functions that read a clock or a zone, or whose cost nothing bounds. Those with a function of ours
// are replaced by it.
var gone = []string{
	"now", "date", "duration", "timezone", "flatten", "uniq", "type",
	"keys", "values", "toPairs", "replace", "repeat", "join", "string", "toJSON", "fromJSON",
}

// budgeted are the functions that get the scope as their first argument; the rewriter turns name into $name.
var budgeted = map[string]bool{"replace": true, "repeat": true, "join": true, "string": true, "toJSON": true}

func options() []expr.Option {
	out := []expr.Option{expr.Env(&Scope{}), expr.MaxNodes(nodesMax)}
	for _, name := range gone {
		out = append(out, expr.DisableBuiltin(name))
	}
	for _, f := range functions {
		name, arity, fn := f.name, f.arity, f.fn
		out = append(out, expr.Function(name, func(args ...any) (any, error) {
			if arity >= 0 && len(args) != arity {
				return nil, fmt.Errorf("%s wants %d arguments, not %d", name, arity, len(args))
			}
			return fn(args...)
		}))
	}
	return out
}

// functions are ours. The scope counts as an argument; an arity of -1 is checked by the function.
var functions = []struct {
	name  string
	arity int
	fn    func(args ...any) (any, error)
}{
	{"keys", 1, keys},
	{"values", 1, values},
	{"toPairs", 1, toPairs},
	{"fromJSON", 1, fromJSON},
	{"isoTime", 1, isoTime},
	{"parseTime", 1, parseTime},
	{"replace", -1, misused},
	{"repeat", -1, misused},
	{"join", -1, misused},
	{"string", -1, misused},
	{"toJSON", -1, misused},
	{"now", -1, func(...any) (any, error) { return nil, errors.New("now wants no arguments") }},
	{"$metadata", 2, metadataValue},
	{"$step", 2, step},
	{"$weigh", 2, weigh},
	{"$add", 3, add},
	{"$replace", 4, replace},
	{"$repeat", 3, repeat},
	{"$join", -1, join},
	{"$string", 2, text},
	{"$toJSON", 2, toJSON},
}

// misused stands for the names that the rewriter replaces wherever they are called.
func misused(...any) (any, error) {
	return nil, errors.New("the function can only be called by its name")
}

func (s *Scope) spend(steps int) error {
	if s.steps -= steps; s.steps < 0 {
		return errBudget
	}
	return nil
}

func (s *Scope) spendText(bytes int) error {
	if s.text -= bytes; s.text < 0 || bytes < 0 {
		return errBudget
	}
	return nil
}

// weigh spends a step for each value in v: values may share parts, so that a short expression could make a huge one.
func (s *Scope) weigh(v any, depth int) error {
	if err := s.spend(1); err != nil {
		return err
	}
	if depth > nodes.JSONDepthMax {
		return fmt.Errorf("a value is nested deeper than %d levels", nodes.JSONDepthMax)
	}
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			if err := s.weigh(item, depth+1); err != nil {
				return err
			}
		}
	case map[string]any:
		for _, item := range v {
			if err := s.weigh(item, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

func metadataValue(args ...any) (any, error) {
	v, ok := args[0].(*Scope).message.Metadata[args[1].(string)]
	if !ok {
		return nil, nil
	}
	return v, nil
}

// step counts one turn of a predicate.
func step(args ...any) (any, error) { return args[1], args[0].(*Scope).spend(1) }

func weigh(args ...any) (any, error) { return args[1], args[0].(*Scope).weigh(args[1], 0) }

// add is the operator +, which joins texts, too.
func add(args ...any) (any, error) {
	a, ok := args[1].(string)
	b, also := args[2].(string)
	if !ok || !also {
		return runtime.Add(args[1], args[2]), nil
	}
	if err := args[0].(*Scope).spendText(len(a) + len(b)); err != nil {
		return nil, err
	}
	return a + b, nil
}

func replace(args ...any) (any, error) {
	s, from, to, err := threeTexts("replace", args[1:])
	if err != nil {
		return nil, err
	}
	grown := len(s) + strings.Count(s, from)*(len(to)-len(from))
	if err := args[0].(*Scope).spendText(grown); err != nil {
		return nil, err
	}
	return strings.ReplaceAll(s, from, to), nil
}

func threeTexts(name string, args []any) (a, b, c string, err error) {
	a, ok := args[0].(string)
	b, ok2 := args[1].(string)
	c, ok3 := args[2].(string)
	if !ok || !ok2 || !ok3 {
		return "", "", "", fmt.Errorf("%s wants three texts", name)
	}
	return a, b, c, nil
}

func repeat(args ...any) (any, error) {
	s, ok := args[1].(string)
	n, err := whole(args[2])
	if !ok || err != nil || n < 0 {
		return nil, errors.New("repeat wants a text and a number from 0 on")
	}
	if n > textMax {
		return nil, errBudget
	}
	if err := args[0].(*Scope).spendText(len(s) * int(n)); err != nil {
		return nil, err
	}
	return strings.Repeat(s, int(n)), nil
}

func join(args ...any) (any, error) {
	if len(args) < 2 || len(args) > 3 {
		return nil, errors.New("join wants a list and, if you like, a separator")
	}
	list, err := nodes.Plain(args[1])
	items, ok := list.([]any)
	if err != nil || !ok {
		return nil, errors.New("join wants a list of texts")
	}
	glue := ""
	if len(args) == 3 {
		if glue, ok = args[2].(string); !ok {
			return nil, errors.New("join wants a text as separator")
		}
	}
	texts, size := make([]string, len(items)), 0
	for i, item := range items {
		if texts[i], ok = item.(string); !ok {
			return nil, fmt.Errorf("join wants a list of texts, but item %d is %s", i, kindOf(item))
		}
		size += len(texts[i]) + len(glue)
	}
	if err := args[0].(*Scope).spendText(size); err != nil {
		return nil, err
	}
	return strings.Join(texts, glue), nil
}

func text(args ...any) (any, error) {
	switch v := args[1].(type) {
	case string:
		return v, nil
	case int:
		return strconv.Itoa(v), nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	}
	return toJSON(args...)
}

func toJSON(args ...any) (any, error) {
	s := args[0].(*Scope)
	if err := s.weigh(args[1], 0); err != nil {
		return nil, err
	}
	b, err := nodes.AppendJSON(nil, args[1])
	if err != nil {
		return nil, err
	}
	return string(b), s.spendText(len(b))
}

func fromJSON(args ...any) (any, error) {
	s, ok := args[0].(string)
	if !ok {
		return nil, errors.New("fromJSON wants a text")
	}
	v, err := nodes.ParseJSON([]byte(s))
	if err != nil {
		return nil, fmt.Errorf("fromJSON: %w", err)
	}
	return v, nil
}

func object(name string, v any) (map[string]any, error) {
	if o, ok := v.(map[string]any); ok {
		return o, nil
	}
	return nil, fmt.Errorf("%s wants an object, not %s", name, kindOf(v))
}

func keys(args ...any) (any, error) {
	o, err := object("keys", args[0])
	out := make([]any, 0, len(o))
	for _, k := range slices.Sorted(maps.Keys(o)) {
		out = append(out, k)
	}
	return out, err
}

func values(args ...any) (any, error) {
	o, err := object("values", args[0])
	out := make([]any, 0, len(o))
	for _, k := range slices.Sorted(maps.Keys(o)) {
		out = append(out, o[k])
	}
	return out, err
}

func toPairs(args ...any) (any, error) {
	o, err := object("toPairs", args[0])
	out := make([]any, 0, len(o))
	for _, k := range slices.Sorted(maps.Keys(o)) {
		out = append(out, []any{k, o[k]})
	}
	return out, err
}

func isoTime(args ...any) (any, error) {
	ms, err := whole(args[0])
	if err != nil {
		return nil, errors.New("isoTime wants milliseconds since 1970")
	}
	return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z07:00"), nil
}

func parseTime(args ...any) (any, error) {
	s, ok := args[0].(string)
	t, err := time.Parse(time.RFC3339, s)
	if !ok || err != nil {
		return nil, fmt.Errorf("parseTime wants a time like 2026-01-31T12:00:00Z, not %q", fmt.Sprint(args[0]))
	}
	return t.UnixMilli(), nil
}

func whole(v any) (int64, error) {
	switch v := v.(type) {
	case int:
		return int64(v), nil
	case int64:
		return v, nil
	case float64:
		if v == float64(int64(v)) {
			return int64(v), nil
		}
	}
	return 0, fmt.Errorf("%v is no whole number", v)
}
