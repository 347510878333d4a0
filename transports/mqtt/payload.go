package mqtt

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"callchain/transports"
)

// errPayload is a payload that a device's topic does not take; MQTT 5 answers it with 0x99 (payload format invalid).
var errPayload = errors.New("payload format invalid")

// commandPayload is {"method":…,"params":…}, compact and without the request id, as ThingsBoard's devices compare it.
func commandPayload(method string, params []byte) []byte {
	var b bytes.Buffer
	b.Grow(len(`{"method":"","params":}`) + len(method) + len(params) + 8)
	b.WriteString(`{"method":`)
	writeString(&b, method)
	b.WriteString(`,"params":`)
	if len(params) == 0 {
		b.WriteString("null")
	} else if at := b.Len(); json.Compact(&b, params) != nil {
		b.Truncate(at)
		b.Write(params) // not JSON, which the contract excludes: the device sees what the caller wrote
	}
	b.WriteByte('}')
	return b.Bytes()
}

// writeString writes s as JSON without escaping <, > and &, which ThingsBoard does not escape either.
func writeString(b *bytes.Buffer, s string) {
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		panic("mqtt: encoding a string failed: " + err.Error()) // cannot happen: any string can be encoded
	}
	b.Truncate(b.Len() - 1) // Encode ends with a newline
}

// parseCall reads {"method":…,"params":…}. A method that is a number or a truth value is taken as its text, as ThingsBoard
// does; params is nil if absent.
func parseCall(payload []byte) (method string, params []byte, err error) {
	fields, err := parseObject(payload)
	if err != nil {
		return "", nil, err
	}
	raw := fields["method"]
	switch {
	case len(raw) == 0 || raw[0] == '{' || raw[0] == '[' || raw[0] == 'n':
		return "", nil, fmt.Errorf("%w: a call needs a method", errPayload)
	case raw[0] == '"':
		if err := json.Unmarshal(raw, &method); err != nil {
			return "", nil, fmt.Errorf("%w: method: %w", errPayload, err)
		}
	default:
		method = string(raw)
	}
	return method, fields["params"], nil
}

// parseAttributesRequest reads {"clientKeys":"a,b","sharedKeys":"c"}; an absent list is nil, both absent ask for all.
func parseAttributesRequest(payload []byte) (client, shared []string, err error) {
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
		return nil, fmt.Errorf("%w: keys are a comma separated string", errPayload)
	}
	if text == nil {
		return nil, nil
	}
	keys := []string{}
	for k := range strings.SplitSeq(*text, ",") {
		if k = strings.TrimSpace(k); k != "" {
			keys = append(keys, k)
		}
	}
	return keys, nil
}

// parseObject reads a JSON object without parsing its members.
func parseObject(payload []byte) (map[string]json.RawMessage, error) {
	if !utf8.Valid(payload) {
		return nil, fmt.Errorf("%w: not UTF-8", errPayload)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(payload, &fields); err != nil {
		return nil, fmt.Errorf("%w: %w", errPayload, err)
	}
	if fields == nil { // null
		return nil, fmt.Errorf("%w: not an object", errPayload)
	}
	return fields, nil
}

// checkJSON refuses what is no JSON object, or no array where that is allowed.
func checkJSON(payload []byte, array bool) error {
	trimmed := bytes.TrimLeft(payload, " \t\r\n")
	object := len(trimmed) > 0 && (trimmed[0] == '{' || array && trimmed[0] == '[')
	if !object || !utf8.Valid(payload) || !json.Valid(payload) {
		return fmt.Errorf("%w: no JSON object", errPayload)
	}
	return nil
}

// attributesAnswerPayload is {"client":{…},"shared":{…}} with the groups that have values, keys sorted.
func attributesAnswerPayload(a transports.AttributesAnswer) []byte {
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

// attributesUpdatePayload is {"key":value,…,"deleted":["key",…]}; deleted only if there is one.
func attributesUpdatePayload(changed map[string][]byte, deleted []string) []byte {
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

// sessionLimits is the answer to getSessionLimits.
func sessionLimits(c Config, gateway bool) []byte {
	answer := struct {
		MaxPayloadSize      int    `json:"maxPayloadSize"`
		MaxInflightMessages int    `json:"maxInflightMessages"`
		RateLimits          Rates  `json:"rateLimits"`
		GatewayRateLimits   *Rates `json:"gatewayRateLimits,omitempty"`
	}{MaxPayloadSize: c.MaxPacket, MaxInflightMessages: c.Limits.MaxInflight, RateLimits: c.Limits.Device}
	if gateway {
		answer.GatewayRateLimits = &c.Limits.Gateway
	}
	text, err := json.Marshal(answer)
	if err != nil {
		panic("mqtt: encoding session limits failed: " + err.Error()) // cannot happen: numbers and strings
	}
	return text
}
