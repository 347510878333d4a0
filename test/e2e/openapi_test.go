package e2e_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"callchain/cmd/callchain/client"
	"callchain/examples"

	"github.com/google/uuid"
)

var (
	openapiSeed     = flag.Int("openapi.seed", 1, "seed of the requests that are made of the OpenAPI document")
	openapiExamples = flag.Int("openapi.examples", 8, "requests of each kind for each route")
)

// generated is the configuration of schemathesis. Three checks are left out, and the tests of the package api have their subject:
// positive_data_acceptance, since names that are taken and chains with mistakes are 400, which a schema cannot say; ignored_auth, since
// one of two headers is enough and the check spoils the other; allow_header_conformance with unsupported_method, since a fixed path
// beside one with an id also answers the other's methods (DELETE /api/device/types has an id that is none), as in ThingsBoard.
const generated = `
headers = { X-Authorization = "Bearer ${CALLCHAIN_TEST_TOKEN}" }
request-timeout = 20.0
workers = 2
continue-on-failure = true
seed = %d
warnings = false

[generation]
max-examples = %d

[phases.stateful]
enabled = false

[checks]
positive_data_acceptance.enabled = false
ignored_auth.enabled = false
allow_header_conformance.enabled = false
unsupported_method.enabled = false

[parameters]
%s

# Calls may end without an answer.
[[operations]]
include-path-regex = "^/api/(plugins/)?rpc/(oneway|twoway)/"
checks.not_a_server_error.expected-statuses = ["2xx", "4xx", 504]

# A document cannot say that an answer may also be empty: that of a call which is not persistent is.
[[operations]]
include-path-regex = "/rpc/oneway/"
checks.content_type_conformance.enabled = false
checks.response_schema_conformance.enabled = false

# What a device sends and nobody can use is 500, as in ThingsBoard, and so bare that the document has no schema for it.
[[operations]]
include-path-regex = "^/api/v1/"
checks.not_a_server_error.expected-statuses = ["2xx", "4xx", 500, 503]
checks.content_type_conformance.enabled = false

# They wait as long as they are asked to.
[[operations]]
include-method = "GET"
include-path-regex = "^/api/v1/[^/]*/(rpc|attributes/updates)$"
enabled = false

# What others need is not removed: these get ids of their own.
[[operations]]
include-operation-id-regex = "^delete(Device|DeviceProfile|Chains|RuleChain)By"
[operations.parameters]
%s

# It would end the session of the test.
[[operations]]
include-path = "/api/auth/logout"
enabled = false

# They do not end by themselves.
[[operations]]
include-path-regex = "/(stream|watch)$"
enabled = false
`

// sent finds how many requests were made.
var sent = regexp.MustCompile(`(\d+) generated`)

// TestOpenAPI holds the running server against its own document, with requests that are made of the document: right ones and wrong ones.
func TestOpenAPI(t *testing.T) {
	needsBinary(t)
	schemathesis := filepath.Join(filepath.Dir(python(t)), "schemathesis")
	if _, err := os.Stat(schemathesis); err != nil {
		t.Skipf("NOT RUN: there is no %s: make it with scripts/venv.sh .run/venv test/requirements.txt", schemathesis)
	}
	server := start(t, newPlace(t, "--rpc.client_side_timeout", "1s"))
	rest := server.login(t)
	known, doomed := inhabitants(t, rest), map[string]string{}
	for _, name := range []string{"deviceId", "profileId", "chainId", "ruleChainId"} {
		doomed[name] = uuid.NewString()
	}
	device := startPaho(t, server.mqtt, "generated", "5", 1)
	device.next("ready")
	go func() { // the device says every call that it got
		for range device.lines {
		}
	}()
	config := filepath.Join(t.TempDir(), "schemathesis.toml")
	if err := os.WriteFile(config, fmt.Appendf(nil, generated, *openapiSeed, *openapiExamples, parameters(known), parameters(doomed)), 0o600); err != nil {
		t.Fatal(err)
	}
	run := exec.CommandContext(t.Context(), schemathesis, "--no-color", "--config-file", config, "run", rest.Base()+"/api/openapi.json")
	run.Dir = t.TempDir() // it leaves things where it runs
	run.Env = append(os.Environ(), "CALLCHAIN_TEST_TOKEN="+rest.Token())
	out, err := run.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if m := sent.FindSubmatch(out); m == nil || len(m[1]) < 4 {
		t.Errorf("fewer than 1000 requests were made:\n%s", out)
	}
	if log := server.log.String(); strings.Contains(log, "panicked") {
		t.Errorf("a request panicked:\n%s", log)
	}
}

func parameters(values map[string]string) string {
	var b strings.Builder
	for name, value := range values {
		fmt.Fprintf(&b, "%q = %q\n", "path."+name, value)
	}
	return b.String()
}

// inhabitants makes what the paths name, so that not all answers are 404.
func inhabitants(t *testing.T, rest *client.Client) map[string]string {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	device, err := rest.CreateDevice(t.Context(), client.Device{Name: "generated"}, "generated")
	must(err)
	chain, err := rest.CreateChain(t.Context(), examples.GetTime)
	must(err)
	profile, err := rest.CreateProfile(t.Context(), "generated", "", nil)
	must(err)
	call, err := rest.Send(t.Context(), device.ID.ID, true, client.CallRequest{Method: "m", Params: json.RawMessage(`{}`), Persistent: true})
	must(err)
	var user struct {
		ID     struct{ ID string }
		Tenant struct{ ID string } `json:"tenantId"`
	}
	must(rest.Do(t.Context(), "GET", "/api/auth/user", nil, &user))
	return map[string]string{
		"deviceId": device.ID.ID, "chainId": chain.ID, "ruleChainId": chain.ID, "profileId": profile.ID.ID, "callId": call.ID, "rpcId": call.ID,
		"deviceToken": "generated", "requestId": "7", "userId": user.ID.ID, "tenantId": user.Tenant.ID, "scope": "SERVER_SCOPE", "entityType": "RULE_NODE", "eventType": "DEBUG_RULE_NODE",
		"componentType": "FILTER", "componentClass": "org.thingsboard.rule.engine.rpc.TbSendRPCRequestNode",
	}
}
