package examples

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"callchain/test/program"
)

// binary is the program under test. python is an interpreter that has paho-mqtt, or empty.
var binary, python string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if python = os.Getenv("CALLCHAIN_TEST_PYTHON"); python == "" {
		python = filepath.Join(root, ".run/venv/bin/python")
	}
	if _, err := os.Stat(python); err != nil {
		python = ""
	}
	return program.Main(m, &binary)
}
