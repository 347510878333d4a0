package mqtt_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"callchain/transports"
	"callchain/transports/internal/mqttwire"
	"callchain/transports/mqtt"
	"callchain/transports/transporttest"
)

// raw is a socket on which a test says exactly what it wants to.
type raw struct {
	net.Conn
	t testing.TB
}

func rawDial(t testing.TB, addr string) raw {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.SetDeadline(time.Now().Add(15 * time.Second)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// Most tests have made the server close it before.
		_ = nc.Close()
	})
	return raw{nc, t}
}

func (r raw) say(b ...byte) {
	r.t.Helper()
	if _, err := r.Write(b); err != nil {
		r.t.Fatalf("sending %x: %v", b, err)
	}
}

// rest reads to the end of the connection.
func (r raw) rest() string {
	r.t.Helper()
	b, err := io.ReadAll(r)
	if err != nil && !strings.Contains(err.Error(), "reset") {
		r.t.Fatalf("the connection was not closed: %v (read %x)", err, b)
	}
	return hex.EncodeToString(b)
}

// take reads n bytes.
func (r raw) take(n int) string {
	r.t.Helper()
	b := make([]byte, n)
	if got, err := io.ReadFull(r, b); err != nil {
		r.t.Fatalf("reading: %v (read %x)", err, b[:got])
	}
	return hex.EncodeToString(b)
}

// heard pings and returns what the server says up to the answer, or to the end of the connection.
func (r raw) heard() (text string, closed bool) {
	r.t.Helper()
	if _, err := r.Write([]byte{0xc0, 0}); err != nil {
		return r.rest(), true
	}
	var b []byte
	for !bytes.HasSuffix(b, []byte{0xd0, 0}) {
		var one [1]byte
		if _, err := r.Read(one[:]); errors.Is(err, io.EOF) || err != nil && strings.Contains(err.Error(), "reset") {
			return hex.EncodeToString(b), true
		} else if err != nil {
			r.t.Fatalf("reading: %v (read %x)", err, b)
		}
		b = append(b, one[0])
	}
	return hex.EncodeToString(b[:len(b)-2]), false
}

// hello is what a test's CONNECT says; nil fields are left out.
type hello struct {
	version        byte
	clientID       string
	user, password *string
	clean          bool
	keepAlive      uint16
	props          packets.Properties
}

