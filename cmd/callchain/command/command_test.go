package command

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"callchain/cmd/callchain/client"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// line runs a command line and gives its exit status and what it printed.
func line(t *testing.T, environ []string, args ...string) (status int, out, errs string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	environ = append(environ, "XDG_CONFIG_HOME="+filepath.Join(t.TempDir(), "config"))
	status = Run(t.Context(), Process{Args: args, Environ: environ, In: strings.NewReader(""), Out: &stdout, Err: &stderr, Version: "v1"})
	return status, stdout.String(), stderr.String()
}

func TestExitStatus(t *testing.T) {
	nobody := "http://127.0.0.1:1" // nothing listens on port 1
	for _, test := range []struct {
		args   string
		status int
		want   string // in what is printed for the user
	}{
		{"version", 0, "callchain v1"},
		{"version --json", 0, `{"version":"v1"}`},
		{"", 2, "name a command"},
		{"vresion", 2, `did you mean "version"`},
		{"rpc sned x", 2, `did you mean "send"`},
		{"rpc", 2, "name a command"},
		{"rpc send", 2, "callchain rpc send DEVICE METHOD [PARAMS]"},
		{"rpc get nonsense", 2, "a UUID"},
		{"rpc send d m {", 2, "PARAMS must be JSON"},
		{"rpc send d m --watch", 2, "--watch goes with --persistent"},
		{"rpc list --limit 0", 2, "--limit"},
		{"rpc list --lmit 5", 2, "--lmit"},
		{"rpc list --url nonsense --token x", 2, "nonsense"},
		{"rpc list --url " + nobody, 1, "run callchain login --url " + nobody},
		{"rpc list --token x --url " + nobody, 1, "reaching " + nobody},
		{"rpc list --json --token x --url " + nobody, 1, `{"error":"reaching`},
		{"device simulate --mqtt-version 4", 2, "3.1, 3.1.1 or 5"},
		{"device simulate --answer {", 2, "--answer"},
		{"bench fast", 2, "twoway"},
		{"bench --devices 0", 2, "devices"},
		{"bench twoway --store-url postgres://127.0.0.1/x", 2, "--serve"},
		{"bench cluster", 2, "1 to 100 nodes"},
		{"bench cluster --token x --urls " + nobody, 2, "both of each node"},
		{"bench cluster --token x --mqtt m --rate 0 --urls " + nobody, 2, "rate"},
		{"bench cluster --token x --mqtt m --duration 0s --urls " + nobody, 2, "duration"},
		{"serve --http.addr nonsense", 2, "http.addr"},
		{"events verify --data.dir /nowhere/at/all", 1, "/nowhere/at/all: there is no installation"},
		{"login --password-file /nowhere/at/all", 1, "/nowhere/at/all"},
		{"chain lint /nowhere/at/all", 1, "/nowhere/at/all"},
		{"chain lint", 2, "chain lint FILE"},
	} {
		status, out, errs := line(t, nil, strings.Fields(test.args)...)
		if status != test.status || !strings.Contains(out+errs, test.want) {
			t.Errorf("callchain %s: status %d, want %d and %q:\n%s%s", test.args, status, test.status, test.want, out, errs)
		}
		if test.status != 0 && strings.Count(errs, "\n") != 1 {
			t.Errorf("callchain %s: the error is not one line:\n%s", test.args, errs)
		}
	}
}

// TestFailedBackupLeavesNoFile: half a backup is of no use, and its name would be refused the next time.
func TestFailedBackupLeavesNoFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "b")
	for range 2 {
		status, _, errs := line(t, nil, "backup", "--data.dir", "/nowhere/at/all", file)
		if status != 1 || !strings.Contains(errs, "there is no installation") {
			t.Errorf("status %d: %s", status, errs)
		}
		if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the file of a failed backup: %v", err)
		}
	}
}

func TestEveryCommandHasHelpWithExamples(t *testing.T) {
	a := &app{}
	var walk func(path string)
	walk = func(path string) {
		c, _, err := a.root().Find(strings.Fields(path))
		if err != nil {
			t.Fatal(err)
		}
		if c.HasSubCommands() {
			for _, sub := range c.Commands() {
				walk(path + " " + sub.Name())
			}
		} else if c.Short == "" || c.Example == "" && c.Name() != "version" {
			t.Errorf("callchain%s has no summary or no example", path)
		}
		status, out, _ := line(t, nil, append(strings.Fields(path), "--help")...)
		if status != 0 || !strings.Contains(out, "Usage:") {
			t.Errorf("callchain%s --help: status %d\n%s", path, status, out)
		}
	}
	walk("")
}

func TestLoginIsKeptForItsServerAndItsUserOnly(t *testing.T) {
	a := &app{Process: Process{Environ: []string{"XDG_CONFIG_HOME=" + t.TempDir()}}}
	if s, err := a.readSession(); err != nil || s != (session{}) {
		t.Fatalf("before any login: %+v, %v", s, err)
	}
	saved := session{"http://here:1", "token", "refresh"}
	path, err := a.writeSession(saved)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v, %v", info.Mode(), err)
	}
	c, err := a.client(t.Context())
	if err != nil || c.Base() != saved.URL || c.Token() != saved.Token {
		t.Errorf("the client is for %+v, %v", c, err)
	}
	a.url = "http://elsewhere:1"
	if _, err := a.client(t.Context()); err == nil {
		t.Error("a token was about to be sent to another server than its own")
	}
	a.Environ = append(a.Environ, "CALLCHAIN_TOKEN=mine")
	if c, err := a.client(t.Context()); err != nil || c.Token() != "mine" || c.Base() != "http://elsewhere:1" {
		t.Errorf("with CALLCHAIN_TOKEN: %+v, %v", c, err)
	}
}

func TestTimeline(t *testing.T) {
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	fact := func(offset time.Duration, kind, actor, cause, data string) client.Event {
		return client.Event{
			Type: kind, At: at.Add(offset), Occurred: at.Add(offset), Actor: actor, Cause: cause, Data: json.RawMessage(data), Hash: "0123456789abcdef",
		}
	}
	device := "device:11111111-2222-3333-4444-555555555555"
	events := []client.Event{
		fact(0, "Requested", "user:11111111-2222-3333-4444-000099999999", "rest", `{"method":"set","params":{"a":1},"expires":1}`),
		fact(100*time.Microsecond, "Queued", "system", "node:7/send it", `{"wire":4}`),
		fact(900*time.Microsecond, "Delivered", device, "mqtt", `{"evidence":"puback"}`),
		fact(1500*time.Microsecond, "Succeeded", device, "mqtt", `{"response":{"json":{"a":1}}}`),
	}
	text := "done"
	call := client.Call{
		ID: "c", Device: "d", Method: "set", Direction: "to_device", Phase: "succeeded", Status: "SUCCESSFUL", Created: at,
		Ended: at.Add(1500 * time.Microsecond), Response: &client.Payload{Text: &text},
	}
	var b strings.Builder
	if err := printTimeline(&b, &call, events); err != nil {
		t.Fatal(err)
	}
	want := `call c: light two-way set to device d
  TIME       FACT       BY                THROUGH       DETAIL           HASH
  +0.000 ms  Requested  user …99999999    rest          set {"a":1}      01234567
  +0.100 ms  Queued     system            node send it  wire id 4        01234567
  +0.900 ms  Delivered  device …55555555  mqtt          evidence puback  01234567
  +1.500 ms  Succeeded  device …55555555  mqtt          {"a":1}          01234567
ended succeeded (SUCCESSFUL) after 1.500 ms, answer done
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}
