package transporttest

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"callchain/transports"
)

// patience is how long the suite waits for what has to happen.
const patience = 20 * time.Second

// Kind names a method of transports.Inbound.
type Kind string

// The kinds of events that an Engine records.
const (
	Connect             Kind = "connect"
	ConnectSecondary    Kind = "connect secondary" // of a session that does not take the device's place
	DisconnectSecondary Kind = "disconnect secondary"
	Subscribe           Kind = "subscribe"
	Unsubscribe         Kind = "unsubscribe"
	Disconnect          Kind = "disconnect"
	Written             Kind = "written"
	Acknowledged        Kind = "acknowledged"
	Failed              Kind = "failed"
	Reply               Kind = "reply"
	Call                Kind = "call"
	Telemetry           Kind = "telemetry"
	Attributes          Kind = "attributes"
	RequestAttributes   Kind = "request attributes"
)

// Event is one call of a transport to the engine.
type Event struct {
	Kind    Kind
	Session uuid.UUID
	Call    uuid.UUID
	Number  int32  // wire id of a reply, request id of a call or a request
	Text    string // method, evidence, reason, why, or the keys asked for
	Payload []byte
	Ack     bool
	At      time.Time
	// Settle ends a held message; nil if it was settled at once or has nothing to settle.
	Settle func(error)
}

// Engine is a transports.Inbound and transports.Authenticator that records what it is told. It settles everything at once with
// nil unless told otherwise. Tokens are the names of devices; the empty one and those that begin with "unknown" belong to
// nobody. As an engine must, it ends an older session of a device when a newer one connects.
type Engine struct {
	mu        sync.Mutex
	changed   chan struct{} // closed and replaced at each event
	events    []Event
	seen      map[Kind]int // events of a kind that Next has returned
	held      map[Kind]bool
	denied    map[Kind]error
	slow      map[Kind]time.Duration
	sessions  map[uuid.UUID]transports.Session // live ones by device
	links     map[uuid.UUID]transports.Link    // by session, also of secondary sessions
	polls     map[uuid.UUID]*polling           // by session, of those with Once
	reached   map[uuid.UUID]bool               // sessions whose subscription was accepted
	secondary map[uuid.UUID]bool               // secondary sessions
}

// NewEngine returns an engine that settles everything.
func NewEngine() *Engine {
	return &Engine{
		changed: make(chan struct{}), seen: map[Kind]int{}, held: map[Kind]bool{}, denied: map[Kind]error{},
		slow: map[Kind]time.Duration{}, sessions: map[uuid.UUID]transports.Session{}, links: map[uuid.UUID]transports.Link{},
		polls: map[uuid.UUID]*polling{}, reached: map[uuid.UUID]bool{}, secondary: map[uuid.UUID]bool{},
	}
}

var (
	_ transports.Inbound       = (*Engine)(nil)
	_ transports.Authenticator = (*Engine)(nil)
)

// DeviceID is the id of the device that a token belongs to.
func DeviceID(token string) uuid.UUID { return uuid.NewSHA1(uuid.NameSpaceOID, []byte(token)) }

// Authenticate knows every token that does not begin with "unknown". One that ends with @ and a number stands for this version of the device's
// credentials.
func (e *Engine) Authenticate(_ context.Context, c transports.Credentials) (transports.Identity, error) {
	if c.Token == "" || len(c.Token) >= 7 && c.Token[:7] == "unknown" {
		return transports.Identity{}, fmt.Errorf("looking up credentials: %w", transports.ErrUnauthorized)
	}
	name, number, _ := strings.Cut(c.Token, "@")
	version, err := strconv.ParseInt(cmp.Or(number, "0"), 10, 64)
	if err != nil {
		return transports.Identity{}, fmt.Errorf("token %s: %w", c.Token, err)
	}
	return transports.Identity{Device: DeviceID(name), Name: name, Type: "default", Gateway: name == "gateway", Credentials: version}, nil
}

// Hold makes messages of a kind wait for Event.Settle; Release settles them at once again, but not those that wait.
func (e *Engine) Hold(k Kind) { e.set(func() { e.held[k] = true }) }

