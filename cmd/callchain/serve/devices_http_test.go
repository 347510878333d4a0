package serve

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"callchain/cmd/callchain/client"
)

// poller is a device over HTTP. Each request has a connection of its own, as with most scripts.
type poller struct {
	t    *testing.T
	base string
	http http.Client
}

func newPoller(t *testing.T, server *Server, c *client.Client, name string) (string, *poller) {
	t.Helper()
	d, err := c.CreateDevice(t.Context(), client.Device{Name: name}, "token-"+name)
	if err != nil {
		t.Fatal(err)
	}
	return d.ID.ID, &poller{t, "http://" + server.HTTPAddr().String() + "/api/v1/token-" + name, http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
}

// ask sends a request and returns status and body; 0 if the connection broke.
func (p *poller) ask(ctx context.Context, method, path, body string) (int, string) {
	r, err := http.NewRequestWithContext(ctx, method, p.base+path, strings.NewReader(body))
	if err != nil {
		p.t.Error(err)
		return 0, ""
	}
	resp, err := p.http.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(text)
}

// must is ask with a status that is known.
func (p *poller) must(status int, method, path, body string) string {
	p.t.Helper()
	got, text := p.ask(p.t.Context(), method, path, body)
	if got != status {
		p.t.Fatalf("%s %s: %d %s, want %d", method, path, got, text, status)
	}
	return text
}

// fetch polls for a call and returns its wire id and method.
func (p *poller) fetch() (wire int, method string) {
	p.t.Helper()
	var got struct {
		ID     int    `json:"id"`
		Method string `json:"method"`
	}
	if text := p.must(200, "GET", "/rpc?timeout=20000", ""); json.Unmarshal([]byte(text), &got) != nil {
		p.t.Fatalf("the poll brought %s", text)
	}
	return got.ID, got.Method
}

// store makes a persistent call of a minute.
func store(t *testing.T, c *client.Client, device, method string, oneway bool) string {
	t.Helper()
	a, err := c.Send(t.Context(), device, oneway, client.CallRequest{Method: method, Persistent: true, Expires: time.Now().Add(time.Minute).UnixMilli()})
	if err != nil {
		t.Fatal(err)
	}
	return a.ID
}

// facts waits until the history of a call has a fact, and returns the types of all.
func facts(t *testing.T, c *client.Client, call, fact string) (types []string, evidence string) {
	t.Helper()
	until(t, func() bool {
		events, err := c.Events(t.Context(), call)
		if err != nil {
			t.Fatal(err)
		}
		types = nil
		for _, e := range events {
			types = append(types, e.Type)
			if e.Type == "Delivered" {
				evidence = string(e.Data)
			}
		}
		return slices.Contains(types, fact)
	}, "call "+call+" has no "+fact)
	return types, evidence
}

// reached waits for a series of the metrics to have a value.
func reached(t *testing.T, server *Server, series string, want float64) {
	t.Helper()
	until(t, func() bool { return measured(t, server, series) == want }, fmt.Sprintf("%s is not %g", series, want))
}

// TestStoredCallsOverHTTP: one a poll, in order, proved by http_taken; what is not answered comes again, also after the other calls came.
func TestStoredCallsOverHTTP(t *testing.T) {
	server, c := run(t, load(t, t.TempDir(), nil))
	device, p := newPoller(t, server, c, "d")
	first, second := store(t, c, device, "first", false), store(t, c, device, "second", true)
	wire, method := p.fetch()
	if method != "first" {
		t.Fatalf("%s came first", method)
	}
	if _, evidence := facts(t, c, first, "Delivered"); evidence != `{"evidence":"http_taken"}` {
		t.Errorf("the proof is %s", evidence)
	}
	if again, method := p.fetch(); again != wire || method != "first" {
		t.Fatalf("without an answer came %d %s, want %d again", again, method, wire)
	}
	p.must(200, "POST", fmt.Sprint("/rpc/", wire), `{"n":1}`)
	facts(t, c, first, "Succeeded")
	if _, method := p.fetch(); method != "second" {
		t.Fatalf("%s came second", method)
	}
	facts(t, c, second, "Succeeded")
	p.must(408, "GET", "/rpc?timeout=50", "")
}

// TestACallForAPollThatHungUp is not delivered, and comes with the next poll; polls that brought nothing leave no events.
func TestACallForAPollThatHungUp(t *testing.T) {
	server, c := run(t, load(t, t.TempDir(), nil))
	device, p := newPoller(t, server, c, "d")
	for range 20 {
		p.must(408, "GET", "/rpc?timeout=5", "")
	}
	gone, hangUp := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.ask(gone, "GET", "/rpc?timeout=20000", "")
	}()
	reached(t, server, "callchain_http_device_polls", 1)
	hangUp()
	<-ended
	reached(t, server, "callchain_http_device_polls", 0)
	for kind, want := range map[string]float64{"SessionOpened": 1, "Subscribed": 1, "SessionClosed": 0} {
		if got := measured(t, server, `callchain_events_total{type="`+kind+`"}`); got != want {
			t.Errorf("21 polls left %g %s, want %g", got, kind, want)
		}
	}
	call := store(t, c, device, "m", true)
	if types, _ := facts(t, c, call, "Queued"); slices.Contains(types, "Sent") {
		t.Fatalf("nobody was there: %v", types)
	}
	if _, method := p.fetch(); method != "m" {
		t.Fatalf("%s came", method)
	}
	if types, _ := facts(t, c, call, "Succeeded"); !slices.Equal(types, []string{"Requested", "Queued", "Sent", "Delivered", "Succeeded"}) {
		t.Errorf("the history is %v", types)
	}
}

