package examples

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// binary is the program under test: CALLCHAIN_BINARY, or built here. python is an interpreter that has paho-mqtt, or empty.
var binary, python string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if testing.Short() {
		return m.Run() // what needs the binary skips
	}
	if python = os.Getenv("CALLCHAIN_TEST_PYTHON"); python == "" {
		python = filepath.Join(root, ".run/venv/bin/python")
	}
	if _, err := os.Stat(python); err != nil {
		python = ""
	}
	if binary = os.Getenv("CALLCHAIN_BINARY"); binary != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "callchain-pages-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "callchain")
	build := exec.Command("go", "build", "-o", binary, "callchain/cmd/callchain")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the binary: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}
