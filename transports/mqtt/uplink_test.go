package mqtt_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"callchain/transports"
	"callchain/transports/internal/mqttwire"
	"callchain/transports/mqtt"
	"callchain/transports/mqtt/mqttclient"
	"callchain/transports/transporttest"
)

// A message that is sent again while the engine is still at it is one message; afterwards it is another.
func TestDuplicateWhileTheFirstIsPending(t *testing.T) {
	engine := transporttest.NewEngine()
	engine.Hold(transporttest.Telemetry)
	_, addr := start(t, engine, engine, nil)
	r := greet(t, addr, hello{version: 4})
	m := mqttwire.Message{Topic: []byte(telemetry), Payload: []byte("{}"), QoS: 1, ID: 9}
	again := m
	again.Dup = true
	r.say(mqttwire.AppendMessage(mqttwire.AppendMessage(nil, m, 4), again, 4)...)
	held := engine.Next(t, transporttest.Telemetry)
	if text, _ := r.heard(); text != "" {
		t.Fatalf("%s came before the engine settled", text)
	}
	held.Settle(nil)
	if got := r.take(4); got != "40020009" {
		t.Fatalf("%s, want one PUBACK", got)
	}
	if text, _ := r.heard(); text != "" || len(engine.Events(transporttest.Telemetry)) != 1 {
		t.Fatalf("then %s came, and %d messages reached the engine", text, len(engine.Events(transporttest.Telemetry)))
	}
	engine.Release(transporttest.Telemetry)
	r.say(mqttwire.AppendMessage(nil, again, 4)...)
	if text, _ := r.heard(); text != "40020009" || len(engine.Events(transporttest.Telemetry)) != 2 {
		t.Fatalf("sent again after its PUBACK: %s, %d messages", text, len(engine.Events(transporttest.Telemetry)))
	}
}

// Data over the bound is dropped or left unacknowledged; the socket is read on, and answers pass.
func TestDataOverTheBound(t *testing.T) {
	engine := transporttest.NewEngine()
	engine.Hold(transporttest.Telemetry)
	s, addr := start(t, engine, engine, func(c *mqtt.Config) { c.DataOutstanding = 3 })
	r := greet(t, addr, hello{version: 4})
	var flood []byte
	for i := range 10 {
		flood = append(flood, publishBytes(4, telemetry, "{}", byte(i%2), uint16(i))...)
	}
	r.say(append(flood, publishBytes(4, replyTopic+"1", "{}", 1, 100)...)...)
	if text, closed := r.heard(); text != "40020064" || closed {
		t.Fatalf("%s (closed %v), want the PUBACK of the reply alone", text, closed)
	}
	held := engine.Events(transporttest.Telemetry)
	if st := s.Stats(); len(held) != 3 || st.DataDropped != 3 || st.DataUnanswered != 4 {
		t.Fatalf("%d handed on, %+v", len(held), st)
	}
	for _, ev := range held {
		ev.Settle(nil)
	}
	if text, _ := r.heard(); text != "40020001" {
		t.Fatalf("%s, want the PUBACK of the one QoS 1 message that was handed on", text)
	}
	engine.Release(transporttest.Telemetry)
	r.say(publishBytes(4, telemetry, "{}", 1, 3)...)
	if text, _ := r.heard(); text != "40020003" {
		t.Fatalf("%s, want the PUBACK of the message that was sent again", text)
	}
}

// Answers are never dropped: at the bound the connection is not read until the engine has settled one, and it can still end.
func TestAnswersOverTheBoundWait(t *testing.T) {
	engine := transporttest.NewEngine()
	engine.Hold(transporttest.Reply)
	_, addr := start(t, engine, engine, func(c *mqtt.Config) { c.RPCOutstanding = 2 })
	r := greet(t, addr, hello{version: 4})
	for i := range 5 {
		r.say(publishBytes(4, replyTopic+"1", fmt.Sprint(i), 0, 0)...)
	}
	for i := range 5 {
		ev := engine.Next(t, transporttest.Reply)
		if string(ev.Payload) != fmt.Sprint(i) {
			t.Fatalf("reply %s, want %d", ev.Payload, i)
		}
		if waiting := len(engine.Events(transporttest.Reply)) - i; waiting > 2 {
			t.Fatalf("%d replies are with the engine, the bound is 2", waiting)
		}
		if i < 3 {
			ev.Settle(nil)
		}
	}
	r.say(publishBytes(4, replyTopic+"1", "{}", 0, 0)...) // waits for a token that never comes
	engine.Session(t, "device").Link.Close(transports.ReasonDeviceDeleted)
	if got := r.rest(); got != "" {
		t.Fatalf("%s before the end", got)
	}
	engine.Next(t, transporttest.Disconnect)
}

