package nodes

import "errors"

// Doc is the data of a message: JSON that is parsed at most once and encoded at most once, whichever is needed, and then
// shared by all nodes. It is not safe for concurrent use: a message belongs to one step.
type Doc struct {
	raw    []byte
	text   func() ([]byte, error) // gives raw when it is first asked for; nil once it is known
	value  any
	parsed bool
	err    error
}

var errNoObject = errors.New("message data is not a JSON object")

// Raw is a Doc over JSON text as it came. The bytes must not be changed afterwards.
func Raw(b []byte) *Doc { return &Doc{raw: b} }

// Parsed is a Doc over an already parsed value: nil, bool, int64, float64, string, []any, map[string]any. It must not be
// changed afterwards.
func Parsed(v any) *Doc { return &Doc{value: v, parsed: true} }

// Lazy is a Doc whose JSON text is made when the first node looks at it; most messages of the life cycle are never looked at.
func Lazy(text func() ([]byte, error)) *Doc { return &Doc{text: text} }

// Bytes is the JSON text. A nil Doc has none.
func (d *Doc) Bytes() ([]byte, error) {
	switch {
	case d == nil:
		return nil, nil
	case d.err != nil && d.raw == nil:
		return nil, d.err
	case d.text != nil:
		d.raw, d.err = d.text()
		d.text = nil
		if d.err != nil {
			return nil, d.err
		}
	case d.raw == nil && d.parsed:
		if d.raw, d.err = AppendJSON(nil, d.value); d.err != nil {
			d.raw = nil
			return nil, d.err
		}
	}
	return d.raw, nil
}

// Value is the parsed JSON: nil, bool, int64, float64, string, []any, map[string]any. Whole numbers are int64 if they fit,
// else float64. It must not be changed. Text that is not JSON gives an error.
func (d *Doc) Value() (any, error) {
	if d == nil {
		return nil, errEmptyJSON
	}
	if !d.parsed && d.err == nil {
		raw, err := d.Bytes()
		if err != nil {
			return nil, err
		}
		d.parsed = true
		d.value, d.err = ParseJSON(raw)
	}
	return d.value, d.err
}

// Object is Value if it is a JSON object.
func (d *Doc) Object() (map[string]any, error) {
	v, err := d.Value()
	if err != nil {
		return nil, err
	}
	o, ok := v.(map[string]any)
	if !ok {
		return nil, errNoObject
	}
	return o, nil
}
