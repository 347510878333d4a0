package httpdevice_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"callchain/transports"
	httpdevice "callchain/transports/http"
	"callchain/transports/transporttest"
)

// TestAnswersOfTheDeviceAPI holds statuses and bodies against what ThingsBoard was seen to answer.
func TestAnswersOfTheDeviceAPI(t *testing.T) {
	h := newHouse(t, func(c *httpdevice.Config) { c.Body = 200 << 10 })
	const big = 65 << 10
	for _, c := range []struct {
		method, path, body string
		status             int
		answer             string
	}{
		{"POST", "/rpc/0", `{"ok":1}`, 200, ""},
		{"POST", "/rpc/777", `{"ok":1}`, 200, ""},
		{"POST", "/rpc/-1", `{bad`, 200, ""},
		{"POST", "/rpc/1", ``, 400, "Required request body is missing"},
		{"POST", "/rpc/abc", `{"ok":1}`, 400, "requestId"},
		{"POST", "/rpc/2147483648", `{"ok":1}`, 400, "requestId"},
		{"POST", "/rpc/1", strings.Repeat("x", big), 413, `"Payload size exceeds the limit of 65536 bytes"`},
		{"POST", "/rpc/abc", strings.Repeat("x", big), 413, `"Payload size exceeds the limit of 65536 bytes"`},
		{"POST", "/rpc/1", strings.Repeat("x", 64<<10), 200, ""},
		{"POST", "/rpc", `{bad`, 500, "invalid character"},
		{"POST", "/rpc", `{"params":{}}`, 500, ""},
		{"POST", "/rpc", `{"method":"getTime"}`, 500, ""},
		{"POST", "/rpc", `[1,2]`, 500, ""},
		{"POST", "/rpc", `"text"`, 500, ""},
		{"POST", "/rpc", `null`, 500, ""},
		{"POST", "/rpc", ``, 400, "Required request body is missing"},
		{"POST", "/rpc", long(big), 413, `"Payload size exceeds the limit of 65536 bytes"`},
		{"POST", "/telemetry", `{"a":1}`, 200, ""},
		{"POST", "/telemetry", `[{"ts":1,"values":{"a":1}}]`, 200, ""},
		{"POST", "/telemetry", `{"a":"` + strings.Repeat("x", big) + `"}`, 200, ""},
		{"POST", "/telemetry", strings.Repeat("x", 201<<10), 413, `"Payload size exceeds the limit of 204800 bytes"`},
		{"POST", "/telemetry", `7`, 500, ""},
		{"POST", "/telemetry", strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000), 500, ""},
		{"POST", "/telemetry", ``, 400, "Required request body is missing"},
		{"POST", "/attributes", `{"fw":"v2"}`, 200, ""},
		{"POST", "/attributes", `[{"fw":"v2"}]`, 500, ""},
		{"POST", "/claim", `{}`, 404, ""},
		{"GET", "/firmware?title=x&version=1", ``, 404, ""},
		{"POST", "/rpc/1/2", `{}`, 404, ""},
		{"GET", "/rpc/", ``, 404, ""},
		{"GET", "", ``, 404, ""},
		{"GET", "/telemetry", ``, 405, ""},
		{"DELETE", "/rpc", ``, 405, ""},
	} {
		a := h.device.must(t, c.method, c.path, c.body)
		exact := a.body == c.answer || c.status != 413 && c.answer != "" && strings.Contains(a.body, c.answer)
		if a.status != c.status || !exact {
			t.Errorf("%s %s %.40q: %s, want %d %q", c.method, c.path, c.body, a, c.status, c.answer)
		}
		if a.body == "" && a.header.Get("Content-Length") != "0" {
			t.Errorf("%s %s: an empty answer says Content-Length %q", c.method, c.path, a.header.Get("Content-Length"))
		}
	}
	if got := h.device.must(t, "DELETE", "/rpc", "").header.Get("Allow"); got != "GET, POST" {
		t.Errorf("Allow is %q", got)
	}
}