func TestEngineRefusals(t *testing.T) {
	engine := transporttest.NewEngine()
	_, addr := start(t, engine, engine, nil)
	engine.Deny(transporttest.Telemetry, fmt.Errorf("%w: too many keys", transports.ErrRefused))
	five, four := greet(t, addr, hello{version: 5, user: new("five")}), greet(t, addr, hello{version: 4, user: new("four")})
	five.say(publishBytes(5, telemetry, "{}", 1, 1)...)
	if text, closed := five.heard(); text != "4003000183" || closed {
		t.Errorf("MQTT 5: %s (closed %v), want PUBACK 0x83", text, closed)
	}
	four.say(publishBytes(4, telemetry, "{}", 0, 0)...)
	if text, closed := four.heard(); text != "" || closed {
		t.Errorf("MQTT 3.1.1 QoS 0: %s (closed %v), want nothing", text, closed)
	}
	four.say(publishBytes(4, telemetry, "{}", 1, 1)...)
	if got := four.rest(); got != "" {
		t.Errorf("MQTT 3.1.1: %s, want the end", got)
	}
	engine.Deny(transporttest.Telemetry, transports.ErrGone)
	five.say(publishBytes(5, telemetry, "{}", 1, 2)...)
	if got := five.rest(); got != "e0029800" {
		t.Errorf("session gone: %s, want DISCONNECT 0x98", got)
	}
}

func TestSubscriptionTheEngineDoesNotAccept(t *testing.T) {
	engine := transporttest.NewEngine()
	_, addr := start(t, engine, engine, nil)
	for _, c := range []struct {
		version byte
		err     error
		code    byte
	}{{4, transports.ErrBusy, 0x80}, {5, transports.ErrBusy, 0x97}, {5, transports.ErrRefused, 0x80}} {
		d := connect(t, addr, mqttclient.Options{Version: c.version, Token: fmt.Sprint(c)})
		engine.Deny(transporttest.Subscribe, c.err)
		ctx, cancel := context.WithTimeout(context.Background(), wait)
		codes, err := d.Subscribe(ctx, mqttclient.Filter{Topic: updateTopic, QoS: 1}, mqttclient.Filter{Topic: commandFilter, QoS: 1})
		cancel()
		if err != nil || !bytes.Equal(codes, []byte{1, c.code}) {
			t.Errorf("version %d, %v: SUBACK %x %v, want 01%02x", c.version, c.err, codes, err, c.code)
		}
		engine.Deny(transporttest.Subscribe, nil)
		d.subscribe(t, commandFilter, 1)
	}
}

// A SUBSCRIBE as long as a packet may be is answered filter by filter; one of 100,000 filters is no packet for this server.
func TestSubscribeWithManyFilters(t *testing.T) {
	engine := transporttest.NewEngine()
	_, addr := start(t, engine, engine, nil)
	many := func(n int) []byte {
		body := []byte{0, 1}
		for range n {
			body = append(body, 0, 1, 'a', 1)
		}
		return append(mqttwire.AppendLength([]byte{0x82}, len(body)), body...)
	}
	r := greet(t, addr, hello{version: 4})
	r.say(many(16_000)...)
	if text, closed := r.heard(); closed || text != "90827d0001"+strings.Repeat("80", 16_000) {
		t.Fatalf("SUBACK of %d characters (closed %v)", len(text), closed)
	}
	r.say(many(100_000)[:1<<17]...)
	if got := r.rest(); got != "" {
		t.Fatalf("%.20s before the end", got)
	}
}

