package coap_test

import (
	"context"
	"testing"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"

	"callchain/transports"
	"callchain/transports/coap"
	"callchain/transports/transporttest"
)

// TestCodes: what ThingsBoard answers (thingsboard-recorded.md, part R, and CoapTransportResource).
func TestCodes(t *testing.T) {
	h := newHouse(t, nil)
	p := h.peer()
	h.engine.Deny(transporttest.Attributes, transports.ErrRefused)
	for _, c := range []struct {
		code       codes.Code
		path, body string
		want       codes.Code
		opts       []message.Option
	}{
		{codes.POST, "api/v1/d/telemetry", `{"a":1}`, codes.Created, nil},
		{codes.POST, "api/v1/d/TeleMetry", `[{"a":1}]`, codes.Created, nil},
		{codes.POST, "api/v1/d/telemetry", `{bad`, codes.BadRequest, nil},
		{codes.POST, "api/v1/d/telemetry", ``, codes.BadRequest, nil},
		{codes.POST, "api/v1/d/attributes", `[]`, codes.BadRequest, nil},
		{codes.POST, "api/v1/d/attributes", `{}`, codes.BadRequest, nil}, // refused by the engine
		{codes.POST, "api/v1/d/rpc/0", `{"ok":1}`, codes.Created, nil},
		{codes.POST, "api/v1/d/rpc/-5", `{"ok":1}`, codes.Created, nil},
		{codes.POST, "api/v1/d/rpc/0", `[1]`, codes.InternalServerError, nil},
		{codes.POST, "api/v1/d/rpc/0", `"ok"`, codes.InternalServerError, nil},
		{codes.POST, "api/v1/d/rpc/0", `{bad`, codes.InternalServerError, nil},
		{codes.POST, "api/v1/d/rpc/abc", `{"ok":1}`, codes.InternalServerError, nil}, // no number: it counts as a call
		{codes.POST, "api/v1/d/rpc/4294967296", `{"ok":1}`, codes.InternalServerError, nil},
		{codes.POST, "api/v1/d/rpc", `{bad`, codes.InternalServerError, nil},
		{codes.POST, "api/v1/d/rpc", `{"params":{}}`, codes.InternalServerError, nil},
		{codes.POST, "api/v1/d/rpc", `{"method":"m"}`, codes.InternalServerError, nil},
		{codes.POST, "api/v1/unknown/rpc", `{"method":"m","params":{}}`, codes.Unauthorized, nil},
		{codes.POST, "api/v1/unknown/telemetry", `{bad`, codes.Unauthorized, nil},
		{codes.GET, "api/v1/unknown/rpc", ``, codes.Unauthorized, []message.Option{opt(message.Observe, 0)}},
		{codes.GET, "api/v1//rpc", ``, codes.Unauthorized, []message.Option{opt(message.Observe, 0)}},
		{codes.GET, "api/v1/d/rpc", ``, codes.BadRequest, nil},
		{codes.GET, "api/v1/d/rpc", ``, codes.BadRequest, []message.Option{opt(message.Observe, 2)}},
		{codes.GET, "api/v1/d/rpc", ``, codes.BadRequest, []message.Option{blockOpt(message.Block2, 0, false, 7)}},
		{codes.GET, "api/v1/d/telemetry", ``, codes.BadRequest, nil},
		{codes.GET, "api/v1/d/claim", ``, codes.BadRequest, nil},
		{codes.POST, "api/v1/d", `{}`, codes.BadRequest, nil},
		{codes.POST, "api/v1/d/telemetry/1", `{}`, codes.BadRequest, nil},
		{codes.GET, "", ``, codes.NotFound, nil},
		{codes.GET, ".well-known/core", ``, codes.NotFound, nil},
		{codes.POST, "api/v2/d/telemetry", `{}`, codes.NotFound, nil},
		{codes.POST, "api/v1/d/rpc/1/2", `{}`, codes.NotFound, nil},
		{codes.PUT, "api/v1/d/telemetry", `{}`, codes.MethodNotAllowed, nil},
		{codes.DELETE, "api/v1/d/rpc", ``, codes.MethodNotAllowed, nil},
		{codes.Code(31), "api/v1/d/rpc", ``, codes.MethodNotAllowed, nil},
		{codes.POST, "api/v1/d/telemetry", `{"a":1}`, codes.BadOption, []message.Option{{ID: 65001, Value: []byte("x")}}},
		{codes.POST, "api/v1/d/telemetry", `{"a":1}`, codes.Created, []message.Option{{ID: 65000, Value: []byte("x")}}},
	} {
		a := p.ask(t, p.request(c.code, c.path, c.body, c.opts...))
		if a.Code != c.want || len(a.Payload) > 0 && c.want != codes.BadOption || a.number(message.Observe) != -1 {
			t.Errorf("%s %s %q: %s, want %s", c.code, c.path, c.body, a, c.want)
		}
	}
	h.happened(transporttest.Telemetry, 3)
	h.happened(transporttest.Reply, 2)
	h.happened(transporttest.Call, 0)
	h.happened(transporttest.Connect, 0)
	h.happened(transporttest.ConnectSecondary, 1)
	if st := h.server.Stats(); st.Refused != 4 {
		t.Errorf("%d tokens were refused, want 4", st.Refused)
	}
}

