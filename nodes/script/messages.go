package script

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"

	"callchain/nodes"
)

// Messages runs a script that gives {msg, metadata, msgType} or a list of them. What is left out stays as it came; metadata
// values become texts.
func (f Function) Messages(m nodes.Msg) ([]nodes.Msg, error) {
	v, err := f.call(m)
	if err != nil {
		return nil, err
	}
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	switch {
	case len(list) == 0:
		return nil, fmt.Errorf("%s gave an empty list: there is no message to send on", f.name())
	case len(list) > MessagesMax:
		return nil, fmt.Errorf("%s gave %d messages, more than %d", f.name(), len(list), MessagesMax)
	}
	out := make([]nodes.Msg, len(list))
	for i, item := range list {
		o, ok := item.(map[string]any)
		if !ok {
			return nil, f.errType("an object {msg, metadata, msgType} or a list of them", item)
		}
		if out[i], err = f.message(m, o); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// message is what one object of a result makes of the message that came.
func (f Function) message(m nodes.Msg, o map[string]any) (nodes.Msg, error) {
	if v, given := o["msg"]; given && !unchanged(m.Data, v) {
		m.Data = nodes.Parsed(v)
	}
	switch v := o["metadata"].(type) {
	case nil, nodes.Metadata: // left out, or as it came
	case map[string]any:
		md, err := metadata(v)
		if err != nil {
			return m, fmt.Errorf("%s: metadata: %w", f.name(), err)
		}
		m.Metadata = md
	default:
		return m, f.errType("metadata that is an object", v)
	}
	switch v := o["msgType"].(type) {
	case nil:
	case string:
		if v == "" {
			return m, fmt.Errorf("%s gave an empty msgType", f.name())
		}
		m.Type = v
	default:
		return m, f.errType("a msgType that is a text", v)
	}
	return m, nil
}

// unchanged tells that v is what the message holds already, so that its text stays as it came.
func unchanged(d *nodes.Doc, v any) bool {
	was, err := d.Value()
	if err != nil {
		return false
	}
	switch was := was.(type) {
	case map[string]any:
		now, ok := v.(map[string]any)
		return ok && reflect.ValueOf(was).Pointer() == reflect.ValueOf(now).Pointer()
	case []any:
		now, ok := v.([]any)
		return ok && len(was) == len(now) && (len(was) == 0 || &was[0] == &now[0])
	}
	return was == v
}

// metadata turns values into texts; null takes a key away (ThingsBoard drops nulls, too).
func metadata(o map[string]any) (nodes.Metadata, error) {
	out := make(nodes.Metadata, len(o))
	for _, key := range slices.Sorted(maps.Keys(o)) {
		if o[key] == nil {
			continue
		}
		s, err := text(o[key])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		out[key] = s
	}
	return out, nil
}

// text is a string as it is, and everything else as JSON.
func text(v any) (string, error) {
	if s, ok := v.(string); ok {
		return s, nil
	}
	if md, ok := v.(nodes.Metadata); ok {
		v = map[string]string(md)
	}
	b, err := nodes.AppendJSON(nil, v)
	return string(b), err
}

// describe names a result in the words of a script's author.
func describe(v any) string {
	switch v := v.(type) {
	case Undefined:
		return "nothing: it lacks a return"
	case nil:
		return "null"
	case bool:
		return strconv.FormatBool(v)
	case string:
		return "a text"
	case []any:
		return "a list"
	case map[string]any, nodes.Metadata:
		return "an object"
	}
	return fmt.Sprintf("the number %v", v)
}
