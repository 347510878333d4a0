package chains

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// readJSON makes a tree of one JSON text.
func readJSON(data []byte) (*tree, *Problem) {
	r := jsonReader{data: data, dec: json.NewDecoder(bytes.NewReader(data))}
	r.dec.UseNumber()
	t, p := r.value(0)
	if p != nil {
		return nil, p
	}
	if _, err := r.dec.Token(); !errors.Is(err, io.EOF) {
		return nil, r.wrong("something stands behind the end of the object")
	}
	return t, nil
}

type jsonReader struct {
	data []byte
	dec  *json.Decoder
}

// next is where the next token begins.
func (r *jsonReader) next() position {
	offset := int(r.dec.InputOffset())
	for offset < len(r.data) && bytes.IndexByte([]byte(" \t\r\n,:"), r.data[offset]) >= 0 {
		offset++
	}
	return r.at(offset)
}

func (r *jsonReader) at(offset int) position {
	before := r.data[:min(offset, len(r.data))]
	return position{bytes.Count(before, []byte{'\n'}) + 1, len(before) - bytes.LastIndexByte(before, '\n')}
}

func (r *jsonReader) wrong(text string) *Problem {
	at := r.next()
	return &Problem{Line: at.line, Column: at.column, Text: text}
}

func (r *jsonReader) value(depth int) (*tree, *Problem) {
	if depth > depthMax {
		return nil, r.wrong(fmt.Sprintf("the file is nested deeper than %d levels", depthMax))
	}
	at := r.next()
	tok, err := r.dec.Token()
	if err != nil {
		return nil, r.failure(err)
	}
	out := &tree{line: at.line, column: at.column}
	switch tok := tok.(type) {
	case json.Delim:
		if tok == '{' {
			return r.object(out, depth)
		}
		return r.list(out, depth)
	case json.Number:
		if n, err := tok.Int64(); err == nil {
			out.value = n
		} else if out.value, err = tok.Float64(); err != nil {
			return nil, &Problem{Line: at.line, Column: at.column, Text: "the number is out of range"}
		}
	default:
		out.value = tok
	}
	return out, nil
}

func (r *jsonReader) failure(err error) *Problem {
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		at := r.at(int(max(syntax.Offset-1, 0)))
		return &Problem{Line: at.line, Column: at.column, Text: "not JSON: " + syntax.Error()}
	}
	return r.wrong("not JSON: the file ends too early")
}

func (r *jsonReader) object(out *tree, depth int) (*tree, *Problem) {
	out.kind = object
	for r.dec.More() {
		at := r.next()
		tok, err := r.dec.Token()
		if err != nil {
			return nil, r.failure(err)
		}
		key, ok := tok.(string)
		if !ok {
			return nil, r.wrong("not JSON: a key must be a string")
		}
		if out.get(key) != nil {
			return nil, &Problem{Line: at.line, Column: at.column, Text: fmt.Sprintf("%q stands here twice", key)}
		}
		value, p := r.value(depth + 1)
		if p != nil {
			return nil, p
		}
		out.entries = append(out.entries, entry{key, at, value})
	}
	if _, err := r.dec.Token(); err != nil {
		return nil, r.failure(err)
	}
	return out, nil
}

func (r *jsonReader) list(out *tree, depth int) (*tree, *Problem) {
	out.kind = list
	for r.dec.More() {
		item, p := r.value(depth + 1)
		if p != nil {
			return nil, p
		}
		out.items = append(out.items, item)
	}
	if _, err := r.dec.Token(); err != nil {
		return nil, r.failure(err)
	}
	return out, nil
}
