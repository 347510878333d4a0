package goja_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"callchain/nodes"
	"callchain/nodes/script"
	"callchain/nodes/script/goja"

	"pgregory.net/rapid"
)

// value draws message data.
func value(depth int) *rapid.Generator[any] {
	simple := []*rapid.Generator[any]{
		rapid.Just[any](nil), rapid.Bool().AsAny(), rapid.Int64().AsAny(), rapid.Float64Range(-1e300, 1e300).AsAny(), rapid.String().AsAny(),
	}
	if depth == 0 {
		return rapid.OneOf(simple...)
	}
	key := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"__proto__", "constructor", "toString", "length", "0", "10", "toJSON", "valueOf", ""}))
	list := rapid.Custom(func(t *rapid.T) any { return rapid.SliceOfN(value(depth-1), 0, 4).Draw(t, "list") })
	object := rapid.Custom(func(t *rapid.T) any { return rapid.MapOfN(key, value(depth-1), 0, 4).Draw(t, "object") })
	return rapid.OneOf(append(simple, list, object)...)
}

// What goes through a script unchanged is the same memory afterwards; what goes through a copy is equal, but for numbers that JavaScript
// cannot hold.
func TestValuesComeBackAsTheyWere(t *testing.T) {
	same, inside := compile(t, script.JavaScript, "return {msg: msg, metadata: metadata};"), compile(t, script.JavaScript, "return {msg: {deep: [msg]}};")
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.MapOfN(rapid.String(), value(3), 0, 4).Draw(t, "data")
		m := message("")
		m.Data = nodes.Parsed(v)
		out, err := same.Run(m, "n")
		if err != nil {
			t.Fatal(err)
		}
		o := out.(map[string]any)
		if reflect.ValueOf(o["msg"]).Pointer() != reflect.ValueOf(v).Pointer() {
			t.Fatalf("%#v comes back as %#v", v, o["msg"])
		}
		if _, is := o["metadata"].(nodes.Metadata); !is {
			t.Fatalf("metadata come back as %T", o["metadata"])
		}
		out, err = inside.Run(m, "n")
		if err != nil {
			t.Fatal(err)
		}
		if deep := out.(map[string]any)["msg"].(map[string]any)["deep"].([]any); reflect.ValueOf(deep[0]).Pointer() != reflect.ValueOf(v).Pointer() {
			t.Fatalf("%#v comes back within another object as %#v", v, deep[0])
		}
	})
}

// vandal changes everything that it can reach.
const vandal = `function spoil(o) {
	for (var k in o) { if (typeof o[k] === 'object' && o[k] !== null) spoil(o[k]); o[k] = 'spoilt'; }
	if (Array.isArray(o)) { o.push(1); o.reverse(); } else { o.added = 1; for (var k in o) { if (k !== 'added') { delete o[k]; break; } } }
}
spoil(msg); spoil(metadata); msgType = 'SPOILT'; return {msg: msg, metadata: metadata, msgType: msgType};`

func TestAScriptNeverChangesWhatOthersSee(t *testing.T) {
	s := compile(t, script.JavaScript, vandal)
	rapid.Check(t, func(t *rapid.T) {
		m := message("")
		m.Data = nodes.Parsed(map[string]any{"a": value(3).Draw(t, "a"), "b": []any{map[string]any{"c": int64(1)}}})
		before := written(t, m)
		if _, err := s.Run(m, "n"); err != nil {
			t.Fatal(err)
		}
		if after := written(t, m); after != before {
			t.Fatalf("the message was %s and is %s", before, after)
		}
	})
}

func written(t *rapid.T, m nodes.Msg) string {
	v, err := m.Data.Value()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%#v %#v %s", v, m.Metadata, m.Type)
}

// The same message gives the same, in any machine of any engine, at the same time.
func TestSameMessageSameResult(t *testing.T) {
	body := "n = typeof n === 'undefined' ? 1 : n + 1; return [n, Math.random(), Date.now(), Object.keys(msg), new Date() + '', [3, 1, 2].sort()];"
	m := message(`{"z":1,"b":{"y":1,"a":2},"a":[1]}`)
	want, err := compile(t, script.JavaScript, body).Run(m, "n")
	if err != nil {
		t.Fatal(err)
	}
	other := goja.New(500 * time.Millisecond)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			s, err := other.Compile(script.JavaScript, body)
			if err != nil {
				t.Error(err)
				return
			}
			for range 50 {
				if got, err := s.Run(m, "n"); err != nil || !reflect.DeepEqual(got, want) {
					t.Errorf("%v, %v; want %v", got, err, want)
				}
			}
		})
	}
	all.Wait()
	if got, err := compile(t, script.JavaScript, body).Run(m, "other"); err != nil || reflect.DeepEqual(got, want) {
		t.Errorf("another node draws the same numbers: %v, %v", got, err)
	}
}

