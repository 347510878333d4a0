package httpdevice_test

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"callchain/transports"
	httpdevice "callchain/transports/http"
	"callchain/transports/transporttest"
)

const patiently = "/rpc?timeout=30000"

// command makes a command that has a minute.
func command(wire int32) transports.Command {
	return transports.Command{
		Call: uuid.New(), Wire: wire, Method: "m", Params: fmt.Appendf(nil, "%d", wire),
		Deadline: time.Now().Add(time.Minute), Attempt: 1, Epoch: 1,
	}
}

// house is a server with one device.
type house struct {
	*testing.T
	engine *transporttest.Engine
	server *httpdevice.Server
	addr   string
	device *double
}

func newHouse(t *testing.T, change func(*httpdevice.Config)) *house {
	h := &house{T: t, engine: transporttest.NewEngine()}
	h.server, h.addr = start(t, h.engine, h.engine, change)
	h.device = newDouble(t, h.addr, "d")
	return h
}

// polls starts a poll and waits until it can be given a call.
func (h *house) polls() <-chan answered {
	h.Helper()
	got := h.device.poll(patiently)
	h.engine.Next(h.T, transporttest.Subscribe)
	return got
}

func (h *house) waits(polls int64) {
	h.Helper()
	waitFor(h.T, h.server, fmt.Sprint(polls, " polls wait"), func(s httpdevice.Stats) bool { return s.Polls == polls })
}

func (h *house) count(k transporttest.Kind) int { return len(h.engine.Events(k)) }

// TestPollsThatBringNothingCostNothing: one session, one subscription, however many polls follow each other.
func TestPollsThatBringNothingCostNothing(t *testing.T) {
	h := newHouse(t, nil)
	for range 5 {
		h.device.want(t, "GET", "/rpc?timeout=20", "", 408, "")
	}
	if c, s := h.count(transporttest.Connect), h.count(transporttest.Subscribe); c != 1 || s != 1 {
		t.Fatalf("five polls made %d sessions and %d subscriptions:\n%s", c, s, h.engine)
	}
	if st := h.server.Stats(); st.PollsEmpty != 5 {
		t.Errorf("%d polls are counted as empty", st.PollsEmpty)
	}
}

// TestADeviceThatStopsPollingIsGone: soon after its last poll, and not before it had the time to come back.
func TestADeviceThatStopsPollingIsGone(t *testing.T) {
	h := newHouse(t, func(c *httpdevice.Config) { c.Linger = 50 * time.Millisecond })
	h.device.want(t, "GET", "/rpc?timeout=20", "", 408, "")
	h.engine.Next(t, transporttest.Subscribe)
	began := time.Now()
	ev := h.engine.Next(t, transporttest.Disconnect)
	if took := time.Since(began); took < 20*time.Millisecond {
		t.Errorf("the session ended %s after the poll", took)
	}
	got := h.polls()
	s := h.engine.Session(t, "d")
	if s.ID == ev.Session {
		t.Fatal("a session that has ended is used again")
	}
	s.Link.Send(command(1))
	if a := next(t, got); a.body != `{"id":1,"method":"m","params":1}` {
		t.Fatal(a)
	}
}

// TestACallBetweenPollsWaits: nothing is claimed of it, and it comes with the next poll. A second one comes with the poll after that.
func TestACallBetweenPollsWaits(t *testing.T) {
	h := newHouse(t, nil)
	h.device.want(t, "GET", "/rpc?timeout=20", "", 408, "")
	s := h.engine.Session(t, "d")
	s.Link.Send(command(1))
	s.Link.Send(command(2))
	if n := len(h.engine.Events(transporttest.Written, transporttest.Acknowledged, transporttest.Failed)); n > 0 {
		t.Fatalf("something is claimed of a call that waits:\n%s", h.engine)
	}
	for i, want := range []string{`{"id":1,"method":"m","params":1}`, `{"id":2,"method":"m","params":2}`} {
		a := h.device.want(t, "GET", patiently, "", 200, want)
		if got := a.header.Get("Content-Type"); got != "application/json" {
			t.Errorf("poll %d has the type %q", i, got)
		}
	}
	if ev := h.engine.Next(t, transporttest.Written); ev.Number != 2 {
		t.Errorf("attempt %d of the first call is reported, want the second: the first found no poll", ev.Number)
	}
	h.device.want(t, "GET", "/rpc?timeout=20", "", 408, "")
}

