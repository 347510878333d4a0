package coap_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"

	"callchain/transports"
	"callchain/transports/coap"
	"callchain/transports/transporttest"
)

// register sends a registration with a token.
func (p *peer) register(path, token string) message.Message {
	m := p.request(codes.GET, path, "", opt(message.Observe, 0))
	m.Token = []byte(token)
	p.send(m)
	return m
}

// deregister cancels an observation by its token; the server always agrees.
func (h *house) deregister(p *peer, path, token string) {
	h.Helper()
	m := p.request(codes.GET, path, "", opt(message.Observe, 1))
	m.Token = []byte(token)
	if a := h.answers(p, m, codes.Deleted, ""); a.number(message.Observe) != -1 {
		h.Fatalf("deregistering is answered %s", a)
	}
}

// TestDeregister: who cancels an observation names it by its token; another one goes on.
func TestDeregister(t *testing.T) {
	h := newHouse(t, nil)
	p, s := h.observer("d")
	other := h.peer()
	h.deregister(p, calls("d"), "x")      // another token
	h.deregister(other, calls("d"), "c")  // another peer
	h.deregister(p, attributes("d"), "c") // another resource
	h.deregister(p, calls("else"), "c")   // another device
	s.Link.Send(command(1))
	m := h.hears(p, message.Confirmable, codes.Content, "c", 1)
	h.deregister(p, calls("d"), "c")
	h.ends(s, "the device cancelled its observation")
	p.ack(m.MessageID)
	h.pong(p)
	late := command(2)
	s.Link.Send(late)
	h.fails(late, "connection_gone")
	h.happened(transporttest.Acknowledged, 0)
	h.waitFor("nobody observes", func(st coap.Stats) bool { return st.Observers == 0 && st.Sessions == 0 })
}

// TestRefresh: the same observation asked for again goes on in its session. A command under way comes again with a number that is
// newer than that of the answer, else the device would acknowledge it and pass it over.
func TestRefresh(t *testing.T) {
	h := newHouse(t, nil)
	p, s := h.observer("same")
	one, two := command(1), long(2, 2000)
	s.Link.Send(one)
	h.hears(p, message.Confirmable, codes.Content, "c", 1)
	p.register(calls("same"), "c")
	h.hears(p, message.Acknowledgement, codes.Valid, "c", 2)
	m := h.hears(p, message.Confirmable, codes.Content, "c", 3)
	if string(m.Payload) != `{"id":1,"method":"m","params":null}` {
		t.Fatalf("%s came", m)
	}
	p.ack(m.MessageID)
	h.acknowledged(one)
	p.register(calls("same"), "c")
	h.hears(p, message.Acknowledgement, codes.Valid, "c", 4)
	s.Link.Send(two)
	h.hears(p, message.Confirmable, codes.Content, "c", 5)
	p.register(calls("same"), "c")
	h.hears(p, message.Acknowledgement, codes.Valid, "c", 6)
	m = h.hears(p, message.Confirmable, codes.Content, "c", 7)
	if len(m.Payload) != 1024 || m.number(message.Block2) != 8|6 {
		t.Fatalf("%s came, want a first block", m)
	}
	p.ack(m.MessageID)
	p.ask(t, p.request(codes.GET, calls("same"), "", blockOpt(message.Block2, 1, false, 6)))
	h.evident(two, transports.EvidenceWritten)
	for kind, n := range map[transporttest.Kind]int{
		transporttest.Connect: 1, transporttest.Subscribe: 1, transporttest.Disconnect: 0, transporttest.Written: 2, transporttest.Acknowledged: 2,
	} {
		h.happened(kind, n)
	}
}

