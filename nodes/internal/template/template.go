// Package template fills the placeholders that ThingsBoard's nodes know: ${key} is a metadata value, $[a.b] a part of the
// data, ${*} and $[*] all of them as JSON (TbNodeUtils). What cannot be resolved stays as it is written.
package template

import (
	"strings"

	"callchain/nodes"
)

// Fill replaces the placeholders of text by what the message holds.
func Fill(text string, m nodes.Msg) string {
	if !strings.Contains(text, "$") {
		return text
	}
	var b strings.Builder
	for {
		at := strings.IndexByte(text, '$')
		if at < 0 {
			b.WriteString(text)
			return b.String()
		}
		b.WriteString(text[:at])
		text = text[at:]
		value, size := placeholder(text, m)
		b.WriteString(value)
		text = text[size:]
	}
}

// placeholder resolves the one that text begins with, and tells how long it is.
func placeholder(text string, m nodes.Msg) (value string, size int) {
	if len(text) < 3 {
		return text, len(text)
	}
	shut := map[byte]byte{'{': '}', '[': ']'}[text[1]]
	end := strings.IndexByte(text, shut)
	if shut == 0 || end < 0 {
		return text[:1], 1
	}
	found, ok := "", false
	if name := text[2:end]; shut == '}' {
		found, ok = metadata(name, m)
	} else {
		found, ok = data(name, m)
	}
	if !ok {
		return text[:end+1], end + 1
	}
	return found, end + 1
}

func metadata(name string, m nodes.Msg) (string, bool) {
	if name != "*" {
		v, ok := m.Metadata[name]
		return v, ok
	}
	return Metadata(m), true
}

// Metadata is all metadata as a JSON object.
func Metadata(m nodes.Msg) string {
	all := make(map[string]any, len(m.Metadata))
	for k, v := range m.Metadata {
		all[k] = v
	}
	b, err := nodes.AppendJSON(nil, all)
	if err != nil {
		panic("template: texts have no JSON form: " + err.Error())
	}
	return string(b)
}

func data(path string, m nodes.Msg) (string, bool) {
	if path == "*" {
		b, err := m.Data.Bytes()
		return string(b), err == nil
	}
	v, err := m.Data.Value()
	if err != nil {
		return "", false
	}
	for _, key := range strings.Split(path, ".") {
		o, ok := v.(map[string]any)
		if !ok {
			return "", false
		}
		if v, ok = o[key]; !ok {
			return "", false
		}
	}
	return Text(v), true
}

// Text is a value as text: a string as it is, everything else as JSON.
func Text(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	b, err := nodes.AppendJSON(nil, v)
	if err != nil {
		return ""
	}
	return string(b)
}
