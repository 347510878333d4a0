package serve

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"callchain/cmd/callchain/client"
	"callchain/engine/bus/kafkatest"
	"callchain/eventstore/pgtest"
	"callchain/examples"
	"callchain/transports/mqtt/mqttclient"

	tracing "go.opentelemetry.io/proto/otlp/trace/v1"
)

const (
	callersTrace = "4bf92f3577b34da6a3ce929d0e0e4736"
	callersSpan  = "00f067aa0ba902b7"
	devicesSpan  = "aaaaaaaaaaaaaaa1"
)

// tracedDevice is a device that speaks MQTT 5, takes part in the trace of each call and answers with what it was told.
type tracedDevice struct {
	*mqttclient.Client
	told    chan string // traceparent of each call
	answers chan string // to its own calls
}

func connectTraced(t *testing.T, server *Server, c *client.Client, profile string) (string, *tracedDevice) {
	t.Helper()
	d, err := c.CreateDevice(t.Context(), client.Device{Name: "traced", Type: profile}, "token-traced")
	if err != nil {
		t.Fatal(err)
	}
	return d.ID.ID, connectTo(t, server)
}

// connectTo connects the device.
func connectTo(t *testing.T, server *Server) *tracedDevice {
	t.Helper()
	dev := &tracedDevice{told: make(chan string, 8), answers: make(chan string, 8)}
	var err error
	dev.Client, err = mqttclient.Connect(t.Context(), server.MQTTAddr().String(), mqttclient.Options{
		Token: "token-traced", Version: mqttclient.V5, OnPublish: func(c *mqttclient.Client, m mqttclient.Message) { dev.take(t, c, m) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(dev.Close)
	filters := []mqttclient.Filter{{Topic: "v1/devices/me/rpc/request/+", QoS: 1}, {Topic: "v1/devices/me/rpc/response/+", QoS: 1}}
	if _, err := dev.Subscribe(t.Context(), filters...); err != nil {
		t.Fatal(err)
	}
	return dev
}

func (d *tracedDevice) take(t *testing.T, c *mqttclient.Client, m mqttclient.Message) {
	topic := string(m.Topic)
	if strings.Contains(topic, "/response/") {
		d.answers <- string(m.Payload)
		return
	}
	p, err := m.Properties()
	if err != nil {
		t.Error(err)
	}
	parent := ""
	for _, u := range p.User {
		if u.Key == "traceparent" {
			parent = u.Val
		}
	}
	d.told <- parent
	answer := strings.Replace(topic, "request", "response", 1)
	if len(parent) < 36 {
		err = c.Publish(answer, []byte(`{"ok":true}`), 1, nil)
	} else {
		err = c.PublishWith("traceparent", parent[:36]+devicesSpan+parent[52:], answer, []byte(`{"ok":true}`), 1, nil)
	}
	if err != nil {
		t.Error(err)
	}
}

// callWith makes a call with a traceparent.
func callWith(t *testing.T, server *Server, c *client.Client, device, traceparent string) string {
	t.Helper()
	url := "http://" + server.HTTPAddr().String() + "/api/rpc/twoway/" + device
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewBufferString(`{"method":"m","params":1}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Authorization", "Bearer "+c.Token())
	if traceparent != "" {
		req.Header.Set("traceparent", traceparent)
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("the call ends with %s", answer.Status)
	}
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	return answer.Header.Get("Callchain-Rpc-Id")
}

// TestTraceOfACall: one tree from the caller's span to the answer it got, through the device.
func TestTraceOfACall(t *testing.T) {
	t.Run("in process", func(t *testing.T) { traceOfACall(t, map[string]string{}) })
	t.Run("on Kafka", func(t *testing.T) { traceOfACall(t, onKafka(t)) })
}

// onKafka are the settings of a server on brokers and a database that the environment names.
func onKafka(t *testing.T) map[string]string {
	t.Helper()
	topics := kafkatest.New(t)
	return map[string]string{
		"store.url": pgtest.Database(t), "bus.kafka.brokers": topics.Broker, "bus.kafka.prefix": topics.Prefix, "partitions": "4",
	}
}

func traceOfACall(t *testing.T, more map[string]string) {
	to := newCollector(t)
	more["otel.endpoint"], more["otel.headers"], more["otel.sample"] = to.url, "Api-Key=a%20b, X-Two=2", "0"
	server, c := run(t, load(t, t.TempDir(), more))
	id, dev := connectTraced(t, server, c, "default")
	call := callWith(t, server, c, id, "00-"+callersTrace+"-"+callersSpan+"-01")
	spans := to.await(t, callersTrace, "POST /api/rpc/twoway/:deviceId")
	if got, want := tree(spans, callersSpan, "")+"by the device:\n"+tree(spans, devicesSpan, ""), `POST /api/rpc/twoway/:deviceId
  inbox write
    step Call
      deliver
by the device:
device answer
  inbox write
    step Reply
      answer to caller
`; got != want {
		t.Errorf("the trace is\n%s", got)
	}
	for _, s := range spans {
		switch s.Name {
		case "step Call":
			if attribute(s, "callchain.rpc.id") != call || attribute(s, "callchain.device.id") != id || attribute(s, "callchain.rpc.method") != "m" {
				t.Errorf("the step has %v", s.Attributes)
			}
		case "deliver":
			if parent := <-dev.told; parent != "00-"+callersTrace+"-"+hex.EncodeToString(s.SpanId)+"-01" {
				t.Errorf("the device was told %s", parent)
			}
		}
		if s.EndTimeUnixNano < s.StartTimeUnixNano {
			t.Errorf("%s ends before it begins", s.Name)
		}
	}
	if to.service["service.name"] != "callchain" || to.service["service.instance.id"] != server.node || to.headers.Get("Api-Key") != "a b" || to.headers.Get("X-Two") != "2" {
		t.Errorf("the collector sees %v %v", to.service, to.headers)
	}
	wantTraceInEvents(t, c, call)
}

// wantTraceInEvents: every event of the call names the trace.
func wantTraceInEvents(t *testing.T, c *client.Client, call string) {
	t.Helper()
	var history json.RawMessage
	if err := c.Do(t.Context(), "GET", "/api/rpc/calls/"+call+"/events", nil, &history); err != nil {
		t.Fatal(err)
	}
	events, named := bytes.Count(history, []byte(`"type":`)), bytes.Count(history, []byte(callersTrace))
	if events < 3 || named != events {
		t.Errorf("%d of %d events name the trace: %s", named, events, history)
	}
}

// TestSamplingIsTheCallersChoiceFirst: a caller's "no" counts, and requests without a trace are sampled by the setting.
func TestSamplingIsTheCallersChoiceFirst(t *testing.T) {
	to := newCollector(t)
	server, c := run(t, load(t, t.TempDir(), map[string]string{"otel.endpoint": to.url, "otel.sample": "1"}))
	id, dev := connectTraced(t, server, c, "default")
	callWith(t, server, c, id, "00-"+callersTrace+"-"+callersSpan+"-00")
	if parent := <-dev.told; !strings.HasPrefix(parent, "00-"+callersTrace) || !strings.HasSuffix(parent, "-00") {
		t.Errorf("the device was told %s", parent)
	}
	callWith(t, server, c, id, "")
	parent := <-dev.told
	spans := to.await(t, parent[3:35], "POST /api/rpc/twoway/:deviceId")
	if len(spans) != 8 || len(to.trace(callersTrace)) > 0 {
		t.Errorf("%d spans of the request without a trace, %d of the one that was not to be sampled", len(spans), len(to.trace(callersTrace)))
	}
}

// TestTraceOfADevicesCall: a device's own call is traced too, as a child of what the device names, or for itself.
func TestTraceOfADevicesCall(t *testing.T) {
	to := newCollector(t)
	server, c := run(t, load(t, t.TempDir(), map[string]string{"otel.endpoint": to.url}))
	chain, err := c.CreateChain(t.Context(), examples.GetTime)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateProfile(t.Context(), "clocks", chain.ID, nil); err != nil {
		t.Fatal(err)
	}
	_, dev := connectTraced(t, server, c, "clocks")
	const topic, call = "v1/devices/me/rpc/request/7", `{"method":"getTime","params":{}}`
	if err := dev.PublishWith("traceparent", "00-"+callersTrace+"-"+devicesSpan+"-01", topic, []byte(call), 1, nil); err != nil {
		t.Fatal(err)
	}
	<-dev.answers
	to.await(t, callersTrace, "answer to device")
	want := "device call\n  inbox write\n    step DeviceCall\n      answer to device\n"
	until(t, func() bool { return tree(to.trace(callersTrace), devicesSpan, "") == want }, "the trace of the call is not whole")
	if err := dev.Publish(topic, []byte(call), 1, nil); err != nil {
		t.Fatal(err)
	}
	<-dev.answers
	until(t, func() bool {
		for _, root := range to.roots() {
			if root.Name == "device call" && tree(to.trace(hex.EncodeToString(root.TraceId)), "", "") == want {
				return true
			}
		}
		return false
	}, "a call without a trace has none of its own")
}

// TestUndeliveredCallEndsItsSpan: a device that never acknowledges leaves a span that says so.
func TestUndeliveredCallEndsItsSpan(t *testing.T) {
	to := newCollector(t)
	server, c := run(t, load(t, t.TempDir(), map[string]string{"otel.endpoint": to.url, "rpc.min_timeout": "0s"}))
	d, err := c.CreateDevice(t.Context(), client.Device{Name: "deaf", Type: "default"}, "token-deaf")
	if err != nil {
		t.Fatal(err)
	}
	dev, err := mqttclient.Connect(t.Context(), server.MQTTAddr().String(), mqttclient.Options{Token: "token-deaf", ManualAck: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(dev.Close)
	if _, err := dev.Subscribe(t.Context(), mqttclient.Filter{Topic: "v1/devices/me/rpc/request/+", QoS: 1}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := c.Send(ctx, d.ID.ID, false, client.CallRequest{Method: "m", Timeout: 50}); err == nil {
		t.Fatal("a device that does not answer has answered")
	}
	until(t, func() bool {
		for _, root := range to.roots() {
			spans := to.trace(hex.EncodeToString(root.TraceId))
			for _, s := range spans {
				if s.Name == "deliver" && s.Status.GetCode() == tracing.Status_STATUS_CODE_ERROR && s.Status.Message == "the call ended: expired" {
					return true
				}
			}
		}
		return false
	}, "no span tells that the call was not delivered")
}

// TestTraceContextPassesWithoutACollector: the device is told the caller's trace as it came.
func TestTraceContextPassesWithoutACollector(t *testing.T) {
	server, c := run(t, load(t, t.TempDir(), nil))
	id, dev := connectTraced(t, server, c, "default")
	const parent = "00-" + callersTrace + "-" + callersSpan + "-01"
	wantTraceInEvents(t, c, callWith(t, server, c, id, parent))
	if got := <-dev.told; got != parent {
		t.Errorf("the device was told %q", got)
	}
	callWith(t, server, c, id, "")
	if got := <-dev.told; got != "" {
		t.Errorf("of a call without a trace the device was told %q", got)
	}
}

// TestCallsGoOnWithoutTheCollector: a collector that is away loses spans, nothing else.
func TestCallsGoOnWithoutTheCollector(t *testing.T) {
	to := newCollector(t)
	to.away = true
	server, c := run(t, load(t, t.TempDir(), map[string]string{"otel.endpoint": to.url}))
	id, _ := connectTraced(t, server, c, "default")
	callWith(t, server, c, id, "")
	until(t, func() bool { return measured(t, server, `callchain_spans_total{outcome="lost"}`) >= 8 }, "lost spans are not counted")
	to.mu.Lock()
	to.away = false
	to.mu.Unlock()
	callWith(t, server, c, id, "")
	until(t, func() bool { return measured(t, server, `callchain_spans_total{outcome="sent"}`) >= 8 }, "nothing is sent after the collector is back")
}

// TestTraceGoesOnAfterARestart: what the next process does for a call hangs below the step that began it, which another process made.
func TestTraceGoesOnAfterARestart(t *testing.T) {
	to := newCollector(t)
	dir, more := t.TempDir(), map[string]string{"otel.endpoint": to.url}
	server, c := run(t, load(t, dir, more))
	d, err := c.CreateDevice(t.Context(), client.Device{Name: "traced", Type: "default"}, "token-traced")
	if err != nil {
		t.Fatal(err)
	}
	answer, err := c.Send(t.Context(), d.ID.ID, false, client.CallRequest{Method: "m", Persistent: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	server, _ = run(t, load(t, dir, more))
	dev := connectTo(t, server)
	parent := <-dev.told
	until(t, func() bool {
		spans := to.trace(parent[3:35])
		for _, s := range spans {
			if s.Name == "step Call" && attribute(s, "callchain.rpc.id") == answer.ID {
				below := tree(spans, hex.EncodeToString(s.SpanId), "")
				return strings.HasPrefix(below, "answer to caller\ndeliver\n") && strings.Contains(tree(spans, devicesSpan, ""), "step Reply")
			}
		}
		return false
	}, "the delivery and the answer are not below the step that began the call")
}
