package command

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestChainTestRunsTheExamples(t *testing.T) {
	status, out, errs := line(t, nil, "chain", "test", chainsDir)
	if status != 0 || errs != "" || !strings.HasSuffix(out, " passed, 0 failed\n") || strings.HasPrefix(out, "0 ") || strings.Count(out, "\n") != 1 {
		t.Errorf("status %d: %s%s", status, out, errs)
	}
}

// write makes a folder with these files.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(files[name]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const hotChain = "name: Hot\nnodes:\n  - {name: hot, type: save time series}\n"

func TestChainTestTellsWhatDiffers(t *testing.T) {
	dir := write(t, map[string]string{
		"deep/hot.yml": hotChain,
		"deep/hot.test.json": `{"tests":[{"name":"passes","type":"POST_TELEMETRY_REQUEST","data":{"t":90},"want":{"path":["hot"]}},
			{"name":"fails","type":"POST_TELEMETRY_REQUEST","data":{"t":90},"want":{"path":["cold"]}}]}`,
		"lost.test.yaml":   "tests: [{name: a, type: X}]\n",
		"broken.yaml":      "name: Broken\nnodes:\n  - {name: a, type: nothing}\n",
		"broken.test.yaml": "tests: [{name: a, type: X}]\n",
		"unread.test.yaml": "tests: []\n",
	})
	status, out, errs := line(t, nil, "chain", "test", dir)
	if status != 1 || errs != "" || !strings.HasSuffix(out, "\n1 passed, 4 failed\n") {
		t.Fatalf("status %d: %s%s", status, out, errs)
	}
	for _, want := range []string{
		filepath.Join("deep", "hot.test.json") + ": fails\n      path: got [hot], want [cold]\n",
		"the chain is missing: there is no " + filepath.Join(dir, "lost") + ".yaml, .yml or .json\n",
		"broken.yaml:3:", "unread.test.yaml: tests: has 0 items",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("lacks %q:\n%s", want, out)
		}
	}
	status, out, _ = line(t, nil, "chain", "test", filepath.Join(dir, "deep"), "--json")
	var got suiteReport
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if status != 1 || got.Passed != 1 || got.Failed != 1 || len(got.Failures) != 1 || got.Failures[0].Test != "fails" {
		t.Errorf("status %d: %s", status, out)
	}
}

// A pipeline that names the wrong folder must not be green.
func TestChainTestWithoutTestsFails(t *testing.T) {
	dir := write(t, map[string]string{"hot.yaml": hotChain})
	if status, out, errs := line(t, nil, "chain", "test", dir); status != 1 || out != "" || !strings.Contains(errs, "there are no tests") {
		t.Errorf("status %d: %s%s", status, out, errs)
	}
	if status, _, errs := line(t, nil, "chain", "test", filepath.Join(dir, "nowhere")); status != 1 || strings.Count(errs, "\n") != 1 {
		t.Errorf("a folder that does not exist: status %d: %s", status, errs)
	}
}

func TestChainLintPassesTestsOver(t *testing.T) {
	status, out, errs := line(t, nil, "chain", "lint", chainsDir+"cooldown.yaml", chainsDir+"cooldown.test.yaml")
	if status != 0 || out != "1 files, no mistakes\n" {
		t.Errorf("status %d: %s%s", status, out, errs)
	}
}
