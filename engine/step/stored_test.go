package step_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"callchain/engine/rpc"
	"callchain/engine/step"
)

var record = flag.Bool("record", false, "write what new stored examples are read as; existing records are never changed")

// TestStoredExamples: the facts of runs that were stored once are read for ever. Files of testdata/events are added, never
// changed; beside each stands what it was read as.
func TestStoredExamples(t *testing.T) {
	files, err := filepath.Glob("testdata/events/*.json")
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, file := range files {
		name, _, _ := strings.Cut(filepath.Base(file), ".")
		have[name] = true
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			f, err := step.DecodeRunFact(name, rpc.DataVersion, data)
			if err != nil {
				t.Fatal(err)
			}
			compare(t, strings.TrimSuffix(file, ".json")+".txt", describe(t, f))
		})
	}
	for _, name := range runFactNames(t) {
		if !have[name] {
			t.Errorf("there is no testdata/events/%s.v1.json: a fact without a stored example may change unseen", name)
		}
	}
}

// TestNewerRunFacts: facts that only a newer program can read fail with another error than damaged ones.
func TestNewerRunFacts(t *testing.T) {
	for _, newer := range []struct {
		name    string
		version int16
	}{{"Queued", 1}, {"RunParked", 2}, {"RunForked", 1}} {
		if _, err := step.DecodeRunFact(newer.name, newer.version, []byte(`{"number":1}`)); !errors.Is(err, rpc.ErrUnknownEvent) {
			t.Errorf("%s version %d: %v", newer.name, newer.version, err)
		}
	}
	for _, data := range []string{``, `[]`, `{"number":"x"}`, `{"number":1,"token":{"ask":{}}}`} {
		if _, err := step.DecodeRunFact("RunParked", 1, []byte(data)); err == nil || errors.Is(err, rpc.ErrUnknownEvent) {
			t.Errorf("RunParked %s: %v, want an error", data, err)
		}
	}
}

// describe is a fact as text; of a parked token, what it needs to resume.
func describe(t *testing.T, f step.RunFact) string {
	t.Helper()
	switch f := f.(type) {
	case step.RunParked:
		data, err := f.Token.Msg.Data.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		ask, err := json.Marshal(f.Token.Ask)
		if err != nil {
			t.Fatal(err)
		}
		m := f.Token.Msg
		return fmt.Sprintf("token %d at %s@%d/%s after %d steps, stack %v\nwaits for call %s until %d, to dispatch %s\nasks %T %s\n"+
			"message %s %s of %s %s, customer %s, ts %d, now %d\nmetadata %v\ndata %s\n",
			f.Number, f.Token.Chain, f.Token.Version, f.Token.Node, f.Token.Steps, f.Token.Stack, f.Call, f.Due, f.Server, f.Token.Ask, ask,
			m.ID, m.Type, m.Originator.Type, m.Originator.ID, m.Customer, m.TS, m.Now, m.Metadata, data)
	case step.RunResumed:
		return fmt.Sprintf("token %d, answer %q\n", f.Number, f.Answer)
	case step.RunFailed:
		return fmt.Sprintf("%s/%s: %s\n", f.Chain, f.Node, f.Error)
	case step.RunEnded:
		return "ended\n"
	}
	t.Fatalf("unknown fact %T: add it here", f)
	return ""
}

func compare(t *testing.T, file, got string) {
	t.Helper()
	want, err := os.ReadFile(file)
	switch {
	case os.IsNotExist(err) && *record:
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	case err != nil:
		t.Fatal(err)
	case got != string(want):
		t.Errorf("%s: this version reads\n%s\nwhat was recorded is\n%s", file, got, want)
	}
}

// runFactNames are the stored names of all types that have isRunFact, read from the source.
func runFactNames(t *testing.T) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "event.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range file.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Name.Name == "isRunFact" {
			names = append(names, fn.Recv.List[0].Type.(*ast.Ident).Name)
		}
	}
	return names
}
