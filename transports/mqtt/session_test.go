package mqtt_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"callchain/transports"
	"callchain/transports/mqtt"
	"callchain/transports/mqtt/mqttclient"
	"callchain/transports/transporttest"

	"github.com/google/uuid"
	"github.com/mochi-mqtt/server/v2/packets"
)

const wait = 15 * time.Second

// inbox is a client that passes on what it receives and acknowledges by hand.
type inbox struct {
	*mqttclient.Client
	got chan mail
}

type mail struct {
	topic, payload string
	qos            byte
	id             uint16
	props          packets.Properties
}

func connect(t testing.TB, addr string, opts mqttclient.Options) inbox {
	t.Helper()
	box := inbox{got: make(chan mail, 8192)}
	opts.OnPublish = func(_ *mqttclient.Client, m mqttclient.Message) {
		p, err := m.Properties()
		if err != nil {
			t.Errorf("properties: %v", err)
		}
		p.CorrelationData = []byte(string(p.CorrelationData)) // the decoder's slices and strings point into the packet
		p.ResponseTopic = strings.Clone(p.ResponseTopic)
		for i, u := range p.User {
			p.User[i] = packets.UserProperty{Key: strings.Clone(u.Key), Val: strings.Clone(u.Val)}
		}
		box.got <- mail{string(m.Topic), string(m.Payload), m.QoS, m.ID, p}
	}
	opts.ManualAck = true
	if opts.Token == "" {
		opts.Token = "device"
	}
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	c, err := mqttclient.Connect(ctx, addr, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Drop)
	box.Client = c
	return box
}

func (b inbox) subscribe(t testing.TB, filter string, qos byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	if codes, err := b.Subscribe(ctx, mqttclient.Filter{Topic: filter, QoS: qos}); err != nil || len(codes) != 1 || codes[0] != min(qos, 1) {
		t.Fatalf("subscribing to %s: %x %v", filter, codes, err)
	}
}

func (b inbox) unsubscribe(t testing.TB, filters ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	codes, err := b.Unsubscribe(ctx, filters...)
	if err != nil {
		t.Fatal(err)
	}
	return codes
}

func (b inbox) next(t testing.TB) mail {
	t.Helper()
	select {
	case m := <-b.got:
		return m
	case <-time.After(wait):
		t.Fatalf("no message came (%v)", b.Err())
	}
	panic("unreachable")
}

// publish waits for the PUBACK.
func (b inbox) publish(t testing.TB, topic, payload string) byte {
	t.Helper()
	type ack struct {
		code byte
		err  error
	}
	got := make(chan ack, 1)
	if err := b.Publish(topic, []byte(payload), 1, func(code byte, err error) { got <- ack{code, err} }); err != nil {
		t.Fatal(err)
	}
	select {
	case a := <-got:
		if a.err != nil {
			t.Fatal(a.err)
		}
		return a.code
	case <-time.After(wait):
		t.Fatalf("no PUBACK for %s came", topic)
	}
	panic("unreachable")
}

func (b inbox) ended(t testing.TB) error {
	t.Helper()
	select {
	case <-b.Done():
		return b.Err()
	case <-time.After(wait):
		t.Fatal("the connection was not ended")
	}
	panic("unreachable")
}

func command(wire int32) transports.Command {
	return transports.Command{
		Call: uuid.New(), Wire: wire, Method: "m", Params: []byte("1"), Deadline: time.Now().Add(time.Minute), Attempt: 1, Epoch: 1,
	}
}