// TestTakeover: another observation of the calls takes the place of the older one, which is told. Attributes are observed on, with
// what is owed to their observer.
func TestTakeover(t *testing.T) {
	for _, c := range []struct {
		name  string
		other bool // the newer observation is of another peer
		token string
	}{{"another token", false, "new"}, {"another peer", true, "c"}} {
		t.Run(c.name, func(t *testing.T) {
			h := newHouse(t, nil)
			p, s := h.observer("d")
			h.withAttributes(p, "d")
			fresh := p
			if c.other {
				fresh = h.peer()
			}
			s.Link.PushAttributes(map[string][]byte{"a": []byte("1")}, nil)
			h.hears(p, message.Confirmable, codes.Content, "a", 1) // not acknowledged
			s.Link.PushAttributes(nil, []string{"b"})
			owed := command(1)
			s.Link.Send(owed)
			fresh.register(calls("d"), c.token)
			told := map[string]packet{}
			for len(told) < 4 { // the answer, the goodbye to the older one, and the two updates that are owed
				from := p
				if c.other && told["valid"].Code == 0 {
					from = fresh
				}
				switch m := from.hear(t); {
				case m.Code == codes.Valid && string(m.Token) == c.token && m.number(message.Observe) == 0:
					told["valid"] = m
				case m.Code == codes.Deleted && m.Type == message.Confirmable && string(m.Token) == "c" && m.number(message.Observe) == -1:
					told["deleted"] = m
					p.ack(m.MessageID)
				case string(m.Payload) == `{"a":1}` && string(m.Token) == "a" && m.number(message.Observe) == 2:
					told["update"] = m
					p.ack(m.MessageID)
				case string(m.Payload) == `{"deleted":["b"]}` && string(m.Token) == "a" && m.number(message.Observe) == 3 && told["update"].Code != 0:
					told["later"] = m
					p.ack(m.MessageID)
				default:
					t.Fatalf("%s came", m)
				}
			}
			h.fails(owed, "connection_gone")
			h.ends(s, string(transports.ReasonTakenOver))
			h.engine.Session(t, "d").Link.Send(command(2))
			m := h.hears(fresh, message.Confirmable, codes.Content, c.token, 1)
			fresh.ack(m.MessageID)
			h.happened(transporttest.Subscribe, 2)
		})
	}
}

// TestObserversOnOlderCredentials: who observes on credentials that have changed is told so when the device comes with the new ones, yields nothing to its
// session, and does not come back into it.
func TestObserversOnOlderCredentials(t *testing.T) {
	h := newHouse(t, nil)
	p, s := h.observer("d")
	h.withAttributes(p, "d")
	fresh := h.peer()
	fresh.observe(t, calls("d@2"), "c")
	for range 2 {
		m := p.hear(t)
		if m.Code != codes.Unauthorized || m.number(message.Observe) != -1 {
			t.Fatalf("%s came, want 4.01", m)
		}
		p.ack(m.MessageID)
	}
	h.ends(s, string(transports.ReasonCredentials))
	for _, path := range []string{calls("d"), attributes("d")} {
		h.answers(p, p.request(codes.GET, path, "", opt(message.Observe, 0)), codes.Unauthorized, "")
	}
	h.engine.Session(t, "d").Link.PushAttributes(map[string][]byte{"a": []byte("1")}, nil)
	owed := command(1)
	h.engine.Session(t, "d").Link.Send(owed)
	m := h.hears(fresh, message.Confirmable, codes.Content, "c", 1)
	fresh.ack(m.MessageID)
	h.acknowledged(owed)
	h.pong(p) // it hears nothing else
}

// TestTakeoverRefused: the engine does not take the newer session; the older one goes on as it was.
func TestTakeoverRefused(t *testing.T) {
	h := newHouse(t, nil)
	p, s := h.observer("d")
	h.withAttributes(p, "d")
	h.engine.Deny(transporttest.Connect, transports.ErrBusy)
	p.register(calls("d"), "new")
	if a := h.hears(p, message.Acknowledgement, codes.ServiceUnavailable, "new", -1); a.number(message.MaxAge) != 1 {
		t.Fatalf("%s came, want Max-Age 1", a)
	}
	s.Link.PushAttributes(nil, []string{"b"})
	p.ack(h.hears(p, message.Confirmable, codes.Content, "a", 1).MessageID)
	s.Link.Send(command(1))
	p.ack(h.hears(p, message.Confirmable, codes.Content, "c", 1).MessageID)
	h.happened(transporttest.Disconnect, 0)
}

