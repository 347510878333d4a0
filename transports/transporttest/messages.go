package transporttest

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"callchain/transports"
)

// lostWhileSettling: the device is gone before the engine has made up its mind; settling then harms nothing.
func lostWhileSettling(t *testing.T, w world) {
	w.engine.Hold(Telemetry)
	d := w.connect(t, "unlucky")
	d.Telemetry([]byte(`{"a":1}`))
	held := w.engine.Next(t, Telemetry)
	d.Drop()
	if ev := w.engine.Next(t, Disconnect); ev.Session != held.Session {
		t.Fatalf("session %s ended, want %s", ev.Session, held.Session)
	}
	held.Settle(nil)
	w.engine.Release(Telemetry)
	again := w.connect(t, "unlucky")
	settled(t, again.Telemetry([]byte(`{"a":1}`)))
}

func acknowledgedWhenSettled(t *testing.T, w world) {
	w.engine.Hold(Telemetry)
	d := w.connect(t, "patient")
	acked := d.Telemetry([]byte(`{"a":1}`))
	held := w.engine.Next(t, Telemetry)
	settled(t, d.Reply(99, []byte("{}"))) // a later message that is settled: the first had its chance
	if !open(acked) {
		t.Fatal("telemetry was acknowledged before the engine settled it")
	}
	if string(held.Payload) != `{"a":1}` {
		t.Fatalf("payload %s", held.Payload)
	}
	held.Settle(nil)
	settled(t, acked)
}

func busy(t *testing.T, w world) {
	w.engine.Deny(Telemetry, transports.ErrBusy)
	d := w.connect(t, "refused")
	acked := d.Telemetry([]byte(`{"a":1}`))
	w.engine.Next(t, Telemetry)
	settled(t, d.Reply(99, []byte("{}")))
	select {
	case err := <-acked:
		if err == nil {
			t.Fatal("telemetry was acknowledged though the engine was too busy")
		}
	default:
	}
	w.engine.Deny(Telemetry, nil)
	settled(t, d.Telemetry([]byte(`{"a":1}`)))
}

func replyWhenSettled(t *testing.T, w world) {
	w.engine.Hold(Reply)
	d, s := w.ready(t, "careful")
	s.Link.Send(command(4))
	r := receive(t, d)
	d.Ack(r)
	raw := []byte{'{', 0xff, 0x00} // not UTF-8 and not JSON: the engine gets the bytes
	if w.features.ReplyObjects {
		raw = []byte("{ \n}")
	}
	acked := d.Reply(r.Wire, raw)
	held := w.engine.Next(t, Reply)
	if !bytes.Equal(held.Payload, raw) {
		t.Fatalf("payload %q, want %q", held.Payload, raw)
	}
	s.Link.Send(command(5))
	receive(t, d)
	if !open(acked) {
		t.Fatal("a reply was acknowledged before the engine settled it")
	}
	held.Settle(nil)
	settled(t, acked)
}

func subscribedWhenSettled(t *testing.T, w world) {
	w.engine.Hold(Subscribe)
	d := w.connect(t, "eager")
	subscribed := make(chan error, 1)
	go func() { subscribed <- d.Subscribe() }()
	held := w.engine.Next(t, Subscribe)
	settled(t, d.Reply(1, []byte("{}")))
	if !open(subscribed) {
		t.Fatal("subscribing returned before the engine settled it")
	}
	held.Settle(nil)
	settled(t, subscribed)
}

func oversize(t *testing.T, w world) {
	d := w.connect(t, "verbose")
	payload := slices.Concat([]byte(`{"a":"`), bytes.Repeat([]byte("x"), w.features.PayloadMax), []byte(`"}`))
	acked := d.Telemetry(payload)
	other, _ := w.ready(t, "modest")
	settled(t, other.Reply(1, []byte("{}")))
	select {
	case err := <-acked:
		if err == nil {
			t.Fatal("an oversize payload was acknowledged")
		}
	case <-d.Gone():
	}
	if got := w.engine.Events(Telemetry); len(got) > 0 {
		t.Fatalf("an oversize payload of %d bytes was handed on", len(got[0].Payload))
	}
}

func foreign(t *testing.T, w world) {
	d := w.connect(t, "lost")
	before := len(w.engine.Events())
	lived := d.Foreign()
	for _, ev := range w.engine.Events()[before:] {
		if ev.Kind != Disconnect {
			t.Fatalf("a foreign address reached the engine: %+v", ev)
		}
	}
	if lived {
		settled(t, d.Reply(1, []byte("{}")))
	}
}

func unknownCredentials(t *testing.T, w world) {
	if _, err := w.dial("unknown"); err == nil {
		t.Fatal("unknown credentials were accepted")
	}
	if got := w.engine.Events(); len(got) > 0 {
		t.Fatalf("the engine heard of it: %+v", got)
	}
}

