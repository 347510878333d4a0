package coap

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
	"github.com/plgd-dev/go-coap/v3/udp/coder"

	"callchain/transports/transporttest"
)

// path is options with the segments and queries of a path.
func path(text string) (all message.Options) {
	text, query, _ := strings.Cut(text, "?")
	for s := range strings.SplitSeq(text, "/") {
		all = append(all, message.Option{ID: message.URIPath, Value: []byte(s)})
	}
	for q := range strings.SplitSeq(query, "&") {
		all = append(all, message.Option{ID: message.URIQuery, Value: []byte(q)})
	}
	return all
}

// TestTargets: which paths are those of devices, after CoapTransportResourceTest.
func TestTargets(t *testing.T) {
	for text, want := range map[string]target{
		"api/v1/T/rpc":            {token: "T", feature: forCalls},
		"api/v1/T/RPC/0":          {token: "T", feature: forCalls, numbered: true},
		"api/v1/T/rpc/-1":         {token: "T", feature: forCalls, numbered: true, id: -1},
		"api/v1/T/rpc/x":          {token: "T", feature: forCalls},
		"api/v1/T/rpc/":           {token: "T", feature: forCalls},
		"api/v1/T/rpc/9999999999": {token: "T", feature: forCalls},
		"api/v1/T/telemetry":      {token: "T", feature: forTelemetry},
		"api/v1/T/attributes":     {token: "T", feature: forAttributes},
		"api/v1/T/attributes/1":   {token: "T"},
		"api/v1/T/claim":          {token: "T"},
		"api/v1/T":                {token: "T"},
		"api/v1":                  {},
	} {
		if got, ok := parseTarget(path(text)); !ok || got != want {
			t.Errorf("%s: %+v %v, want %+v", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "api", "api/v2/T/rpc", "API/v1/T/rpc", "api/v1/T/rpc/1/2", "efento/m"} {
		if got, ok := parseTarget(path(text)); ok {
			t.Errorf("%s: %+v", text, got)
		}
	}
}

// FuzzOptions reads options as a packet may bring them. What is understood can be written again.
func FuzzOptions(f *testing.F) {
	seed := func(all message.Options) {
		buf := make([]byte, 512)
		n, err := all.Marshal(buf)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(buf[:n], uint32(n))
	}
	seed(path("api/v1/T/rpc/17"))
	seed(path("api/v1/T/attributes?clientKeys=a,,b&sharedKeys=&x&clientKeys"))
	seed(message.Options{{ID: message.Observe, Value: []byte{1}}, {ID: message.Accept, Value: []byte{50}}})
	seed(message.Options{{ID: message.Block2, Value: []byte{0xff, 0xff, 0xfe}}, {ID: message.Block1, Value: []byte{8}}})
	f.Add([]byte{0xd3, 0x0e, 1, 2, 3}, uint32(0x1000007))
	f.Fuzz(func(t *testing.T, raw []byte, value uint32) {
		options := make(message.Options, 0, 64)
		if _, err := options.Unmarshal(raw, message.CoapOptionDefs); err == nil {
			if tg, ok := parseTarget(options); ok && (tg.numbered && tg.feature != forCalls || !tg.numbered && tg.id != 0) {
				t.Fatalf("target %+v", tg)
			}
			attributeKeys(options)
			if key := transferKey(1, options); key != transferKey(1, options) || key == transferKey(2, options) {
				t.Fatalf("transfers are named %q", key)
			}
			if b, err := parseBlocks(options); err == nil && (b.one.bytes() > 1024 || b.two.bytes() > 1024 || b.size() > szxMost) {
				t.Fatalf("blocks %+v", b)
			}
		}
		if b, err := parseBlock(value); err == nil && b.encode(b.more) != value {
			t.Fatalf("%#x is %+v and then %#x", value, b, b.encode(b.more))
		}
	})
}

// packets puts datagrams behind each other as FuzzDatagrams takes them apart: each with its length before it.
func packets(all ...[]byte) (out []byte) {
	for _, p := range all {
		out = append(append(out, byte(len(p))), p...)
	}
	return out
}

// seedRequest encodes a confirmable request.
func seedRequest(code codes.Code, mid uint16, text, payload string, more ...message.Option) []byte {
	m := message.Message{Code: code, MessageID: int32(mid), Token: []byte{7}, Options: path(text), Payload: []byte(payload)}
	for _, o := range more {
		m.Options = m.Options.Add(o)
	}
	buf := make([]byte, len(payload)+512)
	n, err := coder.DefaultCoder.Encode(m, buf)
	if err != nil {
		panic(err)
	}
	return buf[:n]
}

// FuzzDatagrams sends a server what a peer might, from one address, after it has registered for calls (mode 1) or from the start. The
// server must neither panic nor hang, sessions must end, and no memory of transfers may be left.
func FuzzDatagrams(f *testing.F) {
	observe := message.Option{ID: message.Observe}
	block1 := func(v byte) message.Option { return message.Option{ID: message.Block1, Value: []byte{v}} }
	f.Add(byte(1), packets([]byte{0x60, 0, 0, 1}, []byte{0x70, 0, 0, 1}, []byte{0x40, 0, 0, 2}, []byte{0x50, 0, 0, 3}))
	f.Add(byte(0), packets(seedRequest(codes.GET, 2, "api/v1/d/rpc", "", observe), seedRequest(codes.GET, 3, "api/v1/d/attributes", "", observe)))
	f.Add(byte(1), packets(seedRequest(codes.GET, 2, "api/v1/d/rpc", "", message.Option{ID: message.Observe, Value: []byte{1}})))
	f.Add(byte(0), packets(seedRequest(codes.POST, 2, "api/v1/d/rpc", `{"method":"m","params":1}`), seedRequest(codes.POST, 3, "api/v1/d/rpc/1", "{}")))
	f.Add(byte(0), packets(
		seedRequest(codes.POST, 2, "api/v1/d/telemetry", "0123456789abcdef", block1(8)), seedRequest(codes.POST, 3, "api/v1/d/telemetry", "x", block1(16)),
		seedRequest(codes.POST, 4, "api/v1/d/telemetry", "0123456789abcdef", block1(8)), []byte{0x40},
	))
	f.Add(byte(1), packets(seedRequest(codes.GET, 2, "api/v1/d/rpc", "", message.Option{ID: message.Block2, Value: []byte{16}}), []byte{0x40, 0x45, 0, 9, 0xff, 1}))
	f.Add(byte(0), packets(seedRequest(codes.POST, 2, "api/v1/unknown/telemetry", "{}"), seedRequest(codes.PUT, 3, "", ""), []byte{}, []byte{0x4f, 1, 0, 0}))
	f.Fuzz(func(t *testing.T, mode byte, sent []byte) {
		if len(sent) > 4096 {
			return
		}
		engine := transporttest.NewEngine()
		s, err := New(Default(), engine, engine, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		served := make(chan error, 1)
		go func() { served <- s.Serve(ctx, conn) }()
		say(t, conn.LocalAddr().String(), mode, sent)
		cancel()
		if err := <-served; err != nil {
			t.Fatal(err)
		}
		begun := len(engine.Events(transporttest.Connect)) + len(engine.Events(transporttest.ConnectSecondary))
		ended := len(engine.Events(transporttest.Disconnect)) + len(engine.Events(transporttest.DisconnectSecondary))
		if st := s.Stats(); begun != ended || st.Endpoints != 0 || st.Sessions != 0 || st.Observers != 0 || s.transfers.Load() != 0 {
			t.Fatalf("%d sessions began and %d ended, %d bytes of transfers are left, %+v", begun, ended, s.transfers.Load(), st)
		}
	})
}

// say sends the datagrams and waits until the server answers a ping behind them.
func say(t *testing.T, addr string, mode byte, sent []byte) {
	c, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, 2048)
	// hear passes over packets until one with this message id comes, or sends m again.
	hear := func(m []byte) {
		for tries := 0; ; tries++ {
			if tries == 100 {
				t.Fatalf("%x is not answered", m)
			}
			if _, err := c.Write(m); err != nil {
				t.Fatal(err)
			}
			if err := c.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			for {
				n, err := c.Read(buf)
				if err != nil {
					break // it is sent again
				}
				if n >= 4 && bytes.Equal(buf[2:4], m[2:4]) && buf[0]&0x20 != 0 { // an ACK or a RST
					return
				}
			}
		}
	}
	if mode == 1 {
		hear(seedRequest(codes.GET, 1, "api/v1/d/rpc", "", message.Option{ID: message.Observe}))
	}
	for len(sent) > 0 {
		n := min(int(sent[0]), len(sent)-1)
		if _, err := c.Write(sent[1 : n+1]); err != nil {
			t.Fatal(err)
		}
		sent = sent[n+1:]
	}
	hear([]byte{0x40, 0, 0xff, 0xfe})
}