func (h hello) bytes(t testing.TB) []byte {
	t.Helper()
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: h.version, Properties: h.props}
	pk.Connect = packets.ConnectParams{
		ProtocolName: []byte("MQTT"), ClientIdentifier: h.clientID, Clean: h.clean, Keepalive: h.keepAlive,
	}
	if h.version == 3 {
		pk.Connect.ProtocolName = []byte("MQIsdp")
	}
	if h.user != nil {
		pk.Connect.Username, pk.Connect.UsernameFlag = []byte(*h.user), true
	}
	if h.password != nil {
		pk.Connect.Password, pk.Connect.PasswordFlag = []byte(*h.password), true
	}
	var b bytes.Buffer
	if err := pk.ConnectEncode(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// greet connects and swallows CONNACK.
func greet(t testing.TB, addr string, h hello) raw {
	t.Helper()
	if h.user == nil {
		h.user = new("device")
	}
	r := rawDial(t, addr)
	r.say(h.bytes(t)...)
	head := make([]byte, 2)
	if _, err := io.ReadFull(r, head); err != nil || head[0] != 0x20 {
		t.Fatalf("waiting for CONNACK: %x %v", head, err)
	}
	if body := r.take(int(head[1])); !strings.HasPrefix(body, "0000") {
		t.Fatalf("CONNACK %s", body)
	}
	return r
}

// The bytes ThingsBoard was recorded to send, and what it does not tell.
func TestConnack(t *testing.T) {
	busy := transporttest.NewEngine()
	busy.Deny(transporttest.Connect, transports.ErrBusy)
	broken := transporttest.NewEngine()
	broken.Deny(transporttest.Connect, errors.New("the database is gone"))
	for _, c := range []struct {
		name   string
		hello  hello
		engine *transporttest.Engine
		want   string
		open   bool
	}{
		{"3.1.1 unknown token", hello{version: 4, user: new("unknown")}, nil, "20020005", false},
		{"3.1.1 no user name", hello{version: 4}, nil, "20020005", false},
		{"3.1.1 empty user name", hello{version: 4, user: new("")}, nil, "20020005", false},
		{"3.1.1 unknown token with a password", hello{version: 4, user: new("unknown"), password: new("x")}, nil, "20020005", false},
		{"3.1.1 unknown client id alone", hello{version: 4, clientID: "c"}, nil, "20020002", false},
		{"3.1.1 good token", hello{version: 4, user: new("device")}, nil, "20020000", true},
		{"3.1.1 good token, empty password", hello{version: 4, user: new("device"), password: new("")}, nil, "20020000", true},
		{"3.1.1 good token, session asked for", hello{version: 4, user: new("device"), clean: false}, nil, "20020000", true},
		{"3.1 good token", hello{version: 3, user: new("device")}, nil, "20020000", true},
		{"3.1.1 busy", hello{version: 4, user: new("device")}, busy, "20020003", false},
		{"3.1.1 broken", hello{version: 4, user: new("device")}, broken, "20020003", false},
		{"5 unknown token", hello{version: 5, user: new("unknown")}, nil, "2003008600" + "e0028600", false},
		{"5 no user name", hello{version: 5}, nil, "2003008700" + "e0028700", false},
		{"5 unknown client id alone", hello{version: 5, clientID: "c"}, nil, "2003008500" + "e0028500", false},
		{"5 all three unknown", hello{version: 5, clientID: "c", user: new("unknown"), password: new("x")}, nil, "2003008600" + "e0028600", false},
		{"5 busy", hello{version: 5, user: new("device")}, busy, "2003008900" + "e0028900", false},
		{"5 broken", hello{version: 5, user: new("device")}, broken, "2003008800" + "e0028800", false},
		{"5 another way to authenticate", hello{
			version: 5, user: new("device"), props: packets.Properties{AuthenticationMethod: "SCRAM"},
		}, nil, "2003008c00" + "e0028c00", false},
		{"a version that does not exist", hello{version: 6, user: new("device")}, nil, "20020001", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			engine := c.engine
			if engine == nil {
				engine = transporttest.NewEngine()
			}
			_, addr := start(t, engine, engine, nil)
			r := rawDial(t, addr)
			r.say(c.hello.bytes(t)...)
			if c.open {
				if got := r.take(len(c.want) / 2); got != c.want {
					t.Fatalf("got %s, want %s", got, c.want)
				}
				if text, closed := r.heard(); text != "" || closed {
					t.Fatalf("then got %s, closed %v", text, closed)
				}
			} else if got := r.rest(); got != c.want {
				t.Fatalf("got %s, want %s and the end", got, c.want)
			}
		})
	}
}

// An MQTT 5 client learns the limits: session expiry 0, QoS 1, the packet size, no shared subscriptions, its client id.
func TestConnackTellsLimits(t *testing.T) {
	engine := transporttest.NewEngine()
	_, addr := start(t, engine, engine, nil)
	r := rawDial(t, addr)
	r.say(hello{version: 5, user: new("device"), props: packets.Properties{SessionExpiryInterval: 60, SessionExpiryIntervalFlag: true}}.bytes(t)...)
	var rd mqttwire.Reader
	rd.Reset(r, 1000)
	header, body, err := rd.Next()
	if err != nil || header != 0x20 {
		t.Fatalf("%x %v", header, err)
	}
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connack}, ProtocolVersion: 5}
	if err := pk.ConnackDecode(body); err != nil {
		t.Fatal(err)
	}
	p := pk.Properties
	session := engine.Next(t, transporttest.Connect).Session.String()
	if pk.ReasonCode != 0 || pk.SessionPresent || !p.SessionExpiryIntervalFlag || p.SessionExpiryInterval != 0 || p.MaximumQos != 1 ||
		!p.MaximumQosFlag || p.MaximumPacketSize != 65536 || !p.SharedSubAvailableFlag || p.SharedSubAvailable != 0 || p.AssignedClientID != session {
		t.Fatalf("CONNACK %+v", pk)
	}
}