// TestBothAtOnce: a device registers for calls and for attributes without waiting, and the engine takes its time. It is one session.
func TestBothAtOnce(t *testing.T) {
	for _, order := range [][]string{{"rpc", "attributes"}, {"attributes", "rpc"}} {
		t.Run(order[0]+" first", func(t *testing.T) {
			h := newHouse(t, func(c *coap.Config) { c.Piggyback = time.Minute })
			h.engine.Hold(transporttest.Connect)
			p := h.peer()
			for _, resource := range order {
				p.register("api/v1/d/"+resource, resource[:3])
			}
			held := h.engine.Next(t, transporttest.Connect)
			h.engine.Release(transporttest.Connect)
			held.Settle(nil)
			h.state(nil)
			for range 2 {
				if m := p.hear(t); m.number(message.Observe) != 0 {
					t.Fatalf("%s came", m)
				}
			}
			h.happened(transporttest.Connect, 1)
			h.happened(transporttest.Disconnect, 0)
			s := h.engine.Session(t, "d")
			s.Link.Send(command(1))
			p.ack(h.hears(p, message.Confirmable, codes.Content, "rpc", 1).MessageID)
			s.Link.PushAttributes(nil, []string{"b"})
			p.ack(h.hears(p, message.Confirmable, codes.Content, "att", 1).MessageID)
		})
	}
}

// TestEndedBeforeItBegan: the session ends while the engine looks at the subscription. The device is not told that it observes.
func TestEndedBeforeItBegan(t *testing.T) {
	for _, verdict := range []error{nil, transports.ErrGone, transports.ErrRefused, errors.New("broken")} {
		h := newHouse(t, nil)
		h.engine.Hold(transporttest.Subscribe)
		p := h.peer()
		p.register(calls("d"), "c")
		held := h.engine.Next(t, transporttest.Subscribe)
		s := h.engine.Session(t, "d")
		if verdict == nil || errors.Is(verdict, transports.ErrGone) {
			s.Link.Close(transports.ReasonTakenOver)
			h.ends(s, string(transports.ReasonTakenOver))
		}
		held.Settle(verdict)
		if errors.Is(verdict, transports.ErrRefused) {
			h.hears(p, message.Acknowledgement, codes.BadRequest, "c", -1)
		} else {
			h.hears(p, message.Acknowledgement, codes.ServiceUnavailable, "c", -1)
		}
		h.waitFor("nothing is left", func(st coap.Stats) bool { return st.Observers == 0 && st.Sessions == 0 })
		h.happened(transporttest.Disconnect, 1)
	}
}

// TestGoodbyes: who observes is told why it does so no longer.
func TestGoodbyes(t *testing.T) {
	for reason, code := range map[transports.Reason]codes.Code{
		transports.ReasonTakenOver: codes.Deleted, transports.ReasonCredentials: codes.Unauthorized,
		transports.ReasonDeviceDeleted: codes.NotFound, transports.ReasonDeliveryTimeout: codes.ServiceUnavailable,
		transports.ReasonRefused: codes.ServiceUnavailable, "another": codes.ServiceUnavailable,
	} {
		h := newHouse(t, nil)
		p, s := h.observer("d")
		h.withAttributes(p, "d")
		s.Link.Close(reason)
		kind := message.Confirmable
		if code == codes.ServiceUnavailable {
			kind = message.NonConfirmable
		}
		for _, token := range []string{"c", "a"} {
			m := h.hears(p, kind, code, token, -1)
			p.ack(m.MessageID)
		}
		h.ends(s, string(reason))
	}
}

// TestShutdown: the devices that observe are told before the socket is closed.
func TestShutdown(t *testing.T) {
	h := newHouse(t, nil)
	p, s := h.observer("d")
	h.withAttributes(p, "d")
	h.engine.Hold(transporttest.Telemetry)
	p.send(p.request(codes.POST, telemetry("d"), "{}"))
	held := h.engine.Next(t, transporttest.Telemetry)
	waiting := command(1)
	s.Link.Send(waiting)
	h.hears(p, message.Confirmable, codes.Content, "c", 1)
	h.stop()
	h.hears(p, message.NonConfirmable, codes.ServiceUnavailable, "c", -1)
	h.hears(p, message.NonConfirmable, codes.ServiceUnavailable, "a", -1)
	h.ends(s, string(transports.ReasonShutdown))
	held.Settle(nil) // nobody hears of it
}

