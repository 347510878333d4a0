package goja

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"callchain/nodes"
	"callchain/nodes/script"

	js "github.com/dop251/goja"
)

// The compiler and tbel.js must know the same functions.
func TestFunctionsOfTBEL(t *testing.T) {
	m, err := newMachine()
	if err != nil {
		t.Fatal(err)
	}
	o, is := m.intrinsic[3].(*js.Object)
	if !is {
		t.Fatal("tbel.js gives no functions")
	}
	have, want := o.Keys(), slices.Sorted(maps.Keys(tbelFunctions))
	slices.Sort(have)
	if !slices.Equal(have, want) {
		t.Errorf("tbel.js has\n%v, the compiler knows\n%v", have, want)
	}
}

// A panic of the engine is the failure of one node; the machine that it happened in is not used again.
func TestPanicIsAFailure(t *testing.T) {
	e := New(0)
	compiled, err := e.Compile(script.JavaScript, "return [1 + msg.a];")
	if err != nil {
		t.Fatal(err)
	}
	m, err := newMachine()
	if err != nil {
		t.Fatal(err)
	}
	m.intrinsic[0] = m.vm.ToValue(func(js.FunctionCall) js.Value { panic("out of order") })
	e.release(m)
	broken, err := e.Compile(script.JavaScript, "return msg.a + msg.a;")
	if err != nil {
		t.Fatal(err)
	}
	in := nodes.Msg{Data: nodes.Raw([]byte(`{"a":1}`))}
	if v, err := broken.Run(in, "n"); err == nil || !strings.Contains(err.Error(), "the script engine failed: out of order") {
		t.Errorf("a panic gives %v, %v", v, err)
	}
	if v, err := compiled.Run(in, "n"); err != nil || len(v.([]any)) != 1 {
		t.Errorf("afterwards a script gives %v, %v", v, err)
	}
	if len(e.free) != 1 {
		t.Errorf("%d machines are free, want the one that worked", len(e.free))
	}
}

// Idle machines hold little: what scripts made is gone when they end.
func TestMachinesAreFewAndReused(t *testing.T) {
	e := New(0)
	s, err := e.Compile(script.JavaScript, "return Math.max(msg.a, 2);")
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if v, err := s.Run(nodes.Msg{Data: nodes.Raw([]byte(`{"a":1}`))}, "n"); err != nil || v != int64(2) {
			t.Fatal(v, err)
		}
	}
	if len(e.free) != 1 {
		t.Errorf("100 runs after one another left %d machines", len(e.free))
	}
}

// BenchmarkMachine is what a new world costs: at the start, and after a run that was ended.
func BenchmarkMachine(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := newMachine(); err != nil {
			b.Fatal(err)
		}
	}
}