// TestNonsenseIsRejected: what is no request is answered with a RST if it asks for an ACK, and with nothing if not.
func TestNonsenseIsRejected(t *testing.T) {
	h := newHouse(t, nil)
	p := h.peer()
	for _, code := range []codes.Code{codes.Content, codes.Empty, codes.Code(32), codes.Code(0xff)} {
		m := p.request(code, "api/v1/d/telemetry", "{}")
		for range 2 { // and again
			p.send(m)
			if a := p.hear(t); a.Type != message.Reset || a.MessageID != m.MessageID {
				t.Fatalf("%s is answered %s", code, a)
			}
		}
		m = p.request(code, "api/v1/d/telemetry", "{}")
		m.Type = message.NonConfirmable
		p.send(m)
	}
	m := p.request(codes.POST, "api/v1/d/telemetry", "{}", message.Option{ID: 65001, Value: []byte("x")})
	m.Type = message.NonConfirmable // RFC 7252, section 5.4.1: dropped
	p.send(m)
	h.answers(p, p.request(codes.POST, "api/v1/d/telemetry", "{}"), codes.Created, "")
	h.happened(transporttest.Telemetry, 1)
}

// TestRepeatedRequests: a message that comes again is answered again, and done once.
func TestRepeatedRequests(t *testing.T) {
	for _, kind := range []message.Type{message.Confirmable, message.NonConfirmable} {
		t.Run(kind.String(), func(t *testing.T) {
			h := newHouse(t, func(c *coap.Config) { c.Piggyback = time.Minute })
			p := h.peer()
			h.engine.Hold(transporttest.Telemetry)
			m := p.request(codes.POST, telemetry("d"), `{"a":1}`)
			m.Type = kind
			p.ack(m.MessageID) // the ids of the server's messages are others
			p.rst(m.MessageID)
			for range 3 {
				p.send(m)
			}
			held := h.engine.Next(t, transporttest.Telemetry)
			h.waitFor("two repetitions", func(st coap.Stats) bool { return st.Duplicates == 2 })
			h.pong(p) // they were not answered
			held.Settle(nil)
			a := p.hear(t)
			if a.Code != codes.Created || string(a.Token) != string(m.Token) {
				t.Fatalf("%s came", a)
			}
			if kind == message.Confirmable && (a.Type != message.Acknowledgement || a.MessageID != m.MessageID) || kind == message.NonConfirmable && a.Type != kind {
				t.Fatalf("%s came", a)
			}
			m.Token = []byte("other") // the message id decides
			for range 2 {
				p.send(m)
				if again := p.hear(t); !same(a, again) {
					t.Fatalf("%s came after %s", again, a)
				}
			}
			h.happened(transporttest.Telemetry, 1)
			other := h.peer() // the same message id of another peer is another message
			h.engine.Release(transporttest.Telemetry)
			m = other.request(codes.POST, telemetry("d"), `{"a":2}`)
			h.answers(other, m, codes.Created, "")
			h.happened(transporttest.Telemetry, 2)
		})
	}
}

