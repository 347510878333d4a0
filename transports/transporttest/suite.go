// Package transporttest is the suite that every transport passes: what the engine may rely on whichever protocol a device
// speaks. A transport brings a constructor, a device double on a client of its own, and says what its protocol promises; what it
// does not promise is skipped, and the skip says so.
package transporttest

import (
	"bytes"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"

	"callchain/transports"
)

// Fixture is a transport under test.
type Fixture struct {
	// Start runs the transport until the test ends and returns how its devices connect.
	Start func(t testing.TB, auth transports.Authenticator, in transports.Inbound) Dial
	Features
}

// Features is what a protocol promises.
type Features struct {
	Evidence     string // what proves that a device has a command; EvidenceWritten if nothing does
	ProvesItself bool   // the evidence needs nothing from the device: Ack does nothing
	Confirms     bool   // the server tells a device when it is reachable
	Numbers      bool   // a device numbers its own calls and requests; else the transport does, and an answer belongs to its request
	ReplyObjects bool   // a reply that is no JSON object is refused, as ThingsBoard does for this protocol; else the engine gets any bytes
	Connections  bool   // a session is a connection: it can be taken over, told to end, and its loss is seen
	AnswersData  bool   // telemetry and attributes are acknowledged
	ClientCalls  bool   // a device can call the server
	AsksForData  bool   // a device can ask for attribute values
	UpdatesData  bool   // a device can be told of attribute changes
	Stalls       bool   // a device can stop reading while it is connected
	PayloadMax   int    // largest payload taken from a device in bytes, 0 if unbounded
	ForeignPaths bool   // Device.Foreign sends to an address that is not a device's
}

// Dial connects a device. It fails if the server does not take it.
type Dial func(token string) (Device, error)

// Received is a server-side call as a device sees it.
type Received struct {
	Wire    int32
	Payload []byte // {"method":…,"params":…}
	Handle  any    // the double's own, for Ack
}

// Answer is what a device gets for a call or a request of its own.
type Answer struct {
	Request int32
	Payload []byte
}

// Device is a device double. Methods that return a channel send a message at once; the channel yields nil when the protocol
// acknowledges it, or why it never will.
type Device interface {
	// Subscribe makes the device reachable and returns when the server says that it is, or at once if it never does.
	Subscribe() error
	// Commands yields server-side calls in the order of arrival. They are not acknowledged before Ack.
	Commands() <-chan Received
	Ack(Received)
	Reply(wire int32, payload []byte) <-chan error
	Telemetry(payload []byte) <-chan error
	Call(request int32, method, params string) <-chan error
	Answers() <-chan Answer
	AskAttributes(request int32, client, shared string) <-chan error
	Updates() <-chan []byte
	// Foreign sends to an address that no device may use and returns whether the session lived through it.
	Foreign() bool
	// Stall stops reading from the network until Resume.
	Stall()
	Resume()
	// Drop cuts the connection without a goodbye.
	Drop()
	// Gone is closed when the connection has ended.
	Gone() <-chan struct{}
}

