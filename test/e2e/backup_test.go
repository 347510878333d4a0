package e2e_test

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"callchain/cmd/callchain/client"
	"callchain/cmd/callchain/fleet"
	"callchain/engine/rpc"
	"callchain/eventstore/pgtest"
)

// TestBackup saves a server under load and restores it elsewhere, in the other kind of database: what was returned before the backup began is
// there, the log verifies, what the API shows is the fold of the events, and what waited for a device comes with the wire id that it had.
func TestBackup(t *testing.T) {
	needsBinary(t)
	t.Run("sqlite to postgres", func(t *testing.T) {
		to := newPlace(t)
		to.store = pgtest.Database(t)
		backup(t, newPlace(t), to)
	})
	t.Run("postgres to sqlite", func(t *testing.T) {
		from := newPlace(t)
		from.store = pgtest.Database(t)
		backup(t, from, newPlace(t))
	})
}

// busy lets callers call, and returns when so many calls were begun. The function that it gives ends the callers.
func (c *crashing) busy(calls int64) (stop func()) {
	ctx, cancel := context.WithCancel(c.t.Context())
	c.t.Cleanup(cancel)
	var callers sync.WaitGroup
	for i := range crashCallers {
		callers.Go(func() { c.caller(ctx, i%2 == 0) })
	}
	eventually(c.t, 20*time.Second, func() string {
		if n := c.number.Load(); n < calls {
			return strconv.FormatInt(n, 10) + " calls"
		}
		return ""
	})
	return func() {
		cancel()
		callers.Wait()
	}
}

func backup(t *testing.T, from, to *place) {
	c := newCrashing(t, from)
	defer c.fleet.Close()
	c.online()
	owed := c.leaveCalls()
	stop := c.busy(500)
	c.mu.Lock()
	before := maps.Clone(c.returned)
	c.mu.Unlock()
	file := filepath.Join(t.TempDir(), "b")
	status, out, errs := command(t, nil, from.args("backup", file)...)
	if status != 0 || !strings.Contains(out, "digest") {
		t.Fatalf("backup: status %d\n%s%s", status, out, errs)
	}
	during := c.number.Load()
	stop()
	t.Logf("%d calls returned before, %d sent until it ended\n%s", len(before), during, out)
	c.noSecrets(out+errs, from)

	giveKey(t, from, to)
	status, out, errs = command(t, nil, to.args("restore", file)...)
	if status != 0 || !strings.Contains(out, " 0 problems") {
		t.Fatalf("restore: status %d\n%s%s", status, out, errs)
	}
	c.noSecrets(out+errs, to)
	if status, out, errs = command(t, nil, to.args("events", "verify")...); status != 0 {
		t.Errorf("events verify: status %d\n%s%s", status, out, errs)
	}
	if status, _, errs = command(t, nil, to.args("restore", file)...); status != 1 || !oneError(errs) {
		t.Errorf("restoring over what is there: status %d\n%s", status, errs)
	}
	c.elsewhere(to, before, owed)
}

// noSecrets looks for passwords and keys in what a command printed.
func (c *crashing) noSecrets(text string, p *place) {
	c.t.Helper()
	secrets := []string{adminPassword, "crash-1"}
	if key, err := os.ReadFile(filepath.Join(p.data, "auth.key")); err == nil {
		secrets = append(secrets, strings.TrimSpace(string(key)))
	}
	for _, s := range secrets {
		if strings.Contains(text, s) {
			c.t.Errorf("a secret was printed: %s", text)
		}
	}
}

// oneError tells whether, behind what it does, a command has said one thing.
func oneError(text string) bool {
	return strings.Count("\n"+text, "\ncallchain: ") == 1 && strings.HasSuffix(text, "\n")
}

