package e2e_test

import (
	"os/exec"
	"strings"
	"testing"

	"callchain/cmd/callchain/client"
	"callchain/examples"
)

// TestRESTClients lets tb-ce-client and tb-rest-client do what their users do, while the device on the other side also calls the server.
func TestRESTClients(t *testing.T) {
	needsBinary(t)
	interpreter := python(t)
	if out, err := exec.CommandContext(t.Context(), interpreter, "-c", "import tb_ce_client, tb_rest_client").CombinedOutput(); err != nil {
		t.Skipf("NOT RUN: make the environment with scripts/venv.sh .run/venv test/requirements.txt: %s", out)
	}
	server := start(t, newPlace(t))
	rest := server.login(t)
	chain, err := rest.CreateChain(t.Context(), examples.GetTime)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rest.CreateProfile(t.Context(), "clocks", chain.ID, nil); err != nil {
		t.Fatal(err)
	}
	d, err := rest.CreateDevice(t.Context(), client.Device{Name: "asked", Type: "clocks"}, "asked")
	if err != nil {
		t.Fatal(err)
	}
	device := startPaho(t, server.mqtt, "asked", "5", 1)
	device.next("ready")
	out, err := exec.CommandContext(t.Context(), interpreter, "rest_clients.py", rest.Base(), adminEmail, adminPassword, d.ID.ID).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got, want := strings.Fields(string(out)), []string{"users", "devices", "profiles", "values", "calls", "chains", "tb-rest-client", "chains"}; strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("done: %q, want %q", got, want)
	}
	for range 8 { // the calls of both clients
		device.next("call")
	}
	(&pahoCase{t: t, device: device}).deviceCalls()
}
