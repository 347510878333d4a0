package serve

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"callchain/cmd/callchain/client"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
	"github.com/plgd-dev/go-coap/v3/message/pool"
	"github.com/plgd-dev/go-coap/v3/options"
	"github.com/plgd-dev/go-coap/v3/pkg/runner/periodic"
	"github.com/plgd-dev/go-coap/v3/udp"
	coapclient "github.com/plgd-dev/go-coap/v3/udp/client"
)

// observer is a device over CoAP, on go-coap's client.
type observer struct {
	t    *testing.T
	base string
	conn *coapclient.Conn
	told chan notification
}

// notification is a call as the device sees it, or with another code than 2.05 the end of its observation.
type notification struct {
	code   codes.Code
	ID     int    `json:"id"`
	Method string `json:"method"`
}

func newObserver(t *testing.T, server *Server, c *client.Client, name string) (string, *observer) {
	t.Helper()
	d, err := c.CreateDevice(t.Context(), client.Device{Name: name}, "token-"+name)
	if err != nil {
		t.Fatal(err)
	}
	return d.ID.ID, observeCalls(t, server, name)
}

// dialCoAP connects the device.
func dialCoAP(t *testing.T, server *Server, name string) *observer {
	t.Helper()
	ended := make(chan struct{})
	conn, err := udp.Dial(server.CoAPAddr().String(), options.WithPeriodicRunner(periodic.New(ended, time.Second)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		close(ended)
		_ = conn.Close() // it only ends a goroutine
		<-conn.Done()
	})
	return &observer{t: t, base: "/api/v1/token-" + name, conn: conn, told: make(chan notification, 16)}
}

// observeCalls connects the device and makes it observe its calls.
func observeCalls(t *testing.T, server *Server, name string) *observer {
	t.Helper()
	o := dialCoAP(t, server, name)
	answered := make(chan struct{}, 1)
	_, err := o.conn.Observe(t.Context(), o.base+"/rpc", func(m *pool.Message) {
		if m.Code() == codes.Valid {
			answered <- struct{}{}
			return
		}
		o.told <- o.read(m)
	})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-answered:
	case <-time.After(10 * time.Second):
		t.Fatal("the observation was not answered")
	}
	return o
}

func (o *observer) read(m *pool.Message) notification {
	n := notification{code: m.Code()}
	body, err := m.ReadBody()
	if err == nil && len(body) > 0 {
		err = json.Unmarshal(body, &n)
	}
	if err != nil {
		o.t.Errorf("a notification with %q: %v", body, err)
	}
	return n
}

// next waits for a notification.
func (o *observer) next() notification {
	o.t.Helper()
	select {
	case n := <-o.told:
		return n
	case <-time.After(10 * time.Second):
		o.t.Fatal("no notification came")
	}
	panic("unreachable")
}

// post sends JSON and returns the answer's payload; any other code than want is a failure.
func (o *observer) post(want codes.Code, path, body string) string {
	o.t.Helper()
	m, err := o.conn.Post(o.t.Context(), o.base+path, message.AppJSON, bytes.NewReader([]byte(body)))
	if err != nil {
		o.t.Fatal(err)
	}
	text, err := m.ReadBody()
	if err != nil || m.Code() != want {
		o.t.Fatalf("POST %s: %s %s, %v; want %s", path, m.Code(), text, err, want)
	}
	return string(text)
}

// TestStoredCallsOverCoAP: those that waited come in order when the device observes, each proved by its ACK.
func TestStoredCallsOverCoAP(t *testing.T) {
	server, c := run(t, load(t, t.TempDir(), nil))
	d, err := c.CreateDevice(t.Context(), client.Device{Name: "d"}, "token-d")
	if err != nil {
		t.Fatal(err)
	}
	first, second := store(t, c, d.ID.ID, "first", false), store(t, c, d.ID.ID, "second", true)
	o := observeCalls(t, server, "d")
	one, two := o.next(), o.next()
	if one.Method != "first" || two.Method != "second" {
		t.Fatalf("there came %v and %v", one, two)
	}
	facts(t, c, second, "Succeeded")
	o.post(codes.Created, fmt.Sprint("/rpc/", one.ID), `{"n":1}`)
	types, evidence := facts(t, c, first, "Succeeded")
	if want := []string{"Requested", "Queued", "Sent", "Delivered", "Succeeded"}; !slices.Equal(types, want) || evidence != `{"evidence":"coap_ack"}` {
		t.Errorf("the history is %v with %s, want %v with coap_ack", types, evidence, want)
	}
	if sent := measured(t, server, "callchain_coap_commands_written_total"); sent != 2 {
		t.Errorf("%g calls are counted, want 2", sent)
	}
}

// TestCoAPBesideMQTT: what a device posts does not disturb its MQTT connection; an observation takes its place, as a newer connection does.
func TestCoAPBesideMQTT(t *testing.T) {
	server, c := run(t, load(t, t.TempDir(), nil))
	id, f := device(t, server, c, "d", "")
	o := dialCoAP(t, server, "d")
	o.post(codes.Created, "/telemetry", `{"a":1}`)
	o.post(codes.Created, "/attributes", `{"fw":"v2"}`)
	if a, err := c.Send(t.Context(), id, false, client.CallRequest{Method: "m", Params: json.RawMessage(`1`)}); err != nil || string(a.Body) != `1` {
		t.Errorf("over MQTT came %s, %v", a.Body, err)
	}
	if opened := measured(t, server, `callchain_events_total{type="SessionOpened"}`); opened != 1 {
		t.Errorf("%g sessions were opened, want that of MQTT alone", opened)
	}
	f.Close()
	reached(t, server, "callchain_mqtt_sessions", 0)
	newer := observeCalls(t, server, "d")
	call := store(t, c, id, "later", true)
	if n := newer.next(); n.Method != "later" {
		t.Errorf("there came %v", n)
	}
	facts(t, c, call, "Succeeded")
	reached(t, server, `callchain_sessions{transport="coap"}`, 1)
}

// TestCallsOfCoAPDevices are answered in the response: here by the root chain's time-out.
func TestCallsOfCoAPDevices(t *testing.T) {
	server, c := run(t, load(t, t.TempDir(), map[string]string{"rpc.client_side_timeout": "1s"}))
	_, o := newObserver(t, server, c, "d")
	if got := o.post(codes.Content, "/rpc", `{"method":"nobodyKnows","params":{}}`); got != `{"error":"timeout"}` {
		t.Errorf("the answer is %s", got)
	}
}

// TestObserversAreToldOfTheEnd: 5.03, and stopping does not wait for their ACKs.
func TestObserversAreToldOfTheEnd(t *testing.T) {
	server, c := run(t, load(t, t.TempDir(), nil))
	_, o := newObserver(t, server, c, "d")
	began := time.Now()
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	if n := o.next(); n.code != codes.ServiceUnavailable {
		t.Errorf("the observer was told %s", n.code)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("stopping with an observer took %s", took)
	}
}
