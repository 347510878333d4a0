package coap_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"

	"callchain/transports"
	"callchain/transports/coap"
	"callchain/transports/transporttest"
)

// house is a server with its engine.
type house struct {
	testing.TB
	engine *transporttest.Engine
	server *coap.Server
	addr   string
	stop   func()
}

func newHouse(t testing.TB, change func(*coap.Config)) *house {
	h := &house{TB: t, engine: transporttest.NewEngine()}
	h.server, h.addr, h.stop = start(t, h.engine, h.engine, change)
	return h
}

func (h *house) peer() *peer { return newPeer(h, h.addr) }

// observer is a peer that gets the calls of a device, and the session.
func (h *house) observer(device string) (*peer, transports.Session) {
	h.Helper()
	p := h.peer()
	p.observe(h, calls(device), "c")
	return p, h.engine.Session(h, device)
}

// withAttributes makes the peer observe attributes with the token "a".
func (h *house) withAttributes(p *peer, device string) {
	h.Helper()
	m := p.request(codes.GET, attributes(device), "", opt(message.Observe, 0))
	m.Token = []byte("a")
	p.send(m)
	h.state(nil)
	a := p.hear(h)
	if string(a.Payload) != "{}" || a.number(message.Observe) != 0 {
		h.Fatalf("the first state is %s", a)
	}
}

// state answers the next request for attributes.
func (h *house) state(shared map[string][]byte) {
	h.Helper()
	ev := h.engine.Next(h, transporttest.RequestAttributes)
	h.engine.Link(h, ev.Session).AnswerAttributes(transports.AttributesAnswer{Request: ev.Number, Shared: shared})
}

func calls(device string) string      { return "api/v1/" + device + "/rpc" }
func attributes(device string) string { return "api/v1/" + device + "/attributes" }
func telemetry(device string) string  { return "api/v1/" + device + "/telemetry" }

// command makes a command without a deadline.
func command(wire int32) transports.Command {
	return transports.Command{Call: uuid.New(), Wire: wire, Method: "m", Attempt: 1, Epoch: 1}
}

// long is a command whose notification needs several packets.
func long(wire int32, bytes int) transports.Command {
	c := command(wire)
	c.Params = []byte(`"` + strings.Repeat("x", bytes) + `"`)
	return c
}

// hears waits for the next packet and compares its kind, code, token and Observe option.
func (h *house) hears(p *peer, kind message.Type, code codes.Code, token string, observe int64) packet {
	h.Helper()
	m := p.hear(h)
	if m.Type != kind || m.Code != code || string(m.Token) != token || m.number(message.Observe) != observe {
		h.Fatalf("%s came, want %s %s token=%x observe=%d", m, kind, code, token, observe)
	}
	return m
}

// answers sends a request and compares the code and the payload of its answer.
func (h *house) answers(p *peer, m message.Message, code codes.Code, body string) packet {
	h.Helper()
	a := p.ask(h, m)
	if a.Code != code || string(a.Payload) != body {
		h.Fatalf("%s %q: %s, want %s %q", m.Code, m.Payload, a, code, body)
	}
	return a
}

// pong shows that the server has looked at all that the peer has sent, and that it has answered nothing.
func (h *house) pong(p *peer) {
	h.Helper()
	mid := int32(uint16(p.mid.Add(1)))
	p.send(message.Message{Type: message.Confirmable, MessageID: mid})
	if m := p.hear(h); m.Type != message.Reset || m.Code != codes.Empty || m.MessageID != mid || len(m.Token)+len(m.Payload) > 0 {
		h.Fatalf("a ping is answered %s", m)
	}
}

// reported is pong, and shows that the session has reported all that followed from it: reports come in order, and the last one is of a
// call that is too late to leave.
func (h *house) reported(p *peer, s transports.Session) {
	h.Helper()
	h.pong(p)
	late := command(-1)
	late.Deadline = time.Unix(0, 0)
	s.Link.Send(late)
	h.fails(late, transports.FailedExpired)
}

// waitFor waits until a condition of the server's counters holds.
func (h *house) waitFor(what string, holds func(coap.Stats) bool) {
	h.Helper()
	late, look := time.After(patience), time.NewTicker(time.Millisecond)
	defer look.Stop()
	for !holds(h.server.Stats()) {
		select {
		case <-look.C:
		case <-late:
			h.Fatalf("not reached: %s; %+v\n%s", what, h.server.Stats(), h.engine)
		}
	}
}

// happened counts the engine's events of a kind.
func (h *house) happened(k transporttest.Kind, want int) {
	h.Helper()
	if got := len(h.engine.Events(k)); got != want {
		h.Fatalf("%d times %s, want %d; what came:\n%s", got, k, want, h.engine)
	}
}

// fails waits for the next report of a call that failed.
func (h *house) fails(c transports.Command, reason string) {
	h.Helper()
	if ev := h.engine.Next(h, transporttest.Failed); ev.Call != c.Call || ev.Text != reason {
		h.Fatalf("call %s failed with %q, want %s with %q", ev.Call, ev.Text, c.Call, reason)
	}
}

// ends waits for the next end of a session.
func (h *house) ends(s transports.Session, why string) {
	h.Helper()
	if ev := h.engine.Next(h, transporttest.Disconnect); ev.Session != s.ID || ev.Text != why {
		h.Fatalf("session %s ended for %q, want %s for %q", ev.Session, ev.Text, s.ID, why)
	}
}

// acknowledged waits for the next proof that a device has a call.
func (h *house) acknowledged(c transports.Command) {
	h.Helper()
	h.evident(c, transports.EvidenceCoAPAck)
}

// evident waits for the next evidence and compares it.
func (h *house) evident(c transports.Command, evidence string) {
	h.Helper()
	if ev := h.engine.Next(h, transporttest.Acknowledged); ev.Call != c.Call || ev.Text != evidence {
		h.Fatalf("call %s has evidence %q, want %s with %q", ev.Call, ev.Text, c.Call, evidence)
	}
}

// same says whether two packets are the same bytes.
func same(a, b packet) bool {
	return a.String() == b.String() && bytes.Equal(a.Payload, b.Payload) && slices.EqualFunc(a.Options, b.Options, func(x, y message.Option) bool {
		return x.ID == y.ID && bytes.Equal(x.Value, y.Value)
	})
}

// impatient makes the server give up on a message within 70 to 105 ms.
func impatient(c *coap.Config) { c.AckTimeout, c.MaxRetransmit = 10*time.Millisecond, 2 }

// eager makes the server repeat its messages soon and for long.
func eager(c *coap.Config) { c.AckTimeout, c.MaxRetransmit = 10*time.Millisecond, 10 }