// lateEnd is an engine that takes notice of the end of a session only when it may.
type lateEnd struct {
	*transporttest.Engine
	told, may chan struct{}
}

func (e lateEnd) Disconnect(session uuid.UUID, why string) {
	close(e.told)
	<-e.may
	e.Engine.Disconnect(session, why)
}

// TestShutdownWhileASessionEnds: the end of the server waits for the session that is being ended at that moment.
func TestShutdownWhileASessionEnds(t *testing.T) {
	in := lateEnd{Engine: transporttest.NewEngine(), told: make(chan struct{}), may: make(chan struct{})}
	_, addr, stop := start(t, in, in, nil)
	p := newPeer(t, addr)
	in.Deny(transporttest.Telemetry, transports.ErrGone)
	p.send(p.request(codes.POST, telemetry("d"), "{}"))
	<-in.told
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		stop()
	}()
	select {
	case <-stopped:
		t.Error("the server ended before the engine had heard of the end of a session")
	case <-time.After(100 * time.Millisecond):
	}
	close(in.may)
	<-stopped
	in.Next(t, transporttest.DisconnectSecondary)
}

// TestShutdownAfterTheAnswer: whoever was answered that he observes is told of the end, however soon that comes.
func TestShutdownAfterTheAnswer(t *testing.T) {
	for i := range 100 {
		h := newHouse(t, nil)
		p := h.peer()
		path, kind := calls("d"), transporttest.Subscribe
		if i%2 == 1 {
			path, kind = attributes("d"), transporttest.RequestAttributes
		}
		h.engine.Hold(kind)
		p.register(path, "o")
		held := h.engine.Next(t, kind)
		link := h.engine.Link(t, held.Session)
		settled := make(chan struct{})
		go func() { // the engine answers from a goroutine of its own, which the end of the server does not wait for
			defer close(settled)
			held.Settle(nil)
			if kind == transporttest.RequestAttributes {
				link.AnswerAttributes(transports.AttributesAnswer{Request: held.Number})
			}
		}()
		if a := p.hear(t); a.number(message.Observe) != 0 {
			t.Fatalf("%s came", a)
		}
		h.stop()
		h.hears(p, message.NonConfirmable, codes.ServiceUnavailable, "o", -1)
		<-settled
		p.close()
	}
}

// TestObservedAttributes: the first answer is the state, changes that come meanwhile follow it, and asking again is no farewell.
func TestObservedAttributes(t *testing.T) {
	h := newHouse(t, nil)
	p := h.peer()
	p.register(attributes("d"), "a")
	h.engine.Next(t, transporttest.Connect)
	s := h.engine.Session(t, "d")
	s.Link.PushAttributes(map[string][]byte{"x": []byte("2")}, nil)
	s.Link.PushAttributes(nil, nil) // nothing to tell
	h.state(map[string][]byte{"x": []byte("1")})
	if m := h.hears(p, message.Acknowledgement, codes.Content, "a", 0); string(m.Payload) != `{"shared":{"x":1}}` {
		t.Fatalf("the first state is %s", m)
	}
	m := h.hears(p, message.Confirmable, codes.Content, "a", 1)
	if p.ack(m.MessageID); string(m.Payload) != `{"x":2}` {
		t.Fatalf("%s came", m)
	}
	p.register(attributes("d"), "a")
	h.state(nil)
	h.hears(p, message.Acknowledgement, codes.Content, "a", 2)
	p.register(attributes("d"), "b") // another observation: the older one is told
	p.ack(h.hears(p, message.Confirmable, codes.Deleted, "a", -1).MessageID)
	h.state(nil)
	h.hears(p, message.Acknowledgement, codes.Content, "b", 0)
	h.happened(transporttest.Connect, 1)
	h.happened(transporttest.Subscribe, 0)
	h.waitFor("one observes", func(st coap.Stats) bool { return st.Observers == 1 })
	c := command(1)
	s.Link.Send(c)
	h.fails(c, "connection_gone") // it observes no calls
	h.deregister(p, attributes("d"), "b")
	h.ends(s, "the device cancelled its observation")
}

