package serve

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"callchain/cmd/callchain/client"
	"callchain/cmd/callchain/fleet"
	"callchain/cmd/callchain/settings"
	"callchain/examples"

	"go.uber.org/goleak"
)

// One goroutine of a library that Kafka's client uses keeps its averages for as long as the process lives.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

const password = "serve-test"

// load gives settings for a server on free ports.
func load(t *testing.T, dir string, more map[string]string) settings.Settings {
	t.Helper()
	flags := map[string]string{
		"data.dir": dir, "http.addr": "127.0.0.1:0", "mqtt.addr": "127.0.0.1:0", "coap.addr": "127.0.0.1:0", "admin.email": "a@b.c", "admin.password": password,
	}
	for key, value := range more {
		flags[key] = value
	}
	l, err := settings.Load(settings.Sources{Flags: flags})
	if err != nil {
		t.Fatal(err)
	}
	return l.Settings
}

// run starts a server and stops it with the test.
func run(t *testing.T, s settings.Settings) (*Server, *client.Client) {
	t.Helper()
	server, err := New(t.Context(), s, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	server.Start()
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-server.Ready():
	case err := <-server.Failed():
		t.Fatal(err)
	case <-time.After(20 * time.Second):
		t.Fatal("the server is not ready after 20 s")
	}
	c, err := client.New("http://"+server.HTTPAddr().String(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if s.Admin.Password != "" {
		if _, err := c.Login(t.Context(), "a@b.c", password); err != nil {
			t.Fatal(err)
		}
	}
	return server, c
}

// device makes a device of a profile and connects it.
func device(t *testing.T, server *Server, c *client.Client, name, profile string) (string, *fleet.Fleet) {
	t.Helper()
	d, err := c.CreateDevice(t.Context(), client.Device{Name: name, Type: profile}, "token-"+name)
	if err != nil {
		t.Fatal(err)
	}
	f := fleet.New(fleet.Options{Addr: server.MQTTAddr().String(), QoS: 1, Calling: true, Answer: fleet.Echo}, []string{"token-" + name})
	if err := f.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return d.ID.ID, f
}

func TestCallsGoBothWays(t *testing.T) {
	server, c := run(t, load(t, t.TempDir(), nil))
	chain, err := c.CreateChain(t.Context(), examples.GetTime)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateProfile(t.Context(), "clocks", chain.ID, nil); err != nil {
		t.Fatal(err)
	}
	id, f := device(t, server, c, "d", "clocks")
	answer, err := c.Send(t.Context(), id, false, client.CallRequest{Method: "m", Params: json.RawMessage(`{"x":1}`)})
	if err != nil || string(answer.Body) != `{"x":1}` {
		t.Errorf("the device answered %s, %v", answer.Body, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if answer, err := f.Request(ctx, 0, "getTime", []byte("{}")); err != nil || !strings.Contains(string(answer), `"time":`) {
		t.Errorf("the chain answered %s, %v", answer, err)
	}
}

func TestFirstPasswordIsWrittenForTheOperatorOnly(t *testing.T) {
	dir := t.TempDir()
	server, _ := run(t, load(t, dir, map[string]string{"admin.password": ""}))
	_, file := server.First()
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 || file != filepath.Join(dir, "admin-password") {
		t.Fatalf("the password is in %q: %v, %v", file, info, err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New("http://"+server.HTTPAddr().String(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Login(t.Context(), "a@b.c", strings.TrimSpace(string(text))); err != nil {
		t.Error(err)
	}
}

func TestChangedCredentialsEndTheSession(t *testing.T) {
	server, c := run(t, load(t, t.TempDir(), nil))
	id, f := device(t, server, c, "d", "default")
	var credentials map[string]any
	if err := c.Do(t.Context(), "GET", "/api/device/"+id+"/credentials", nil, &credentials); err != nil {
		t.Fatal(err)
	}
	credentials["credentialsId"] = "another"
	if err := c.Do(t.Context(), "POST", "/api/device/credentials", credentials, nil); err != nil {
		t.Fatal(err)
	}
	offline(t, f)
}

func TestDeletedDeviceLosesItsSession(t *testing.T) {
	server, c := run(t, load(t, t.TempDir(), nil))
	id, f := device(t, server, c, "d", "default")
	if err := c.DeleteDevice(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	offline(t, f)
}

func offline(t *testing.T, f *fleet.Fleet) {
	t.Helper()
	until(t, func() bool { return f.Stats().Online == 0 }, "the device is still connected")
}

// until looks again every 10 ms, for 10 s at most.
func until(t *testing.T, reached func() bool, otherwise string) {
	t.Helper()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	late := time.After(10 * time.Second)
	for !reached() {
		select {
		case <-look.C:
		case <-late:
			t.Fatal(otherwise)
		}
	}
}

func TestProfileSettingsCount(t *testing.T) {
	server, c := run(t, load(t, t.TempDir(), nil))
	rules := map[string]any{"submitOrder": "on_response", "maxRetries": 1, "ackTimeout": 250}
	if _, err := c.CreateProfile(t.Context(), "slow", "", rules); err != nil {
		t.Fatal(err)
	}
	id, _ := device(t, server, c, "d", "slow")
	d, err := server.directory.Device(t.Context(), mustUUID(t, id))
	if err != nil {
		t.Fatal(err)
	}
	s := d.Info.Settings
	if s.Order != orderOf("on_response") || s.MaxRetries != 1 || s.AckTimeout != 250*time.Millisecond || s.MaxOpen != 10_000 || s.ResponseTimeout != 30*time.Second {
		t.Errorf("the device has %+v", s)
	}
	if d.Info.Chain == nil || d.Info.Chain.Name != "Root Rule Chain" {
		t.Errorf("the device's chain is %+v", d.Info.Chain)
	}
}
