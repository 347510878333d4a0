package goja

import (
	"encoding/base64"
	"regexp/syntax"

	js "github.com/dop251/goja"
)

// pieceMax is the most characters that one addition may add to a text: texts grow in steps, not by doubling, so that the
// watchdog ends what grows without end before it fills the memory.
const pieceMax = 256 << 10

// limit is around one side of every addition of which the size is not known: numbers pass, objects become what the addition would make
// of them, texts must not be too long.
func (m *machine) limit(primitive js.Callable) func(js.FunctionCall) js.Value {
	return func(call js.FunctionCall) js.Value {
		v := call.Argument(0)
		if _, is := v.(*js.Object); is {
			p, err := primitive(js.Undefined(), v)
			if err != nil {
				panic(err)
			}
			v = p
		}
		return m.short(v)
	}
}

// limitText is around the values in a text with placeholders (`${value}`).
func (m *machine) limitText(call js.FunctionCall) js.Value {
	v := call.Argument(0)
	if _, is := v.(*js.Object); is {
		v = v.ToString()
	}
	return m.short(v)
}

func (m *machine) short(v js.Value) js.Value {
	if s, is := v.(js.String); is && s.Length() > pieceMax {
		panic(m.rangeError("a text of more than 262144 characters cannot be added to another one"))
	}
	return v
}

func (m *machine) rangeError(text string) js.Value {
	e, err := m.vm.New(m.vm.Get("RangeError"), m.vm.ToValue(text))
	if err != nil {
		panic(err)
	}
	return e
}

// cost is expressionCost, remembered: one text may be looked at for thousands of matches.
func (m *machine) cost(source string) int {
	c, known := m.costs[source]
	if !known {
		if len(m.costs) >= cachedMax {
			clear(m.costs)
		}
		c = expressionCost(source)
		m.costs[source] = c
	}
	return c
}

// expressionCost is about how many states a regular expression has; one that goes back and forth has its own time limit.
func expressionCost(source string) int {
	e, err := syntax.Parse(source, syntax.Perl)
	if err != nil {
		return 1
	}
	p, err := syntax.Compile(e.Simplify())
	if err != nil {
		return 1
	}
	return len(p.Inst)
}

// base64 encodes a text of which each character is a byte.
func (m *machine) base64(text string) (string, error) {
	raw := make([]byte, 0, len(text))
	for _, r := range text {
		if r > 255 {
			return "", errBytes
		}
		raw = append(raw, byte(r))
	}
	return base64.StdEncoding.EncodeToString(raw), nil
}

// unbase64 is the text whose characters are the bytes.
func (m *machine) unbase64(text string) (string, error) {
	raw, err := base64.RawStdEncoding.DecodeString(trimPadding(text))
	if err != nil {
		return "", err
	}
	out := make([]rune, len(raw))
	for i, b := range raw {
		out[i] = rune(b)
	}
	return string(out), nil
}
