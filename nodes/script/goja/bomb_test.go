package goja_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"callchain/nodes/script"
	"callchain/nodes/script/goja"
)

// bombs are scripts that would run for hours or fill the memory. Each must end with an error, soon.
var bombs = []string{
	"while (true) {}",
	"for (;;) { try { for (;;) {} } catch (e) {} finally { continue; } }",
	"var s = 'x'; while (true) { s += s; } return s;",
	"var s = 'x'; while (true) { s = s + s; } return s;",
	"var s = 'x'; while (true) { s = `${s}${s}${s}${s}`; } return s;",
	"var s = 'x'.repeat(100000); var o = {toString: () => s}; while (true) { s = s + o; } return s;",
	"var s = 'x'; while (true) { s = s.concat(s, s); } return s;",
	"var s = 'x'; while (true) { s = [s, s].join(s); } return s;",
	"var s = 'x'; while (true) { s = s.replace(/x/g, 'xx'); } return s;",
	"return 'x'.repeat(1e6).replace(/x/g, 'y'.repeat(1e6));",
	"return 'x'.repeat(1e6).replace(/x/g, '$`');",
	"return 'x'.repeat(1e6).replace(/x/g, () => 'y'.repeat(1e6));",
	"return 'x'.repeat(1e9);",
	"return 'x'.padStart(1e9);",
	"return new Array(1e9).fill(0).length;",
	"return new Array(1e9).join('x');",
	"return Array.from({length: 1e9}).length;",
	"return Array.apply(null, {length: 1e9}).length;",
	"return Math.max.apply(null, {length: 1e9});",
	"return Reflect.apply(Math.max, null, {length: 1e9});",
	"return Array.prototype.forEach.call({length: 1e15}, x => x);",
	"return Array.prototype.unshift.call({length: 1e15}, 1);",
	"return Array.prototype.indexOf.call({length: 1e15}, 1);",
	"return Array.prototype.reverse.call({length: 1e15});",
	"var a = [1]; while (true) { a = a.concat(a); } return a;",
	"var a = [1]; while (true) { a = [...a, ...a]; } return a;",
	"var a = [1]; while (true) { a.push(...a); } return a;",
	"var a = []; for (var i = 0; ; i++) { a.push({i: i}); }",
	"var a = []; for (var i = 0; i < 60; i++) { a = [a, a]; } return String(a);",
	"var a = []; for (var i = 0; i < 60; i++) { a = [a, a]; } return JSON.stringify(a);",
	"var a = []; for (var i = 0; i < 60; i++) { a = [a, a]; } return a.flat(Infinity);",
	"var a = []; for (var i = 0; i < 60; i++) { a = [a, a]; } return a;",
	"var a = []; for (var i = 0; i < 60; i++) { a = {x: a, y: a}; } return a;",
	"var a = []; for (var i = 0; i < 60; i++) { a = {x: a, y: a}; } throw a;",
	"throw {toString: () => { while (true) {} }};",
	"throw {toJSON: () => { while (true) {} }};",
	"return {get x() { while (true) {} }};",
	"return {toJSON: () => { while (true) {} }};",
	"var a = []; for (var i = 0; i < 1e6; i++) { a = [a]; } return String(a);",
	"var o = {toString: () => '' + o}; return '' + o;",
	"function f() { return f() + f(); } return f();",
	"function f(n) { return [1].map(() => f(n + 1)); } return f(0);",
	"return [3, 1, 2].sort(() => { while (true) {} });",
	"return /^(a+)+$/.test('a'.repeat(40) + 'b') + /^(?=(a+)+$)(a+)+$/.test('a'.repeat(40) + 'b');",
	"var n = 0; 'a'.repeat(1000).replace(/(?=(a+)+b)./g, () => n++); while (true) {}",
	"return 'a'.repeat(1e5).match(/(a|aa){300}b/);",
	"return 'a'.repeat(1e5).match(/(a|aa){300}b/g);",
	"return [...'a'.repeat(1e5).matchAll(/(a|aa){300}b/g)];",
	"return 'a'.repeat(1e5).replace(/(a|aa){300}b/, '');",
	"return 'a'.repeat(1e5).replaceAll(/(a|aa){300}b/g, '');",
	"return 'a'.repeat(1e5).search(/(a|aa){300}b/);",
	"return 'a'.repeat(1e5).split(/(a|aa){300}b/);",
	"return /(a|aa){300}b/.exec('a'.repeat(1e5));",
	"return new RegExp('(a|aa){300}b').test('a'.repeat(1e5));",
	"return new RegExp('('.repeat(1e5));",
	"return new Uint8Array(1e9).length;",
	"return new Float64Array({length: 1e9}).length;",
	"return new ArrayBuffer(1e10).byteLength;",
	"return new Uint8Array(1).constructor(1e9);",
	"return Reflect.construct(Uint8Array, [1e9]).length;",
	"return JSON.parse('['.repeat(1e6));",
	"var s = '['.repeat(100000) + ']'.repeat(100000); return JSON.parse(s);",
	"var o = {}; o.o = o; return JSON.stringify(o);",
	"function* g() { while (true) yield 1; } return [...g()];",
	"return Object.fromEntries((function* () { for (var i = 0; ; i++) yield ['k' + i, i]; })());",
	"var [a, ...b] = (function* () { while (true) yield 1; })();",
	"var x = 'a'.repeat(200000); return {a: x, b: x};",
	"return 'x'.repeat(1e6).split('').sort().sort();",
	"do { Array(20000).fill('x').sort(); } while (true)",
	"return Symbol.iterator + 1;",
	"return new Date(8.64e15 + 1).toISOString();",
	"var m = new Map(); for (var i = 0; ; i++) m.set(i, i);",
	"throw new Error('x'.repeat(1e6));",
	"label: while (true) { continue label; }",
}