func giveKey(t *testing.T, from, to *place) {
	t.Helper()
	key, err := os.ReadFile(filepath.Join(from.data, "auth.key"))
	if err == nil {
		err = os.WriteFile(filepath.Join(to.data, "auth.key"), key, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// owed are calls that have not come to their devices: one that waits for its device, one that waits in its chain.
type owed struct {
	tokens [2]string
	calls  [2]string
	wire   int32 // of the first; the second has none yet
}

// delayedChain holds a call up before it goes to the device.
const delayedChain = `
name: Delayed
nodes:
  - name: wait
    type: delay
    config: {periodInSeconds: 6}
    to: {Success: send}
  - name: send
    type: rpc call request
`

// leaveCalls makes two devices that are away, and calls them.
func (c *crashing) leaveCalls() *owed {
	c.t.Helper()
	chain, err := c.rest.CreateChain(c.t.Context(), []byte(delayedChain))
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.rest.CreateProfile(c.t.Context(), "delayed", chain.ID, nil); err != nil {
		c.t.Fatal(err)
	}
	o := &owed{tokens: [2]string{"away", "delayed"}}
	for i, profile := range []string{"default", "delayed"} {
		d, err := c.rest.CreateDevice(c.t.Context(), client.Device{Name: o.tokens[i], Type: profile}, o.tokens[i])
		if err != nil {
			c.t.Fatal(err)
		}
		for k := range 2 - i { // of the first device the second call is looked at: its wire id is not 0
			params := json.RawMessage(strconv.AppendInt([]byte(`{"n":`), int64(-1-10*i-k), 10))
			params = append(params, '}')
			a, err := c.rest.Send(c.t.Context(), d.ID.ID, false, client.CallRequest{Method: "count", Params: params, Persistent: true, Timeout: 600_000})
			if err != nil {
				c.t.Fatal(err)
			}
			o.calls[i] = a.ID
		}
	}
	eventually(c.t, 10*time.Second, func() string {
		call, err := c.rest.Call(c.t.Context(), o.calls[0])
		if err != nil || call.Phase != "queued" {
			return call.Phase
		}
		return ""
	})
	f := c.foldAll()[o.calls[0]]
	if o.wire = f.state.Wire; o.wire == 0 {
		c.t.Fatalf("the call that waits has wire id 0: %+v", f.state)
	}
	return o
}

// elsewhere holds the restored database against what callers were told, starts a server on it, and lets the devices come that were called.
func (c *crashing) elsewhere(p *place, before map[string]promise, o *owed) {
	restored := &crashing{t: c.t, place: p, returned: map[string]promise{}}
	stored := restored.foldAll()
	for id, promise := range before {
		f := stored[id]
		if f == nil {
			c.t.Errorf("call %s was returned before the backup began and is not in it", id)
		} else if !promise.persistent && (f.state.Phase != rpc.PhaseSucceeded || string(f.body.Response.Bytes) != promise.answer) {
			c.t.Errorf("the caller of %s got %s, restored is %s %s", id, promise.answer, f.state.Phase, f.body.Response.Bytes)
		}
	}
	server := start(c.t, p)
	restored.server, restored.rest = server, p.login(c.t)
	came := make(chan fleet.Command, 16)
	all := fleet.New(fleet.Options{Addr: p.mqtt, QoS: 1, Reconnect: true, Answer: func(cmd fleet.Command) ([]byte, bool) {
		came <- fleet.Command{Device: cmd.Device, Wire: cmd.Wire, Payload: []byte(string(cmd.Payload))}
		return fleet.Echo(cmd)
	}}, o.tokens[:])
	defer all.Close()
	if err := all.Connect(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
	wires := [2]string{}
	for n := 0; n < 3; n++ { // two of the first device, one of the second
		select {
		case cmd := <-came:
			wires[cmd.Device] = cmd.Wire
		case <-time.After(20 * time.Second):
			c.t.Fatalf("only %d calls came to the devices", n)
		}
	}
	if wires[0] != strconv.Itoa(int(o.wire)) || wires[1] != "0" {
		c.t.Errorf("the calls came with wire ids %v, want %d and 0", wires, o.wire)
	}
	for _, id := range o.calls {
		eventually(c.t, 10*time.Second, func() string {
			call, err := restored.rest.Call(c.t.Context(), id)
			if err != nil || call.Phase != "succeeded" {
				return "call " + id + " is " + call.Phase
			}
			return ""
		})
	}
	devices := c.fleetAt(p)
	defer devices.Close()
	restored.finish(server)
}

// fleetAt lets the devices of the load come to another server, so that what was open ends.
func (c *crashing) fleetAt(p *place) *fleet.Fleet {
	tokens := make([]string, crashDevices)
	for i := range tokens {
		tokens[i] = "crash-" + strconv.Itoa(i)
	}
	f := fleet.New(fleet.Options{Addr: p.mqtt, QoS: 1, Reconnect: true, Answer: fleet.Echo}, tokens)
	if err := f.Connect(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
	return f
}

// TestStoreCopy moves a server from SQLite to PostgreSQL with calls that wait and a run that is parked; all goes on there.
func TestStoreCopy(t *testing.T) {
	needsBinary(t)
	from := newPlace(t)
	to := *from // the same folder: auth.key is there
	to.store = pgtest.Database(t)
	c := newCrashing(t, from)
	c.online()
	c.busy(300)()
	owed := c.leaveCalls()
	args := []string{"store", "copy", "--from", from.data, "--to", to.store}
	if status, _, errs := command(t, nil, args...); status != 1 || !strings.Contains(errs, "in use") || !oneError(errs) {
		t.Errorf("copying from a running server: status %d\n%s", status, errs)
	}
	c.fleet.Close()
	if status := c.server.stop(); status != 0 {
		t.Fatalf("the server ended with status %d", status)
	}
	status, out, errs := command(t, nil, args...)
	if status != 0 || !strings.Contains(out, "auth.key") || !strings.Contains(out, " 0 problems") {
		t.Fatalf("store copy: status %d\n%s%s", status, out, errs)
	}
	c.noSecrets(out+errs, from)
	if status, _, errs := command(t, nil, args...); status != 1 || !oneError(errs) {
		t.Errorf("copying over what is there: status %d\n%s", status, errs)
	}
	c.elsewhere(&to, c.returned, owed)
}

// TestMigrate: it makes the tables of a PostgreSQL without a server, tells before that there is something to do, and refuses a newer database.
func TestMigrate(t *testing.T) {
	needsBinary(t)
	p := newPlace(t)
	p.store = pgtest.Database(t)
	run := func(want int, saying string, args ...string) {
		t.Helper()
		status, out, errs := command(t, nil, p.args(args...)...)
		if status != want || !strings.Contains(out+errs, saying) {
			t.Errorf("callchain %v: status %d, want %d and %q\n%s%s", args, status, want, saying, out, errs)
		}
	}
	run(1, "version 0", "migrate", "--check")
	run(0, `"behind":false`, "migrate", "--json")
	run(0, "callchain_schema: version", "migrate", "--check")
	if status := start(t, p).stop(); status != 0 {
		t.Errorf("the server ended with status %d", status)
	}
	pgtest.Exec(t, p.store, "INSERT INTO callchain_schema (version_id, is_applied) VALUES (9999, true)")
	run(1, "newer version", "migrate", "--check")
	run(1, "newer version", "migrate")
	run(1, "newer version", "backup", filepath.Join(t.TempDir(), "b"))
}