// publishBytes encodes a PUBLISH.
func publishBytes(version byte, topic, payload string, qos byte, id uint16) []byte {
	return mqttwire.AppendMessage(nil, mqttwire.Message{Topic: []byte(topic), Payload: []byte(payload), QoS: qos, ID: id}, version)
}

func TestSuback(t *testing.T) {
	engine := transporttest.NewEngine()
	_, addr := start(t, engine, engine, nil)
	sub := func(version byte, filter string, option byte) []byte {
		body := []byte{0, 1}
		if version == 5 {
			body = append(body, 0)
		}
		body = append(mqttwire.AppendString(body, filter), option)
		return append(mqttwire.AppendLength([]byte{0x82}, len(body)), body...)
	}
	for _, c := range []struct {
		filter string
		option byte
		v4, v5 string
	}{
		{"v1/devices/me/rpc/request/+", 0, "00", "00"},
		{"v1/devices/me/rpc/request/+", 1, "01", "01"},
		{"v1/devices/me/rpc/request/+", 2, "01", "01"},
		{"v2/r/req/+", 1, "01", "01"},
		{"v2/r/req/j/+", 1, "01", "01"},
		{"v1/devices/me/rpc/response/+", 1, "01", "01"},
		{"v1/devices/me/attributes", 2, "01", "01"},
		{"v1/devices/me/attributes/response/+", 1, "01", "01"},
		{"v1/gateway/rpc", 1, "01", "01"},
		{"v1/devices/me/rpc/request/#", 1, "80", "8f"},
		{"v1/devices/me/rpc/#", 1, "80", "8f"},
		{"#", 1, "80", "8f"},
		{"foo/bar", 1, "80", "8f"},
		{"v1/devices/me/rpc/request/5", 1, "80", "8f"},
		{"$share/g/v1/devices/me/rpc/request/+", 1, "80", "8f"},
	} {
		for version, want := range map[byte]string{4: "90030001" + c.v4, 5: "9004000100" + c.v5} {
			r := greet(t, addr, hello{version: version})
			r.say(sub(version, c.filter, c.option)...)
			if text, closed := r.heard(); text != want || closed {
				t.Errorf("version %d, %s QoS %d: %s (closed %v), want %s", version, c.filter, c.option, text, closed, want)
			}
		}
	}
}

