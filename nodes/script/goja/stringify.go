package goja

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"callchain/nodes"

	js "github.com/dop251/goja"
)

// jsonMax is the most bytes that JSON.stringify makes. goja's own has no bound, and an object that holds another one twice, which holds
// another one twice …, is small and has an endless text.
const jsonMax = 1 << 20

// writer is one call of JSON.stringify (ECMAScript 25.5.2).
type writer struct {
	m        *machine
	replacer js.Callable
	only     []string // keys, if the replacer is a list
	gap      string
	dst      []byte
}

// stringify stands in for JSON.stringify.
func (m *machine) stringify(call js.FunctionCall) js.Value {
	w := writer{m: m, gap: gapOf(call.Argument(2))}
	if o, is := call.Argument(1).(*js.Object); is {
		if f, is := js.AssertFunction(o); is {
			w.replacer = f
		} else if o.ClassName() == "Array" {
			w.only = []string{}
			for i := range min(o.Get("length").ToInteger(), 1000) {
				w.only = append(w.only, o.Get(strconv.FormatInt(i, 10)).String())
			}
		}
	}
	holder := m.vm.NewObject()
	if err := holder.Set("", call.Argument(0)); err != nil {
		panic(err)
	}
	if !w.value(holder, "", call.Argument(0), 0) {
		return js.Undefined()
	}
	return m.vm.ToValue(string(w.dst))
}

func gapOf(v js.Value) string {
	if js.IsNumber(v) {
		return strings.Repeat(" ", int(min(max(v.ToInteger(), 0), 10)))
	}
	if js.IsString(v) {
		s := []rune(v.String())
		return string(s[:min(len(s), 10)])
	}
	return ""
}

// add appends text.
func (w *writer) add(text ...string) {
	for _, t := range text {
		w.dst = append(w.dst, t...)
	}
	if len(w.dst) > jsonMax {
		panic(w.m.rangeError("JSON.stringify makes more than 1048576 bytes"))
	}
}

// value appends a member; false: JSON has no form of it.
func (w *writer) value(holder *js.Object, key string, v js.Value, depth int) bool {
	if depth > nodes.JSONDepthMax {
		panic(w.m.vm.NewTypeError("JSON.stringify: the value is nested deeper than %d levels, or contains itself", nodes.JSONDepthMax))
	}
	if o, is := v.(*js.Object); is {
		if to, is := js.AssertFunction(o.Get("toJSON")); is {
			v = w.call(to, o, w.m.vm.ToValue(key))
		}
	}
	if w.replacer != nil {
		v = w.call(w.replacer, holder, w.m.vm.ToValue(key), v)
	}
	o, is := v.(*js.Object)
	if !is {
		return w.simple(v)
	}
	switch o.ClassName() {
	case "Function":
		return false
	case "String":
		return w.simple(o.ToString())
	case "Number":
		return w.simple(o.ToNumber())
	case "Boolean":
		return w.simple(w.m.vm.ToValue(o.Export()))
	case "Array":
		w.list(o, depth)
	default:
		w.object(o, depth)
	}
	return true
}

func (w *writer) call(f js.Callable, this js.Value, args ...js.Value) js.Value {
	v, err := f(this, args...)
	if err != nil {
		panic(err)
	}
	return v
}

// simple appends what is no object.
func (w *writer) simple(v js.Value) bool {
	switch v := v.(type) {
	case nil, *js.Symbol:
		return false
	case js.String:
		if v.Length() > jsonMax {
			w.add(strings.Repeat(" ", jsonMax+1))
		}
		w.dst = nodes.AppendString(w.dst, v.String())
		w.add()
		return true
	}
	switch {
	case js.IsUndefined(v):
		return false
	case js.IsNumber(v) && (math.IsNaN(v.ToFloat()) || math.IsInf(v.ToFloat(), 0)):
		w.add("null")
	default:
		w.add(v.String())
	}
	return true
}

func (w *writer) list(o *js.Object, depth int) {
	n := o.Get("length").ToInteger()
	if n == 0 {
		w.add("[]")
		return
	}
	w.add("[")
	for i := range n {
		if i > 0 {
			w.add(",")
		}
		w.line(depth + 1)
		key := strconv.FormatInt(i, 10)
		if !w.value(o, key, o.Get(key), depth+1) {
			w.add("null")
		}
	}
	w.line(depth)
	w.add("]")
}

func (w *writer) object(o *js.Object, depth int) {
	keys := o.Keys()
	if w.only != nil {
		keys = slices.DeleteFunc(keys, func(k string) bool { return !slices.Contains(w.only, k) })
	}
	w.add("{")
	some := false
	for _, k := range keys {
		before := len(w.dst)
		if some {
			w.add(",")
		}
		w.line(depth + 1)
		w.dst = nodes.AppendString(w.dst, k)
		w.add(":")
		if w.gap != "" {
			w.add(" ")
		}
		if !w.value(o, k, o.Get(k), depth+1) {
			w.dst = w.dst[:before]
			continue
		}
		some = true
	}
	if some {
		w.line(depth)
	}
	w.add("}")
}

// line begins a new line if there is a gap.
func (w *writer) line(depth int) {
	if w.gap != "" {
		w.add("\n", strings.Repeat(w.gap, depth))
	}
}
