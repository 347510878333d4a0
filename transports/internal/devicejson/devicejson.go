// Package devicejson reads and writes the JSON that ThingsBoard's devices exchange with the server, whatever the protocol: calls,
// attributes, telemetry. It knows the values of the transports' contract and no protocol.
package devicejson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"callchain/transports"
)

// ErrFormat is a payload that the device API does not take; the text says why. Each protocol has a code for it.
var ErrFormat = errors.New("payload format invalid")

// Command is {"method":…,"params":…}, compact and without the request id, as devices on MQTT compare it.
func Command(method string, params []byte) []byte {
	var b bytes.Buffer
	b.Grow(len(`{"method":"","params":}`) + len(method) + len(params) + 8)
	b.WriteByte('{')
	writeCommand(&b, method, params)
	return b.Bytes()
}

// NumberedCommand is {"id":…,"method":…,"params":…}, compact, for protocols that have no other place for the request id.
func NumberedCommand(id int32, method string, params []byte) []byte {
	var b bytes.Buffer
	b.Grow(len(`{"id":,"method":"","params":}`) + len(method) + len(params) + 20)
	b.WriteString(`{"id":`)
	b.WriteString(strconv.FormatInt(int64(id), 10))
	b.WriteByte(',')
	writeCommand(&b, method, params)
	return b.Bytes()
}

func writeCommand(b *bytes.Buffer, method string, params []byte) {
	b.WriteString(`"method":`)
	writeString(b, method)
	b.WriteString(`,"params":`)
	if len(params) == 0 {
		b.WriteString("null")
	} else if at := b.Len(); json.Compact(b, params) != nil {
		b.Truncate(at)
		b.Write(params) // not JSON, which the contract excludes: the device sees what the caller wrote
	}
	b.WriteByte('}')
}

// writeString writes s as JSON without escaping <, > and &, which ThingsBoard does not escape either.
func writeString(b *bytes.Buffer, s string) {
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		panic("devicejson: encoding a string failed: " + err.Error()) // cannot happen: any string can be encoded
	}
	b.Truncate(b.Len() - 1) // Encode ends with a newline
}

// ParseCall reads {"method":…,"params":…}. A method that is a number or a truth value is taken as its text, as ThingsBoard
// does; params is nil if absent.
func ParseCall(payload []byte) (method string, params []byte, err error) {
	fields, err := parseObject(payload)
	if err != nil {
		return "", nil, err
	}
	raw := fields["method"]
	switch {
	case len(raw) == 0 || raw[0] == '{' || raw[0] == '[' || raw[0] == 'n':
		return "", nil, fmt.Errorf("%w: a call needs a method", ErrFormat)
	case raw[0] == '"':
		if err := json.Unmarshal(raw, &method); err != nil {
			return "", nil, fmt.Errorf("%w: method: %w", ErrFormat, err)
		}
	default:
		method = string(raw)
	}
	return method, fields["params"], nil
}

// ParseAttributesRequest reads {"clientKeys":"a,b","sharedKeys":"c"}; an absent list is nil, both absent ask for all.
func ParseAttributesRequest(payload []byte) (client, shared []string, err error) {
	fields, err := parseObject(payload)
	if err != nil {
		return nil, nil, err
	}
	if client, err = keyList(fields["clientKeys"]); err != nil {
		return nil, nil, err
	}
	shared, err = keyList(fields["sharedKeys"])
	return client, shared, err
}

func keyList(raw json.RawMessage) ([]string, error) {
	var text *string
	if len(raw) == 0 {
		return nil, nil
	}
	if err := json.Unmarshal(raw, &text); err != nil {
		return nil, fmt.Errorf("%w: keys are a comma separated string", ErrFormat)
	}
	if text == nil {
		return nil, nil
	}
	return Keys(*text), nil
}

// Keys are the names in a list with commas, without the empty ones; not nil.
func Keys(list string) []string {
	keys := []string{}
	for k := range strings.SplitSeq(list, ",") {
		if k = strings.TrimSpace(k); k != "" {
			keys = append(keys, k)
		}
	}
	return keys
}

// parseObject reads a JSON object without parsing its members.
func parseObject(payload []byte) (map[string]json.RawMessage, error) {
	if !utf8.Valid(payload) {
		return nil, fmt.Errorf("%w: not UTF-8", ErrFormat)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(payload, &fields); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if fields == nil { // null
		return nil, fmt.Errorf("%w: not an object", ErrFormat)
	}
	return fields, nil
}

// Check refuses with ErrFormat what is no JSON object, or no array where that is allowed.
func Check(payload []byte, array bool) error {
	trimmed := bytes.TrimLeft(payload, " \t\r\n")
	object := len(trimmed) > 0 && (trimmed[0] == '{' || array && trimmed[0] == '[')
	if !object || !utf8.Valid(payload) || !json.Valid(payload) {
		return fmt.Errorf("%w: no JSON object", ErrFormat)
	}
	return nil
}

// AttributesAnswer is {"client":{…},"shared":{…}} with the groups that have values, keys sorted.
func AttributesAnswer(a transports.AttributesAnswer) []byte {
	var b bytes.Buffer
	b.WriteByte('{')
	for _, group := range []struct {
		name   string
		values map[string][]byte
	}{{"client", a.Client}, {"shared", a.Shared}} {
		if len(group.values) == 0 {
			continue
		}
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		b.WriteString(`"` + group.name + `":{`)
		writeMembers(&b, group.values)
		b.WriteByte('}')
	}
	b.WriteByte('}')
	return b.Bytes()
}

// AttributesUpdate is {"key":value,…,"deleted":["key",…]}; deleted only if there is one.
func AttributesUpdate(changed map[string][]byte, deleted []string) []byte {
	var b bytes.Buffer
	b.WriteByte('{')
	writeMembers(&b, changed)
	if len(deleted) > 0 {
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		b.WriteString(`"deleted":[`)
		for i, k := range deleted {
			if i > 0 {
				b.WriteByte(',')
			}
			writeString(&b, k)
		}
		b.WriteByte(']')
	}
	b.WriteByte('}')
	return b.Bytes()
}

func writeMembers(b *bytes.Buffer, values map[string][]byte) {
	for i, k := range slices.Sorted(maps.Keys(values)) {
		if i > 0 {
			b.WriteByte(',')
		}
		writeString(b, k)
		b.WriteByte(':')
		b.Write(values[k])
	}
}
