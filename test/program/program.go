// Package program finds the program that tests run as users do, and addresses for it.
package program

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Main runs the tests of a package with the path of the program: CALLCHAIN_BINARY, or one that is built for them. It gives the status of the process.
// With -short there is none; what needs it skips.
func Main(m *testing.M, binary *string) int {
	if testing.Short() {
		return m.Run()
	}
	if *binary = os.Getenv("CALLCHAIN_BINARY"); *binary != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "callchain-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	*binary = filepath.Join(dir, "callchain")
	build := exec.Command("go", "build", "-o", *binary, "callchain/cmd/callchain")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the binary: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// TwoAddrs are addresses that nothing listens on now. Both are held until both are known: one that is free again may be given a second time.
func TwoAddrs(t *testing.T) (http, mqtt string) {
	t.Helper()
	var addrs [2]string
	for i := range addrs {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		addrs[i] = l.Addr().String()
	}
	return addrs[0], addrs[1]
}
