package transporttest

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"callchain/transports"
)

// replyRacesReport: the device answers at once, the acknowledgement after or before it; the engine hears first that the command
// was written, though it is slow to take notice of that at the beginning, and whatever the order in which goroutines run.
func replyRacesReport(t *testing.T, w world) {
	const calls, slowly = 300, 10
	d, s := w.ready(t, "racer")
	go func() {
		for i := range calls {
			r, ok := <-d.Commands()
			if !ok {
				return // the test fails by what is missing
			}
			if i%2 == 0 {
				d.Ack(r)
			}
			d.Reply(r.Wire, []byte("{}"))
			if i%2 == 1 {
				d.Ack(r)
			}
		}
	}()
	wires := map[uuid.UUID]int32{}
	for i := range int32(calls) {
		c := command(i)
		wires[c.Call] = i
		if i < slowly { // one after the other
			w.engine.Slow(Written, 10*time.Millisecond)
			s.Link.Send(c)
			w.engine.Until(t, "a reply", func(all []Event) bool { return count(all, Reply) > int(i) && count(all, Written) > int(i) })
			continue
		}
		w.engine.Slow(Written, 0)
		s.Link.Send(c)
	}
	w.engine.Until(t, "all replies", func(all []Event) bool { return count(all, Reply) == calls })
	written := map[int32]bool{}
	for _, ev := range w.engine.Events(Written, Acknowledged, Reply) {
		switch wire := wires[ev.Call]; ev.Kind {
		case Written:
			written[wire] = true
		case Acknowledged:
			if !written[wire] {
				t.Fatalf("call %d was acknowledged before it was reported written", wire)
			}
		default:
			if !written[ev.Number] {
				t.Fatalf("call %d was answered before it was reported written", ev.Number)
			}
		}
	}
}

func count(events []Event, k Kind) int {
	n := 0
	for _, ev := range events {
		if ev.Kind == k {
			n++
		}
	}
	return n
}

func answersTwice(t *testing.T, w world) {
	d, s := w.ready(t, "twice")
	s.Link.Send(command(7))
	r := receive(t, d)
	d.Ack(r)
	settled(t, d.Reply(r.Wire, []byte(`{"n":1}`)))
	settled(t, d.Reply(r.Wire, []byte(`{"n":2}`)))
	for _, want := range []string{`{"n":1}`, `{"n":2}`} {
		if ev := w.engine.Next(t, Reply); ev.Number != 7 || string(ev.Payload) != want {
			t.Fatalf("reply %d %s, want 7 %s", ev.Number, ev.Payload, want)
		}
	}
	s.Link.Send(command(8))
	if r := receive(t, d); r.Wire != 8 {
		t.Fatalf("after two answers command %d came, want 8", r.Wire)
	}
}

// takeover: the older session has commands that its device has not acknowledged and more behind them. It ends, each of its
// commands was either reported written or failed, and the newer session is untouched.
func takeover(t *testing.T, w world) {
	old, s := w.ready(t, "same")
	if w.features.Stalls {
		old.Stall()
	}
	sent := map[uuid.UUID]bool{}
	for i := range int32(1000) {
		c := command(i)
		c.Params = slices.Concat([]byte(`"`), bytes.Repeat([]byte("x"), 20_000), []byte(`"`))
		sent[c.Call] = true
		s.Link.Send(c)
	}
	fresh, newer := w.ready(t, "same")
	if w.features.Stalls {
		old.Resume()
	}
	next(t, closed(old.Gone()), "end of the older session")
	if ev := w.engine.Next(t, Disconnect); ev.Session != s.ID || ev.Text != string(transports.ReasonTakenOver) {
		t.Fatalf("session %s ended for %q, want %s for %s", ev.Session, ev.Text, s.ID, transports.ReasonTakenOver)
	}
	newer.Link.Send(command(5000))
	if r := receive(t, fresh); r.Wire != 5000 {
		t.Fatalf("the newer session got command %d, want 5000", r.Wire)
	}
	w.engine.Until(t, "a report for each command", func(all []Event) bool {
		return reported(all, sent) >= len(sent)-unreported
	})
	if fate := reported(w.engine.Events(), sent); fate > len(sent) {
		t.Fatalf("%d reports for %d commands", fate, len(sent))
	}
}

// unreported is how many commands may be under way, neither known to have left nor known not to have, when a connection ends:
// those of one write.
const unreported = 8

// reported counts the commands that were written or failed.
func reported(all []Event, sent map[uuid.UUID]bool) int {
	n := 0
	for _, ev := range all {
		if (ev.Kind == Written || ev.Kind == Failed) && sent[ev.Call] {
			n++
		}
	}
	return n
}