// TestACallForADeviceThatHungUpComesAgain: no evidence without a connection that lives.
func TestACallForADeviceThatHungUpComesAgain(t *testing.T) {
	h := newHouse(t, nil)
	gone := newDouble(t, h.addr, "d")
	gone.poll(patiently)
	h.engine.Next(t, transporttest.Subscribe)
	gone.Drop()
	h.waits(0)
	h.engine.Session(t, "d").Link.Send(command(1))
	if n := len(h.engine.Events(transporttest.Written, transporttest.Acknowledged)); n > 0 {
		t.Fatalf("evidence without a device:\n%s", h.engine)
	}
	h.device.want(t, "GET", patiently, "", 200, `{"id":1,"method":"m","params":1}`)
	if ev := h.engine.Next(t, transporttest.Acknowledged); ev.Text != "http_taken" {
		t.Errorf("evidence %q", ev.Text)
	}
}

// TestAResponseThatCannotBeWrittenProvesNothing: the device is there, but does not read what is too much for the buffers between.
func TestAResponseThatCannotBeWrittenProvesNothing(t *testing.T) {
	h := newHouse(t, func(c *httpdevice.Config) { c.WriteTimeout = 200 * time.Millisecond })
	c, err := net.Dial("tcp", strings.TrimPrefix(h.addr, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET /api/v1/d/rpc HTTP/1.1\r\nHost: x\r\n\r\n")
	h.engine.Next(t, transporttest.Subscribe)
	big := command(1)
	big.Params = []byte(`"` + strings.Repeat("x", 16<<20) + `"`)
	h.engine.Session(t, "d").Link.Send(big)
	waitFor(t, h.server, "the call is lost", func(s httpdevice.Stats) bool { return s.CommandsLost == 1 })
	if n := len(h.engine.Events(transporttest.Written, transporttest.Acknowledged)); n > 0 {
		t.Fatal("evidence for a response that was not written")
	}
	if a := h.device.must(t, "GET", patiently, ""); a.status != 200 || len(a.body) < 16<<20 {
		t.Fatalf("the next poll brought %d and %d bytes", a.status, len(a.body))
	}
}

// TestPollsOfOneDevice: each gets the call, as with ThingsBoard; it is reported once. One poll too many ends the oldest.
func TestPollsOfOneDevice(t *testing.T) {
	h := newHouse(t, func(c *httpdevice.Config) { c.DevicePolls = 2 })
	oldest := h.polls()
	h.waits(1)
	second := h.device.poll(patiently)
	h.waits(2)
	third := h.device.poll(patiently)
	if a := next(t, oldest); a.status != 408 || a.body != "" {
		t.Fatalf("the oldest of three: %s", a)
	}
	h.waits(2)
	h.engine.Session(t, "d").Link.Send(command(1))
	for _, p := range []<-chan answered{second, third} {
		if a := next(t, p); a.status != 200 || a.body != `{"id":1,"method":"m","params":1}` {
			t.Fatal(a)
		}
	}
	h.engine.Next(t, transporttest.Acknowledged)
	h.waits(0)
	if n := h.count(transporttest.Acknowledged); n != 1 {
		t.Errorf("the call is reported %d times", n)
	}
}

// TestHowSessionsEnd: what a waiting poll is told.
func TestHowSessionsEnd(t *testing.T) {
	for _, c := range []struct {
		why    transports.Reason
		status int
		body   string
	}{
		{transports.ReasonDeviceDeleted, 403, "Device was deleted!"},
		{transports.ReasonCredentials, 408, ""},
		{transports.ReasonShutdown, 408, ""},
	} {
		t.Run(string(c.why), func(t *testing.T) {
			h := newHouse(t, nil)
			got := h.polls()
			s := h.engine.Session(t, "d")
			s.Link.Close(c.why)
			if a := next(t, got); a.status != c.status || a.body != c.body {
				t.Errorf("%s, want %d %q", a, c.status, c.body)
			}
			if ev := h.engine.Next(t, transporttest.Disconnect); ev.Session != s.ID || ev.Text != string(c.why) {
				t.Errorf("session %s ended for %q", ev.Session, ev.Text)
			}
		})
	}
}

// TestPollsOnOlderCredentials: who polls with credentials that have changed gets no call any more when the device comes with the new ones, also if it waits
// without a session.
func TestPollsOnOlderCredentials(t *testing.T) {
	for _, elsewhere := range []bool{false, true} {
		t.Run(fmt.Sprint("taken over: ", elsewhere), func(t *testing.T) {
			h := newHouse(t, nil)
			older := h.polls()
			s := h.engine.Session(t, "d")
			if elsewhere {
				s.Link.Close(transports.ReasonTakenOver)
				h.engine.Next(t, transporttest.Disconnect)
			}
			newer := newDouble(t, h.addr, "d@2").poll(patiently)
			if a := next(t, older); a.status != 408 {
				t.Errorf("the poll on older credentials: %s", a)
			}
			if !elsewhere {
				if ev := h.engine.Next(t, transporttest.Disconnect); ev.Session != s.ID || ev.Text != string(transports.ReasonCredentials) {
					t.Errorf("session %s ended for %q", ev.Session, ev.Text)
				}
			}
			h.engine.Next(t, transporttest.Subscribe)
			if a := next(t, h.device.poll(patiently)); a.status != 401 {
				t.Errorf("a later poll on older credentials: %s", a)
			}
			h.engine.Session(t, "d").Link.Send(command(1))
			if a := next(t, newer); a.status != 200 {
				t.Error(a)
			}
		})
	}
}

// TestCredentialsThatChangeMeanwhile: the engine refuses a session on credentials that have changed since the token was checked.
func TestCredentialsThatChangeMeanwhile(t *testing.T) {
	h := newHouse(t, nil)
	h.engine.Deny(transporttest.Connect, transports.ErrUnauthorized)
	h.engine.Deny(transporttest.ConnectSecondary, transports.ErrUnauthorized)
	if a := next(t, h.device.poll(patiently)); a.status != 401 {
		t.Error(a)
	}
	if n := h.server.Stats().Unauthorized; n != 1 {
		t.Errorf("%d requests are counted as unauthorized", n)
	}
}

// TestADeviceThatConnectsElsewhere: its poll waits on without a session, so that the two do not take the place from each other in turns.
// The next poll is a newer connection and takes it.
func TestADeviceThatConnectsElsewhere(t *testing.T) {
	h := newHouse(t, nil)
	got := h.polls()
	h.engine.Session(t, "d").Link.Close(transports.ReasonTakenOver)
	h.engine.Next(t, transporttest.Disconnect)
	h.waits(1)
	if n := h.count(transporttest.Connect); n != 1 {
		t.Fatalf("the poll that waits has connected again: %d sessions", n)
	}
	newer := h.polls()
	h.engine.Session(t, "d").Link.Send(command(1))
	for _, p := range []<-chan answered{got, newer} {
		if a := next(t, p); a.status != 200 {
			t.Error(a)
		}
	}
}

// TestStopEndsPolls with ThingsBoard's answer at the end of the time, and every session.
func TestStopEndsPolls(t *testing.T) {
	h := newHouse(t, nil)
	got, other := h.polls(), h.device.poll("/attributes/updates")
	h.waits(2)
	s := h.engine.Session(t, "d")
	h.server.Stop()
	for _, p := range []<-chan answered{got, other} {
		if a := next(t, p); a.status != 408 || a.body != "" {
			t.Error(a)
		}
	}
	if ev := h.engine.Next(t, transporttest.Disconnect); ev.Session != s.ID || ev.Text != string(transports.ReasonShutdown) {
		t.Errorf("session %s ended for %q", ev.Session, ev.Text)
	}
	if a := h.device.must(t, "GET", patiently, ""); a.status != 503 || a.header.Get("Retry-After") != "1" {
		t.Errorf("a poll after the end: %s", a)
	}
}

func TestPollsAreBounded(t *testing.T) {
	h := newHouse(t, func(c *httpdevice.Config) { c.Polls = 1 })
	h.polls()
	if a := h.device.must(t, "GET", patiently, ""); a.status != 503 || a.header.Get("Retry-After") != "1" {
		t.Errorf("one poll too many: %s", a)
	}
	h.device.want(t, "POST", "/telemetry", "{}", 200, "") // what is no poll has places of its own
}

// TestAPollWhenTheEngineIsBusy is sent away at once and may come back.
func TestAPollWhenTheEngineIsBusy(t *testing.T) {
	for _, k := range []transporttest.Kind{transporttest.Connect, transporttest.Subscribe} {
		t.Run(string(k), func(t *testing.T) {
			h := newHouse(t, nil)
			h.engine.Deny(k, transports.ErrBusy)
			if a := h.device.must(t, "GET", patiently, ""); a.status != 503 || a.header.Get("Retry-After") != "1" {
				t.Errorf("a busy engine: %s", a)
			}
			h.engine.Deny(k, nil)
			h.engine.Next(t, transporttest.Connect)
			got := h.device.poll(patiently)
			h.engine.Until(t, "a subscription", func(all []transporttest.Event) bool {
				return all[len(all)-1].Kind == transporttest.Subscribe
			})
			h.waits(1)
			h.engine.Session(t, "d").Link.Send(command(1))
			if a := next(t, got); a.status != 200 {
				t.Error(a)
			}
		})
	}
}

// TestTimeouts: 0 and nothing mean the default, more than the most means the most.
func TestTimeouts(t *testing.T) {
	h := newHouse(t, func(c *httpdevice.Config) { c.PollDefault, c.PollMost = 30*time.Millisecond, 60*time.Millisecond })
	for query, atLeast := range map[string]time.Duration{
		"": 30, "?timeout=": 30, "?timeout=0": 30, "?timeout=9223372036854775807": 60, "?timeout=1": 1, "?timeout=-5": 0,
	} {
		for _, path := range []string{"/rpc", "/attributes/updates"} {
			began := time.Now()
			h.device.want(t, "GET", path+query, "", 408, "")
			if took := time.Since(began); took < atLeast*time.Millisecond || took > 10*time.Second {
				t.Errorf("%s%s took %s", path, query, took)
			}
		}
	}
	for _, query := range []string{"?timeout=soon", "?timeout=1.5", "?timeout=92233720368547758070", "?timeout=%zz"} {
		a := h.device.must(t, "GET", "/rpc"+query, "")
		if a.status != http.StatusBadRequest || !strings.Contains(a.body, `"errorCode":31`) {
			t.Errorf("%s: %s", query, a)
		}
	}
}

// TestTracesTravel: a call that stands in a trace says so.
func TestTracesTravel(t *testing.T) {
	h := newHouse(t, nil)
	got := h.polls()
	c := command(1)
	c.Trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	h.engine.Session(t, "d").Link.Send(c)
	if a := next(t, got); a.header.Get("Traceparent") != c.Trace {
		t.Errorf("the trace is %q", a.header.Get("Traceparent"))
	}
}

// TestTheNextPollNeverOvertakesTheReport: a device that is back with its next poll before the engine knows that it took the call must
// not get the call again.
func TestTheNextPollNeverOvertakesTheReport(t *testing.T) {
	h := newHouse(t, nil)
	h.engine.Slow(transporttest.Written, 20*time.Millisecond)
	got := h.polls()
	for i := range int32(5) {
		h.engine.Session(t, "d").Link.Send(command(i))
		if a := next(t, got); !strings.HasPrefix(a.body, fmt.Sprintf(`{"id":%d,`, i)) {
			t.Fatalf("%s, want call %d", a, i)
		}
		h.device = newDouble(t, h.addr, "d") // on a connection of its own: the other may still be busy with the response
		got = h.polls()
	}
	last := ""
	for _, ev := range h.engine.Events(transporttest.Subscribe, transporttest.Acknowledged) {
		if string(ev.Kind) == last {
			t.Fatalf("%s follows %s:\n%s", ev.Kind, last, h.engine)
		}
		last = string(ev.Kind)
	}
}

// TestADeviceHangsUpWithTheLastByte: that it closes the connection once it has read the response does not take the proof away.
func TestADeviceHangsUpWithTheLastByte(t *testing.T) {
	h := newHouse(t, nil)
	for i := range int32(50) {
		d := newDouble(t, h.addr, "d")
		d.client.Transport = &http.Transport{DisableKeepAlives: true}
		got := d.poll(patiently)
		h.engine.Next(t, transporttest.Subscribe)
		h.engine.Session(t, "d").Link.Send(command(i))
		next(t, got)
		h.engine.Next(t, transporttest.Acknowledged)
	}
}