// The last subscription for commands decides their topics and QoS; with none left there is no subscription, and QoS is 1.
func TestTopicFamilyAndQoSFollowTheLastSubscription(t *testing.T) {
	engine := transporttest.NewEngine()
	_, addr := start(t, engine, engine, nil)
	d := connect(t, addr, mqttclient.Options{Version: mqttclient.V5})
	link := engine.Session(t, "device").Link
	want := func(step, topic string, qos byte) {
		t.Helper()
		link.Send(command(3))
		if m := d.next(t); m.topic != topic || m.qos != qos || m.payload != `{"method":"m","params":1}` {
			t.Fatalf("%s: %s QoS %d %s, want %s QoS %d", step, m.topic, m.qos, m.payload, topic, qos)
		}
	}
	want("never subscribed", "v1/devices/me/rpc/request/3", 1)
	d.subscribe(t, "v2/r/req/+", 0)
	want("short", "v2/r/req/3", 0)
	d.subscribe(t, "v1/devices/me/rpc/request/+", 2)
	want("long", "v1/devices/me/rpc/request/3", 1)
	d.subscribe(t, "v2/r/req/j/+", 0)
	want("short JSON", "v2/r/req/j/3", 0)
	if n := len(engine.Events(transporttest.Unsubscribe)); n != 0 {
		t.Fatalf("%d unsubscribes", n)
	}
	codes := d.unsubscribe(t, "v2/r/req/j/+", "v1/devices/me/rpc/request/+", "v2/r/req/j/+", "never")
	if string(codes) != "\x00\x00\x11\x11" {
		t.Fatalf("UNSUBACK %x", codes)
	}
	want("one left", "v2/r/req/3", 0)
	if n := len(engine.Events(transporttest.Unsubscribe)); n != 0 {
		t.Fatalf("%d unsubscribes with a subscription left", n)
	}
	d.unsubscribe(t, "v2/r/req/+")
	engine.Next(t, transporttest.Unsubscribe)
}

// QoS 0 proves nothing but that the command was written.
func TestQoS0IsWrittenWithoutAcknowledgement(t *testing.T) {
	engine := transporttest.NewEngine()
	_, addr := start(t, engine, engine, nil)
	d := connect(t, addr, mqttclient.Options{})
	d.subscribe(t, commandFilter, 0)
	engine.Session(t, "device").Link.Send(command(1))
	if ev := engine.Next(t, transporttest.Written); ev.Ack {
		t.Fatalf("written with the promise of an acknowledgement: %+v", ev)
	}
	if m := d.next(t); m.qos != 0 || m.id != 0 {
		t.Fatalf("QoS %d id %d", m.qos, m.id)
	}
}

func TestAnswersFollowTheTopicsOfTheLastCall(t *testing.T) {
	engine := transporttest.NewEngine()
	_, addr := start(t, engine, engine, nil)
	d := connect(t, addr, mqttclient.Options{})
	link := engine.Session(t, "device").Link
	for _, c := range []struct{ request, answer string }{
		{"v2/r/req/j/77", "v2/r/res/j/77"}, {"v2/r/req/77", "v2/r/res/77"}, {"v1/devices/me/rpc/request/77", "v1/devices/me/rpc/response/77"},
	} {
		d.publish(t, c.request, `{"method":"m"}`)
		if ev := engine.Next(t, transporttest.Call); ev.Number != 77 || ev.Payload != nil {
			t.Fatalf("call %+v", ev)
		}
		link.Respond(transports.Response{Request: 77, Body: []byte("raw data")})
		if m := d.next(t); m.topic != c.answer || m.qos != 1 || m.payload != "raw data" {
			t.Fatalf("%+v, want %s QoS 1", m, c.answer)
		}
	}
	d.subscribe(t, "v1/devices/me/rpc/response/+", 0)
	link.Respond(transports.Response{Request: 77, Body: []byte("{}")})
	if m := d.next(t); m.qos != 0 {
		t.Fatalf("QoS %d, want that of the subscription", m.qos)
	}
	d.publish(t, "v2/a/req/j/4", `{}`)
	if ev := engine.Next(t, transporttest.RequestAttributes); ev.Text != "<nil> <nil>" {
		t.Fatalf("asked for %s, want all", ev.Text)
	}
	link.AnswerAttributes(transports.AttributesAnswer{Request: 4})
	if m := d.next(t); m.topic != "v2/a/res/j/4" || m.payload != "{}" {
		t.Fatalf("%+v", m)
	}
}

