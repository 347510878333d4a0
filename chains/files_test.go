package chains_test

import (
	"testing"

	"callchain/chains"
)

func TestSuiteOf(t *testing.T) {
	for file, want := range map[string]string{
		"a/cool.test.yaml": "a/cool",
		"cool.test.yml":    "cool",
		"cool.test.json":   "cool",
		"a.b.test.yaml":    "a.b",
	} {
		if chain, ok := chains.SuiteOf(file); !ok || chain != want {
			t.Errorf("%s: %q, %v; want %q", file, chain, ok, want)
		}
	}
	for _, file := range []string{"cool.yaml", "test.yaml", "cool.test.txt", "cool.test", "cooltest.yaml", ""} {
		if chain, ok := chains.SuiteOf(file); ok {
			t.Errorf("%s is taken for the tests of %q", file, chain)
		}
	}
}
