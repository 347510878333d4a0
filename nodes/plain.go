package nodes

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"time"
)

// Plain is v in the shape of message data: nil, bool, int64, float64, string, []any, map[string]any. Numbers of other sizes
// are widened, times become RFC 3339 text and durations milliseconds. What has no JSON form is an error. What already has the
// shape is given back as it is.
func Plain(v any) (any, error) { return plain(v, 0) }

func plain(v any, depth int) (any, error) {
	if depth > JSONDepthMax {
		return nil, fmt.Errorf("a value is nested deeper than %d levels", JSONDepthMax)
	}
	switch v := v.(type) {
	case nil, bool, int64, string:
		return v, nil
	case int:
		return int64(v), nil
	case float64:
		if math.IsInf(v, 0) || math.IsNaN(v) {
			return nil, fmt.Errorf("%v is no JSON number", v)
		}
		return v, nil
	case time.Time:
		return v.UTC().Format(time.RFC3339Nano), nil
	case time.Duration:
		return v.Milliseconds(), nil
	case []any:
		return plainArray(v, depth)
	case map[string]any:
		return plainObject(v, depth)
	}
	return plainOther(reflect.ValueOf(v), depth)
}

// plainArray copies the list only if an item changes, because lists of a message are shared.
func plainArray(list []any, depth int) (any, error) {
	copied := false
	for i, item := range list {
		p, err := plain(item, depth+1)
		if err != nil {
			return nil, err
		}
		if same(item, p) {
			continue
		}
		if !copied {
			list, copied = slices.Clone(list), true
		}
		list[i] = p
	}
	return list, nil
}

func plainObject(o map[string]any, depth int) (any, error) {
	out, copied := o, false
	for k, item := range o {
		p, err := plain(item, depth+1)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k, err)
		}
		if same(item, p) {
			continue
		}
		if !copied {
			out, copied = maps.Clone(o), true
		}
		out[k] = p
	}
	return out, nil
}

// same tells that plain left a value as it was; lists and objects are the same if they are the same memory.
func same(a, b any) bool {
	switch a := a.(type) {
	case nil, bool, int64, float64, string:
		return true
	case []any:
		b, ok := b.([]any)
		return ok && len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
	case map[string]any:
		b, ok := b.(map[string]any)
		return ok && reflect.ValueOf(a).Pointer() == reflect.ValueOf(b).Pointer()
	}
	return false
}

func plainOther(v reflect.Value, depth int) (any, error) {
	switch v.Kind() {
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Int:
		return v.Int(), nil
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		return int64(v.Uint()), nil
	case reflect.Float32:
		return plain(v.Float(), depth)
	case reflect.String:
		return v.String(), nil
	case reflect.Slice, reflect.Array:
		out := make([]any, v.Len())
		for i := range out {
			p, err := plain(v.Index(i).Interface(), depth+1)
			if err != nil {
				return nil, err
			}
			out[i] = p
		}
		return out, nil
	case reflect.Map:
		return plainMap(v, depth)
	}
	return nil, fmt.Errorf("a value of type %s has no JSON form", v.Type())
}

// plainMap takes maps with other types; keys that are no text are written as text.
func plainMap(v reflect.Value, depth int) (any, error) {
	out := make(map[string]any, v.Len())
	for it := v.MapRange(); it.Next(); {
		p, err := plain(it.Value().Interface(), depth+1)
		if err != nil {
			return nil, err
		}
		out[fmt.Sprint(it.Key().Interface())] = p
	}
	return out, nil
}
