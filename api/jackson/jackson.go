// Package jackson reads and writes JSON the way ThingsBoard's JSON library (Jackson) does, as far as its clients can see it:
// white space goes, the order of keys stays, the last of two equal keys wins in the place of the first, \u escapes are resolved,
// 1.50 becomes 1.5 and 1e3 becomes 1000.0 (the text of Java's Double.toString), and integers of any length stay as they are.
//
// It works on bytes in one pass, without reflection and without a tree. It knows nothing of calls or of HTTP.
package jackson

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

// DepthMax is how deep arrays and objects may lie within each other (Jackson's StreamReadConstraints.DEFAULT_MAX_DEPTH).
const DepthMax = 1000

// numberMax is the longest number, in characters (StreamReadConstraints.DEFAULT_MAX_NUM_LEN).
const numberMax = 1000

// ErrSyntax: the text is not one JSON value (RFC 8259) in UTF-8. Unlike Jackson's readTree, text behind the value is refused, too.
var ErrSyntax = errors.New("invalid JSON")

// Append appends the one JSON value in src to dst, as Jackson would write it after reading it. On an error dst is returned
// as it was.
func Append(dst, src []byte) ([]byte, error) {
	s := scanner{src: src, out: dst}
	if err := s.whole(); err != nil {
		return dst, err
	}
	return s.out, nil
}

// Members calls each with every member of the JSON object in src, in order and with repetitions: its name, and its value as
// Append would write it. The bytes are valid for as long as the caller likes. An error of each ends the walk and is returned.
// A value that is no object is refused with ErrSyntax.
func Members(src []byte, each func(name string, v Value) error) error {
	s := scanner{src: src, out: make([]byte, 0, len(src)+16)}
	if !utf8.Valid(src) {
		return fmt.Errorf("%w: the text is not UTF-8", ErrSyntax)
	}
	s.space()
	if s.peek() != '{' {
		return s.wrong("an object is expected")
	}
	if err := s.topMembers(each); err != nil {
		return err
	}
	return s.end()
}

// scanner reads src from pos and writes what it read to out.
type scanner struct {
	src   []byte
	out   []byte
	pos   int
	depth int
}

func (s *scanner) whole() error {
	if !utf8.Valid(s.src) {
		return fmt.Errorf("%w: the text is not UTF-8", ErrSyntax)
	}
	s.space()
	if err := s.value(); err != nil {
		return err
	}
	return s.end()
}

func (s *scanner) end() error {
	s.space()
	if s.pos < len(s.src) {
		return s.wrong("nothing may follow the value")
	}
	return nil
}

// topMembers walks the object at pos and hands out its members.
func (s *scanner) topMembers(each func(string, Value) error) error {
	s.pos++
	s.depth++
	for first := true; ; first = false {
		done, err := s.nextMember(first)
		if done || err != nil {
			return err
		}
		from := len(s.out)
		if err := s.name(); err != nil {
			return err
		}
		name := Value(s.out[from:]).Text()
		from = len(s.out)
		if err := s.value(); err != nil {
			return err
		}
		if err := each(name, Value(s.out[from:len(s.out):len(s.out)])); err != nil {
			return err
		}
	}
}

// nextMember steps over the comma before the next member, or over the brace that ends the object.
func (s *scanner) nextMember(first bool) (done bool, err error) {
	s.space()
	switch c := s.peek(); {
	case c == '}':
		s.pos++
		s.depth--
		return true, nil
	case first:
		return false, nil
	case c == ',':
		s.pos++
		s.space()
		return false, nil
	}
	return false, s.wrong("a comma or a closing brace is expected")
}

// name reads a member's name and the colon behind it; the name is written, the colon is not.
func (s *scanner) name() error {
	if s.peek() != '"' {
		return s.wrong("a name in double quotes is expected")
	}
	if err := s.text(); err != nil {
		return err
	}
	s.space()
	if s.peek() != ':' {
		return s.wrong("a colon is expected")
	}
	s.pos++
	s.space()
	return nil
}

func (s *scanner) value() error {
	switch c := s.peek(); {
	case c == '{':
		return s.object()
	case c == '[':
		return s.array()
	case c == '"':
		return s.text()
	case c == '-' || c >= '0' && c <= '9':
		return s.number()
	case c == 't':
		return s.word("true")
	case c == 'f':
		return s.word("false")
	case c == 'n':
		return s.word("null")
	}
	return s.wrong("a value is expected")
}

func (s *scanner) word(w string) error {
	if len(s.src)-s.pos < len(w) || string(s.src[s.pos:s.pos+len(w)]) != w {
		return s.wrong("a value is expected")
	}
	s.pos += len(w)
	s.out = append(s.out, w...)
	return nil
}

func (s *scanner) array() error {
	if err := s.enter(); err != nil {
		return err
	}
	s.out = append(s.out, '[')
	for first := true; ; first = false {
		s.space()
		switch c := s.peek(); {
		case c == ']':
			if !first && s.src[s.pos-1] == ',' {
				return s.wrong("a value is expected")
			}
			s.pos++
			s.depth--
			s.out = append(s.out, ']')
			return nil
		case !first && c == ',':
			s.pos++
			s.space()
			s.out = append(s.out, ',')
		case !first:
			return s.wrong("a comma or a closing bracket is expected")
		}
		if err := s.value(); err != nil {
			return err
		}
	}
}

func (s *scanner) object() error {
	if err := s.enter(); err != nil {
		return err
	}
	from := len(s.out)
	s.out = append(s.out, '{')
	seen := members{}
	for first := true; ; first = false {
		done, err := s.nextMember(first)
		if err != nil {
			return err
		}
		if done {
			s.out = seen.settle(append(s.out, '}'), from)
			return nil
		}
		if err := s.member(&seen, first); err != nil {
			return err
		}
	}
}

func (s *scanner) member(seen *members, first bool) error {
	if !first {
		s.out = append(s.out, ',')
	}
	name := len(s.out)
	if err := s.name(); err != nil {
		return err
	}
	nameEnd := len(s.out)
	s.out = append(s.out, ':')
	value := len(s.out)
	if err := s.value(); err != nil {
		return err
	}
	if i := seen.find(s.out, name, nameEnd); i >= 0 {
		seen.repeated = true
		k := seen.at(i)
		k.value, k.valueEnd = value, len(s.out)
		return nil
	}
	seen.add(s.out, member{name: name, nameEnd: nameEnd, value: value, valueEnd: len(s.out)})
	return nil
}

func (s *scanner) enter() error {
	s.pos++
	s.depth++
	if s.depth > DepthMax {
		return s.wrong(fmt.Sprintf("values lie more than %d deep in each other", DepthMax))
	}
	return nil
}

// peek is the byte at pos, 0 at the end: a zero byte is no part of any JSON text.
func (s *scanner) peek() byte {
	if s.pos < len(s.src) {
		return s.src[s.pos]
	}
	return 0
}

func (s *scanner) space() {
	for s.pos < len(s.src) {
		switch s.src[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

func (s *scanner) wrong(what string) error {
	return fmt.Errorf("%w: at byte %d %s", ErrSyntax, s.pos, what)
}
