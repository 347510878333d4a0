package coap_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"

	"callchain/transports"
	"callchain/transports/coap"
	"callchain/transports/transporttest"
)

// TestConfig: each bad field is named.
func TestConfig(t *testing.T) {
	if err := coap.Default().Validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*coap.Config){
		"MaxPayload": func(c *coap.Config) { c.MaxPayload = 0 }, "TransferBytes": func(c *coap.Config) { c.TransferBytes = c.MaxPayload - 1 },
		"MaxRetransmit": func(c *coap.Config) { c.MaxRetransmit = -1 }, "AckTimeout": func(c *coap.Config) { c.AckTimeout = 0 },
		"QueueMessages": func(c *coap.Config) { c.QueueMessages = 0 }, "Duplicates": func(c *coap.Config) { c.Duplicates = 1 << 20 },
	} {
		cfg := coap.Default()
		change(&cfg)
		_, err := coap.New(cfg, nil, nil, nil)
		if err == nil || !strings.HasPrefix(err.Error(), "coap."+name+": ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestEndedBefore: a server whose context has ended closes its socket, too.
func TestEndedBefore(t *testing.T) {
	engine := transporttest.NewEngine()
	s, err := coap.New(coap.Default(), engine, engine, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if s.Addr() != nil {
		t.Error("a server that does not listen has an address")
	}
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Serve(ctx, conn); err != nil {
		t.Error(err)
	}
	if _, err := conn.WriteTo(nil, conn.LocalAddr()); err == nil {
		t.Error("the socket is open")
	}
	if got := s.Addr(); got == nil || got.String() != conn.LocalAddr().String() {
		t.Errorf("the address is %v, want %v", got, conn.LocalAddr())
	}
}

// TestBrokenSocket: what breaks the socket ends the server, with an error.
func TestBrokenSocket(t *testing.T) {
	engine := transporttest.NewEngine()
	s, err := coap.New(coap.Default(), engine, engine, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(t.Context(), conn) }()
	h := &house{TB: t, engine: engine, server: s, addr: conn.LocalAddr().String()}
	h.observer("d")
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-served:
		if err == nil {
			t.Error("the server ended without an error")
		}
	case <-time.After(patience):
		t.Fatal("the server goes on without a socket")
	}
	h.engine.Next(t, transporttest.Disconnect)
}

// TestPeersAreBounded: a stranger finds no room as long as the others may come again, and room when they will not.
func TestPeersAreBounded(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(c *coap.Config) { c.MaxEndpoints, c.EndpointIdle = 1, 5*time.Second })
	first, second := h.peer(), h.peer()
	h.answers(first, first.request(codes.POST, telemetry("d"), "{}"), codes.Created, "")
	m := second.request(codes.POST, telemetry("e"), "{}")
	second.send(m)
	h.waitFor("the second is dropped", func(st coap.Stats) bool { return st.Dropped > 0 })
	h.waitFor("the first is forgotten", func(st coap.Stats) bool { return st.Endpoints == 0 })
	h.answers(second, m, codes.Created, "")
	h.happened(transporttest.Telemetry, 2)
}

// TestStrangersAreForgotten: who never showed a token that is known is forgotten soon.
func TestStrangersAreForgotten(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(c *coap.Config) { c.StrangerIdle = time.Second })
	p := h.peer()
	h.answers(p, p.request(codes.POST, telemetry("unknown"), "{}"), codes.Unauthorized, "")
	h.waitFor("the stranger is forgotten", func(st coap.Stats) bool { return st.Endpoints == 0 })
}

// TestSessionsAreBounded: the device that is one too many is asked to come again.
func TestSessionsAreBounded(t *testing.T) {
	h := newHouse(t, func(c *coap.Config) { c.MaxSessions = 1 })
	p, _ := h.observer("d")
	for _, m := range []message.Message{
		p.request(codes.GET, calls("e"), "", opt(message.Observe, 0)), p.request(codes.GET, attributes("e"), "", opt(message.Observe, 0)),
		p.request(codes.POST, telemetry("e"), "{}"),
	} {
		h.answers(p, m, codes.ServiceUnavailable, "")
	}
	h.answers(p, p.request(codes.POST, telemetry("d"), "{}"), codes.Created, "")
	h.deregister(p, calls("d"), "c")
	h.engine.Next(t, transporttest.Disconnect)
	h.waitFor("there is room", func(st coap.Stats) bool { return st.Sessions == 0 && st.Observers == 0 })
	p.observe(t, calls("e"), "e")
}

