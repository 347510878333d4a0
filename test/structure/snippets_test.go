package structure_test

import (
	"fmt"
	"strings"
	"testing"
)

// snippet is a small project that breaks one rule, or none.
type snippet struct {
	name  string
	check func(*tree) []finding
	files map[string]string
	want  string // part of the only finding; empty if there must be none
}

func TestChecksFindWhatTheyShould(t *testing.T) {
	for _, set := range [][]snippet{importSnippets, shapeSnippets, nameSnippets, docSnippets, habitSnippets} {
		for _, s := range set {
			t.Run(s.name, func(t *testing.T) { expect(t, s.check(parse(t, s.files)), s.want) })
		}
	}
}

func TestPurityIsCheckedByTypes(t *testing.T) {
	built, err := listExports(root, "time", "strings", "github.com/google/uuid")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range puritySnippets {
		t.Run(s.name, func(t *testing.T) { expect(t, checkPurity(parse(t, s.files), built), s.want) })
	}
}

func TestFoldersOutsideTheTreeAreFound(t *testing.T) {
	expect(t, checkFolders(&tree{top: []string{"engine", "docs", ".ci"}}), "")
	expect(t, checkFolders(&tree{top: []string{"engine", "internal"}}), "R9: internal/")
}

func TestFindingNamesPlaceFixAndRule(t *testing.T) {
	got := finding{"R7", "engine/clock.go:12", "sleeps", "wait on a channel"}.String()
	if want := "R7: engine/clock.go:12: sleeps (CONTRIBUTING.md R7; fix: wait on a channel)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func parse(t *testing.T, files map[string]string) *tree {
	t.Helper()
	out := newTree()
	for name, text := range files {
		if err := out.add(name, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func expect(t *testing.T, found []finding, want string) {
	t.Helper()
	switch {
	case want == "" && len(found) > 0:
		t.Errorf("found %v, want nothing", found)
	case want != "" && len(found) != 1:
		t.Errorf("found %v, want one finding with %q", found, want)
	case want != "" && !strings.Contains(found[0].String(), want):
		t.Errorf("found %v, want it to contain %q", found[0], want)
	}
}

func one(name, text string) map[string]string { return map[string]string{name: text} }

var importSnippets = []snippet{
	{"a contract may import uuid", checkImports, one("eventstore/a.go", "package eventstore\nimport (\n\"context\"\n\"github.com/google/uuid\"\n)"), ""},
	{"a contract is a leaf", checkImports, one("eventstore/a.go", "package eventstore\nimport \"callchain/engine/rpc\""), "R1: eventstore/a.go:2: eventstore imports engine/rpc"},
	{"a contract has no driver", checkImports, one("transports/a.go", "package transports\nimport \"github.com/plgd-dev/go-coap/v3\""), "transports imports github.com/plgd-dev"},
	{"an adapter sees its contract", checkImports, one("transports/mqtt/a.go", "package mqtt\nimport \"callchain/transports\""), ""},
	{"an adapter sees one contract", checkImports, one("transports/mqtt/a.go", "package mqtt\nimport \"callchain/eventstore\""), "an adapter sees one contract"},
	{"adapters do not see each other", checkImports, one("transports/mqtt/a.go", "package mqtt\nimport \"callchain/transports/coap\""), "imports transports/coap"},
	{"the shell sees no adapter", checkImports, one("engine/a.go", "package engine\nimport \"callchain/eventstore/sqlite\""), "the shell sees contracts"},
	{"the step sees no store", checkImports, one("engine/step/a.go", "package step\nimport \"callchain/eventstore\""), "pure packages see only pure packages"},
	{"cmd sees all", checkImports, one("cmd/callchain/a.go", "package main\nimport \"callchain/eventstore/sqlite\""), ""},
	{"production leaves suites alone", checkImports, one("cmd/callchain/a.go", "package main\nimport \"callchain/eventstore/storetest\""), "imports the test suite"},
	{"a test imports what it likes", checkImports, one("engine/a_test.go", "package engine\nimport \"callchain/eventstore/sqlite\""), ""},
	{"testing stays in tests", checkImports, one("engine/a.go", "package engine\nimport \"testing\""), "imports testing outside a test"},
	{"a suite uses testing", checkImports, one("eventstore/storetest/a.go", "package storetest\nimport \"testing\""), ""},
	{"slog instead of log", checkImports, one("engine/a.go", "package engine\nimport \"log\""), "use log/slog"},
	{"each package has a row", checkImports, one("internal/x/a.go", "package x"), "has no row in the import table"},
	{"pure packages compute", checkPureImports, one("engine/rpc/a.go", "package rpc\nimport \"strings\""), ""},
	{"pure packages have no context", checkPureImports, one("engine/rpc/a.go", "package rpc\nimport \"context\""), "R2: engine/rpc/a.go:2: the pure package engine/rpc imports context"},
	{"pure packages have no locks", checkPureImports, one("nodes/filter/a.go", "package filter\nimport \"sync\""), "imports sync"},
	{"pure packages have no chance", checkPureImports, one("chains/a.go", "package chains\nimport \"math/rand/v2\""), "imports math/rand/v2"},
	{"a script adapter is not pure", checkPureImports, one("nodes/script/goja/a.go", "package goja\nimport \"sync\""), ""},
	{"a suite is not pure", checkPureImports, one("nodes/nodetest/a.go", "package nodetest\nimport \"os\""), ""},
	{"tests of pure packages read files", checkPureImports, one("engine/rpc/a_test.go", "package rpc\nimport \"os\""), ""},
}

func pureFile(body string) map[string]string {
	return one("engine/rpc/a.go", "package rpc\n"+body)
}

var puritySnippets = []snippet{
	{"time as a value", nil, pureFile("import \"time\"\nvar _ = time.UnixMicro(1).UTC().Add(time.Second)"), ""},
	{"the clock", nil, pureFile("import \"time\"\nfunc f() time.Time { return time.Now() }"), "R2: engine/rpc/a.go:3: the pure package engine/rpc uses time.Now"},
	{"the clock under another name", nil, pureFile("import clock \"time\"\nvar f = clock.Since"), "uses time.Since"},
	{"the clock by a dot import", nil, pureFile("import . \"time\"\nvar f = Now"), "uses time.Now"},
	{"a timer", nil, pureFile("import \"time\"\nvar f = time.NewTimer"), "let the owner fire it"},
	{"the machine's zone", nil, pureFile("import \"time\"\nfunc f(t time.Time) time.Time { return t.Local() }"), "uses (time.Time).Local"},
	{"a variable of the clock", nil, pureFile("import \"time\"\nvar z = time.Local"), "uses time.Local"},
	{"an id by chance", nil, pureFile("import \"github.com/google/uuid\"\nfunc f() uuid.UUID { return uuid.New() }"), "uses github.com/google/uuid.New"},
	{"an id that is derived", nil, pureFile("import \"github.com/google/uuid\"\nvar f = uuid.NewSHA1"), ""},
	{"a name of one's own", nil, pureFile("func Now() int { return 1 }\nvar _ = Now()"), ""},
	{"a goroutine", nil, pureFile("func f() { go f() }"), "starts a goroutine"},
	{"a channel", nil, pureFile("var c = make(chan int)"), "has a channel"},
	{"a select", nil, pureFile("func f() { select {} }"), "waits in a select"},
	{"what does not compile", nil, pureFile("var x int = \"text\""), "cannot be type-checked"},
}

// function is the source of a function that spans n lines.
func function(name string, n int) string {
	return "func " + name + "() {\n" + strings.Repeat("\n", n-2) + "}\n"
}

func functionsOf(n, lines int) map[string]string {
	out := map[string]string{}
	for i := range n {
		out[fmt.Sprintf("engine/f%d.go", i)] = "package engine\n" + function(fmt.Sprintf("f%d", i), lines)
	}
	return out
}

// typeOf is a type with so many fields and methods.
func typeOf(fields, methods int) map[string]string {
	text := "package engine\ntype T struct {\n"
	for i := range fields {
		text += fmt.Sprintf("f%d int\n", i)
	}
	text += "}\n"
	for i := range methods {
		text += fmt.Sprintf("func (*T) m%d() {}\n", i)
	}
	return one("engine/a.go", text)
}

var shapeSnippets = []snippet{
	{"a file at the limit", checkFiles, one("engine/a.go", "package engine\n"+strings.Repeat("\n", fileLinesMax-1)), ""},
	{"a file over the limit", checkFiles, one("engine/a.go", "package engine\n"+strings.Repeat("\n", fileLinesMax)), "R3: engine/a.go: has 501 lines"},
	{"a test file over the limit", checkFiles, one("engine/a_test.go", "package engine\n"+strings.Repeat("\n", fileLinesMax)), "has 501 lines"},
	{"a generated file", checkFiles, one("engine/a.go", "// Code generated by x. DO NOT EDIT.\n\npackage engine\n"+strings.Repeat("\n", fileLinesMax)), ""},
	{"a function at the limit", checkFunctions, one("engine/a.go", "package engine\n"+function("f", functionLinesMax)), ""},
	{"a function over the limit", checkFunctions, one("engine/a.go", "package engine\n"+function("f", functionLinesMax+1)), "R3: engine/a.go:2: f has 71 lines"},
	{"short functions", checkShare, functionsOf(functionsForShare, functionLinesP90), ""},
	{"a wide row with few methods", checkTypes, typeOf(typeFieldsMax+1, typeMethodsFew), ""},
	{"a type at the limits", checkTypes, typeOf(typeFieldsMax, typeMethodsMax), ""},
	{"a type with too many fields", checkTypes, typeOf(typeFieldsMax+1, typeMethodsFew+1), "R3: engine/a.go:2: T has 25 fields and 11 methods"},
	{"a type with too many methods", checkTypes, typeOf(1, typeMethodsMax+1), "R3: engine/a.go:2: T has 1 fields and 46 methods"},
	{"long functions", checkShare, functionsOf(functionsForShare, functionLinesP90+1), "the 90th percentile of function length is 41 lines"},
}

var nameSnippets = []snippet{
	{"a word of the field", checkNames, one("engine/a.go", "package engine\ntype Owner struct{}\nfunc Utilization() {}\nvar commonplace int"), ""},
	{"an empty word in a type", checkNames, one("engine/a.go", "package engine\ntype SessionManager struct{}"), "R4: engine/a.go:2: SessionManager contains the empty word Manager"},
	{"an empty word in a method", checkNames, one("engine/a.go", "package engine\ntype t struct{}\nfunc (t) parseHelper() {}"), "parseHelper contains the empty word Helper"},
	{"an empty word in a constant", checkNames, one("engine/a.go", "package engine\nconst utilSize = 1"), "utilSize contains the empty word Util"},
	{"an empty package", checkNames, one("engine/util/a.go", "package util"), "the package's name says nothing"},
}

const documented = "// Package engine runs.\npackage engine\n"

var docSnippets = []snippet{
	{"documented", checkDocs, one("engine/a.go", documented+"// F does.\nfunc F() {}\n// A kind.\nconst (\nA = 1\nB = 2\n)\ntype x struct{}\nfunc (x) Run() {}"), ""},
	{"a function", checkDocs, one("engine/a.go", documented+"func F() {}"), "R5: engine/a.go:3: F is exported without a comment"},
	{"a method", checkDocs, one("engine/a.go", documented+"// T is.\ntype T[K any] struct{}\nfunc (t *T[K]) Run() {}"), "Run is exported"},
	{"a method everybody knows", checkDocs, one("engine/a.go", documented+"// T is.\ntype T struct{}\nfunc (T) Error() string { return \"\" }"), ""},
	{"one comment over a run of methods", checkDocs, one("engine/a.go", documented+"// A is.\ntype A int\n// Name is.\nfunc (A) Name() {}\nfunc (A) Name() {}"), ""},
	{"a method apart from the run", checkDocs, one("engine/a.go", documented+"// A is.\ntype A int\n// Name is.\nfunc (A) Name() {}\n\nfunc (A) Name() {}"), "Name is exported"},
	{"a function with such a name", checkDocs, one("engine/a.go", documented+"func Close() {}"), "Close is exported"},
	{"a type in a group", checkDocs, one("engine/a.go", documented+"// Types.\ntype (\nT struct{}\n)"), "T is exported"},
	{"a variable", checkDocs, one("engine/a.go", documented+"var V = 1"), "V is exported"},
	{"a package", checkDocs, one("engine/a.go", "package engine"), "package engine has no package comment"},
	{"one comment a package", checkDocs, map[string]string{"engine/a.go": "package engine", "engine/doc.go": documented}, ""},
}

var habitSnippets = []snippet{
	{"init", checkInit, one("engine/a.go", "package engine\nfunc init() {}"), "R6: engine/a.go:2: has a func init"},
	{"a method init", checkInit, one("engine/a.go", "package engine\ntype t int\nfunc (t) init() {}"), ""},
	{"a sleep in a test", checkSleeps, one("engine/a_test.go", "package engine\nimport \"time\"\nvar f = time.Sleep"), "R7: engine/a_test.go:3: sleeps"},
	{"a sleep under another name", checkSleeps, one("engine/a.go", "package engine\nimport c \"time\"\nvar f = c.Sleep"), "sleeps"},
	{"another Sleep", checkSleeps, one("engine/a.go", "package engine\nimport \"time\"\nvar x time.Time\nfunc f(bed Bed) { bed.Sleep() }"), ""},
	{"thrown away", checkDiscards, one("engine/a.go", "package engine\nfunc f() {\n\n_ = g()\n}"), "R8: engine/a.go:4: throws a result away"},
	{"thrown away with a reason", checkDiscards, one("engine/a.go", "package engine\nfunc f() {\n// it was closed before\n_ = g()\n_, _ = g() // as above\n}"), ""},
	{"one reason above a run", checkDiscards, one("engine/a.go", "package engine\nfunc f() {\n// both are closed\n_ = g()\n_ = g()\n}"), ""},
	{"a reason above something else", checkDiscards, one("engine/a.go", "package engine\nfunc f() {\n// both are closed\n_ = g()\nh()\n_ = g()\n}"), "engine/a.go:6"},
	{"a value that proves a type", checkDiscards, one("engine/a.go", "package engine\nvar _ I = T{}\nfunc f() { x := 1; _ = x }"), ""},
}