// Attribute changes go to subscribers only.
func TestAttributesArePushedToSubscribers(t *testing.T) {
	engine := transporttest.NewEngine()
	_, addr := start(t, engine, engine, nil)
	d := connect(t, addr, mqttclient.Options{})
	link := engine.Session(t, "device").Link
	link.PushAttributes(map[string][]byte{"early": []byte("1")}, nil)
	d.subscribe(t, "v2/a", 0)
	link.PushAttributes(map[string][]byte{"a<b": []byte("1")}, []string{"c"})
	if m := d.next(t); m.topic != "v2/a" || m.payload != `{"a<b":1,"deleted":["c"]}` || m.qos != 0 {
		t.Fatalf("%+v", m)
	}
}

func TestCommandCarriesItsCallInMQTT5(t *testing.T) {
	engine := transporttest.NewEngine()
	_, addr := start(t, engine, engine, nil)
	d := connect(t, addr, mqttclient.Options{Version: mqttclient.V5})
	d.subscribe(t, commandFilter, 1)
	c := command(3)
	c.Attempt, c.Trace = 2, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	engine.Session(t, "device").Link.Send(c)
	p := d.next(t).props
	if string(p.CorrelationData) != string(c.Call[:]) || p.ResponseTopic != "v1/devices/me/rpc/response/3" {
		t.Fatalf("correlation data %x, response topic %s", p.CorrelationData, p.ResponseTopic)
	}
	if fmt.Sprint(p.User) != "[{callchain-attempt 2} {traceparent "+c.Trace+"}]" {
		t.Fatalf("user properties %v", p.User)
	}
}

// [MQTT-3.3.4-9]: no more unacknowledged messages than the device's Receive Maximum; the rest waits for its turn.
func TestReceiveMaximum(t *testing.T) {
	engine := transporttest.NewEngine()
	_, addr := start(t, engine, engine, nil)
	d := connect(t, addr, mqttclient.Options{Version: mqttclient.V5, ReceiveMaximum: 2})
	d.subscribe(t, commandFilter, 1)
	link := engine.Session(t, "device").Link
	short := command(2)
	short.Deadline = time.Now().Add(50 * time.Millisecond)
	for i := range int32(5) {
		c := command(i)
		if i == 2 {
			c = short
		}
		link.Send(c)
	}
	first, second := d.next(t), d.next(t)
	d.publish(t, "v1/devices/me/telemetry", "{}") // a round trip in which a third could have come
	if len(d.got) != 0 {
		t.Fatal("a third message came before an acknowledgement")
	}
	<-time.After(time.Until(short.Deadline))
	d.Ack(first.id, 0)
	if m := d.next(t); m.topic != commandTopic+"3" {
		t.Fatalf("%s came, want 3: the deadline of 2 passed while it waited", m.topic)
	}
	if ev := engine.Next(t, transporttest.Failed); ev.Call != short.Call || ev.Text != transports.FailedExpired {
		t.Fatalf("failed %+v", ev)
	}
	d.Ack(second.id, 0)
	if m := d.next(t); m.topic != commandTopic+"4" {
		t.Fatalf("%s came, want 4", m.topic)
	}
}

