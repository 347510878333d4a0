package rpc_test

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"callchain/engine/rpc"

	"github.com/cockroachdb/datadriven"
	"github.com/google/uuid"
)

// TestRuns plays the scripts in testdata/runs: commands, and below each the events that follow, what is sent to the device,
// and what is open then. Run with -rewrite to record what the code does now, and read the difference.
//
// A command's first word is its verb; c1, c2, … name calls, A, B, … sessions, at=… is the time since the start. The verbs are
// the cases of (*script).action, and:
//
//	settings …                          the profile's rules
//	call c1 …                           request and dispatch, as the default chain does
//	tick at=…                           every deadline up to this time, in order
//	crash                               the memory is lost and rebuilt from the stored events; then "recover"
//	next-wire N                         the counter of wire ids
//	record c1                           ThingsBoard's JSON of the call
func TestRuns(t *testing.T) {
	datadriven.Walk(t, "testdata/runs", func(t *testing.T, path string) {
		s := &script{world: newWorld(rpc.DefaultSettings()), names: map[uuid.UUID]string{uuid.Nil: "none"}}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return s.play(t, d) })
	})
}

type script struct {
	world
	names map[uuid.UUID]string
	out   strings.Builder
}

func (s *script) play(t *testing.T, d *datadriven.TestData) string {
	s.out.Reset()
	a := &args{t: t, d: d, script: s}
	if a.has("at") {
		at := began.Add(a.duration("at", 0))
		if at < s.now {
			d.Fatalf(t, "time goes backwards")
		}
		if d.Cmd == "tick" {
			s.tickUntil(t, at)
		}
		s.now = at
	}
	switch d.Cmd {
	case "settings":
		s.device.Settings = a.settings()
		s.folded.Settings = s.device.Settings
		return "ok\n"
	case "next-wire":
		s.device.NextWire = int32(a.number(d.CmdArgs[0].Key))
		s.folded.NextWire = s.device.NextWire
		return "ok\n"
	case "tick":
	case "crash":
		s.crash()
	case "call":
		s.act(t, a.request())
		s.act(t, a.dispatch())
	case "record":
		return s.record(a.id())
	default:
		s.act(t, s.action(d.Cmd, a))
	}
	s.state()
	return s.out.String()
}

func (s *script) tickUntil(t *testing.T, at rpc.Instant) {
	for {
		due, c := s.deadline()
		if c == nil || due > at {
			return
		}
		s.now = max(s.now, due)
		fmt.Fprintf(&s.out, "at %s: tick %s\n", s.since(s.now), s.names[c.ID])
		s.act(t, rpc.Tick{Call: c.ID})
	}
}

func (s *script) action(verb string, a *args) rpc.Action {
	switch verb {
	case "request":
		return a.request()
	case "dispatch":
		return a.dispatch()
	case "reject":
		return rpc.Reject{Call: a.id(), Code: rpc.CodeNotDispatched, Detail: a.text("why", "")}
	case "written":
		call := a.id()
		attempt := 1
		if c := s.device.Find(call); c != nil {
			attempt = int(c.Attempt)
		}
		return rpc.Written{Session: a.session(), Call: call, Attempt: int16(a.int("attempt", attempt)), Ack: a.has("ack")}
	case "ack":
		return rpc.Acknowledged{Call: a.id(), Evidence: a.text("evidence", "puback")}
	case "send-failed":
		return rpc.SendFailed{Session: a.session(), Call: a.id(), Detail: a.text("why", "queue_full"), Permanent: a.has("permanent")}
	case "reply":
		wire := int32(a.int("wire", 0))
		return rpc.Reply{Wire: wire, Response: rpc.NewPayload([]byte(a.d.Input)), Late: s.latest(wire)}
	case "answer":
		return rpc.Answer{Session: a.session(), Request: int32(a.int("id", 0)), Body: rpc.NewPayload([]byte(a.d.Input))}
	case "cancel":
		return rpc.Cancel{Call: a.id()}
	case "remove":
		return rpc.Remove{Call: a.id(), Ended: a.has("ended")}
	case "connect":
		c := rpc.Connect{Session: a.id(), Transport: "mqtt", Remote: "192.0.2.7:4711"}
		if a.has("since") {
			c.Since = began.Add(a.duration("since", 0))
		}
		return c
	case "subscribe":
		return rpc.Subscribe{Session: a.id(), Once: a.has("once"), Resumed: a.has("resumed")}
	case "unsubscribe":
		return rpc.Unsubscribe{Session: a.id()}
	case "disconnect":
		return rpc.Disconnect{Session: a.id(), Why: a.text("why", "closed")}
	case "recover":
		return rpc.Recover{}
	}
	a.d.Fatalf(a.t, "unknown verb %q", verb)
	return nil
}