// TestUnknownTokens are 401 without a body, whatever is asked; what is wrong with the form of a request comes first.
func TestUnknownTokens(t *testing.T) {
	h := newHouse(t, nil)
	stranger := newDouble(t, h.addr, "unknown/é %")
	for _, c := range [][2]string{
		{"GET", "/rpc"},
		{"POST", "/rpc"},
		{"POST", "/rpc/1"},
		{"GET", "/attributes"},
		{"POST", "/attributes"},
		{"GET", "/attributes/updates"},
		{"POST", "/telemetry"},
	} {
		stranger.want(t, c[0], c[1], "{bad", 401, "")
	}
	if a := stranger.must(t, "POST", "/rpc/abc", "{}"); a.status != 400 {
		t.Error(a)
	}
	if all := h.engine.Events(); len(all) > 0 {
		t.Errorf("the engine heard of it:\n%s", h.engine)
	}
	if st := h.server.Stats(); st.Unauthorized != 7 {
		t.Errorf("%d requests are counted as unauthorized", st.Unauthorized)
	}
}

// TestWhatADevicePostsIsDurable: 503 with Retry-After while the engine cannot keep it, 500 when it never will.
func TestWhatADevicePostsIsDurable(t *testing.T) {
	h := newHouse(t, func(c *httpdevice.Config) { c.SettleTimeout = 50 * time.Millisecond })
	for kind, path := range map[transporttest.Kind]string{
		transporttest.Telemetry: "/telemetry", transporttest.Attributes: "/attributes", transporttest.Reply: "/rpc/3", transporttest.Call: "/rpc",
		transporttest.RequestAttributes: "/attributes?clientKeys=a",
	} {
		method, body := "POST", `{"method":"m","params":{}}`
		if kind == transporttest.RequestAttributes {
			method, body = "GET", ""
		}
		h.engine.Deny(kind, transports.ErrBusy)
		if a := h.device.must(t, method, path, body); a.status != 503 || a.header.Get("Retry-After") != "1" || a.body != "" {
			t.Errorf("%s of a busy engine: %s", path, a)
		}
		h.engine.Deny(kind, transports.ErrRefused)
		if a := h.device.must(t, method, path, body); a.status != 500 || a.body != "" {
			t.Errorf("%s that is refused: %s", path, a)
		}
		h.engine.Deny(kind, nil)
		h.engine.Hold(kind)
		if a := h.device.must(t, method, path, body); a.status != 503 {
			t.Errorf("%s that is not settled in time: %s", path, a)
		}
		h.engine.Release(kind)
	}
	h.engine.Until(t, "an end of each secondary session", func(all []transporttest.Event) bool {
		n := 0
		for _, ev := range all {
			switch ev.Kind {
			case transporttest.ConnectSecondary:
				n++
			case transporttest.DisconnectSecondary:
				n--
			}
		}
		return n == 0
	})
	if n := h.count(transporttest.Connect); n > 0 {
		t.Errorf("posting took the device's place %d times", n)
	}
}