// TestSeparateAnswer: an answer that takes long is a message of its own, which is repeated until its ACK.
func TestSeparateAnswer(t *testing.T) {
	h := newHouse(t, func(c *coap.Config) {
		eager(c)
		c.Piggyback, c.Requests = 10*time.Millisecond, 1
	})
	p := h.peer()
	h.engine.Hold(transporttest.Telemetry)
	m := p.request(codes.POST, telemetry("d"), "{}")
	p.send(m)
	held := h.engine.Next(t, transporttest.Telemetry)
	ack := h.hears(p, message.Acknowledgement, codes.Empty, "", -1)
	p.send(m)
	if again := p.hear(t); !same(ack, again) || ack.MessageID != m.MessageID {
		t.Fatalf("a repetition is answered %s after %s", again, ack)
	}
	held.Settle(nil)
	a := h.hears(p, message.Confirmable, codes.Created, string(m.Token), -1)
	if again := p.hear(t); !same(a, again) {
		t.Fatalf("%s came after %s", again, a)
	}
	// As long as it is not acknowledged, the peer is worked for.
	h.engine.Release(transporttest.Telemetry)
	next := p.request(codes.POST, telemetry("d"), "{}")
	p.send(next)
	h.waitFor("the next request is dropped", func(st coap.Stats) bool { return st.Dropped == 1 })
	p.ack(a.MessageID)
	h.quiet(p, a)
	h.answers(p, next, codes.Created, "") // the message id is not taken for a repetition
	h.happened(transporttest.Telemetry, 2)
}

// quiet passes over the repetitions of a packet that were under way when it was acknowledged.
func (h *house) quiet(p *peer, old packet) {
	h.Helper()
	mid := int32(uint16(p.mid.Add(1)))
	p.send(message.Message{Type: message.Confirmable, MessageID: mid})
	for {
		m := p.hear(h)
		if m.Type == message.Reset && m.MessageID == mid {
			return
		}
		if !same(m, old) {
			h.Fatalf("%s came", m)
		}
	}
}

// slowly looks the credentials of one device up as long as the test wants.
type slowly struct {
	transports.Authenticator
	gate chan struct{}
	slow string
}

func (s slowly) Authenticate(ctx context.Context, c transports.Credentials) (transports.Identity, error) {
	if c.Token != s.slow {
		return s.Authenticator.Authenticate(ctx, c)
	}
	select {
	case <-s.gate:
		return s.Authenticator.Authenticate(ctx, c)
	case <-ctx.Done():
		return transports.Identity{}, ctx.Err()
	}
}

// TestSlowLookUp: the ACK does not wait for a slow look-up of the token, and one that takes too long is answered 5.03. The end of the
// server does not wait for one, and nothing reaches the engine after it.
func TestSlowLookUp(t *testing.T) {
	engine := transporttest.NewEngine()
	gate := make(chan struct{}, 1)
	_, addr, stop := start(t, slowly{engine, gate, "d"}, engine, func(c *coap.Config) { c.Piggyback, c.AuthTimeout = 5*time.Millisecond, time.Second })
	h := &house{TB: t, engine: engine, addr: addr}
	p := h.peer()
	m := p.request(codes.POST, telemetry("d"), "{}")
	p.send(m)
	h.hears(p, message.Acknowledgement, codes.Empty, "", -1)
	gate <- struct{}{}
	p.ack(h.hears(p, message.Confirmable, codes.Created, string(m.Token), -1).MessageID)
	m = p.request(codes.POST, telemetry("d"), "{}")
	p.send(m)
	h.hears(p, message.Acknowledgement, codes.Empty, "", -1)
	p.ack(h.hears(p, message.Confirmable, codes.ServiceUnavailable, string(m.Token), -1).MessageID)
	m = p.request(codes.POST, telemetry("d"), "{}")
	p.send(m)
	h.hears(p, message.Acknowledgement, codes.Empty, "", -1)
	stop()
	h.hears(p, message.Confirmable, codes.ServiceUnavailable, string(m.Token), -1)
	h.happened(transporttest.Telemetry, 1)
}

// TestFloodHoldsUpNobody: the packets of a peer wait for its own, and the server reads on. Those that are too many are dropped.
func TestFloodHoldsUpNobody(t *testing.T) {
	engine := transporttest.NewEngine()
	gate := make(chan struct{})
	s, addr, _ := start(t, slowly{engine, gate, "slow"}, engine, func(c *coap.Config) { c.Piggyback = time.Minute })
	h := &house{TB: t, engine: engine, server: s, addr: addr}
	p, other := h.peer(), h.peer()
	for range 100 {
		p.send(p.request(codes.POST, telemetry("slow"), "{}"))
	}
	h.answers(other, other.request(codes.POST, telemetry("d"), "{}"), codes.Created, "")
	h.pong(p)
	h.happened(transporttest.Telemetry, 1)
	close(gate)
	h.waitFor("the others are dropped", func(st coap.Stats) bool { return st.Dropped > 0 && st.Dropped < 100 })
	taken := 100 - int(s.Stats().Dropped)
	for range taken {
		if m := p.hear(t); m.Code != codes.Created {
			t.Fatalf("%s came", m)
		}
	}
	h.pong(p)
	h.happened(transporttest.Telemetry, 1+taken)
}