// Release ends Hold.
func (e *Engine) Release(k Kind) { e.set(func() { delete(e.held, k) }) }

// Deny makes messages of a kind end with err; nil ends that.
func (e *Engine) Deny(k Kind, err error) { e.set(func() { e.denied[k] = err }) }

// Slow makes the engine take this long to take notice of messages of a kind; 0 ends that.
func (e *Engine) Slow(k Kind, by time.Duration) { e.set(func() { e.slow[k] = by }) }

func (e *Engine) set(change func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	change()
}

// record notes an event and settles it. then runs with the lock held, before anybody can see the event.
func (e *Engine) record(ev Event, done func(error), then func()) {
	e.mu.Lock()
	if by := e.slow[ev.Kind]; by > 0 {
		e.mu.Unlock()
		<-time.After(by)
		e.mu.Lock()
	}
	err, held := e.denied[ev.Kind], e.held[ev.Kind]
	if held {
		ev.Settle = done
	}
	ev.At = orNow(ev.At)
	if then != nil && err == nil {
		then()
	}
	e.events = append(e.events, ev)
	e.announce()
	e.mu.Unlock()
	if done != nil && !held {
		done(err)
	}
}

// announce wakes whoever waits for a change. The lock is held.
func (e *Engine) announce() {
	close(e.changed)
	e.changed = make(chan struct{})
}

func orNow(at time.Time) time.Time {
	if at.IsZero() {
		return time.Now()
	}
	return at
}

// Next waits for the next event of a kind that no Next has returned yet.
func (e *Engine) Next(t testing.TB, k Kind) Event {
	t.Helper()
	deadline := time.After(patience)
	for {
		e.mu.Lock()
		n, changed := e.seen[k], e.changed
		for _, ev := range e.events {
			if ev.Kind != k {
				continue
			}
			if n == 0 {
				e.seen[k]++
				e.mu.Unlock()
				return ev
			}
			n--
		}
		e.mu.Unlock()
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("no %s came; what came:\n%s", k, e)
		}
	}
}

// Until waits until the events fulfil a condition.
func (e *Engine) Until(t testing.TB, what string, holds func([]Event) bool) {
	t.Helper()
	deadline := time.After(patience)
	for {
		e.mu.Lock()
		ok, changed := holds(e.events), e.changed
		e.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("not reached: %s; what came:\n%s", what, e)
		}
	}
}

// Events returns what was recorded of the given kinds, or all.
func (e *Engine) Events(kinds ...Kind) []Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []Event
	for _, ev := range e.events {
		if len(kinds) == 0 || slices.Contains(kinds, ev.Kind) {
			out = append(out, ev)
		}
	}
	return out
}

// Session returns the live session of a device, and fails if there is none. The Link of a session with Once hands over one command
// for each subscription, as the engine does; the others wait in order.
func (e *Engine) Session(t testing.TB, token string) transports.Session {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	s, ok := e.sessions[DeviceID(token)]
	if !ok {
		t.Fatalf("%s has no session; there are %v", token, slices.Collect(maps.Keys(e.sessions)))
	}
	if p := e.polls[s.ID]; p != nil {
		s.Link = p
	}
	return s
}

// Link returns the link of a session that brought a message, and fails if the session has ended.
func (e *Engine) Link(t testing.TB, session uuid.UUID) transports.Link {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.links[session]
	if l == nil {
		t.Fatalf("session %s has ended", session)
	}
	return l
}

// reachable waits until a session of the device is subscribed.
func (e *Engine) reachable(t testing.TB, token string) {
	t.Helper()
	e.Until(t, token+" is subscribed", func([]Event) bool {
		s, ok := e.sessions[DeviceID(token)]
		return ok && e.reached[s.ID]
	})
}

// String lists the last events, for messages of failed tests.
func (e *Engine) String() string {
	events := e.Events()
	text := ""
	for _, ev := range events[max(0, len(events)-30):] {
		text += fmt.Sprintf("  %s session=%.8s call=%.8s number=%d %s %.60q\n", ev.Kind, ev.Session, ev.Call, ev.Number, ev.Text, ev.Payload)
	}
	return text
}

