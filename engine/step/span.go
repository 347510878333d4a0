package step

import (
	"encoding/hex"
	"errors"
)

// spanTextLen is the length of a span's text: 16 hex digits, a dash, two digits of flags.
const spanTextLen = 19

// MarshalText is the end of a W3C traceparent: "<parent-id>-<flags>".
func (s Span) MarshalText() ([]byte, error) {
	flags := "-00"
	if s.Sampled {
		flags = "-01"
	}
	return append(hex.AppendEncode(make([]byte, 0, spanTextLen), s.ID[:]), flags...), nil
}

// UnmarshalText reads what MarshalText wrote.
func (s *Span) UnmarshalText(b []byte) error {
	if len(b) != spanTextLen || b[16] != '-' {
		return errBadSpan
	}
	var flags [1]byte
	if _, err := hex.Decode(s.ID[:], b[:16]); err != nil {
		return errBadSpan
	}
	if _, err := hex.Decode(flags[:], b[17:]); err != nil {
		return errBadSpan
	}
	s.Sampled = flags[0]&1 != 0
	return nil
}

var errBadSpan = errors.New("a span is 16 hex digits, a dash and two hex digits of flags")

// Traceparent is the W3C traceparent (version 00) of a span in a trace; empty if there is no trace or no span.
func Traceparent(trace [16]byte, s Span) string {
	if trace == [16]byte{} || s.ID == [8]byte{} {
		return ""
	}
	text, _ := s.MarshalText() // it cannot fail
	b := hex.AppendEncode(append(make([]byte, 0, 55), "00-"...), trace[:])
	return string(append(append(b, '-'), text...))
}

// ParseTraceparent reads a W3C traceparent; false if it is not well-formed, and then there is no trace. Versions after 00 may have more
// behind the flags.
func ParseTraceparent(text string) (trace [16]byte, s Span, ok bool) {
	switch {
	case len(text) < 55, len(text) > 55 && (text[:2] == "00" || text[55] != '-'), text[:2] == "ff":
		return trace, s, false
	case text[2] != '-' || text[35] != '-':
		return trace, s, false
	}
	for _, c := range []byte(text[:55]) {
		if c >= 'A' && c <= 'F' {
			return trace, s, false // hex digits are lower case
		}
	}
	var version [1]byte
	_, err1 := hex.Decode(version[:], []byte(text[:2]))
	_, err2 := hex.Decode(trace[:], []byte(text[3:35]))
	err3 := s.UnmarshalText([]byte(text[36:55]))
	if err := errors.Join(err1, err2, err3); err != nil || trace == [16]byte{} || s.ID == [8]byte{} {
		return [16]byte{}, Span{}, false
	}
	return trace, s, true
}

// TraceContext is a W3C trace context. The zero TraceContext is in no trace.
type TraceContext struct {
	Trace [16]byte
	Span  Span
}

// None reports whether it is in no trace.
func (t TraceContext) None() bool { return t.Trace == [16]byte{} }

// Traceparent is its W3C traceparent; empty if it has none.
func (t TraceContext) Traceparent() string { return Traceparent(t.Trace, t.Span) }
