package api

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"callchain/engine"
	"callchain/engine/rpc"
)

const twoway = "/api/rpc/twoway/"

func answering(h *house, body string) {
	h.engine.answer = func(context.Context, engine.CallRequest) (engine.CallResult, error) {
		return engine.CallResult{Phase: rpc.PhaseSucceeded, Response: rpc.NewPayload([]byte(body))}, nil
	}
}

func TestBodiesAreBounded(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.Body = 100 })
	answering(h, `1`)
	fits := `{"method":"m","params":"` + strings.Repeat("x", 74) + `"}`
	for _, c := range []struct {
		body   io.Reader
		status int
	}{
		{strings.NewReader(fits), 200},
		{iotest.OneByteReader(strings.NewReader(fits)), 200}, // chunked: the length is not told
		{strings.NewReader(fits + " "), 413},
		{iotest.OneByteReader(strings.NewReader(fits + " ")), 413},
		{iotest.ErrReader(errors.New("cut off")), 400},
	} {
		r := httptest.NewRequest(http.MethodPost, twoway+deviceID.String(), c.body)
		r.Header.Set("Authorization", "Bearer tenant")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.status {
			t.Errorf("%d %s, want %d", w.Code, w.Body, c.status)
		}
		if w.Code == 413 && !strings.Contains(w.Body.String(), `"message":"Payload size exceeds the limit of 100 bytes"`) {
			t.Errorf("413 says %s", w.Body)
		}
	}
	if len(fits) != 100 {
		t.Fatalf("the body that fits has %d bytes", len(fits))
	}
}

func TestMemoryForBodiesIsBoundedAndGivenBack(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.Bodies = 1000 })
	answering(h, `1`)
	big := `{"method":"m","params":"` + strings.Repeat("x", 1000) + `"}`
	for range 3 {
		w := h.do("POST", twoway+deviceID.String(), "tenant", big)
		if w.Code != 503 || w.Header().Get("Retry-After") == "" {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		for range 50 {
			if w := h.do("POST", twoway+deviceID.String(), "tenant", `{"method":"m"}`); w.Code != 200 {
				t.Fatalf("memory is not given back: %d %s", w.Code, w.Body)
			}
		}
	}
}

func TestRequestsAreBounded(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.Requests = 1 })
	inside, leave := make(chan struct{}), make(chan struct{})
	h.engine.answer = func(context.Context, engine.CallRequest) (engine.CallResult, error) {
		close(inside)
		<-leave
		return engine.CallResult{Phase: rpc.PhaseSucceeded}, nil
	}
	done := make(chan int)
	go func() { done <- h.do("POST", twoway+deviceID.String(), "tenant", `{"method":"m"}`).Code }()
	<-inside
	if w := h.do("GET", "/api/auth/user", "tenant", ""); w.Code != 503 || w.Header().Get("Retry-After") != "1" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	if w := h.do("GET", "/livez", "", ""); w.Code != 200 {
		t.Errorf("the health of a busy server: %d", w.Code)
	}
	close(leave)
	if code := <-done; code != 200 {
		t.Errorf("the waiting call: %d", code)
	}
	if w := h.do("GET", "/api/auth/user", "tenant", ""); w.Code != 200 {
		t.Errorf("afterwards: %d", w.Code)
	}
}

func TestAPanicIsA500(t *testing.T) {
	h := newHouse(t)
	h.engine.answer = func(context.Context, engine.CallRequest) (engine.CallResult, error) { panic("boom") }
	w := h.do("POST", twoway+deviceID.String(), "tenant", `{"method":"m"}`)
	if w.Code != 500 || !strings.Contains(w.Body.String(), `"code":"internal"`) || strings.Contains(w.Body.String(), "boom") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := h.do("GET", "/livez", "", ""); w.Code != 200 {
		t.Errorf("afterwards: %d", w.Code)
	}
}