// TestRequestsAreBounded: what a peer asks beyond the bound is dropped, and done when it comes again.
func TestRequestsAreBounded(t *testing.T) {
	h := newHouse(t, func(c *coap.Config) { c.Requests, c.Piggyback = 2, time.Minute })
	p := h.peer()
	h.engine.Hold(transporttest.Telemetry)
	var all []message.Message
	for range 3 {
		all = append(all, p.request(codes.POST, telemetry("d"), "{}"))
		p.send(all[len(all)-1])
	}
	h.waitFor("one is dropped", func(st coap.Stats) bool { return st.Dropped == 1 })
	h.happened(transporttest.Telemetry, 2)
	for i := range 2 {
		h.engine.Next(t, transporttest.Telemetry).Settle(nil)
		h.hears(p, message.Acknowledgement, codes.Created, string(all[i].Token), -1)
	}
	h.engine.Release(transporttest.Telemetry)
	h.answers(p, all[2], codes.Created, "")
	h.happened(transporttest.Telemetry, 3)
}

// TestRememberedIDsAreBounded: with room for two message ids the third one takes the place of the first.
func TestRememberedIDsAreBounded(t *testing.T) {
	h := newHouse(t, func(c *coap.Config) { c.Duplicates = 2 })
	p := h.peer()
	var all []message.Message
	for range 3 {
		all = append(all, p.request(codes.POST, telemetry("d"), "{}"))
		h.answers(p, all[len(all)-1], codes.Created, "")
	}
	h.answers(p, all[1], codes.Created, "")
	h.answers(p, all[2], codes.Created, "")
	h.happened(transporttest.Telemetry, 3)
	h.answers(p, all[0], codes.Created, "")
	h.happened(transporttest.Telemetry, 4)
}

// TestTransfersAreBounded: the memory of all transfers, and the number of one peer's.
func TestTransfersAreBounded(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(c *coap.Config) { c.MaxPayload, c.TransferBytes, c.TransferIdle = 4096, 4096, 5*time.Second })
	begin := func(p *peer, path string) codes.Code {
		return p.ask(t, p.request(codes.POST, path, strings.Repeat("x", 1024), blockOpt(message.Block1, 0, true, 6))).Code
	}
	next := func(p *peer, path string) codes.Code {
		return p.ask(t, p.request(codes.POST, path, strings.Repeat("x", 16), blockOpt(message.Block1, 64, false, 0))).Code
	}
	p, other := h.peer(), h.peer()
	for i := range 4 {
		if got := begin(p, fmt.Sprint(telemetry("d"), "?n=", i)); got != codes.Continue {
			t.Fatalf("upload %d is answered %s", i, got)
		}
	}
	if got := begin(other, telemetry("e")); got != codes.ServiceUnavailable {
		t.Fatalf("an upload without memory is answered %s", got)
	}
	if got := begin(p, telemetry("d")+"?n=4"); got != codes.Continue {
		t.Fatalf("a fifth upload is answered %s", got)
	}
	if got := next(p, telemetry("d")+"?n=0"); got != codes.RequestEntityIncomplete {
		t.Fatalf("the upload that the fifth one ended is answered %s", got)
	}
	// An answer and a command that do not fit into one packet need memory, too.
	m := p.request(codes.POST, calls("d"), `{"method":"m","params":{}}`)
	p.send(m)
	ev := h.engine.Next(t, transporttest.Call)
	h.engine.Link(t, ev.Session).Respond(transports.Response{Request: ev.Number, Body: []byte(strings.Repeat("x", 2000))})
	h.hears(p, message.Acknowledgement, codes.ServiceUnavailable, string(m.Token), -1)
	p.observe(t, calls("d"), "c")
	c := long(1, 2000)
	h.engine.Session(t, "d").Link.Send(c)
	h.fails(c, transports.FailedQueueFull)
	late, look := time.After(patience), time.NewTicker(50*time.Millisecond)
	defer look.Stop()
	for begin(other, telemetry("e")) != codes.Continue { // those that pause are forgotten
		select {
		case <-look.C:
		case <-late:
			t.Fatal("idle uploads are kept")
		}
	}
}