// What a device must not send costs it the connection; in MQTT 5 it is told why.
func TestViolationsCloseTheConnection(t *testing.T) {
	engine := transporttest.NewEngine()
	// The garbage below reads as the head of a longer packet, for which the server waits as long as for a CONNECT.
	_, addr := start(t, engine, engine, func(c *mqtt.Config) { c.ConnectTimeout = 300 * time.Millisecond })
	for _, c := range []struct {
		name string
		say  []byte // to be followed by the version's properties where they belong
		want string // in MQTT 5
	}{
		{"a second CONNECT", hello{version: 4, user: new("device")}.bytes(t), "e0028200"},           // [MQTT-3.1.0-2]
		{"QoS 2", []byte{0x34, 8, 0, 1, 'a', 0, 1, 0, 'x', 'y'}, "e0029b00"},                        // [MQTT-3.2.2-11]
		{"QoS 3", []byte{0x36, 6, 0, 1, 'a', 0, 1, 0}, "e0028100"},                                  // [MQTT-3.3.1-4]
		{"packet id 0", []byte{0x32, 6, 0, 1, 'a', 0, 0, 0}, "e0028100"},                            // [MQTT-2.2.1-3]
		{"an empty topic", []byte{0x30, 3, 0, 0, 0}, "e0028100"},                                    // [MQTT-4.7.3-1]
		{"a topic that is not UTF-8", []byte{0x30, 4, 0, 1, 0xff, 0}, "e0028100"},                   // [MQTT-1.5.4-1]
		{"a PUBLISH that ends in its topic", []byte{0x30, 3, 0, 9, 'a'}, "e0028100"},                //
		{"one byte too much", mqttwire.AppendLength([]byte{0x30}, 65537), "e0028100"},               // ThingsBoard's code
		{"SUBSCRIBE without filters", []byte{0x82, 3, 0, 1, 0}, "e0028200"},                         // [MQTT-3.8.3-2]
		{"SUBSCRIBE with bad flags", []byte{0x80, 7, 0, 1, 0, 0, 1, 'a', 1}, "e0028100"},            // [MQTT-3.8.1-1]
		{"SUBSCRIBE with QoS 3", []byte{0x82, 7, 0, 1, 0, 0, 1, 'a', 3}, "e0028100"},                //
		{"SUBSCRIBE that ends before its options", []byte{0x82, 6, 0, 1, 0, 0, 1, 'a'}, "e0028100"}, //
		{"SUBSCRIBE with packet id 0", []byte{0x82, 7, 0, 0, 0, 0, 1, 'a', 1}, "e0028200"},          // [MQTT-2.2.1-3]
		{"UNSUBSCRIBE without filters", []byte{0xa2, 3, 0, 1, 0}, "e0028200"},                       // [MQTT-3.10.3-2]
		{"PUBACK of one byte", []byte{0x40, 1, 0}, "e0028100"},                                      //
		{"PUBREL out of nowhere", []byte{0x62, 2, 0, 1}, "e0028200"},                                //
		{"CONNACK from a client", []byte{0x20, 2, 0, 0}, "e0028200"},                                //
		{"AUTH", []byte{0xf0, 0}, "e0028200"},                                                       //
		{"packet type 0", []byte{0x00, 0}, "e0028200"},                                              //
		{"a length of five bytes", []byte{0x30, 0x80, 0x80, 0x80, 0x80, 1}, "e0028100"},             // [MQTT-1.5.5-1]
	} {
		t.Run(c.name, func(t *testing.T) {
			r := greet(t, addr, hello{version: 5})
			r.say(c.say...)
			if got := r.rest(); got != c.want {
				t.Errorf("MQTT 5: %s, want %s", got, c.want)
			}
			r = greet(t, addr, hello{version: 4})
			r.say(strip(c.say)...)
			if got := r.rest(); got != "" {
				t.Errorf("MQTT 3.1.1: %s before the end, want nothing", got)
			}
		})
	}
	for name, say := range map[string][]byte{
		"first packet is no CONNECT": {0xc0, 0},
		"garbage":                    []byte("GET / HTTP/1.1\r\n\r\n"),
		"a foreign protocol":         {0x10, 12, 0, 4, 'A', 'M', 'Q', 'P', 4, 2, 0, 0, 0, 0}, // [MQTT-3.1.2-1]
	} {
		r := rawDial(t, addr)
		r.say(say...)
		if got := r.rest(); got != "" {
			t.Errorf("%s: %s before the end, want nothing", name, got)
		}
	}
}

// strip takes the empty properties of MQTT 5 out of SUBSCRIBE and UNSUBSCRIBE; in PUBLISH they pass for payload.
func strip(b []byte) []byte {
	if kind := b[0] >> 4; kind != 8 && kind != 10 {
		return b
	}
	return append([]byte{b[0], b[1] - 1, b[2], b[3]}, b[5:]...)
}

