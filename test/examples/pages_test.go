package examples

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// root is the project's root, absolute.
var root = func() string {
	dir, err := filepath.Abs("../..")
	if err != nil {
		panic(err) // the working directory is gone
	}
	return dir
}()

// pages are worked through from top to bottom, each against a server of its own. A page that is not there yet is a mistake.
var pages = []string{
	"README.md",
	"docs/chains.md",
	"docs/devices.md",
	"docs/operation.md",
	"docs/rest.md",
	"docs/tutorial.md",
	"examples/consumers/README.md",
	"examples/gate/README.md",
	"examples/meters/README.md",
	"examples/thermostat/README.md",
}

// TestPages runs every command of the pages and compares what it shows.
func TestPages(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the real binary; left out with -short")
	}
	for _, page := range pages {
		t.Run(page, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join(root, page))
			if err != nil {
				t.Fatal(err)
			}
			blocks, err := parsePage(string(text))
			if err != nil {
				t.Fatalf("%s: %v", page, err)
			}
			if len(blocks) == 0 {
				t.Fatalf("%s has no commands", page)
			}
			needs(t, blocks)
			newReader(t, services(t, blocks)...).follow(page, blocks)
		})
	}
}

// commands are all that are run of a page.
func commands(blocks []block) string {
	var all strings.Builder
	for _, b := range blocks {
		if b.skip == "" {
			all.WriteString(b.text + "\n")
		}
	}
	return all.String()
}

// needs skips a page whose foreign programs are not on the machine.
func needs(t *testing.T, blocks []block) {
	t.Helper()
	all := commands(blocks)
	for _, tool := range []string{"curl", "jq", "make", "mosquitto_pub", "mosquitto_sub", "coap-client", "xargs"} {
		if _, err := exec.LookPath(tool); err != nil && strings.Contains(all, tool+" ") {
			t.Skipf("NOT RUN: the page needs %s", tool)
		}
	}
	if python == "" && strings.Contains(all, "python3 ") {
		t.Skip("NOT RUN: the page needs .run/venv: make it with scripts/venv.sh .run/venv test/requirements.txt")
	}
}
