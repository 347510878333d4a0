package command

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const rootExport = "../../../chains/thingsboard/testdata/exports/root.json"

func exportFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "chain.json")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestChainImportTellsWhatCannotBeTaken(t *testing.T) {
	file := exportFile(t, `{"ruleChain": {"name": "c"}, "metadata": {"firstNodeIndex": 0, "nodes": [
		{"type": "org.thingsboard.rule.engine.mail.TbSendEmailNode", "name": "mail"},
		{"type": "org.thingsboard.rule.engine.rpc.TbSendRPCRequestNode", "name": "call", "queueName": "Main", "configuration": {"timeoutInSeconds": "x"}}]}}`)
	for _, way := range [][]string{{"--check"}, nil, {"--print"}} { // without --check the server is not even asked
		status, out, _ := line(t, nil, append([]string{"chain", "import", file}, way...)...)
		for _, want := range []string{`node "mail": type: ThingsBoard's TbSendEmailNode is not there`, `node "call": configuration.timeoutInSeconds`, `queueName "Main"`, "2 mistakes"} {
			if status != 1 || !strings.Contains(out, want) {
				t.Errorf("%v: status %d, %q is missing in\n%s", way, status, want, out)
			}
		}
	}
	status, out, _ := line(t, nil, "chain", "import", file, "--check", "--json")
	var told struct {
		Problems, Ignored []struct{ Node, Text string }
	}
	if err := json.Unmarshal([]byte(out), &told); err != nil || status != 1 || len(told.Problems) != 2 || len(told.Ignored) != 1 || told.Problems[0].Node != "mail" {
		t.Errorf("status %d, %v: %s", status, err, out)
	}
	if status, out, _ := line(t, nil, "chain", "import", exportFile(t, `{"a": 1}`), "--check"); status != 1 || !strings.Contains(out, "no rule chain of ThingsBoard") {
		t.Errorf("status %d: %s", status, out)
	}
}

func TestChainImportPrintsYAML(t *testing.T) {
	if status, out, _ := line(t, nil, "chain", "import", rootExport, "--check"); status != 0 || !strings.Contains(out, "1 chains, 0 mistakes") {
		t.Fatalf("status %d: %s", status, out)
	}
	status, out, errs := line(t, nil, "chain", "import", rootExport, "--print")
	if status != 0 || !strings.Contains(out, "type: rpc call request") {
		t.Fatalf("status %d: %s%s", status, out, errs)
	}
	printed := filepath.Join(t.TempDir(), "root.yaml")
	if err := os.WriteFile(printed, []byte(out), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, out, _ := line(t, nil, "chain", "lint", printed); status != 0 {
		t.Errorf("what was printed is not accepted: %s", out)
	}
	many := exportFile(t, `{"ruleChains": [], "metadata": []}`)
	if status, _, errs := line(t, nil, "chain", "import", many, "--print"); status != 2 || !strings.Contains(errs, "one chain") {
		t.Errorf("status %d: %s", status, errs)
	}
}