func refusedSession(t *testing.T, w world) {
	for _, err := range []error{transports.ErrBusy, transports.ErrRefused} {
		w.engine.Deny(Connect, err)
		if d, dialErr := w.dial("barred"); dialErr == nil && d.Subscribe() == nil && w.features.Confirms {
			t.Fatalf("a session is open that the engine refused with %v", err)
		}
		w.engine.Next(t, Connect)
		if got := w.engine.Events(Subscribe); len(got) > 0 {
			t.Fatalf("a session subscribes that the engine refused with %v", err)
		}
	}
	w.engine.Deny(Connect, nil)
	w.ready(t, "barred")
}

func endsOnce(t *testing.T, w world) {
	for _, c := range []struct {
		name string
		end  func(Device, transports.Session)
	}{
		{"dropped", func(d Device, _ transports.Session) { d.Drop() }},
		{"closed", func(_ Device, s transports.Session) { s.Link.Close(transports.ReasonDeviceDeleted) }},
		{"both", func(d Device, s transports.Session) {
			s.Link.Close(transports.ReasonCredentials)
			s.Link.Close(transports.ReasonShutdown)
			d.Drop()
		}},
	} {
		d, s := w.ready(t, c.name)
		c.end(d, s)
		next(t, closed(d.Gone()), "end of the connection")
		if ev := w.engine.Next(t, Disconnect); ev.Session != s.ID {
			t.Fatalf("%s: session %s ended, want %s", c.name, ev.Session, s.ID)
		}
		late := command(1)
		s.Link.Send(late)
		if ev := w.engine.Next(t, Failed); ev.Call != late.Call || ev.Text != transports.FailedGone {
			t.Fatalf("%s: a command after the end failed with %q", c.name, ev.Text)
		}
	}
	w.ready(t, "barrier")
	if n := len(w.engine.Events(Disconnect)); n != 3 {
		t.Fatalf("%d ends of three sessions", n)
	}
}

func clientCalls(t *testing.T, w world) {
	d, _ := w.ready(t, "caller")
	acked := d.Call(55, "getTime", `{"zone":"UTC"}`)
	ev := w.engine.Next(t, Call)
	want, told := w.number(55, ev)
	if ev.Number != want || ev.Text != "getTime" || string(ev.Payload) != `{"zone":"UTC"}` {
		t.Fatalf("call %d %s %s", ev.Number, ev.Text, ev.Payload)
	}
	if w.features.Numbers {
		settled(t, acked) // the answer comes later and names the call
	}
	w.engine.Link(t, ev.Session).Respond(transports.Response{Request: want, Body: []byte(`{"time":1}`)})
	if a := next(t, d.Answers(), "answer"); a.Request != told || string(a.Payload) != `{"time":1}` {
		t.Fatalf("answer %d %s", a.Request, a.Payload)
	}
	if !w.features.Numbers {
		settled(t, acked) // the answer is the acknowledgement
	}
}

// number is how a request of the device reaches the engine, and what the double says that its answer belongs to. Where the transport
// numbers, the engine goes by the number that came, and the double has none.
func (w world) number(own int32, came Event) (want, told int32) {
	if w.features.Numbers {
		return own, own
	}
	return came.Number, 0
}

func attributes(t *testing.T, w world) {
	d, _ := w.ready(t, "curious")
	acked := d.AskAttributes(6, "a,b", "c")
	ev := w.engine.Next(t, RequestAttributes)
	want, told := w.number(6, ev)
	if ev.Number != want || ev.Text != "[a b] [c]" {
		t.Fatalf("asked %d for %s", ev.Number, ev.Text)
	}
	w.engine.Link(t, ev.Session).AnswerAttributes(transports.AttributesAnswer{
		Request: want, Client: map[string][]byte{"b": []byte("2"), "a": []byte(`"x"`)}, Shared: map[string][]byte{"c": []byte("true")},
	})
	body := `{"client":{"a":"x","b":2},"shared":{"c":true}}`
	if a := next(t, d.Answers(), "answer"); a.Request != told || string(a.Payload) != body {
		t.Fatalf("answer %d %s, want %d %s", a.Request, a.Payload, told, body)
	}
	settled(t, acked)
}

func updates(t *testing.T, w world) {
	d, s := w.ready(t, "told")
	for _, c := range []struct {
		want string
		push func()
	}{
		{`{"a":1,"b":2}`, func() { s.Link.PushAttributes(map[string][]byte{"b": []byte("2"), "a": []byte("1")}, nil) }},
		{`{"deleted":["a","b"]}`, func() { s.Link.PushAttributes(nil, []string{"a", "b"}) }},
	} {
		w.pushed(t, d, c.want, c.push)
	}
}

// pushed waits for a change that is pushed. A device that polls misses what changes between its polls, as with ThingsBoard: there the
// change is made until the device has heard of it.
func (w world) pushed(t testing.TB, d Device, want string, push func()) {
	t.Helper()
	deadline := time.After(patience)
	for {
		push()
		again := time.After(patience)
		if !w.features.Connections {
			again = time.After(20 * time.Millisecond)
		}
		for wait := true; wait; {
			select {
			case got := <-d.Updates():
				if string(got) == want {
					return
				}
				if w.features.Connections {
					t.Fatalf("update %s, want %s", got, want)
				}
			case <-again:
				wait = false
			case <-deadline:
				t.Fatalf("no update %s came", want)
			}
		}
	}
}