// [MQTT-3.1.2-24] of MQTT 5: nothing larger than the device's Maximum Packet Size. A command that fits without its properties goes
// without them.
func TestMaximumPacketSize(t *testing.T) {
	engine := transporttest.NewEngine()
	s, addr := start(t, engine, engine, nil)
	d := connect(t, addr, mqttclient.Options{Version: mqttclient.V5, PacketMaximum: 99})
	d.subscribe(t, commandFilter, 1)
	d.subscribe(t, updateTopic, 1)
	link := engine.Session(t, "device").Link
	link.Send(command(1))
	if m := d.next(t); len(m.props.CorrelationData) > 0 {
		t.Fatalf("properties %+v in a packet of 99 bytes", m.props)
	}
	large := command(2)
	large.Params = []byte(`"` + strings.Repeat("x", 99) + `"`)
	link.Send(large)
	if ev := engine.Next(t, transporttest.Failed); ev.Call != large.Call || ev.Text != transports.FailedTooLarge {
		t.Fatalf("failed %+v", ev)
	}
	link.PushAttributes(map[string][]byte{"big": large.Params}, nil)
	link.PushAttributes(map[string][]byte{"a": []byte("1")}, nil)
	if m := d.next(t); m.payload != `{"a":1}` {
		t.Fatalf("%s came", m.payload)
	}
	if n := s.Stats().MessagesDropped; n != 1 {
		t.Fatalf("%d messages dropped, want 1", n)
	}
}

// A PUBACK with an error code says that the device did not take the command.
func TestPubackWithAnErrorCode(t *testing.T) {
	engine := transporttest.NewEngine()
	_, addr := start(t, engine, engine, nil)
	d := connect(t, addr, mqttclient.Options{Version: mqttclient.V5})
	d.subscribe(t, commandFilter, 1)
	c := command(1)
	engine.Session(t, "device").Link.Send(c)
	d.Ack(d.next(t).id, 0x97)
	if ev := engine.Next(t, transporttest.Failed); ev.Call != c.Call || ev.Text != "puback_0x97" {
		t.Fatalf("failed %+v", ev)
	}
}

// The packet ids of the two directions are apart: a device's publish with id 1 leaves the command with id 1 alone.
func TestPacketIdentifiersOfBothDirectionsAreApart(t *testing.T) {
	engine := transporttest.NewEngine()
	_, addr := start(t, engine, engine, nil)
	d := connect(t, addr, mqttclient.Options{})
	link := engine.Session(t, "device").Link
	c := command(1)
	link.Send(c)
	m := d.next(t)
	d.publish(t, "v1/devices/me/telemetry", "{}")
	if m.id != 1 || len(engine.Events(transporttest.Acknowledged)) != 0 {
		t.Fatalf("command with packet id %d, acknowledged %v", m.id, engine.Events(transporttest.Acknowledged))
	}
	d.Ack(m.id, 0)
	if ev := engine.Next(t, transporttest.Acknowledged); ev.Call != c.Call {
		t.Fatalf("acknowledged %+v", ev)
	}
}

// Packet ids run round after 65,535 and skip the one that is still in use.
func TestPacketIdentifiersWrap(t *testing.T) {
	engine := transporttest.NewEngine()
	_, addr := start(t, engine, engine, nil)
	d := connect(t, addr, mqttclient.Options{})
	link := engine.Session(t, "device").Link
	link.Respond(transports.Response{})
	first := d.next(t)
	const window = 500
	last := first.id
	for range 65_536 / window {
		for range window {
			link.Respond(transports.Response{})
		}
		for range window {
			m := d.next(t)
			if m.id == 0 || m.id == first.id {
				t.Fatalf("packet id %d came while %d is unacknowledged", m.id, first.id)
			}
			last = m.id
			d.Ack(m.id, 0)
		}
	}
	for range window {
		link.Respond(transports.Response{})
		m := d.next(t)
		if m.id == first.id || m.id != last+1 && m.id != 2 {
			t.Fatalf("packet id %d after %d", m.id, last)
		}
		last = m.id
		d.Ack(m.id, 0)
	}
	if last > 1000 {
		t.Fatalf("the packet ids did not run round: the last is %d", last)
	}
}

