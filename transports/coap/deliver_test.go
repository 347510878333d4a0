package coap_test

import (
	"testing"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"

	"callchain/transports/coap"
	"callchain/transports/transporttest"
)

// TestRepeatedUntilAcknowledged: a command comes again, later each time, until the device's ACK; that proves it once, and nothing
// else does.
func TestRepeatedUntilAcknowledged(t *testing.T) {
	const first = 100 * time.Millisecond
	h := newHouse(t, func(c *coap.Config) { c.AckTimeout = first })
	p, s := h.observer("deaf")
	c, next := command(1), command(2)
	s.Link.Send(c)
	s.Link.Send(next)
	m := h.hears(p, message.Confirmable, codes.Content, "c", 1)
	began := time.Now()
	if want := `{"id":1,"method":"m","params":null}`; string(m.Payload) != want || m.number(message.ContentFormat) != 50 {
		t.Fatalf("%s came, want %s", m, want)
	}
	for range 3 {
		p.ack(m.MessageID + 1) // proves nothing: it is for no message of the server
		p.ack(m.MessageID - 1)
		if again := p.hear(t); !same(m, again) {
			t.Fatalf("%s came after %s", again, m)
		}
	}
	// The pauses are 1, 2 and 4 times the first one; the first packet may have been read late.
	if took := time.Since(began); took < 6*first {
		t.Errorf("three repetitions took %s, want %s at least", took, 7*first)
	}
	p.passOver(m) // the fourth
	h.reported(p, s)
	h.happened(transporttest.Acknowledged, 0)
	p.ack(m.MessageID)
	h.acknowledged(c)
	m2 := h.hears(p, message.Confirmable, codes.Content, "c", 2)
	p.ack(m.MessageID)
	if again := p.hear(t); !same(m2, again) {
		t.Fatalf("%s came after %s", again, m2)
	}
	p.passOver(m2)
	h.reported(p, s)
	h.happened(transporttest.Acknowledged, 1)
	p.ack(m2.MessageID)
	h.acknowledged(next)
	h.happened(transporttest.Written, 2)
	h.happened(transporttest.Failed, 2) // both of reported
	if st := h.server.Stats(); st.Retransmissions < 3 || st.Unacknowledged != 0 || st.CommandsWritten != 2 {
		t.Errorf("%+v", st)
	}
}

// TestNotArrived: how a notification ends that the device does not acknowledge. The observation is lost, and the session with it.
func TestNotArrived(t *testing.T) {
	for _, c := range []struct {
		name, reason, why string
		kind              message.Type // of the registration
		packets           int
		refuse            bool
	}{
		{"silence", "coap_no_ack", "the device does not answer", message.Confirmable, 3, false},
		{"a RST", "coap_reset", "the device cancelled its observation", message.Confirmable, 1, true},
		{"a RST to what asks for no ACK", "coap_reset", "the device cancelled its observation", message.NonConfirmable, 1, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			limits := impatient
			if c.refuse {
				limits = nil
			}
			h := newHouse(t, limits)
			p := h.peer()
			m := p.request(codes.GET, calls("d"), "", opt(message.Observe, 0))
			m.Type = c.kind
			p.send(m)
			a := p.hear(t)
			answer := message.Acknowledgement
			if c.kind == message.NonConfirmable {
				answer = c.kind
			}
			if a.Code != codes.Valid || a.Type != answer || a.number(message.Observe) != 0 || len(a.Payload) > 0 {
				t.Fatalf("registering is answered %s", a)
			}
			s := h.engine.Session(t, "d")
			one, waiting := command(1), command(2)
			s.Link.Send(one)
			if c.kind == message.Confirmable {
				s.Link.Send(waiting)
			}
			for range c.packets {
				n := h.hears(p, c.kind, codes.Content, string(m.Token), 1)
				if c.refuse {
					p.rst(n.MessageID)
				}
			}
			if ev := h.engine.Next(t, transporttest.Written); ev.Call != one.Call || ev.Ack != (c.kind == message.Confirmable) {
				t.Fatalf("written %+v", ev)
			}
			h.fails(one, c.reason)
			if c.kind == message.Confirmable {
				h.fails(waiting, "connection_gone")
			}
			h.ends(s, c.why)
			h.pong(p) // nothing more was sent
			h.happened(transporttest.Acknowledged, 0)
			h.waitFor("nobody observes", func(st coap.Stats) bool { return st.Observers == 0 && st.Sessions == 0 })
		})
	}
}

