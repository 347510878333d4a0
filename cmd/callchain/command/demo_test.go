package command

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"callchain/cmd/callchain/client"
)

func TestDemo(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	status, out, errs := line(t, nil, "demo")
	if status != 0 {
		t.Fatalf("status %d: %s", status, errs)
	}
	for _, want := range []string{
		`thermostat-1 gets   {"method":"update","params":{"firmware":"2.1"}}`, `the caller gets     {"ok":true}`, `clock-1 gets        {`, "Requested", "wire id 0",
		"evidence", "ended succeeded (SUCCESSFUL)", "verified",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the demo lacks %q:\n%s", want, out)
		}
	}
	if left, err := filepath.Glob(filepath.Join(temp, "*")); err != nil || len(left) > 0 {
		t.Errorf("the demo left %v, %v", left, err)
	}
}

func TestDemoForPrograms(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	status, out, errs := line(t, nil, "demo", "--json")
	var got struct {
		History  []client.Event `json:"history"`
		Verified struct {
			Events int `json:"events"`
		} `json:"verified"`
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || status != 0 {
		t.Fatalf("status %d, %v: %s%s", status, err, out, errs)
	}
	if n := len(got.History); n < 5 || got.History[0].Type != "Requested" || got.History[n-1].Type != "Succeeded" || got.Verified.Events < n {
		t.Errorf("got %+v", got)
	}
}