// TestQueueIsBounded: what waits for a device is bounded by number and by bytes, and refused at once beyond that.
func TestQueueIsBounded(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*coap.Config)
		params int
		fit    int // besides the one under way
	}{
		{"messages", func(c *coap.Config) { c.QueueMessages = 3 }, 1, 3},
		{"bytes", func(c *coap.Config) { c.QueueBytes = 1024 }, 400, 2},
		{"one larger than all", func(c *coap.Config) { c.QueueBytes = 1024 }, 900, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHouse(t, c.change)
			p, s := h.observer("d")
			h.withAttributes(p, "d")
			s.Link.Send(command(0))
			m := h.hears(p, message.Confirmable, codes.Content, "c", 1)
			for i := range c.fit {
				s.Link.Send(long(int32(i+1), c.params))
			}
			over := long(99, c.params)
			s.Link.Send(over)
			h.fails(over, transports.FailedQueueFull)
			s.Link.PushAttributes(map[string][]byte{"x": over.Params}, nil)
			h.waitFor("an update is dropped", func(st coap.Stats) bool { return st.MessagesDropped == 1 && st.CommandsRefused == 1 })
			for i := range c.fit + 1 {
				p.ack(m.MessageID)
				if i < c.fit {
					m = h.hears(p, message.Confirmable, codes.Content, "c", int64(i+2))
				}
			}
			h.reported(p, s)
			h.happened(transporttest.Failed, 2) // with that of reported
		})
	}
}

// TestExchangesAreBounded: with 4096 unacknowledged messages to a peer no call leaves, and none is said to have left.
func TestExchangesAreBounded(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(c *coap.Config) { c.AckTimeout = time.Minute })
	p, s := h.observer("d")
	h.withAttributes(p, "d")
	var goodbye packet
	for i := range 4096 { // each newer observation is a last word to the older one
		token := fmt.Sprint("a", i)
		p.register(attributes("d"), token)
		h.state(nil)
		for range 2 {
			if m := p.hear(t); m.Code == codes.Deleted {
				goodbye = m
			} else if m.number(message.Observe) != 0 {
				t.Fatalf("%s came", m)
			}
		}
	}
	one, two := command(1), command(2)
	s.Link.Send(one)
	h.fails(one, transports.FailedQueueFull)
	h.happened(transporttest.Written, 0)
	p.ack(goodbye.MessageID)
	h.pong(p)
	s.Link.Send(two)
	p.ack(h.hears(p, message.Confirmable, codes.Content, "c", 2).MessageID)
	h.acknowledged(two)
	if st := h.server.Stats(); st.CommandsWritten != 1 || st.CommandsRefused != 1 {
		t.Errorf("%+v", st)
	}
}

// TestIdleSessionsEnd: a device that only sends has a secondary session, which ends when it sends no more; its peer is forgotten, too.
func TestIdleSessionsEnd(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(c *coap.Config) { c.SessionIdle, c.EndpointIdle = time.Second, time.Second })
	p := h.peer()
	h.answers(p, p.request(codes.POST, telemetry("d"), "{}"), codes.Created, "")
	h.answers(p, p.request(codes.POST, telemetry("d"), "{}"), codes.Created, "")
	h.happened(transporttest.ConnectSecondary, 1)
	if ev := h.engine.Next(t, transporttest.DisconnectSecondary); ev.Text != "idle" {
		t.Fatalf("the session ended for %q", ev.Text)
	}
	h.waitFor("the peer is forgotten", func(st coap.Stats) bool { return st.Endpoints == 0 && st.Sessions == 0 })
	h.answers(p, p.request(codes.POST, telemetry("d"), "{}"), codes.Created, "")
	h.happened(transporttest.ConnectSecondary, 2)
}