func TestSessionLimits(t *testing.T) {
	engine := transporttest.NewEngine()
	_, addr := start(t, engine, engine, func(c *mqtt.Config) {
		c.Limits.Device = mqtt.Rates{Messages: "20:600", TelemetryMessages: "10:600", TelemetryDataPoints: "40:600"}
		c.Limits.Gateway = mqtt.Rates{Messages: "100:600"}
	})
	rates := `"rateLimits":{"messages":"20:600","telemetryMessages":"10:600","telemetryDataPoints":"40:600"}`
	for token, want := range map[string]string{
		"device":  `{"maxPayloadSize":65536,"maxInflightMessages":100,` + rates + `}`,
		"gateway": `{"maxPayloadSize":65536,"maxInflightMessages":100,` + rates + `,"gatewayRateLimits":{"messages":"100:600"}}`,
	} {
		d := connect(t, addr, mqttclient.Options{Token: token})
		d.subscribe(t, "v1/devices/me/rpc/response/+", 0)
		d.publish(t, "v1/devices/me/rpc/request/1", `{"method":"getSessionLimits","params":{}}`)
		if m := d.next(t); m.topic != "v1/devices/me/rpc/response/1" || m.payload != want {
			t.Fatalf("%s: %s %s\nwant %s", token, m.topic, m.payload, want)
		}
	}
	if got := engine.Events(transporttest.Call); len(got) != 0 {
		t.Fatalf("the engine heard %+v", got)
	}
}

// asked is an authenticator that notes what it was asked.
type asked struct {
	*transporttest.Engine
	got chan transports.Credentials
}

func (a asked) Authenticate(ctx context.Context, c transports.Credentials) (transports.Identity, error) {
	a.got <- c
	return a.Engine.Authenticate(ctx, c)
}

func TestCredentials(t *testing.T) {
	engine := transporttest.NewEngine()
	auth := asked{engine, make(chan transports.Credentials, 1)}
	_, addr := start(t, auth, engine, nil)
	connect(t, addr, mqttclient.Options{Token: "user", Password: "secret", ClientID: "client"})
	if got, want := <-auth.got, (transports.Credentials{Token: "user", UserName: "user", Password: "secret", ClientID: "client"}); got != want {
		t.Fatalf("asked for %+v, want %+v", got, want)
	}
}

// A device that does not read is closed after the write timeout, and what waits for it is told.
func TestStalledDeviceIsClosed(t *testing.T) {
	engine := transporttest.NewEngine()
	s, addr := start(t, engine, engine, func(c *mqtt.Config) { c.WriteTimeout = 100 * time.Millisecond })
	greet(t, addr, hello{version: 5})
	link := engine.Session(t, "device").Link
	big := command(1)
	big.Params = []byte(`"` + strings.Repeat("x", 32<<20) + `"`)
	link.Send(big)
	behind := command(2)
	link.Send(behind)
	if ev := engine.Next(t, transporttest.Disconnect); ev.Text != "the device does not read" || s.Stats().StalledClosed != 1 {
		t.Fatalf("ended for %q, %+v", ev.Text, s.Stats())
	}
	for _, ev := range engine.Events(transporttest.Written) {
		t.Errorf("reported written: %+v", ev)
	}
	if ev := engine.Next(t, transporttest.Failed); ev.Call != behind.Call {
		t.Fatalf("failed %+v, want the command behind", ev)
	}
}

// A device that sends and never reads cannot pile up acknowledgements.
func TestFloodWithoutReading(t *testing.T) {
	engine := transporttest.NewEngine()
	s, addr := start(t, engine, engine, nil)
	r := greet(t, addr, hello{version: 4})
	pings := bytes.Repeat([]byte{0xc0, 0}, 32<<10)
	for {
		if _, err := r.Write(pings); err != nil {
			break // closed by the server, or reset
		}
		if s.Stats().BytesIn > 1<<30 {
			t.Fatal("a GiB of pings was taken from a device that does not read")
		}
	}
	if ev := engine.Next(t, transporttest.Disconnect); ev.Text != "the device does not read" {
		t.Fatalf("ended for %q", ev.Text)
	}
}

// A packet larger than the device's limit goes down whole: only the device limits what the server sends.
func TestLargeCommand(t *testing.T) {
	engine := transporttest.NewEngine()
	_, addr := start(t, engine, engine, nil)
	d := connect(t, addr, mqttclient.Options{MaxPacket: 32 << 20})
	c := command(1)
	c.Params = []byte(`"` + strings.Repeat("x", 16<<20) + `"`)
	engine.Session(t, "device").Link.Send(c)
	if m := d.next(t); len(m.payload) != len(c.Params)+len(`{"method":"m","params":}`) {
		t.Fatalf("%d bytes arrived", len(m.payload))
	}
}
