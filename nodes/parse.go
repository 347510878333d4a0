package nodes

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// JSONDepthMax bounds how deep arrays and objects of a message may be nested.
const JSONDepthMax = 128

var errEmptyJSON = errors.New("message data is empty")

// ParseJSON reads one JSON text (RFC 8259) into nil, bool, int64, float64, string, []any and map[string]any. A whole number
// that fits is an int64, any other number a float64; the last of equal keys wins. It exists beside encoding/json because a
// message is parsed for each run and the standard parser takes four times as long to make this shape.
func ParseJSON(raw []byte) (any, error) {
	if !utf8.Valid(raw) {
		return nil, errors.New("message data is not UTF-8")
	}
	p := parser{s: string(raw)}
	p.space()
	if p.i == len(p.s) {
		return nil, errEmptyJSON
	}
	v, err := p.value(0)
	if err != nil {
		return nil, err
	}
	if p.space(); p.i < len(p.s) {
		return nil, p.wrong("the end")
	}
	return v, nil
}

// parser reads s from i on. Strings without escapes are parts of s, so that they cost no copy.
type parser struct {
	s string
	i int
}

func (p *parser) wrong(want string) error {
	if p.i >= len(p.s) {
		return fmt.Errorf("message data is not JSON: it ends where %s should be", want)
	}
	return fmt.Errorf("message data is not JSON: byte %d is %q where %s should be", p.i, p.s[p.i], want)
}

func (p *parser) space() {
	for p.i < len(p.s) {
		switch p.s[p.i] {
		case ' ', '\t', '\n', '\r':
			p.i++
		default:
			return
		}
	}
}

func (p *parser) value(depth int) (any, error) {
	if depth > JSONDepthMax {
		return nil, fmt.Errorf("message data is nested deeper than %d levels", JSONDepthMax)
	}
	if p.i >= len(p.s) {
		return nil, p.wrong("a value")
	}
	switch c := p.s[p.i]; {
	case c == '{':
		return p.object(depth)
	case c == '[':
		return p.array(depth)
	case c == '"':
		return p.text()
	case c == '-' || c >= '0' && c <= '9':
		return p.number()
	}
	for _, l := range literals {
		if strings.HasPrefix(p.s[p.i:], l.text) {
			p.i += len(l.text)
			return l.value, nil
		}
	}
	return nil, p.wrong("a value")
}

var literals = []struct {
	text  string
	value any
}{{"true", true}, {"false", false}, {"null", nil}}

func (p *parser) object(depth int) (any, error) {
	out := map[string]any{}
	p.i++
	if p.space(); p.take('}') {
		return out, nil
	}
	for {
		if p.i >= len(p.s) || p.s[p.i] != '"' {
			return nil, p.wrong("a key")
		}
		key, err := p.text()
		if err != nil {
			return nil, err
		}
		if p.space(); !p.take(':') {
			return nil, p.wrong("a colon")
		}
		p.space()
		if out[key], err = p.value(depth + 1); err != nil {
			return nil, err
		}
		p.space()
		if p.take('}') {
			return out, nil
		}
		if !p.take(',') {
			return nil, p.wrong("a comma or }")
		}
		p.space()
	}
}

func (p *parser) array(depth int) (any, error) {
	out := []any{}
	p.i++
	if p.space(); p.take(']') {
		return out, nil
	}
	for {
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
		p.space()
		if p.take(']') {
			return out, nil
		}
		if !p.take(',') {
			return nil, p.wrong("a comma or ]")
		}
		p.space()
	}
}

func (p *parser) take(c byte) bool {
	if p.i < len(p.s) && p.s[p.i] == c {
		p.i++
		return true
	}
	return false
}

func (p *parser) number() (any, error) {
	start, whole := p.i, true
	p.take('-')
	if !p.take('0') && !p.digits() {
		return nil, p.wrong("a digit")
	}
	if p.take('.') {
		if whole = false; !p.digits() {
			return nil, p.wrong("a digit")
		}
	}
	if p.take('e') || p.take('E') {
		whole = false
		if !p.take('+') {
			p.take('-')
		}
		if !p.digits() {
			return nil, p.wrong("a digit")
		}
	}
	text := p.s[start:p.i]
	if whole {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return n, nil
		}
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return nil, fmt.Errorf("message data holds a number that is out of range at byte %d", start)
	}
	return f, nil
}

func (p *parser) digits() bool {
	start := p.i
	for p.i < len(p.s) && p.s[p.i] >= '0' && p.s[p.i] <= '9' {
		p.i++
	}
	return p.i > start
}

// text reads a string; only one with escapes is copied.
func (p *parser) text() (string, error) {
	p.i++
	start := p.i
	for ; p.i < len(p.s); p.i++ {
		switch c := p.s[p.i]; {
		case c == '"':
			p.i++
			return p.s[start : p.i-1], nil
		case c == '\\':
			return p.escaped(start)
		case c < ' ':
			return "", p.wrong("a printable character")
		}
	}
	return "", p.wrong("a closing quote")
}

func (p *parser) escaped(start int) (string, error) {
	out := append(make([]byte, 0, len(p.s[start:p.i])+32), p.s[start:p.i]...)
	for p.i < len(p.s) {
		c := p.s[p.i]
		switch {
		case c == '"':
			p.i++
			return string(out), nil
		case c < ' ':
			return "", p.wrong("a printable character")
		case c != '\\':
			out = append(out, c)
			p.i++
		default:
			r, err := p.escape()
			if err != nil {
				return "", err
			}
			out = utf8.AppendRune(out, r)
		}
	}
	return "", p.wrong("a closing quote")
}

func (p *parser) escape() (rune, error) {
	p.i++
	if p.i >= len(p.s) {
		return 0, p.wrong("an escape")
	}
	c := p.s[p.i]
	if c == 'u' {
		return p.unicode()
	}
	at := strings.IndexByte(`"\/bfnrt`, c)
	if at < 0 {
		return 0, p.wrong("an escape")
	}
	p.i++
	return rune("\"\\/\b\f\n\r\t"[at]), nil
}

// unicode reads \uXXXX, or two of them that are a surrogate pair; half a pair becomes U+FFFD, as in encoding/json.
func (p *parser) unicode() (rune, error) {
	r, err := p.hex()
	if err != nil || !utf16.IsSurrogate(r) {
		return r, err
	}
	if !strings.HasPrefix(p.s[p.i:], `\u`) {
		return utf8.RuneError, nil
	}
	back := p.i
	p.i++
	low, err := p.hex()
	if err != nil {
		return 0, err
	}
	if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
		return pair, nil
	}
	p.i = back
	return utf8.RuneError, nil
}

func (p *parser) hex() (rune, error) {
	p.i++
	if p.i+4 > len(p.s) {
		return 0, p.wrong("four hexadecimal digits")
	}
	n, err := strconv.ParseUint(p.s[p.i:p.i+4], 16, 32)
	if err != nil {
		return 0, p.wrong("four hexadecimal digits")
	}
	p.i += 4
	return rune(n), nil
}
