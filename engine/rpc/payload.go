package rpc

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"unicode/utf8"
)

// Form is the kind of bytes in a Payload.
type Form uint8

// The forms of a payload.
const (
	Empty Form = iota
	JSON
	Text   // UTF-8 that is not JSON
	Binary // not UTF-8
)

// Payload is what a device or a chain answered. Its stored form is {}, {"json":…}, {"text":"…"} or {"base64":"…"}.
type Payload struct {
	Form  Form
	Bytes []byte
}

// NewPayload detects the form of the bytes.
func NewPayload(b []byte) Payload {
	switch {
	case len(b) == 0:
		return Payload{}
	case !utf8.Valid(b):
		return Payload{Form: Binary, Bytes: b}
	case json.Valid(b):
		return Payload{Form: JSON, Bytes: b}
	}
	return Payload{Form: Text, Bytes: b}
}

// AppendJSON appends the stored form.
func (p Payload) AppendJSON(dst []byte) []byte {
	switch p.Form {
	case JSON:
		dst = append(dst, `{"json":`...)
		dst = appendCompact(dst, p.Bytes)
	case Text:
		dst = append(dst, `{"text":`...)
		dst = AppendString(dst, string(p.Bytes))
	case Binary:
		dst = append(dst, `{"base64":"`...)
		dst = base64.StdEncoding.AppendEncode(dst, p.Bytes)
		dst = append(dst, '"')
	default:
		dst = append(dst, '{')
	}
	return append(dst, '}')
}

// MarshalJSON gives the stored form.
func (p Payload) MarshalJSON() ([]byte, error) { return p.AppendJSON(nil), nil }

// UnmarshalJSON reads the stored form.
func (p *Payload) UnmarshalJSON(b []byte) error {
	var f struct {
		JSON   json.RawMessage `json:"json"`
		Text   *string         `json:"text"`
		Base64 *[]byte         `json:"base64"`
	}
	if err := json.Unmarshal(b, &f); err != nil {
		return fmt.Errorf("reading a payload: %w", err)
	}
	switch {
	case f.JSON != nil:
		*p = Payload{Form: JSON, Bytes: f.JSON}
	case f.Text != nil:
		*p = Payload{Form: Text, Bytes: []byte(*f.Text)}
	case f.Base64 != nil:
		*p = Payload{Form: Binary, Bytes: *f.Base64}
	default:
		*p = Payload{}
	}
	return nil
}

// appendCompact appends JSON without white space; the bytes were checked to be JSON.
func appendCompact(dst, src []byte) []byte {
	if bytes.IndexByte(src, ' ') < 0 && bytes.IndexByte(src, '\n') < 0 && bytes.IndexByte(src, '\t') < 0 && bytes.IndexByte(src, '\r') < 0 {
		return append(dst, src...)
	}
	var buf bytes.Buffer
	if err := json.Compact(&buf, src); err != nil {
		return append(dst, "null"...)
	}
	return append(dst, buf.Bytes()...)
}

// AppendString appends s as a JSON string.
func AppendString(dst []byte, s string) []byte {
	plain := true
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' || c >= 0x7f {
			plain = false
			break
		}
	}
	if plain {
		dst = append(dst, '"')
		dst = append(dst, s...)
		return append(dst, '"')
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return append(dst, `""`...)
	}
	return append(dst, bytes.TrimSuffix(buf.Bytes(), []byte{'\n'})...)
}