// act puts one command to the device and writes down what follows.
func (s *script) act(t *testing.T, do rpc.Action) {
	t.Helper()
	before := s.device
	events, refusal, broken := s.do(do)
	if broken != nil {
		t.Fatal(broken)
	}
	var r *rpc.Refusal
	if errors.As(refusal, &r) {
		fmt.Fprintf(&s.out, "refused: %s\n", s.readable(r.Error()))
	}
	for _, e := range events {
		fmt.Fprintf(&s.out, "%s\n", s.event(e))
	}
	for _, o := range rpc.Deliveries(before, s.device) {
		fmt.Fprintf(&s.out, "> send %s wire=%d attempt=%d over %s\n", s.names[o.Call.ID], o.Call.Wire, o.Call.Attempt, s.names[o.Session.ID])
	}
}

// event is a line: the stream, the fact and its stored form.
func (s *script) event(e rpc.Event) string {
	data, err := rpc.AppendData(nil, e.Fact)
	if err != nil {
		return err.Error()
	}
	name := "device"
	if e.Call != uuid.Nil {
		name = s.names[e.Call]
	}
	line := fmt.Sprintf("%s %s", name, e.Fact.Name())
	if string(data) != "{}" {
		line += " " + s.readable(string(data))
	}
	return line
}

// content is the digest of what was asked: the same in no two versions of a script, and of no interest to its reader.
var content = regexp.MustCompile(`,"content":"[^"]*"`)

// readable puts the short names in the place of ids, and times since the start in the place of instants.
func (s *script) readable(text string) string {
	for id, name := range s.names {
		text = strings.ReplaceAll(text, id.String(), name)
	}
	text = content.ReplaceAllString(text, "")
	for _, field := range []string{`"expires":`, `"retryAt":`, `"since":`} {
		i := strings.Index(text, field)
		if i < 0 {
			continue
		}
		digits := text[i+len(field):]
		digits = digits[:strings.IndexFunc(digits+"}", func(r rune) bool { return r < '0' || r > '9' })]
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil {
			continue // no number: shown as it is
		}
		text = strings.Replace(text, field+digits, field+s.since(rpc.Instant(n)), 1)
	}
	return text
}

func (s *script) since(i rpc.Instant) string {
	return (time.Duration(i-began) * time.Microsecond).String()
}

// state writes what is open: phase, the status that ThingsBoard's API shows, the next deadline.
func (s *script) state() {
	for _, c := range openCalls(s.device) {
		fmt.Fprintf(&s.out, "= %s %s, shown %s, tick at %s\n", s.names[c.ID], c.Phase, c.Status, s.since(s.device.NextDeadline(c)))
	}
	if s.out.Len() == 0 {
		s.out.WriteString("= nothing\n")
	}
}

func (s *script) record(call uuid.UUID) string {
	events := s.stream(call)
	c := rpc.FoldCall(events, s.device.Settings)
	var b rpc.Body
	for _, e := range events {
		b = rpc.EvolveBody(b, e.Fact)
	}
	text := string(rpc.AppendRecord(nil, named("tenant"), s.device.ID, &c, &b))
	s.names[named("tenant")], s.names[s.device.ID] = "T", "D"
	return s.readable(text) + "\n"
}