func closed(done <-chan struct{}) <-chan bool {
	out := make(chan bool, 1)
	go func() {
		<-done
		out <- true
	}()
	return out
}

// stalled: one device does not read. Its queue fills, further commands are refused at once, and another device's calls go on.
func stalled(t *testing.T, w world) {
	bad, badSession := w.ready(t, "staller")
	good, goodSession := w.ready(t, "healthy")
	bad.Stall()
	defer bad.Resume()
	big := slices.Concat([]byte(`"`), bytes.Repeat([]byte("x"), 200_000), []byte(`"`))
	refused := false
	for i := int32(0); !refused && i < 2000; i++ {
		c := command(i)
		c.Params = big
		began := time.Now()
		badSession.Link.Send(c)
		if took := time.Since(began); took > 2*time.Second {
			t.Fatalf("Send to a stalled device took %s", took)
		}
		goodSession.Link.Send(command(i))
		r := receive(t, good)
		good.Ack(r)
		settled(t, good.Reply(r.Wire, []byte("{}")))
		refused = len(w.engine.Events(Failed)) > 0
	}
	if ev := w.engine.Next(t, Failed); ev.Session != badSession.ID || ev.Text != transports.FailedQueueFull {
		t.Fatalf("a command failed with %q in session %s, want %q in that of the stalled device", ev.Text, ev.Session, transports.FailedQueueFull)
	}
}

func pastDeadline(t *testing.T, w world) {
	d, s := w.ready(t, "late")
	late := command(1)
	late.Deadline = time.Now().Add(-time.Millisecond)
	s.Link.Send(late)
	if ev := w.engine.Next(t, Failed); ev.Call != late.Call || ev.Text != transports.FailedExpired {
		t.Fatalf("call %s failed with %q", ev.Call, ev.Text)
	}
	s.Link.Send(command(2))
	if r := receive(t, d); r.Wire != 2 {
		t.Fatalf("command %d came, want 2 alone", r.Wire)
	}
}

func staleEpoch(t *testing.T, w world) {
	d, s := w.ready(t, "fenced")
	fresh, stale := command(1), command(2)
	fresh.Epoch, stale.Epoch = 5, 4
	s.Link.Send(fresh)
	s.Link.Send(stale)
	if ev := w.engine.Next(t, Failed); ev.Call != stale.Call || ev.Text != transports.FailedStale {
		t.Fatalf("call %s failed with %q", ev.Call, ev.Text)
	}
	if r := receive(t, d); r.Wire != 1 {
		t.Fatalf("command %d came, want 1", r.Wire)
	}
}

// evidence: written comes with the promise of an acknowledgement, and the acknowledgement only after the device's.
func evidence(t *testing.T, w world) {
	d, s := w.ready(t, "honest")
	c := command(3)
	c.Attempt = 2
	s.Link.Send(c)
	r := receive(t, d)
	byProtocol := w.features.Evidence != transports.EvidenceWritten
	ev := w.engine.Next(t, Written)
	if ev.Call != c.Call || ev.Session != s.ID || ev.Number != 2 || ev.Ack != byProtocol {
		t.Fatalf("written %+v, want call %s, attempt 2, ack %v", ev, c.Call, byProtocol)
	}
	if !byProtocol {
		return
	}
	if early := w.engine.Events(Acknowledged); len(early) > 0 && !w.features.ProvesItself {
		t.Fatalf("acknowledged before the device did: %+v", early)
	}
	d.Ack(r)
	ack := w.engine.Next(t, Acknowledged)
	if ack.Call != c.Call || ack.Text != w.features.Evidence || ack.At.Before(ev.At.Add(-time.Second)) {
		t.Fatalf("acknowledged %+v, want call %s with %s", ack, c.Call, w.features.Evidence)
	}
}

func commandsInOrder(t *testing.T, w world) {
	d, s := w.ready(t, "orderly")
	const calls = 100
	go func() {
		for i := range int32(calls) {
			c := command(i)
			c.Method, c.Params = `say "<hi>"`, []byte("{\n \"a\": [1.50, \"é\"]}")
			if i%2 == 1 {
				c.Params = nil
			}
			s.Link.Send(c)
		}
	}()
	for i := range int32(calls) {
		r := receive(t, d)
		d.Ack(r)
		want := `{"method":"say \"<hi>\"","params":{"a":[1.50,"é"]}}`
		if i%2 == 1 {
			want = `{"method":"say \"<hi>\"","params":null}`
		}
		if r.Wire != i || string(r.Payload) != want {
			t.Fatalf("command %d %s, want %d %s", r.Wire, r.Payload, i, want)
		}
	}
	w.engine.Until(t, fmt.Sprint(calls, " written"), func(all []Event) bool { return count(all, Written) == calls })
}