func TestStoreFailureIsA500WithoutItsText(t *testing.T) {
	h := newHouse(t)
	h.store.fail = errors.New("password of the database is secret")
	for _, path := range []string{"/api/rpc/persistent/" + openID.String(), "/api/rpc/calls", "/api/rpc/calls/" + openID.String(), "/api/dead-letters"} {
		w := h.do("GET", path, "tenant", "")
		if w.Code != 500 || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}

// A caller that goes away ends the wait; what becomes of the call is the engine's business.
func TestACallerThatGoesAway(t *testing.T) {
	h := newHouse(t)
	waiting, ended := make(chan struct{}), make(chan error, 1)
	h.engine.answer = func(ctx context.Context, r engine.CallRequest) (engine.CallResult, error) {
		close(waiting)
		<-ctx.Done()
		ended <- ctx.Err()
		return engine.CallResult{ID: callID1}, ctx.Err()
	}
	ctx, cancel := context.WithCancel(t.Context())
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, twoway+deviceID.String(), strings.NewReader(`{"method":"m"}`))
	r.Header.Set("Authorization", "Bearer tenant")
	w := httptest.NewRecorder()
	served := make(chan struct{})
	go func() { h.ServeHTTP(w, r); close(served) }()
	<-waiting
	cancel()
	<-served
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if len(h.engine.ended) > 0 || w.Body.Len() > 0 {
		t.Errorf("the call was ended: %v, answer %s", h.engine.ended, w.Body)
	}
}

// TestServeEnds: waiting callers get a 503 with their call's id, streams end, and Serve returns.
func TestServeEnds(t *testing.T) {
	h := newHouse(t)
	waiting := make(chan struct{})
	h.engine.answer = func(ctx context.Context, r engine.CallRequest) (engine.CallResult, error) {
		close(waiting)
		<-ctx.Done()
		return engine.CallResult{ID: callID1}, ctx.Err()
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- Serve(ctx, l, h, DefaultConfig(), 200*time.Millisecond, slog.New(slog.DiscardHandler))
	}()
	answers := make(chan *http.Response, 1)
	go func() {
		req, err := http.NewRequest(http.MethodPost, "http://"+l.Addr().String()+twoway+deviceID.String(), strings.NewReader(`{"method":"m"}`))
		if err != nil {
			t.Error(err)
			return
		}
		req.Header.Set("Authorization", "Bearer tenant")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Error(err)
		}
		answers <- resp
	}()
	<-waiting
	stop()
	resp := <-answers
	if resp == nil {
		t.FailNow()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 503 || resp.Header.Get(headerCall) != callID1.String() || !strings.Contains(string(body), `"code":"shutting_down"`) {
		t.Errorf("%d %v %s %v", resp.StatusCode, resp.Header, body, err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestRefusedCallsAreHeldBack: nothing is done for a call that an overloaded engine would refuse, and who is refused does not come back at once; but not
// everybody is held.
func TestRefusedCallsAreHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.engine.overloaded = true
		h.engine.answer = func(context.Context, engine.CallRequest) (engine.CallResult, error) {
			t.Error("the engine was asked")
			return engine.CallResult{}, engine.ErrBusy
		}
		refused := make(chan time.Duration, holdMost+1)
		began := time.Now()
		for range holdMost + 1 {
			go func() {
				if w := h.do("POST", twoway+deviceID.String(), "tenant", `{"method":"m"}`); w.Code != 503 || w.Header().Get("Retry-After") == "" {
					t.Errorf("%d %v", w.Code, w.Header())
				}
				refused <- time.Since(began)
			}()
		}
		synctest.Wait()
		if n := len(refused); n != 1 {
			t.Fatalf("%d callers were answered at once, want the one beyond %d", n, holdMost)
		}
		for range holdMost + 1 {
			if took := <-refused; took != 0 && took != holdFor {
				t.Fatalf("a caller was answered after %s, want %s", took, holdFor)
			}
		}
		if w := h.do("GET", "/api/auth/user", "tenant", ""); w.Code != 200 || time.Since(began) > holdFor {
			t.Errorf("another request: %d", w.Code)
		}
	})
}
