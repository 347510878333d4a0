package dryrun_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"callchain/chains"
	"callchain/chains/dryrun"
	"callchain/nodes"
	"callchain/nodes/builtin"
	"callchain/nodes/script/goja"

	"github.com/google/uuid"
)

func compile(t *testing.T, file string) *chains.Program {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	d, err := chains.Parse(file, data)
	if err != nil {
		t.Fatal(err)
	}
	p, err := chains.Compile(d, builtin.WithScripts(goja.New(0)), uuid.Nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// The tests beside the examples are tests of the project.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob("../../examples/chains/*.test.yaml")
	if err != nil || len(files) < 2 {
		t.Fatalf("%d files of tests: %v", len(files), err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		suite, err := dryrun.ParseSuite(file, data)
		if err != nil {
			t.Fatal(err)
		}
		p := compile(t, strings.Replace(file, ".test.yaml", ".yaml", 1))
		for _, test := range suite.Tests {
			t.Run(test.Name, func(t *testing.T) {
				for _, d := range test.Run(p) {
					t.Error(d)
				}
			})
		}
	}
}

func TestDifferences(t *testing.T) {
	p := compile(t, "../../examples/chains/root.yaml")
	test := dryrun.Test{
		Type: nodes.PostTelemetry, Data: map[string]any{"a": int64(1)},
		Want: dryrun.Want{Writes: &[]string{"TIME_SERIES a = 2"}, Path: &[]string{"Message Type Switch", "Save Timeseries"}},
	}
	if got, want := test.Run(p), []string{"writes: got [TIME_SERIES a = 1], want [TIME_SERIES a = 2]"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%q; want %q", got, want)
	}
	failing := dryrun.Test{Type: nodes.PostTelemetry, Data: "x"}
	if got := failing.Run(p); len(got) != 1 || !strings.HasPrefix(got[0], "failures: got [Save Timeseries: message data is neither") {
		t.Errorf("a failure that the test does not expect: %q", got)
	}
}

func TestParseSuiteRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"[]":                         `the file must be an object with the key "tests"`,
		"{}":                         "is missing; it is required",
		"tests: []":                  "tests: has 0 items, fewer than 1",
		"tests: [{name: a, typ: b}]": `unknown field "typ"; did you mean "type"?`,
		"tests: [{name: a, type: b, want: {path: x}}]": `tests.0.want.path: is the text "x", but must be a list`,
		"tests: [": "not YAML",
	} {
		if _, err := dryrun.ParseSuite("f.test.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %s", text, err, want)
		}
	}
}