// TestBusy: what the engine does not take is answered 5.03 with the time to come again; a session it has forgotten is opened anew.
func TestBusy(t *testing.T) {
	h := newHouse(t, func(c *coap.Config) { c.DataOutstanding, c.Piggyback = 1, time.Minute })
	p := h.peer()
	busy := func(m message.Message) {
		t.Helper()
		if a := h.answers(p, m, codes.ServiceUnavailable, ""); a.number(message.MaxAge) != 1 {
			t.Fatalf("%s came, want Max-Age 1", a)
		}
	}
	post := func() message.Message { return p.request(codes.POST, telemetry("d"), "{}") }
	h.engine.Deny(transporttest.Telemetry, transports.ErrBusy)
	busy(post())
	h.engine.Deny(transporttest.Telemetry, transports.ErrGone)
	busy(post())
	h.engine.Next(t, transporttest.DisconnectSecondary)
	h.engine.Deny(transporttest.Telemetry, nil)
	h.answers(p, post(), codes.Created, "")
	h.happened(transporttest.ConnectSecondary, 2)
	h.engine.Hold(transporttest.Telemetry)
	first := post()
	p.send(first)
	for range 3 {
		h.engine.Next(t, transporttest.Telemetry)
	}
	held := h.engine.Next(t, transporttest.Telemetry)
	busy(post())
	held.Settle(nil)
	h.hears(p, message.Acknowledgement, codes.Created, string(first.Token), -1)
	h.engine.Deny(transporttest.Call, transports.ErrBusy)
	busy(p.request(codes.POST, calls("d"), `{"method":"m","params":{}}`))
	h.engine.Deny(transporttest.RequestAttributes, transports.ErrBusy)
	busy(p.request(codes.GET, attributes("d"), ""))
	h.engine.Deny(transporttest.Connect, transports.ErrBusy)
	h.engine.Deny(transporttest.ConnectSecondary, transports.ErrBusy)
	busy(p.request(codes.POST, telemetry("e"), "{}"))
	busy(p.request(codes.GET, calls("e"), "", opt(message.Observe, 0)))
	busy(p.request(codes.GET, attributes("e"), "", opt(message.Observe, 0)))
	if st := h.server.Stats(); st.DataUnanswered != 3 {
		t.Errorf("%+v", st)
	}
}

// TestAsking: a device asks for attributes and calls the server, and the answer is that of the engine.
func TestAsking(t *testing.T) {
	h := newHouse(t, nil)
	p := h.peer()
	for _, c := range []struct{ path, asked string }{
		{attributes("d") + "?clientKeys=a,b&sharedKeys=c", "[a b] [c]"},
		{attributes("d") + "?sharedKeys=c", "<nil> [c]"},
		{attributes("d"), "<nil> <nil>"},
	} {
		m := p.request(codes.GET, c.path, "")
		p.send(m)
		ev := h.engine.Next(t, transporttest.RequestAttributes)
		link := h.engine.Link(t, ev.Session)
		link.AnswerAttributes(transports.AttributesAnswer{Request: ev.Number, Client: map[string][]byte{"a": []byte("1")}})
		link.AnswerAttributes(transports.AttributesAnswer{Request: ev.Number}) // a second answer is none
		if a := p.hear(t); a.Code != codes.Content || string(a.Payload) != `{"client":{"a":1}}` || ev.Text != c.asked || a.number(message.ContentFormat) != 50 {
			t.Errorf("%s: asked for %s, got %s", c.path, ev.Text, a)
		}
	}
	m := p.request(codes.GET, attributes("d"), "")
	p.send(m)
	h.state(nil)
	h.hears(p, message.Acknowledgement, codes.NotFound, string(m.Token), -1)
	m = p.request(codes.POST, calls("d"), `{"method":"getTime","params":{"a":1}}`)
	p.send(m)
	ev := h.engine.Next(t, transporttest.Call)
	if ev.Text != "getTime" || string(ev.Payload) != `{"a":1}` {
		t.Fatalf("call %+v", ev)
	}
	link := h.engine.Link(t, ev.Session)
	link.Respond(transports.Response{Request: ev.Number + 1, Body: []byte("{}")}) // of nobody
	link.Respond(transports.Response{Request: ev.Number, Body: []byte(`{"time":1}`)})
	if a := h.hears(p, message.Acknowledgement, codes.Content, string(m.Token), -1); string(a.Payload) != `{"time":1}` {
		t.Fatalf("%s came", a)
	}
}
