package goja

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"callchain/nodes"
	"callchain/nodes/script"

	js "github.com/dop251/goja"
)

// Three excesses within a minute suspend a script for a minute (ThingsBoard: max_errors, max_black_list_duration_sec). Time is
// that of the messages.
const (
	excessesMax    = 3
	excessesWithin = int64(time.Minute / time.Microsecond)
)

// Run implements script.Script.
func (c *compiled) Run(m nodes.Msg, node string) (any, error) {
	if until := c.suspended(m.Now); until != 0 {
		return nil, &script.Excess{Budget: c.engine.budget, Until: until}
	}
	w, err := c.engine.machine()
	if err != nil {
		return nil, err
	}
	c.engine.runs.Add(1)
	v, err, clean := c.run(w, m, node)
	if clean {
		c.engine.release(w)
	}
	if _, is := errors.AsType[*script.Excess](err); is {
		c.engine.excesses.Add(1)
		c.exceeded(m.Now)
	}
	return v, err
}

// suspended is the time until which the script is not run, 0 if it is.
func (c *compiled) suspended(now int64) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now >= c.until || now < c.until-excessesWithin {
		return 0
	}
	return c.until
}

// exceeded counts an excess; the third within a minute suspends the script.
func (c *compiled) exceeded(now int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	oldest := c.excesses[1]
	copy(c.excesses[:], c.excesses[1:])
	c.excesses[excessesMax-1] = now
	if oldest != 0 && now-oldest < excessesWithin {
		c.until = now + excessesWithin
		c.excesses = [excessesMax]int64{}
	}
}

// run runs the script in a machine; clean: the machine can be used again.
func (c *compiled) run(w *machine, m nodes.Msg, node string) (v any, err error, clean bool) {
	w.now, w.chance = time.UnixMicro(m.Now).UTC(), seed(m, node)
	w.watched(c.engine.budget, func() {
		defer func() {
			if x := recover(); x != nil {
				v, err, clean = nil, c.broken(w, x), false
			}
		}()
		if thrown := w.vm.Try(func() { v, err = c.evaluate(w, m) }); thrown != nil {
			err = thrown
		}
		clean = true
		if err != nil {
			v, err = nil, c.told(w, err) // what was thrown is asked for its text, which is the script's work, too
		}
	})
	return v, err, clean
}

// evaluate converts the message, calls the function and converts its result.
func (c *compiled) evaluate(w *machine, m nodes.Msg) (any, error) {
	f, err := w.function(c)
	if err != nil {
		return nil, err
	}
	in := input{vm: w.vm}
	args := [3]js.Value{js.Undefined(), js.Undefined(), w.vm.ToValue(m.Type)}
	if c.msg.some {
		if args[0], err = in.data(m, c.lang, c.msg); err != nil {
			return nil, err
		}
	}
	if c.metadata.some {
		if args[1], err = in.metadata(m.Metadata, c.metadata); err != nil {
			return nil, err
		}
	}
	result, err := f(js.Undefined(), args[:]...)
	if err != nil {
		return nil, err
	}
	out := output{vm: w.vm, came: in.came, left: resultMax}
	return out.result(result)
}

// function is the script's function in this machine.
func (w *machine) function(c *compiled) (js.Callable, error) {
	if f, ok := w.functions[c]; ok {
		return f, nil
	}
	outer, err := w.vm.RunProgram(c.program)
	if err != nil {
		return nil, err
	}
	wrap, _ := js.AssertFunction(outer)
	inner, err := wrap(js.Undefined(), w.intrinsic...)
	if err != nil {
		return nil, err
	}
	f, ok := js.AssertFunction(inner)
	if !ok {
		return nil, errors.New("the script is no function")
	}
	if len(w.functions) >= cachedMax {
		clear(w.functions)
	}
	w.functions[c] = f
	return f, nil
}

// seed makes chance depend on the message, the node and the attempt, which is known by its time.
func seed(m nodes.Msg, node string) uint64 {
	h := fnv.New64a()
	var now [8]byte
	binary.LittleEndian.PutUint64(now[:], uint64(m.Now))
	for _, part := range [][]byte{m.ID[:], now[:], []byte(node)} {
		_, _ = h.Write(part) // a hash takes everything
	}
	return h.Sum64()
}

func isExcess(err error) bool {
	_, interrupted := errors.AsType[*js.InterruptedError](err)
	return interrupted
}

// broken is what becomes of a panic: the failure of this node, nothing else.
func (c *compiled) broken(w *machine, x any) error {
	if err, is := x.(error); is {
		told := c.told(w, err)
		if _, known := errors.AsType[*script.Thrown](told); known || isExcess(err) {
			return told
		}
	}
	return fmt.Errorf("the script engine failed: %.200s", fmt.Sprint(x))
}

// told puts what the engine says into the contract's words.
func (c *compiled) told(w *machine, err error) error {
	if isExcess(err) {
		return &script.Excess{Budget: c.engine.budget}
	}
	if deep, ok := errors.AsType[*js.StackOverflowError](err); ok {
		return at(deep.Stack(), fmt.Sprintf("the script calls itself too often: more than %d calls within calls", callsMax))
	}
	if thrown, ok := errors.AsType[*js.Exception](err); ok {
		return at(thrown.Stack(), w.thrownText(thrown.Value()))
	}
	return err
}

// textMax is the most bytes of a thrown text that is told.
const textMax = 1000

// thrownText is the message of an error, or what else was thrown.
func (w *machine) thrownText(v js.Value) (text string) {
	if v == nil {
		return "the script failed"
	}
	thrown := w.vm.Try(func() {
		if o, is := v.(*js.Object); is && o.ClassName() == "Object" {
			v = w.stringify(js.FunctionCall{Arguments: []js.Value{o}})
		}
		text = strings.ToValidUTF8(v.String(), "\uFFFD")
	})
	switch {
	case thrown != nil:
		return "the script threw something that has no text"
	case text == "":
		return "the script threw an empty text"
	case len(text) > textMax:
		return strings.ToValidUTF8(text[:textMax], "") + "…"
	}
	return text
}

// at is an error with the innermost place that is in the script itself.
func at(stack []js.StackFrame, text string) error {
	own := slices.IndexFunc(stack, func(f js.StackFrame) bool { return f.SrcName() == fileName && f.Position().Line > 1 })
	if own < 0 {
		return &script.Thrown{Text: text}
	}
	p := stack[own].Position()
	return &script.Thrown{Text: text, Line: p.Line - 1, Column: max(p.Column, 1)}
}
