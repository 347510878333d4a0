package goja

import (
	"errors"
	"fmt"
	"math"
	"reflect"

	"callchain/nodes"
	"callchain/nodes/script"

	js "github.com/dop251/goja"
)

// output makes plain values of JavaScript's, by the rules of JSON.stringify: what has a toJSON is what that gives, functions and undefined
// are left out (null in lists), NaN and the infinities are null.
type output struct {
	vm   *js.Runtime
	came came
	left int // bytes
}

// gone is what JSON leaves out.
type gone struct{}

var errLarge = fmt.Errorf("the result has more than %d bytes", resultMax)

// result is the whole result. Of an object, and of the objects of a list, the metadata that came and was not changed is given as it is.
func (out *output) result(v js.Value) (any, error) {
	if v == nil || js.IsUndefined(v) {
		return script.Undefined{}, nil
	}
	o, is := v.(*js.Object)
	if !is {
		return out.top(v)
	}
	switch o.ClassName() {
	case "Array":
		items, err := out.items(o)
		if err != nil {
			return nil, err
		}
		list := make([]any, len(items))
		for i, item := range items {
			if list[i], err = out.record(item); err != nil {
				return nil, err
			}
			if _, nothing := list[i].(script.Undefined); nothing {
				list[i] = nil
			}
		}
		return list, nil
	case "Promise":
		return nil, errors.New("the script gives a promise; it cannot wait for anything")
	}
	return out.record(v)
}

// top is a value that is not within another one.
func (out *output) top(v js.Value) (any, error) {
	x, err := out.value(v, nil, 0)
	if _, is := x.(gone); is {
		return script.Undefined{}, err
	}
	return x, err
}

// record is an object {msg, metadata, msgType}, or anything else.
func (out *output) record(v js.Value) (any, error) {
	o, is := v.(*js.Object)
	if !is || o.ClassName() != "Object" {
		return out.top(v)
	}
	md, _ := o.Get("metadata").(*js.Object)
	was, own := out.came.of(md).(nodes.Metadata)
	if md == nil || !own {
		return out.top(v)
	}
	if !sameTexts(was, md) {
		return out.members(o, nil, 0)
	}
	return out.members(o, map[string]any{"metadata": was}, 0)
}

func sameTexts(was nodes.Metadata, now *js.Object) bool {
	keys := now.Keys()
	if len(keys) != len(was) {
		return false
	}
	for _, k := range keys {
		s, is := now.Get(k).(js.String)
		if v, had := was[k]; !is || !had || s.String() != v {
			return false
		}
	}
	return true
}

func (out *output) spend(n int) error {
	if out.left -= n; out.left < 0 {
		return errLarge
	}
	return nil
}

// value converts v. was is the value at its place in what the message held, if that is known: equal values are taken from there.
func (out *output) value(v js.Value, was any, depth int) (any, error) {
	if depth > nodes.JSONDepthMax {
		return nil, fmt.Errorf("the result is nested deeper than %d levels, or contains itself", nodes.JSONDepthMax)
	}
	if err := out.spend(8); err != nil {
		return nil, err
	}
	if v == nil || js.IsUndefined(v) {
		return gone{}, nil
	}
	switch v := v.(type) {
	case *js.Object:
		return out.object(v, depth)
	case js.String:
		s := v.String()
		if x, is := was.(string); is && x == s {
			s = x // one memory for both
		}
		return s, out.spend(len(s))
	case *js.Symbol:
		return gone{}, nil
	}
	switch x := v.Export().(type) {
	case int64:
		return number(float64(x), x, was), nil
	case float64:
		return number(x, 0, was), nil
	case nil, bool:
		return x, nil
	}
	return nil, fmt.Errorf("the result holds %s, which JSON cannot hold", v.String())
}

// number prefers the number that came: it may have more digits than JavaScript's.
func number(f float64, whole int64, was any) any {
	switch was := was.(type) {
	case int64:
		if float64(was) == f {
			return was
		}
	case float64:
		if was == f {
			return was
		}
	}
	switch {
	case whole != 0:
		return whole
	case math.IsNaN(f) || math.IsInf(f, 0):
		return nil
	case f == math.Trunc(f) && math.Abs(f) <= 1<<53:
		return int64(f)
	}
	return f
}

func (out *output) object(o *js.Object, depth int) (any, error) {
	class := o.ClassName()
	if to, is := js.AssertFunction(o.Get("toJSON")); is {
		v, err := to(o)
		if err != nil {
			return nil, err
		}
		if inner, again := v.(*js.Object); !again || inner != o {
			return out.value(v, nil, depth+1)
		}
	}
	switch class {
	case "Function":
		return gone{}, nil
	case "String":
		return out.value(o.ToString(), nil, depth+1)
	case "Number":
		return out.value(o.ToNumber(), nil, depth+1)
	case "Boolean":
		return o.Export(), nil
	case "Array":
		return out.list(o, depth)
	}
	return out.members(o, nil, depth)
}

// members converts an object; known members are taken as they are. If all is as it came, what came is given.
func (out *output) members(o *js.Object, known map[string]any, depth int) (any, error) {
	was, _ := out.came.of(o).(map[string]any)
	keys := o.Keys()
	result, same := make(map[string]any, len(keys)), was != nil && len(keys) == len(was)
	for _, k := range keys {
		if err := out.spend(len(k)); err != nil {
			return nil, err
		}
		if x, is := known[k]; is {
			result[k] = x
			continue
		}
		before, had := was[k]
		x, err := out.value(o.Get(k), before, depth+1)
		if err != nil {
			return nil, err
		}
		if _, is := x.(gone); is {
			same = false
			continue
		}
		same = same && had && sameMemory(before, x)
		result[k] = x
	}
	if same {
		return was, nil
	}
	return result, nil
}

func (out *output) list(o *js.Object, depth int) (any, error) {
	items, err := out.items(o)
	if err != nil {
		return nil, err
	}
	was, known := out.came.of(o).([]any)
	result, same := make([]any, len(items)), known && len(items) == len(was)
	for i, item := range items {
		var before any
		if i < len(was) {
			before = was[i]
		}
		x, err := out.value(item, before, depth+1)
		if err != nil {
			return nil, err
		}
		if _, is := x.(gone); is {
			x = nil
		}
		same = same && sameMemory(before, x)
		result[i] = x
	}
	if same {
		return was, nil
	}
	return result, nil
}

// items are the values of a list.
func (out *output) items(o *js.Object) ([]js.Value, error) {
	n := o.Get("length").ToInteger()
	if err := out.spend(int(min(8*n, math.MaxInt32))); err != nil {
		return nil, err
	}
	var items []js.Value
	if err := out.vm.ExportTo(o, &items); err != nil {
		return nil, fmt.Errorf("reading a list of the result: %w", err)
	}
	return items, nil
}

// sameMemory tells that a converted value is what came, not only equal to it.
func sameMemory(was, now any) bool {
	switch was := was.(type) {
	case map[string]any:
		now, is := now.(map[string]any)
		return is && mapsAre(was, now)
	case []any:
		now, is := now.([]any)
		return is && len(was) == len(now) && (len(was) == 0 || &was[0] == &now[0])
	}
	switch now.(type) {
	case map[string]any, []any:
		return false
	}
	return was == now
}

func mapsAre(a, b map[string]any) bool {
	return reflect.ValueOf(a).Pointer() == reflect.ValueOf(b).Pointer()
}