// TestCallsOfTheDevice: the answer is text unless JSON is asked for; without one the wait ends.
func TestCallsOfTheDevice(t *testing.T) {
	h := newHouse(t, func(c *httpdevice.Config) { c.AnswerTimeout = 100 * time.Millisecond })
	for accept, want := range map[string]string{
		"*/*": "text/plain;charset=UTF-8", "application/json": "application/json", "text/html, application/json;q=0.9": "application/json",
	} {
		r, err := http.NewRequestWithContext(t.Context(), "POST", h.device.base+"/rpc", strings.NewReader(`{"method":"m","params":null}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept", accept)
		go h.answer(`{"n":1}`)
		resp, err := h.device.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != 200 || string(body) != `{"n":1}` || resp.Header.Get("Content-Type") != want {
			t.Errorf("Accept %s: %d %s %s %v", accept, resp.StatusCode, resp.Header.Get("Content-Type"), body, err)
		}
	}
	h.device.want(t, "POST", "/rpc", `{"method":"m","params":{}}`, 408, "")
}

// answer answers the next call of the device.
func (h *house) answer(body string) {
	ev := h.engine.Next(h.T, transporttest.Call)
	h.engine.Link(h.T, ev.Session).Respond(transports.Response{Request: ev.Number, Body: []byte(body)})
}

// TestPostsAreBounded: in number, and in the memory for their bodies.
func TestPostsAreBounded(t *testing.T) {
	h := newHouse(t, func(c *httpdevice.Config) { c.Requests, c.Body, c.Bodies = 1, 100<<10, 128<<10 })
	h.engine.Hold(transporttest.Telemetry)
	body := `{"a":"` + strings.Repeat("x", 90<<10) + `"}`
	acked := h.device.Telemetry([]byte(body))
	held := h.engine.Next(t, transporttest.Telemetry)
	if a := h.device.must(t, "POST", "/rpc/1", "{}"); a.status != 503 || a.header.Get("Retry-After") != "1" {
		t.Errorf("one request too many: %s", a)
	}
	held.Settle(nil)
	if err := <-acked; err != nil {
		t.Fatal(err)
	}
	h.engine.Release(transporttest.Telemetry)
	for range 5 { // memory is given back
		h.device.want(t, "POST", "/telemetry", body, 200, "")
		h.device.want(t, "POST", "/telemetry", "{"+body, 500, "")
	}
}

func TestMemoryForBodiesIsShared(t *testing.T) {
	h := newHouse(t, func(c *httpdevice.Config) { c.Body, c.Bodies = 100<<10, 128<<10 })
	h.engine.Hold(transporttest.Telemetry)
	body := `{"a":"` + strings.Repeat("x", 90<<10) + `"}`
	acked := h.device.Telemetry([]byte(body))
	held := h.engine.Next(t, transporttest.Telemetry)
	if a := h.device.must(t, "POST", "/telemetry", body); a.status != 503 || a.header.Get("Retry-After") != "1" {
		t.Errorf("a body without room: %s", a)
	}
	held.Settle(nil)
	if err := <-acked; err != nil {
		t.Fatal(err)
	}
}

// raw sends bytes and reads one answer.
func raw(t *testing.T, addr, request string) *http.Response {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(addr, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // the answer was read
	fmt.Fprint(c, request)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp
}

// TestBodiesThatDoNotCome: a chunked body is counted as it comes, a slow one is cut off, and an empty one is missing.
func TestBodiesThatDoNotCome(t *testing.T) {
	h := newHouse(t, func(c *httpdevice.Config) { c.ReadTimeout = 50 * time.Millisecond })
	chunk := fmt.Sprintf("10000\r\n%s\r\n", strings.Repeat("x", 0x10000))
	for name, c := range map[string]struct {
		request string
		status  int
	}{
		"too large in chunks": {"Transfer-Encoding: chunked\r\n\r\n" + chunk + "1\r\nx\r\n0\r\n\r\n", 413},
		"the most in chunks":  {"Transfer-Encoding: chunked\r\n\r\n" + chunk + "0\r\n\r\n", 200},
		"empty in chunks":     {"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		"never":               {"Content-Length: 5\r\n\r\n{", 400},
		"no chunks":           {"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400},
	} {
		t.Run(name, func(t *testing.T) {
			if resp := raw(t, h.addr, "POST /api/v1/d/rpc/1 HTTP/1.1\r\nHost: x\r\n"+c.request); resp.StatusCode != c.status {
				t.Errorf("%d, want %d", resp.StatusCode, c.status)
			}
		})
	}
}

// broken is an authenticator that cannot know.
type broken struct{}

func (broken) Authenticate(_ context.Context, c transports.Credentials) (transports.Identity, error) {
	if strings.HasSuffix(c.Token, "-panic") {
		panic("the registry is broken")
	}
	return transports.Identity{}, errors.New("the registry is away")
}

// TestTokensAreNotLogged, whatever goes wrong.
func TestTokensAreNotLogged(t *testing.T) {
	var log strings.Builder
	engine := transporttest.NewEngine()
	s, err := httpdevice.New(httpdevice.Default(), broken{}, engine, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"s3cret/rpc", "s3cret-panic/telemetry", "s3cret/rpc/abc", "s3cret/claim"} {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "POST", "/api/v1/"+path, strings.NewReader("{}")))
		if w.Code < 400 {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	if text := log.String(); strings.Contains(text, "s3cret") || !strings.Contains(text, "the registry is away") {
		t.Errorf("the log says\n%s", text)
	}
}