// TestOldUpdateHoldsNothingUp: the device observes its attributes anew while an update is under way, and does not take that. What
// follows leaves all the same.
func TestOldUpdateHoldsNothingUp(t *testing.T) {
	for _, c := range []struct {
		name, token string
		silent      bool
	}{{"a RST, another token", "b", false}, {"a RST, the same token", "a", false}, {"silence", "b", true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, func(cfg *coap.Config) {
				if c.silent {
					cfg.AckTimeout, cfg.MaxRetransmit = 200*time.Millisecond, 2
				}
			})
			p, s := h.observer("d")
			h.withAttributes(p, "d")
			s.Link.PushAttributes(map[string][]byte{"x": []byte("1")}, nil)
			old := h.hears(p, message.Confirmable, codes.Content, "a", 1)
			p.register(attributes("d"), c.token)
			h.state(nil)
			// The call waits until the update is given up; its number tells it from all else that comes meanwhile.
			s.Link.Send(command(1))
			for told := false; !told; {
				switch m := p.hear(t); {
				case string(m.Token) == "c" && m.number(message.Observe) == 1:
					p.ack(m.MessageID)
					told = true
				case m.Code == codes.Deleted:
					p.ack(m.MessageID)
				case m.Type == message.Acknowledgement && !c.silent:
					p.rst(old.MessageID)
				}
			}
			h.engine.Next(t, transporttest.Acknowledged)
			h.happened(transporttest.Disconnect, 0)
			h.waitFor("both are observed", func(st coap.Stats) bool { return st.Observers == 2 })
		})
	}
}

// TestCancelledBeforeItBegan: the state comes after the device has cancelled the observation. It is an answer and no more.
func TestCancelledBeforeItBegan(t *testing.T) {
	h := newHouse(t, nil)
	p, s := h.observer("d")
	p.register(attributes("d"), "a")
	h.deregister(p, attributes("d"), "a")
	h.state(nil)
	if m := h.hears(p, message.Acknowledgement, codes.Content, "a", -1); string(m.Payload) != "{}" {
		t.Fatalf("%s came", m)
	}
	s.Link.PushAttributes(nil, []string{"b"})
	h.reported(p, s)
	h.happened(transporttest.Disconnect, 0)
	h.waitFor("one observes", func(st coap.Stats) bool { return st.Observers == 1 })
}

// TestRefusedState: the engine does not tell the state. There is no observation then.
func TestRefusedState(t *testing.T) {
	h := newHouse(t, nil)
	h.engine.Deny(transporttest.RequestAttributes, transports.ErrBusy)
	p := h.peer()
	p.register(attributes("d"), "a")
	h.hears(p, message.Acknowledgement, codes.ServiceUnavailable, "a", -1)
	h.engine.Next(t, transporttest.Disconnect)
	h.pong(p)
}

// TestCallsLostAttributesKept: the device gives up its calls, and what is owed to who observes its attributes comes all the same.
func TestCallsLostAttributesKept(t *testing.T) {
	h := newHouse(t, nil)
	p, s := h.observer("d")
	h.withAttributes(p, "d")
	one, two := command(1), command(2)
	s.Link.Send(one)
	m := h.hears(p, message.Confirmable, codes.Content, "c", 1)
	s.Link.Send(two)
	s.Link.PushAttributes(nil, []string{"b"})
	p.rst(m.MessageID)
	p.ack(h.hears(p, message.Confirmable, codes.Content, "a", 1).MessageID)
	h.fails(one, "coap_reset")
	h.fails(two, "connection_gone")
	if ev := h.engine.Next(t, transporttest.Unsubscribe); ev.Session != s.ID {
		t.Fatalf("session %s is unsubscribed, want %s", ev.Session, s.ID)
	}
	h.happened(transporttest.Disconnect, 0)
	p.observe(t, calls("d"), "c2") // in the same session
	h.happened(transporttest.Connect, 1)
	s.Link.Send(command(3))
	p.ack(h.hears(p, message.Confirmable, codes.Content, "c2", 1).MessageID)
	if st := h.server.Stats(); st.MessagesDropped != 0 {
		t.Errorf("%+v", st)
	}
}
