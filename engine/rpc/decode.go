package rpc

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math"
	"unicode/utf8"

	"github.com/google/uuid"
)

// reader takes the stored form of a fact apart, as AppendData writes it: its fields in its order, no white space, no escapes in texts. It
// is exact about that; what is written another way (by hand, by another version) is left to encoding/json, which is slower and gives the same
// for what both accept. Raw values refer to the data.
type reader struct {
	rest []byte
	bad  bool // not in the expected form
}

// decodePlain reads the facts of every call; false leaves it to encoding/json.
func decodePlain(name string, data []byte) (f Fact, ok bool) {
	r := reader{rest: data}
	switch name {
	case "Requested":
		f = r.requested()
	case "Queued":
		f = r.queued()
	case "Sent":
		f = r.sent()
	case "Delivered":
		r.must(`{"evidence":`)
		f = Delivered{Evidence: r.text()}
	case "Succeeded":
		r.must(`{"response":`)
		f = Succeeded{Response: r.payload()}
	default:
		return nil, false
	}
	r.must("}")
	return f, !r.bad && len(r.rest) == 0
}

func (r *reader) requested() (f Requested) {
	r.must("{")
	if r.has(`"direction":1,`) {
		f.Direction = FromDevice
	}
	r.must(`"method":`)
	f.Method = r.text()
	if r.has(`,"params":`) {
		f.Params = r.value()
	}
	f.Oneway = r.has(`,"oneway":true`)
	f.Persistent = r.has(`,"persistent":true`)
	f.Waiting = r.has(`,"waiting":true`)
	r.must(`,"expires":`)
	f.Expires = Instant(r.number(math.MinInt64, math.MaxInt64))
	if r.has(`,"retries":`) {
		n := int(r.number(math.MinInt, math.MaxInt))
		f.Retries = &n
	}
	if r.has(`,"order":`) {
		f.Order = Order(r.number(0, math.MaxUint8))
	}
	if r.has(`,"info":`) {
		f.Info = r.value()
	}
	if r.has(`,"content":`) {
		f.Content = r.base64()
	}
	if r.has(`,"session":`) {
		f.Session = r.id()
	}
	if r.has(`,"request":`) {
		f.Request = int32(r.number(math.MinInt32, math.MaxInt32))
	}
	return f
}

func (r *reader) queued() (f Queued) {
	r.must(`{"wire":`)
	f.Wire = int32(r.number(math.MinInt32, math.MaxInt32))
	if r.has(`,"method":`) {
		method := r.text()
		f.Method = &method
	}
	if r.has(`,"params":`) {
		f.Params = r.value()
	}
	if r.has(`,"run":`) {
		f.Run = r.id()
	}
	f.Again = r.has(`,"again":true`)
	return f
}

func (r *reader) sent() (f Sent) {
	r.must("{")
	if r.has(`"session":`) {
		f.Session = r.id()
		r.must(",")
	}
	r.must(`"attempt":`)
	f.Attempt = int16(r.number(math.MinInt16, math.MaxInt16))
	f.Ack = r.has(`,"ack":true`)
	return f
}

func (r *reader) payload() (p Payload) {
	switch {
	case r.has(`{"json":`):
		p = Payload{Form: JSON, Bytes: r.value()}
	case r.has(`{"text":`):
		p = Payload{Form: Text, Bytes: []byte(r.text())}
	default:
		r.must("{")
	}
	r.must("}")
	return p
}

// has takes what comes next if it is s.
func (r *reader) has(s string) bool {
	if len(r.rest) < len(s) || string(r.rest[:len(s)]) != s {
		return false
	}
	r.rest = r.rest[len(s):]
	return true
}

func (r *reader) must(s string) {
	if !r.has(s) {
		r.bad = true
	}
}

// string takes a text in quotes without escapes.
func (r *reader) string() []byte {
	r.must(`"`)
	end := bytes.IndexByte(r.rest, '"')
	if r.bad || end < 0 {
		r.bad = true
		return nil
	}
	text := r.rest[:end]
	r.rest = r.rest[end+1:]
	ascii := true
	for _, c := range text {
		if c < ' ' || c == '\\' {
			r.bad = true
			return nil
		}
		ascii = ascii && c < utf8.RuneSelf
	}
	r.bad = !ascii && !utf8.Valid(text) // encoding/json replaces invalid UTF-8
	return text
}

func (r *reader) text() string { return string(r.string()) }

func (r *reader) id() uuid.UUID {
	id, err := uuid.ParseBytes(r.string())
	r.bad = r.bad || err != nil
	return id
}

func (r *reader) base64() []byte {
	text := r.string()
	out, err := base64.StdEncoding.AppendDecode(nil, text)
	r.bad = r.bad || err != nil || len(text) == 0
	return out
}

// digitsMost is how many digits surely fit into 64 bits.
const digitsMost = 18

// number takes a whole number.
func (r *reader) number(least, most int64) int64 {
	negative := r.has("-")
	var n int64
	digits := 0
	for digits < len(r.rest) && '0' <= r.rest[digits] && r.rest[digits] <= '9' {
		if digits == digitsMost {
			r.bad = true
			return 0
		}
		n = n*10 + int64(r.rest[digits]-'0')
		digits++
	}
	if digits == 0 || digits > 1 && r.rest[0] == '0' {
		r.bad = true
		return 0
	}
	r.rest = r.rest[digits:]
	if negative {
		n = -n
	}
	r.bad = r.bad || n < least || n > most
	return n
}

// value takes any JSON value as it is.
func (r *reader) value() json.RawMessage {
	end := valueEnd(r.rest)
	value := r.rest[:end:end]
	r.rest = r.rest[end:]
	if end == 0 || value[0] <= ' ' || value[end-1] <= ' ' || !json.Valid(value) {
		r.bad = true
		return nil
	}
	return value
}

// valueEnd is where a value ends: at the comma or the bracket that is not its own.
func valueEnd(b []byte) int {
	depth, quoted := 0, false
	for i := 0; i < len(b); i++ {
		c := b[i]
		if quoted {
			switch c {
			case '\\':
				i++
			case '"':
				quoted = false
			}
			continue
		}
		switch c {
		case '"':
			quoted = true
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth < 0 {
				return i
			}
		case ',':
			if depth == 0 {
				return i
			}
		}
	}
	return len(b)
}