func TestUplinkHandling(t *testing.T) {
	const none, closes = "", "closes"
	for _, c := range []struct {
		topic, payload string
		v4q0, v4q1     string
		v5q0, v5q1     string
		kind           transporttest.Kind
	}{
		{"v1/devices/me/rpc/response/987654", `{"stale":true}`, none, "40020005", none, "40020005", transporttest.Reply},
		{"v2/r/res/5", "not json", none, "40020005", none, "40020005", transporttest.Reply},
		{"v2/r/res/j/5", "", none, "40020005", none, "40020005", transporttest.Reply},
		{"v1/devices/me/rpc/response/abc", "{}", closes, closes, "e0029900", "4003000599", ""},
		{"v1/devices/me/rpc/response/", "{}", closes, closes, "e0029900", "4003000599", ""},
		{"v1/devices/me/rpc/response/1/2", "{}", closes, closes, "e0029900", "4003000599", ""},
		{"v1/devices/me/rpc/response/99999999999", "{}", closes, closes, "e0029900", "4003000599", ""},
		{"v1/devices/me/rpc/request/-5", `{"method":"m"}`, none, "40020005", none, "40020005", transporttest.Call},
		{"v2/r/req/j/2147483647", `{"method":5,"params":{}}`, none, "40020005", none, "40020005", transporttest.Call},
		{"v1/devices/me/rpc/request/1", "{bad", closes, closes, "e0029900", "4003000599", ""},
		{"v1/devices/me/rpc/request/1", "[]", closes, closes, "e0029900", "4003000599", ""},
		{"v1/devices/me/rpc/request/1", "null", closes, closes, "e0029900", "4003000599", ""},
		{"v1/devices/me/rpc/request/1", "", closes, closes, "e0029900", "4003000599", ""},
		{"v1/devices/me/rpc/request/1", `{"params":{}}`, closes, closes, "e0029900", "4003000599", ""},
		{"v1/devices/me/rpc/request/1", `{"method":null}`, closes, closes, "e0029900", "4003000599", ""},
		{"v1/devices/me/rpc/request/1", "{\"method\":\"\xff\"}", closes, closes, "e0029900", "4003000599", ""},
		{"v1/devices/me/rpc/request/x", `{"method":"m"}`, closes, closes, "e0029900", "4003000599", ""},
		{"v1/devices/me/telemetry", `[{"ts":1,"values":{"a":1}}]`, none, "40020005", none, "40020005", transporttest.Telemetry},
		{"v2/t/j", `{"a":1}`, none, "40020005", none, "40020005", transporttest.Telemetry},
		{"v1/devices/me/telemetry", `"text"`, closes, closes, "e0029900", "4003000599", ""},
		{"v2/a", `{"a":1}`, none, "40020005", none, "40020005", transporttest.Attributes},
		{"v1/devices/me/attributes", "no JSON", closes, closes, "e0029900", "4003000599", ""},
		{"v1/devices/me/attributes", "[1]", closes, closes, "e0029900", "4003000599", ""},
		{"v2/a/req/3", `{"clientKeys":"a"}`, none, "40020005", none, "40020005", transporttest.RequestAttributes},
		{"v1/devices/me/attributes/request/3", `{"clientKeys":5}`, closes, closes, "e0029900", "4003000599", ""},
		{"some/other/topic", "{}", none, "40020005", none, "4003000590", ""},
		{"v1/devices/me/rpc/request/+", `{"method":"m"}`, closes, closes, "e0029900", "4003000599", ""}, // [MQTT-3.3.2-2]
	} {
		for _, v := range []struct {
			version, qos byte
			want         string
		}{{4, 0, c.v4q0}, {4, 1, c.v4q1}, {5, 0, c.v5q0}, {5, 1, c.v5q1}} {
			t.Run(fmt.Sprintf("%s %s v%d QoS %d", c.topic, c.payload, v.version, v.qos), func(t *testing.T) {
				engine := transporttest.NewEngine()
				_, addr := start(t, engine, engine, nil)
				r := greet(t, addr, hello{version: v.version})
				r.say(publishBytes(v.version, c.topic, c.payload, v.qos, 5)...)
				text, closed := r.heard()
				want, wantClosed := v.want, v.want == closes || strings.HasPrefix(v.want, "e0")
				if want == closes {
					want = ""
				}
				if text != want || closed != wantClosed {
					t.Fatalf("%s (closed %v), want %s (closed %v)", text, closed, want, wantClosed)
				}
				got := engine.Events(transporttest.Reply, transporttest.Call, transporttest.Telemetry, transporttest.Attributes, transporttest.RequestAttributes)
				if c.kind == "" && len(got) > 0 || c.kind != "" && (len(got) != 1 || got[0].Kind != c.kind) {
					t.Fatalf("the engine heard %+v, want %q", got, c.kind)
				}
			})
		}
	}
}

func TestConfigIsJudged(t *testing.T) {
	if err := mqtt.Default().Validate(); err != nil {
		t.Fatal(err)
	}
	cfg := mqtt.Default()
	cfg.QueueMessages = 0
	if _, err := mqtt.New(cfg, nil, nil, nil); err == nil || !strings.HasPrefix(err.Error(), "mqtt.QueueMessages: ") {
		t.Fatalf("got %v", err)
	}
}