// Connect records a session and, unless it is a secondary one, closes an older one of its device.
func (e *Engine) Connect(s transports.Session, done func(error)) {
	if s.Secondary {
		e.record(Event{Kind: ConnectSecondary, Session: s.ID, Text: s.Identity.Name}, done, func() { e.links[s.ID], e.secondary[s.ID] = s.Link, true })
		return
	}
	var older transports.Link
	e.record(Event{Kind: Connect, Session: s.ID, Text: s.Identity.Name}, done, func() {
		if was, ok := e.sessions[s.Identity.Device]; ok {
			older = was.Link
		}
		e.sessions[s.Identity.Device], e.links[s.ID] = s, s.Link
		if s.Once {
			e.polls[s.ID] = &polling{Link: s.Link, spent: true}
		}
	})
	if older != nil {
		older.Close(transports.ReasonTakenOver)
	}
}

// Disconnect records the end of a session.
func (e *Engine) Disconnect(session uuid.UUID, why string) {
	kind := Disconnect
	e.set(func() {
		if e.secondary[session] {
			kind = DisconnectSecondary
		}
	})
	e.record(Event{Kind: kind, Session: session, Text: why}, nil, func() {
		maps.DeleteFunc(e.sessions, func(_ uuid.UUID, s transports.Session) bool { return s.ID == session })
		delete(e.links, session)
		delete(e.polls, session)
		delete(e.reached, session)
		delete(e.secondary, session)
	})
}

// Subscribe records it. A session with Once gets its next command when that is settled.
func (e *Engine) Subscribe(session uuid.UUID, done func(error)) {
	e.record(Event{Kind: Subscribe, Session: session}, func(err error) {
		var p *polling
		if err == nil {
			e.set(func() {
				e.reached[session], p = true, e.polls[session]
				e.announce()
			})
		}
		if done != nil {
			done(err)
		}
		if p != nil {
			p.next()
		}
	}, nil)
}

// Unsubscribe records it.
func (e *Engine) Unsubscribe(session uuid.UUID, done func(error)) {
	e.record(Event{Kind: Unsubscribe, Session: session}, done, nil)
}

// Written records it.
func (e *Engine) Written(session, call uuid.UUID, attempt int, at time.Time, ack bool) {
	e.record(Event{Kind: Written, Session: session, Call: call, Number: int32(attempt), At: at, Ack: ack}, nil, func() { e.polls[session].reported(call) })
}

// Acknowledged records it.
func (e *Engine) Acknowledged(session, call uuid.UUID, evidence string, at time.Time) {
	e.record(Event{Kind: Acknowledged, Session: session, Call: call, Text: evidence, At: at}, nil, nil)
}

// Failed records it.
func (e *Engine) Failed(session, call uuid.UUID, reason string) {
	e.record(Event{Kind: Failed, Session: session, Call: call, Text: reason}, nil, func() { e.polls[session].reported(call) })
}

// Reply records it.
func (e *Engine) Reply(session uuid.UUID, wire int32, payload []byte, done func(error)) {
	e.record(Event{Kind: Reply, Session: session, Number: wire, Payload: payload}, done, nil)
}

// Call records it.
func (e *Engine) Call(session uuid.UUID, request int32, method string, params []byte, done func(error)) {
	e.record(Event{Kind: Call, Session: session, Number: request, Text: method, Payload: params}, done, nil)
}

// Telemetry records it.
func (e *Engine) Telemetry(session uuid.UUID, payload []byte, done func(error)) {
	e.record(Event{Kind: Telemetry, Session: session, Payload: payload}, done, nil)
}

// Attributes records it.
func (e *Engine) Attributes(session uuid.UUID, payload []byte, done func(error)) {
	e.record(Event{Kind: Attributes, Session: session, Payload: payload}, done, nil)
}

// RequestAttributes records it; Text is the keys of both scopes as Go prints them, "<nil>" for none asked.
func (e *Engine) RequestAttributes(session uuid.UUID, request int32, client, shared []string, done func(error)) {
	e.record(Event{Kind: RequestAttributes, Session: session, Number: request, Text: keys(client) + " " + keys(shared)}, done, nil)
}

func keys(list []string) string {
	if list == nil {
		return "<nil>"
	}
	return fmt.Sprint(list)
}
