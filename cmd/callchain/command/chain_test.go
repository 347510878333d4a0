package command

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const chainsDir = "../../../examples/chains/"

func TestChainRunShowsNodesAsksAndWrites(t *testing.T) {
	status, out, errs := line(t, nil, "chain", "run", chainsDir+"cooldown.yaml", "--type", "POST_TELEMETRY_REQUEST",
		"--message", `{"temperature":91}`, "--value", "shared/limit=80", "--answer", `{"ok":true}`)
	if status != 0 {
		t.Fatalf("status %d: %s", status, errs)
	}
	for _, want := range []string{
		"by type —Post telemetry→", "too hot —True→", `does  switch off: calls the device: setHeater {"on":false}`, "does  cool: waits 5m0s",
		`does  switch on: calls the device: setHeater {"on":true}`, "stores  latest value temperature = 91", "node executions",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the run lacks %q:\n%s", want, out)
		}
	}
	_, out, _ = line(t, nil, "chain", "run", chainsDir+"cooldown.yaml", "--message", `{"temperature":50}`, "--value", "shared/limit=80")
	if strings.Contains(out, "calls the device") || !strings.Contains(out, "too hot —False→") {
		t.Errorf("a cool device was called:\n%s", out)
	}
}

func TestChainRunAnswersADevice(t *testing.T) {
	status, out, errs := line(t, nil, "chain", "run", chainsDir+"gettime.yaml", "--json",
		"--type", "TO_SERVER_RPC_REQUEST", "--message", `{"method":"getTime","params":{}}`)
	if status != 0 {
		t.Fatalf("status %d: %s", status, errs)
	}
	var got struct {
		Asks  []string         `json:"asks"`
		Steps []map[string]any `json:"steps"`
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Asks) != 1 || !strings.HasPrefix(got.Asks[0], `answer: answers the device's call: {`) || len(got.Steps) < 4 {
		t.Errorf("got %s", out)
	}
}

func TestChainLintTellsEveryMistake(t *testing.T) {
	file := filepath.Join(t.TempDir(), "broken.yaml")
	text := "name: Broken\nnodes:\n  - name: a\n    type: message type swich\n  - name: b\n    type: delay\n    config:\n      periodInSecond: 1\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	status, out, _ := line(t, nil, "chain", "lint", chainsDir+"gettime.yaml", file)
	if status != 1 || !strings.Contains(out, file+":4:") || !strings.Contains(out, file+":8:") || !strings.Contains(out, `"message type switch"`) {
		t.Errorf("status %d:\n%s", status, out)
	}
	if status, out, _ := line(t, nil, "chain", "lint", chainsDir+"gettime.yaml", chainsDir+"cooldown.yaml"); status != 0 || out != "2 files, no mistakes\n" {
		t.Errorf("status %d:\n%s", status, out)
	}
	if status, _, errs := line(t, nil, "chain", "run", file); status != 1 || strings.Count(errs, "\n") != 1 {
		t.Errorf("running a broken chain: status %d:\n%s", status, errs)
	}
}
