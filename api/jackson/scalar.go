package jackson

import (
	"math"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// text reads a string and writes it with the escapes that Jackson uses: the short ones, \u00XX in capitals for the other control
// characters, and nothing else.
func (s *scanner) text() error {
	from := s.pos
	s.pos++
	for i := s.pos; i < len(s.src); i++ {
		switch c := s.src[i]; {
		case c == '"': // nothing to resolve: the common case
			s.out = append(s.out, s.src[from:i+1]...)
			s.pos = i + 1
			return nil
		case c == '\\':
			s.out = append(s.out, s.src[from:i]...)
			s.pos = i
			return s.escaped()
		case c < 0x20:
			s.pos = i
			return s.wrong("a control character must be escaped")
		}
	}
	s.pos = len(s.src)
	return s.wrong("the string does not end")
}

// escaped goes on with a string at its first backslash.
func (s *scanner) escaped() error {
	for s.pos < len(s.src) {
		switch c := s.src[s.pos]; {
		case c == '"':
			s.pos++
			s.out = append(s.out, '"')
			return nil
		case c == '\\':
			r, err := s.escape()
			if err != nil {
				return err
			}
			s.out = appendRune(s.out, r)
		case c < 0x20:
			return s.wrong("a control character must be escaped")
		default:
			s.out = append(s.out, c)
			s.pos++
		}
	}
	return s.wrong("the string does not end")
}

// escape reads one escape sequence, or two that make a surrogate pair. A lone surrogate becomes U+FFFD.
func (s *scanner) escape() (rune, error) {
	if s.pos+1 >= len(s.src) {
		s.pos = len(s.src)
		return 0, s.wrong("the string does not end")
	}
	c := s.src[s.pos+1]
	if c != 'u' {
		r, ok := shortEscape(c)
		if !ok {
			return 0, s.wrong("an unknown escape")
		}
		s.pos += 2
		return r, nil
	}
	r, ok := s.hex(s.pos + 2)
	if !ok {
		return 0, s.wrong("four hexadecimal digits are expected after \\u")
	}
	s.pos += 6
	if !utf16.IsSurrogate(r) {
		return r, nil
	}
	if s.pos+1 < len(s.src) && s.src[s.pos] == '\\' && s.src[s.pos+1] == 'u' {
		if low, ok := s.hex(s.pos + 2); ok {
			if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
				s.pos += 6
				return pair, nil
			}
		}
	}
	return utf8.RuneError, nil
}

func shortEscape(c byte) (rune, bool) {
	switch c {
	case '"', '\\', '/':
		return rune(c), true
	case 'b':
		return '\b', true
	case 'f':
		return '\f', true
	case 'n':
		return '\n', true
	case 'r':
		return '\r', true
	case 't':
		return '\t', true
	}
	return 0, false
}

func (s *scanner) hex(at int) (rune, bool) {
	if at+4 > len(s.src) {
		return 0, false
	}
	var r rune
	for _, c := range s.src[at : at+4] {
		r <<= 4
		switch {
		case c >= '0' && c <= '9':
			r |= rune(c - '0')
		case c >= 'a' && c <= 'f':
			r |= rune(c-'a') + 10
		case c >= 'A' && c <= 'F':
			r |= rune(c-'A') + 10
		default:
			return 0, false
		}
	}
	return r, true
}

const hexDigits = "0123456789ABCDEF"

func appendRune(dst []byte, r rune) []byte {
	switch r {
	case '"', '\\':
		return append(dst, '\\', byte(r))
	case '\b':
		return append(dst, '\\', 'b')
	case '\f':
		return append(dst, '\\', 'f')
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	if r < 0x20 {
		return append(dst, '\\', 'u', '0', '0', hexDigits[r>>4], hexDigits[r&15])
	}
	return utf8.AppendRune(dst, r)
}

// number reads a number: integers are written as they are, all else as Java's Double.toString writes the nearest double.
func (s *scanner) number() error {
	from := s.pos
	if s.peek() == '-' {
		s.pos++
	}
	digits := s.digits()
	if digits == 0 || digits > 1 && s.src[s.pos-digits] == '0' {
		return s.wrong("a number has digits and no leading zero")
	}
	integer := true
	if s.peek() == '.' {
		integer = false
		s.pos++
		if s.digits() == 0 {
			return s.wrong("digits are expected after the decimal point")
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		integer = false
		s.pos++
		if c := s.peek(); c == '+' || c == '-' {
			s.pos++
		}
		if s.digits() == 0 {
			return s.wrong("digits are expected in the exponent")
		}
	}
	return s.writeNumber(s.src[from:s.pos], integer)
}

func (s *scanner) digits() int {
	from := s.pos
	for s.pos < len(s.src) && s.src[s.pos] >= '0' && s.src[s.pos] <= '9' {
		s.pos++
	}
	return s.pos - from
}

func (s *scanner) writeNumber(text []byte, integer bool) error {
	switch {
	case len(text) > numberMax:
		return s.wrong("a number is longer than " + strconv.Itoa(numberMax) + " characters")
	case integer && string(text) == "-0":
		s.out = append(s.out, '0')
	case integer:
		s.out = append(s.out, text...)
	default:
		f, err := strconv.ParseFloat(string(text), 64)
		if err != nil && !math.IsInf(f, 0) {
			return s.wrong("a number is expected")
		}
		s.out = appendDouble(s.out, f)
	}
	return nil
}

// appendDouble writes f as Double.toString does: decimal from 10^-3 to below 10^7, else with an exponent, always with a
// digit behind the point. Doubles that do not fit are written as strings, as Jackson does.
func appendDouble(dst []byte, f float64) []byte {
	abs := math.Abs(f)
	switch {
	case math.IsInf(f, 1):
		return append(dst, `"Infinity"`...)
	case math.IsInf(f, -1):
		return append(dst, `"-Infinity"`...)
	case abs == 0 || abs >= 1e-3 && abs < 1e7:
		from := len(dst)
		dst = strconv.AppendFloat(dst, f, 'f', -1, 64)
		return withPoint(dst, from)
	}
	var buf [32]byte
	text := strconv.AppendFloat(buf[:0], f, 'e', -1, 64)
	e := len(text) - 1
	for text[e] != 'e' {
		e--
	}
	from := len(dst)
	dst = withPoint(append(dst, text[:e]...), from)
	dst = append(dst, 'E')
	if text[e+1] == '-' {
		dst = append(dst, '-')
	}
	exponent := text[e+2:]
	for len(exponent) > 1 && exponent[0] == '0' {
		exponent = exponent[1:]
	}
	return append(dst, exponent...)
}

func withPoint(dst []byte, from int) []byte {
	for _, c := range dst[from:] {
		if c == '.' {
			return dst
		}
	}
	return append(dst, '.', '0')
}