// Run tries everything on the transport, the nastiest first.
func Run(t *testing.T, f Fixture) {
	for _, c := range []struct {
		name  string
		needs bool
		why   string
		run   func(*testing.T, world)
	}{
		{"a reply never overtakes the report of its command", true, "", replyRacesReport},
		{"a device that answers twice", true, "", answersTwice},
		{"a connection lost while a message is being settled", f.Connections && f.AnswersData, "sessions are no connections", lostWhileSettling},
		{"a takeover while commands wait", f.Connections, "sessions are no connections", takeover},
		{"a stalled device beside a healthy one", f.Stalls, "a device cannot stall", stalled},
		{"a device's message is acknowledged only when settled", f.AnswersData, "data is not acknowledged", acknowledgedWhenSettled},
		{"a message that the engine is too busy for stays unacknowledged", f.AnswersData, "data is not acknowledged", busy},
		{"a reply is acknowledged only when settled", true, "", replyWhenSettled},
		{"subscribing returns only when settled", f.Confirms, "a device is not told", subscribedWhenSettled},
		{"a command past its deadline never leaves", true, "", pastDeadline},
		{"a command of an older epoch never leaves", true, "", staleEpoch},
		{"evidence follows the device's acknowledgement", true, "", evidence},
		{"commands arrive in order, compact, once", true, "", commandsInOrder},
		{"an oversize payload is not handed on", f.PayloadMax > 0, "payloads are not bounded", oversize},
		{"foreign addresses reach nothing", f.ForeignPaths, "there are no foreign addresses", foreign},
		{"unknown credentials open no session", true, "", unknownCredentials},
		{"a session that the engine refuses is not open", true, "", refusedSession},
		{"a session ends once, whoever ends it", f.Connections, "sessions are no connections", endsOnce},
		{"calls of the device are answered by their id", f.ClientCalls, "devices cannot call", clientCalls},
		{"attributes are answered by their id", f.AsksForData, "devices cannot ask", attributes},
		{"attribute changes are pushed", f.UpdatesData, "devices cannot be told", updates},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !c.needs {
				t.Skip("the protocol does not promise it: " + c.why)
			}
			engine := NewEngine()
			c.run(t, world{engine: engine, dial: f.Start(t, engine, engine), features: f.Features})
		})
	}
}

// world is one transport with its engine.
type world struct {
	engine   *Engine
	dial     Dial
	features Features
}

// connect returns a connected device.
func (w world) connect(t testing.TB, token string) Device {
	t.Helper()
	d, err := w.dial(token)
	if err != nil {
		t.Fatalf("connecting %s: %v", token, err)
	}
	return d
}

// ready returns a device that receives commands, and the link to it.
func (w world) ready(t testing.TB, token string) (Device, transports.Session) {
	t.Helper()
	d := w.connect(t, token)
	if err := d.Subscribe(); err != nil {
		t.Fatalf("subscribing %s: %v", token, err)
	}
	if !w.features.Confirms {
		w.engine.reachable(t, token)
	}
	return d, w.engine.Session(t, token)
}

// command makes a command that has a minute.
func command(wire int32) transports.Command {
	return transports.Command{
		Call: uuid.New(), Wire: wire, Method: "m", Params: fmt.Appendf(nil, "%d", wire),
		Deadline: time.Now().Add(time.Minute), Attempt: 1, Epoch: 1,
	}
}

// receive waits for the next command of a device.
func receive(t testing.TB, d Device) Received {
	t.Helper()
	return next(t, d.Commands(), "command")
}

func next[T any](t testing.TB, from <-chan T, what string) T {
	t.Helper()
	select {
	case v, ok := <-from:
		if !ok {
			t.Fatalf("the device is gone; a %s was to come", what)
		}
		return v
	case <-time.After(patience):
		t.Fatalf("no %s came", what)
	}
	panic("unreachable")
}

// settled waits for the protocol's acknowledgement.
func settled(t testing.TB, acked <-chan error) {
	t.Helper()
	if err := next(t, acked, "acknowledgement"); err != nil {
		t.Fatalf("not acknowledged: %v", err)
	}
}

// open says whether an acknowledgement is still missing.
func open(acked <-chan error) bool {
	select {
	case <-acked:
		return false
	default:
		return true
	}
}

// Numbered takes apart what a protocol without another place for the request id sends: {"id":…,"method":…,"params":…}.
func Numbered(body []byte) (Received, error) {
	rest, ok := bytes.CutPrefix(body, []byte(`{"id":`))
	id, rest, more := bytes.Cut(rest, []byte(","))
	wire, err := strconv.ParseInt(string(id), 10, 32)
	if !ok || !more || err != nil {
		return Received{}, fmt.Errorf("%.100q is no command with an id", body)
	}
	return Received{Wire: int32(wire), Payload: append([]byte("{"), rest...)}, nil
}
