package api

import (
	"fmt"

	"github.com/goccy/go-yaml"
)

// yamlToJSON is a definition in JSON, its keys in the order in which they were written. The YAML library's own conversion writes escapes
// that JSON does not have.
func yamlToJSON(definition []byte) ([]byte, error) {
	var v any
	if err := yaml.UnmarshalWithOptions(definition, &v, yaml.UseOrderedMap()); err != nil {
		return nil, err
	}
	return appendOrdered(nil, v)
}

func appendOrdered(dst []byte, v any) ([]byte, error) {
	var err error
	switch v := v.(type) {
	case yaml.MapSlice:
		dst = append(dst, '{')
		for i, item := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			if dst, err = appendMarshalled(dst, fmt.Sprint(item.Key)); err != nil {
				return nil, err
			}
			if dst, err = appendOrdered(append(dst, ':'), item.Value); err != nil {
				return nil, err
			}
		}
		return append(dst, '}'), nil
	case []any:
		dst = append(dst, '[')
		for i, item := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			if dst, err = appendOrdered(dst, item); err != nil {
				return nil, err
			}
		}
		return append(dst, ']'), nil
	}
	return appendMarshalled(dst, v)
}

func appendMarshalled(dst []byte, v any) ([]byte, error) {
	text, err := marshal(v)
	return append(dst, text...), err
}