// TestWrittenIsAllThereIs: who registers without asking for confirmation gets commands in the same way, one after the other, and all
// that is known is that they left.
func TestWrittenIsAllThereIs(t *testing.T) {
	h := newHouse(t, nil)
	p := h.peer()
	m := p.request(codes.GET, calls("loose"), "", opt(message.Observe, 0))
	m.Type = message.NonConfirmable
	p.send(m)
	p.hear(t)
	s := h.engine.Session(t, "loose")
	for i := range int32(20) {
		s.Link.Send(command(i))
	}
	for i := range int64(20) {
		n := h.hears(p, message.NonConfirmable, codes.Content, string(m.Token), i+1)
		p.ack(n.MessageID) // nobody asked
	}
	h.reported(p, s)
	h.happened(transporttest.Written, 20)
	h.happened(transporttest.Acknowledged, 0)
}

// TestDeadlineEndsRepetition: a command is not sent after its deadline; the device goes on observing.
func TestDeadlineEndsRepetition(t *testing.T) {
	h := newHouse(t, eager)
	p, s := h.observer("slow")
	c := command(1)
	c.Deadline = time.Now().Add(50 * time.Millisecond)
	s.Link.Send(c)
	m := h.hears(p, message.Confirmable, codes.Content, "c", 1)
	h.waitFor("it is given up", func(st coap.Stats) bool { return st.Unacknowledged == 1 })
	repeated := int(h.server.Stats().Retransmissions)
	for range repeated {
		if again := p.hear(t); !same(m, again) {
			t.Fatalf("%s came after %s", again, m)
		}
	}
	s.Link.Send(command(2))
	n := h.hears(p, message.Confirmable, codes.Content, "c", 2)
	p.ack(m.MessageID)
	p.ack(n.MessageID)
	if ev := h.engine.Next(t, transporttest.Acknowledged); ev.Call == c.Call {
		t.Fatal("what was given up is acknowledged")
	}
	h.happened(transporttest.Failed, 0)
	h.happened(transporttest.Disconnect, 0)
}

// TestDeadlinesDoNotKeepTheDead: a device that lets one deadline after the other pass is lost as one is that never answers.
func TestDeadlinesDoNotKeepTheDead(t *testing.T) {
	h := newHouse(t, func(c *coap.Config) { c.AckTimeout, c.MaxRetransmit = 10*time.Millisecond, 1 })
	_, s := h.observer("dead")
	for i := int32(0); i < 200 && len(h.engine.Events(transporttest.Disconnect)) == 0; i++ {
		c := command(i)
		c.Deadline = time.Now().Add(5 * time.Millisecond)
		s.Link.Send(c)
		h.engine.Until(t, "the command has ended", func(all []transporttest.Event) bool {
			n := 0
			for _, ev := range all {
				if ev.Kind == transporttest.Failed || ev.Kind == transporttest.Written || ev.Kind == transporttest.Disconnect {
					n++
				}
			}
			return n > int(i)
		})
	}
	h.ends(s, "the device does not answer")
}

