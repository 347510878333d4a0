package jackson

import (
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Value is one JSON value as Append writes it. Its methods are the coercions of Jackson's JsonNode, which ThingsBoard applies to
// the fields of a request.
type Value []byte

// Text is JsonNode.asText: the text of a scalar ("null" of null), and nothing of an object or array.
func (v Value) Text() string {
	if len(v) == 0 {
		return ""
	}
	switch v[0] {
	case '"':
		return unquote(v[1 : len(v)-1])
	case '{', '[':
		return ""
	}
	return string(v)
}

// Bool is JsonNode.asBoolean: true, "true" (white space around it does not matter) and any integer but 0.
func (v Value) Bool() bool {
	if len(v) == 0 {
		return false
	}
	switch c := v[0]; {
	case c == '"':
		return strings.TrimSpace(v.Text()) == "true"
	case c == 't':
		return true
	case c == '-' || c >= '0' && c <= '9':
		return v.integer() && string(v) != "0"
	}
	return false
}

// Long is JsonNode.asLong: a number without its fraction, the number in a text, 1 of true, else 0. What does not fit is cut to
// the nearest that does.
func (v Value) Long() int64 {
	if len(v) == 0 {
		return 0
	}
	switch c := v[0]; {
	case c == '"':
		return textLong(v.Text())
	case c == 't':
		return 1
	case c == '-' || c >= '0' && c <= '9':
		return textLong(string(v))
	}
	return 0
}

// Int is JsonNode.asInt: like Long, cut to 32 bits.
func (v Value) Int() int {
	return int(max(math.MinInt32, min(math.MaxInt32, v.Long())))
}

// Null tells whether it is JSON null.
func (v Value) Null() bool { return string(v) == "null" }

func (v Value) integer() bool {
	for _, c := range v {
		if c == '.' || c == 'E' {
			return false
		}
	}
	return true
}

// textLong follows com.fasterxml.jackson.core.io.NumberInput.parseAsLong.
func textLong(text string) int64 {
	text = strings.TrimPrefix(strings.TrimSpace(text), "+")
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n
	}
	f, err := strconv.ParseFloat(text, 64)
	switch {
	case err != nil && !math.IsInf(f, 0), math.IsNaN(f):
		return 0
	case f >= math.MaxInt64:
		return math.MaxInt64
	case f <= math.MinInt64:
		return math.MinInt64
	}
	return int64(f)
}

// unquote resolves the escapes that Append writes.
func unquote(body []byte) string {
	plain := true
	for _, c := range body {
		if c == '\\' {
			plain = false
			break
		}
	}
	if plain {
		return string(body)
	}
	s := scanner{src: body}
	out := make([]byte, 0, len(body))
	for s.pos < len(body) {
		if body[s.pos] != '\\' {
			out = append(out, body[s.pos])
			s.pos++
			continue
		}
		r, err := s.escape()
		if err != nil {
			return string(out) // Append writes no escape that it cannot read
		}
		out = utf8.AppendRune(out, r)
	}
	return string(out)
}