// FuzzData puts any data through scripts that copy it in different ways; JSON.stringify must agree with what comes out.
func FuzzData(f *testing.F) {
	for _, seed := range []string{`{"a":1}`, `[1,2.5,-0,1e400,"\ud800"]`, `{"__proto__":{"x":1},"toJSON":1,"a":{"toString":null}}`, `9007199254740993`, `""`, `{"":[[[]]]}`, hundred} {
		f.Add([]byte(seed))
	}
	whole, text := compile(f, script.JavaScript, "return {v: [msg]};"), compile(f, script.JavaScript, "return {v: [JSON.parse(JSON.stringify(msg))]};")
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(bytes.TrimSpace(data)) == 0 {
			return
		}
		m := message(string(data))
		_, bad := m.Data.Value()
		a, err := whole.Run(m, "n")
		if (err != nil) != (bad != nil) && len(data) < 1000 && !strings.Contains(fmt.Sprint(err), "nested deeper") {
			t.Fatalf("%q: %v, but parsing gives %v", data, err, bad)
		}
		b, err2 := text.Run(m, "n")
		if err != nil || err2 != nil {
			return
		}
		if !alike(a, b) {
			t.Fatalf("%q comes out as\n%#v, through JSON as\n%#v", data, a, b)
		}
	})
}

// alike compares by what JavaScript's numbers can tell.
func alike(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, is := b.(map[string]any)
		if !is || len(a) != len(b) {
			return false
		}
		for k := range a {
			if !alike(a[k], b[k]) {
				return false
			}
		}
		return true
	case []any:
		b, is := b.([]any)
		if !is || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !alike(a[i], b[i]) {
				return false
			}
		}
		return true
	}
	x, isX := float(a)
	y, isY := float(b)
	return isX && isY && x == y || a == b
}

func float(v any) (float64, bool) {
	switch v := v.(type) {
	case int64:
		return float64(v), true
	case float64:
		return v, true
	}
	return 0, false
}

// pieces are what random scripts are made of.
var pieces = strings.Fields(`return msg metadata msgType . , ; : ? ( ) [ ] { } = == === + - * / % ++ -- += && || ?? ! ~ < > => ... 'a' "b" 1 0.5 -1 1e9 null
	undefined true NaN this var let const x y z a function if else for while do break continue switch case default try catch finally throw new delete
	typeof in of instanceof void class extends get set static yield Object Array String Math JSON Date RegExp Map Set Symbol Error Reflect Uint8Array
	keys length map push concat join repeat stringify parse prototype constructor call apply bind toString toJSON valueOf __proto__ hasOwnProperty
	/a+/g /(a|b)*c/ .temperature .name .map( .join( .repeat( x=>x (function(){}) [...msg] ` + "`${msg}` `${")

// Ten seconds of scripts that nobody would write (less when tests are to be short): they fail or not, and the process lives on.
func TestRandomScripts(t *testing.T) {
	long := 10 * time.Second
	if testing.Short() {
		long = time.Second
	}
	e := goja.New(5 * time.Millisecond)
	random := rand.New(rand.NewPCG(1, 2))
	ran, compiled := 0, 0
	for began := time.Now(); time.Since(began) < long; ran++ {
		words := make([]string, 1+random.IntN(14))
		for i := range words {
			words[i] = pieces[random.IntN(len(pieces))]
		}
		lang := script.JavaScript
		if ran%3 == 0 {
			lang = script.TBEL
		}
		s, err := e.Compile(lang, strings.Join(words, " "))
		if err != nil {
			continue
		}
		compiled++
		m := message(hundred)
		v, err := s.Run(m, "n")
		if err != nil && strings.Contains(err.Error(), "the script engine failed") {
			t.Errorf("%s: %v", strings.Join(words, " "), err)
		}
		if text := shown(v, err); strings.HasPrefix(text, "no JSON") {
			t.Errorf("%s: %s", strings.Join(words, " "), text)
		}
	}
	t.Logf("%d scripts, %d of them compiled", ran, compiled)
	if compiled < 5 {
		t.Errorf("of %d scripts %d compiled", ran, compiled)
	}
}