// Why the engine ends a session is the code of the DISCONNECT in MQTT 5.
func TestCloseReasons(t *testing.T) {
	engine := transporttest.NewEngine()
	_, addr := start(t, engine, engine, nil)
	for reason, code := range map[transports.Reason]byte{
		transports.ReasonTakenOver: 0x8e, transports.ReasonCredentials: 0x98, transports.ReasonDeviceDeleted: 0x98,
		transports.ReasonDeliveryTimeout: 0x98, transports.ReasonShutdown: 0x8b, transports.ReasonRefused: 0x83,
	} {
		d := connect(t, addr, mqttclient.Options{Version: mqttclient.V5, Token: string(reason)})
		engine.Session(t, string(reason)).Link.Close(reason)
		if err := d.ended(t); !errors.Is(err, mqttclient.Code{Packet: "DISCONNECT", Value: code}) {
			t.Errorf("%s: %v, want code %x", reason, err, code)
		}
		if ev := engine.Next(t, transporttest.Disconnect); ev.Text != string(reason) {
			t.Errorf("%s: the session ended for %q", reason, ev.Text)
		}
	}
}

// When the server ends it says so, and the engine hears of each session's end.
func TestShutdownTellsDevices(t *testing.T) {
	engine := transporttest.NewEngine()
	var four, five inbox
	t.Run("serve", func(t *testing.T) {
		_, addr := start(t, engine, engine, nil)
		ctx, cancel := context.WithTimeout(context.Background(), wait)
		defer cancel()
		var err error
		if four.Client, err = mqttclient.Connect(ctx, addr, mqttclient.Options{Token: "four"}); err != nil {
			t.Fatal(err)
		}
		if five.Client, err = mqttclient.Connect(ctx, addr, mqttclient.Options{Token: "five", Version: mqttclient.V5}); err != nil {
			t.Fatal(err)
		}
	})
	if err := five.ended(t); !errors.Is(err, mqttclient.Code{Packet: "DISCONNECT", Value: 0x8b}) {
		t.Errorf("MQTT 5: %v", err)
	}
	four.ended(t)
	for range 2 {
		if ev := engine.Next(t, transporttest.Disconnect); ev.Text != string(transports.ReasonShutdown) {
			t.Errorf("a session ended for %q", ev.Text)
		}
	}
}

// A goodbye, a lost connection and a silent device are told apart.
func TestWhyASessionEnded(t *testing.T) {
	engine := transporttest.NewEngine()
	s, addr := start(t, engine, engine, nil)
	connect(t, addr, mqttclient.Options{Token: "a"}).Close()
	if ev := engine.Next(t, transporttest.Disconnect); ev.Text != "client disconnected" {
		t.Errorf("ended for %q", ev.Text)
	}
	connect(t, addr, mqttclient.Options{Token: "b"}).Drop()
	if ev := engine.Next(t, transporttest.Disconnect); ev.Text != "connection lost" {
		t.Errorf("ended for %q", ev.Text)
	}
	silent := greet(t, addr, hello{version: 5, keepAlive: 1})
	began := time.Now()
	if got := silent.rest(); got != "e0028d00" { // [MQTT-3.1.2-22]
		t.Errorf("a silent device got %s", got)
	}
	if took := time.Since(began); took < 1400*time.Millisecond || took > 5*time.Second {
		t.Errorf("a silent device was closed after %s, want 1.5 s", took)
	}
	if ev := engine.Next(t, transporttest.Disconnect); ev.Text != "keep alive timeout" || s.Stats().KeepAliveExpired != 1 {
		t.Errorf("ended for %q, %+v", ev.Text, s.Stats())
	}
}

func TestConnectionsAreLimited(t *testing.T) {
	engine := transporttest.NewEngine()
	s, addr := start(t, engine, engine, func(c *mqtt.Config) { c.MaxConnections, c.ConnectTimeout = 2, 100*time.Millisecond })
	connect(t, addr, mqttclient.Options{Token: "a"})
	mute := rawDial(t, addr)
	extra := rawDial(t, addr)
	if got := extra.rest(); got != "" {
		t.Fatalf("one connection too many got %s", got)
	}
	if got := mute.rest(); got != "" { // it sent no CONNECT in time
		t.Fatalf("a mute connection got %s", got)
	}
	if st := s.Stats(); st.Refused != 1 || st.Accepted != 3 {
		t.Fatalf("%+v", st)
	}
}