// TestAnswerIsProof: a device that answers a command has it; the command is not sent again, though its ACK is missing.
func TestAnswerIsProof(t *testing.T) {
	h := newHouse(t, func(c *coap.Config) { c.AckTimeout = 100 * time.Millisecond })
	p, s := h.observer("terse")
	next := command(8)
	s.Link.Send(command(7))
	s.Link.Send(next)
	first := h.hears(p, message.Confirmable, codes.Content, "c", 1)
	reply := p.request(codes.POST, calls("terse")+"/7", `{"ok":1}`)
	p.send(reply)
	answered := false
	var second packet
	for times := 0; times < 3 || !answered; { // the answer and the next command, in any order; the first would be repeated meanwhile, too
		switch m := p.hear(t); {
		case m.Code == codes.Created:
			answered = true
		case m.number(message.Observe) == 2:
			second = m
			times++
		case times == 0 && same(first, m): // the answer was on its way
		default:
			t.Fatalf("%s came", m)
		}
	}
	p.passOver(second)
	p.ack(second.MessageID)
	h.acknowledged(next)
	if ev := h.engine.Next(t, transporttest.Reply); ev.Number != 7 || string(ev.Payload) != `{"ok":1}` || ev.Session != s.ID {
		t.Fatalf("reply %+v", ev)
	}
	h.reported(p, s)
	h.happened(transporttest.Acknowledged, 1)
}

// TestNewAttemptTakesThePlace: the engine sends a call again that was not acknowledged. The old attempt is repeated no more.
func TestNewAttemptTakesThePlace(t *testing.T) {
	h := newHouse(t, func(c *coap.Config) { c.AckTimeout = 200 * time.Millisecond })
	p, s := h.observer("again")
	c := command(1)
	s.Link.Send(c)
	m := h.hears(p, message.Confirmable, codes.Content, "c", 1)
	c.Attempt = 2
	s.Link.Send(c)
	n := h.hears(p, message.Confirmable, codes.Content, "c", 2)
	p.ack(m.MessageID) // of the old one
	if again := p.hear(t); !same(n, again) {
		t.Fatalf("%s came after %s", again, n)
	}
	p.passOver(n)
	h.reported(p, s)
	h.happened(transporttest.Acknowledged, 0)
	p.ack(n.MessageID)
	h.acknowledged(c)
	for _, attempt := range []int32{1, 2} {
		if ev := h.engine.Next(t, transporttest.Written); ev.Number != attempt {
			t.Fatalf("attempt %d was written, want %d", ev.Number, attempt)
		}
	}
}

// TestForgedPacketsEndNothing: what cannot be decoded, from the address of a device, does not end what it observes.
func TestForgedPacketsEndNothing(t *testing.T) {
	h := newHouse(t, nil)
	p, s := h.observer("victim")
	for _, b := range [][]byte{{}, {0x40}, {0xff, 1, 2, 3, 4}, {0x4f, 1, 0, 1}, {0x40, 1, 0, 1, 0xf0}, {0x00, 0, 0, 0}} {
		p.raw(b)
	}
	c := command(1)
	s.Link.Send(c)
	m := h.hears(p, message.Confirmable, codes.Content, "c", 1)
	p.raw([]byte{0x40})
	p.ack(m.MessageID)
	h.acknowledged(c)
	p.raw([]byte{0x40})
	h.answers(p, p.request(codes.POST, calls("victim")+"/1", "{}"), codes.Created, "")
	if ev := h.engine.Next(t, transporttest.Reply); ev.Session != s.ID {
		t.Fatalf("the reply came in session %s, want %s", ev.Session, s.ID)
	}
	h.happened(transporttest.Disconnect, 0)
	if st := h.server.Stats(); st.Malformed == 0 || st.Endpoints != 1 {
		t.Errorf("%+v", st)
	}
}

// TestProbe: a device that is silent for long is asked for a sign of life, and lost if it gives none.
func TestProbe(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(c *coap.Config) {
		c.AckTimeout, c.MaxRetransmit = time.Second, 2
		c.ProbeAfter = time.Second
	})
	p, s := h.observer("sleepy")
	ping := h.hears(p, message.Confirmable, codes.Empty, "", -1)
	p.rst(ping.MessageID)
	p.passOver(ping)
	h.reported(p, s)
	h.happened(transporttest.Disconnect, 0)
	h.hears(p, message.Confirmable, codes.Empty, "", -1)
	h.ends(s, "the device does not answer")
}
