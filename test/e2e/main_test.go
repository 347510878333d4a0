// Package e2e_test runs the real binary as users run it: processes, ports, signals, foreign clients. It knows nothing of the inside but
// the event store, which it reads to compare what the server shows with what is stored.
package e2e_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

var (
	crashRounds = flag.Int("crash.rounds", 30, "how often the crash test kills the server")
	crashSeed   = flag.Int64("crash.seed", 0, "seed of the moments of the kills; 0: a new one, which is printed")
)

// binary is the program under test: CALLCHAIN_BINARY, or built here.
var binary string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if testing.Short() {
		return m.Run() // every test skips
	}
	if binary = os.Getenv("CALLCHAIN_BINARY"); binary != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "callchain-e2e-")
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

func needsBinary(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("runs the real binary; left out with -short")
	}
}