// TestHTTPBesideMQTT: what a device posts does not disturb its MQTT connection; a poll takes its place, as a newer connection does.
func TestHTTPBesideMQTT(t *testing.T) {
	server, c := run(t, load(t, t.TempDir(), nil))
	id, f := device(t, server, c, "d", "")
	p := &poller{t: t, base: "http://" + server.HTTPAddr().String() + "/api/v1/token-d"}
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	p.must(200, "POST", "/telemetry", `{"a":1}`)
	p.must(200, "POST", "/attributes", `{"fw":"v2"}`)
	p.must(200, "POST", "/rpc/999", `{}`)
	if got := p.must(200, "GET", "/attributes?clientKeys=fw", ""); got != `{"client":{"fw":"v2"}}` {
		t.Errorf("the attributes are %s", got)
	}
	if a, err := c.Send(t.Context(), id, false, client.CallRequest{Method: "m", Params: json.RawMessage(`1`)}); err != nil || string(a.Body) != `1` {
		t.Errorf("over MQTT came %s, %v", a.Body, err)
	}
	if opened := measured(t, server, `callchain_events_total{type="SessionOpened"}`); opened != 1 {
		t.Errorf("%g sessions were opened, want that of MQTT alone", opened)
	}
	f.Close()
	reached(t, server, "callchain_mqtt_sessions", 0)
	call := store(t, c, id, "later", true)
	if _, method := p.fetch(); method != "later" {
		t.Errorf("%s came", method)
	}
	facts(t, c, call, "Succeeded")
}

// TestSessionsByTransport: a session counts under the transport that it came through, while it lasts; posting makes none. That CoAP has its own
// is shown beside its devices (TestCoAPBesideMQTT).
func TestSessionsByTransport(t *testing.T) {
	server, c := run(t, load(t, t.TempDir(), nil))
	counts := func(mqtt, http, coap float64) {
		t.Helper()
		for transport, want := range map[string]float64{"mqtt": mqtt, "http": http, "coap": coap} {
			reached(t, server, `callchain_sessions{transport="`+transport+`"}`, want)
		}
	}
	counts(0, 0, 0)
	_, first := device(t, server, c, "first", "")
	_, second := device(t, server, c, "second", "")
	_, p := newPoller(t, server, c, "third")
	p.must(200, "POST", "/telemetry", `{"a":1}`)
	counts(2, 0, 0)
	p.must(408, "GET", "/rpc?timeout=5", "")
	counts(2, 1, 0) // it may come again
	first.Close()
	counts(1, 1, 0)
	second.Close()
	counts(0, 1, 0)
}

// TestPollsEndWithTheServer: with ThingsBoard's 408, at once.
func TestPollsEndWithTheServer(t *testing.T) {
	server, c := run(t, load(t, t.TempDir(), nil))
	_, p := newPoller(t, server, c, "d")
	status := make(chan int, 1)
	go func() {
		got, _ := p.ask(context.Background(), "GET", "/rpc?timeout=60000", "")
		status <- got
	}()
	reached(t, server, "callchain_http_device_polls", 1)
	began := time.Now()
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	if got := <-status; got != 408 {
		t.Errorf("the poll ended with %d", got)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("stopping with a poll took %s", took)
	}
}