func TestBombs(t *testing.T) {
	e := goja.New(0)
	for _, body := range bombs {
		s, err := e.Compile(script.JavaScript, body)
		if err != nil {
			t.Errorf("%s: %v", body, err)
			continue
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		began := time.Now()
		v, err := s.Run(message("{}"), "n")
		took := time.Since(began)
		runtime.ReadMemStats(&after)
		made := int64(after.TotalAlloc-before.TotalAlloc) >> 20
		if testing.Verbose() {
			t.Logf("%8s %4d MB %.70s → %.90v", took.Round(time.Millisecond), made, body, err)
		}
		if err == nil {
			t.Errorf("%s: no error, but %.100v", body, v)
		}
		if len(fmt.Sprint(err)) > 1200 {
			t.Errorf("%s: the error has %d bytes", body, len(fmt.Sprint(err)))
		}
		// A busy machine is slow: what is asked here is that nothing runs on, or takes all memory.
		if took > 5*time.Second || made > 1024 {
			t.Errorf("%s: took %s and %d MB", body, took, made)
		}
	}
	after := "var a = [1, [2, [3]]]; return [String(a), [3, 1, 2].sort().join(), msg.a, (() => { try { return null.x; } catch (e) { return e.name; } })()];"
	if got := shown(compileWith(t, e, after).Run(message(`{"a":1}`), "n")); got != `["1,2,3","1,2,3",1,"TypeError"]` {
		t.Errorf("after all that, a script gives %s", got)
	}
	if v, err := compileWith(t, e, "return msg.a;").Run(message(`{"a":1}`), "n"); err != nil || v != int64(1) {
		t.Errorf("after all that, a script gives %v, %v", v, err)
	}
}

func compileWith(t *testing.T, e *goja.Engine, body string) script.Script {
	t.Helper()
	s, err := e.Compile(script.JavaScript, body)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Scripts whose form alone is too much must not take the process down.
func TestDeepSources(t *testing.T) {
	const n = 12000
	for name, body := range map[string]string{
		"parentheses": "return " + strings.Repeat("(", n) + "1" + strings.Repeat(")", n) + ";",
		"lists":       "return " + strings.Repeat("[", n) + strings.Repeat("]", n) + ";",
		"not":         "return " + strings.Repeat("!", 3*n) + "1;",
		"sum":         "return 1" + strings.Repeat("+1", n) + ";",
		"if":          strings.Repeat("if(1)", n/2) + "return 1;",
		"arrows":      "return " + strings.Repeat("a=>", n) + "1;",
		"choice":      "return " + strings.Repeat("1?", n) + "1" + strings.Repeat(":1", n) + ";",
		"blocks":      strings.Repeat("{", n) + strings.Repeat("}", n),
		"calls":       "return f" + strings.Repeat("()", n) + ";",
		"new":         "return " + strings.Repeat("new ", n) + "x;",
		"template":    "return " + strings.Repeat("`${", n/2) + "1" + strings.Repeat("}`", n/2) + ";",
		"expression":  "return /" + strings.Repeat("(", 900) + strings.Repeat(")", 900) + "/;",
	} {
		s, err := engine.Compile(script.JavaScript, body)
		if err == nil {
			_, err = s.Run(message("{}"), "n")
		}
		if err == nil && name != "not" && name != "parentheses" && name != "expression" {
			t.Errorf("%s: %d levels are taken", name, n)
		}
	}
}
