package goja

import (
	"fmt"
	"maps"
	"slices"

	"callchain/nodes"
	"callchain/nodes/script"

	js "github.com/dop251/goja"
)

// input makes JavaScript values of a message. They are copies, so that a script can change them, and it is noted what each was made
// of, so that what a script leaves as it came can be given back as it came.
type input struct {
	vm   *js.Runtime
	came came
}

// came are the objects and lists that were handed in, and what they were made of: map[string]any, []any or nodes.Metadata.
type came []original

type original struct {
	object *js.Object
	from   any
}

func (c came) of(o *js.Object) any {
	for i := range c {
		if c[i].object == o {
			return c[i].from
		}
	}
	return nil
}

// cameMax bounds what is searched for at the end; what lies deeper is converted anew.
const cameMax = 64

func (in *input) note(o *js.Object, from any) {
	if len(in.came) < cameMax {
		in.came = append(in.came, original{o, from})
	}
}

// data is msg. A message without data is an empty text, in TBEL an empty map, as in ThingsBoard.
func (in *input) data(m nodes.Msg, lang script.Lang, want wanted) (js.Value, error) {
	raw, err := m.Data.Bytes()
	if err != nil {
		return nil, err
	}
	if len(raw) == 0 {
		if lang == script.TBEL {
			return in.vm.NewObject(), nil
		}
		return in.vm.ToValue(""), nil
	}
	if len(raw) > inputMax {
		return nil, fmt.Errorf("the message has %d bytes, more than the %d that scripts take", len(raw), inputMax)
	}
	v, err := m.Data.Value()
	if err != nil {
		return nil, err
	}
	if from, is := v.(map[string]any); is && !want.all {
		return in.members(from, want.only)
	}
	return in.value(v)
}

// members is an object with the members that a script looks at; it never sees that there are no others.
func (in *input) members(from map[string]any, only []string) (js.Value, error) {
	o := in.vm.NewObject()
	for _, k := range only {
		member, has := from[k]
		if !has {
			continue
		}
		v, err := in.value(member)
		if err != nil {
			return nil, err
		}
		if err := set(o, k, v); err != nil {
			return nil, err
		}
	}
	return o, nil
}

func (in *input) value(v any) (js.Value, error) {
	switch v := v.(type) {
	case nil:
		return js.Null(), nil
	case map[string]any:
		return in.object(v)
	case []any:
		return in.list(v)
	}
	return in.vm.ToValue(v), nil
}

// object has its keys in the order of the alphabet: the order in which they came is not kept by parsed data.
func (in *input) object(from map[string]any) (js.Value, error) {
	o := in.vm.NewObject()
	in.note(o, from)
	var few [16]string
	keys := few[:0]
	for k := range from {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		v, err := in.value(from[k])
		if err != nil {
			return nil, err
		}
		if err := set(o, k, v); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// set defines a member; __proto__ is one like all others.
func set(o *js.Object, key string, v js.Value) error {
	if key == "__proto__" {
		return o.DefineDataProperty(key, v, js.FLAG_TRUE, js.FLAG_TRUE, js.FLAG_TRUE)
	}
	return o.Set(key, v)
}

func (in *input) list(from []any) (js.Value, error) {
	items := make([]any, len(from))
	for i := range from {
		v, err := in.value(from[i])
		if err != nil {
			return nil, err
		}
		items[i] = v
	}
	o := in.vm.NewArray(items...)
	in.note(o, from)
	return o, nil
}

func (in *input) metadata(md nodes.Metadata, want wanted) (js.Value, error) {
	o, keys, size := in.vm.NewObject(), want.only, 0
	if want.all {
		in.note(o, md)
		keys = slices.Sorted(maps.Keys(md))
	}
	for _, k := range keys {
		if _, has := md[k]; !has {
			continue
		}
		if size += len(k) + len(md[k]); size > inputMax {
			return nil, fmt.Errorf("the metadata have more than the %d bytes that scripts take", inputMax)
		}
		if err := set(o, k, in.vm.ToValue(md[k])); err != nil {
			return nil, err
		}
	}
	return o, nil
}
