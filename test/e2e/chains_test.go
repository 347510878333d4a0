package e2e_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"callchain/cmd/callchain/client"
)

const rootExport = "../../chains/thingsboard/testdata/exports/root.json"

// A chain of ThingsBoard is brought over with the command line, runs, and goes back as it came.
func TestChainComesFromThingsBoardAndGoesBack(t *testing.T) {
	needsBinary(t)
	s := start(t, newPlace(t))
	admin := s.login(t)
	call := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(binary, append(args, "--url", "http://"+s.http, "--token", admin.Token())...)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("callchain %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	var first, second struct {
		Chains []client.ImportedChain
	}
	read(t, call("chain", "import", rootExport, "--json"), &first)
	read(t, call("chain", "import", rootExport, "--json"), &second)
	id := first.Chains[0].Chain.ID
	if len(first.Chains) != 1 || first.Chains[0].Updated || second.Chains[0].Chain.ID == id {
		t.Fatalf("imported %+v, then %+v", first, second)
	}
	read(t, call("chain", "import", rootExport, "--json", "--overwrite"), &second)
	if !second.Chains[0].Updated {
		t.Fatalf("overwritten: %+v", second)
	}
	var was, is map[string]map[string]any
	text, err := os.ReadFile(rootExport)
	if err != nil {
		t.Fatal(err)
	}
	exported := call("chain", "export", id)
	read(t, string(text), &was)
	read(t, exported, &is)
	if !reflect.DeepEqual(was["metadata"]["connections"], is["metadata"]["connections"]) || was["ruleChain"]["name"] != is["ruleChain"]["name"] {
		t.Errorf("exported %s", exported)
	}
	for i, n := range was["metadata"]["nodes"].([]any) {
		for key, v := range n.(map[string]any) {
			if got := is["metadata"]["nodes"].([]any)[i].(map[string]any)[key]; !reflect.DeepEqual(got, v) {
				t.Errorf("node %d: %s was %v, is %v", i, key, v, got)
			}
		}
	}
	back := filepath.Join(t.TempDir(), "back.json")
	if err := os.WriteFile(back, []byte(exported), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := call("chain", "import", back, "--check"); !strings.Contains(out, "0 mistakes") {
		t.Errorf("what was exported: %s", out)
	}
}

func read(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
}
