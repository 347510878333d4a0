package client

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// server answers one path.
func server(t *testing.T, handle http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewServer(handle)
	t.Cleanup(s.Close)
	c, err := New(s.URL+"/", "secret")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestNewRefusesWhatIsNoURL(t *testing.T) {
	for _, text := range []string{"", "127.0.0.1:8080", "ftp://host", "http://"} {
		if _, err := New(text, ""); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

func TestSendSaysWhatTheServerExpects(t *testing.T) {
	c := server(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		want := `{"method":"m","params":[1],"timeout":7000,"persistent":true}`
		if err != nil || string(body) != want || r.URL.Path != "/api/rpc/oneway/d" || r.Header.Get("X-Authorization") != "Bearer secret" ||
			r.Header.Get("Idempotency-Key") != "k" {
			t.Errorf("the server got %s %s %v, %v", r.URL.Path, body, r.Header, err)
		}
		w.Header().Set(HeaderCall, "id")
		io.WriteString(w, `{"rpcId":"id"}`)
	})
	answer, err := c.Send(t.Context(), "d", true, CallRequest{Method: "m", Params: []byte(`[1]`), Timeout: 7000, Persistent: true, Key: "k"})
	if err != nil || answer.ID != "id" || string(answer.Body) != `{"rpcId":"id"}` {
		t.Errorf("got %+v, %v", answer, err)
	}
}

func TestErrorsNameStatusCodeAndCall(t *testing.T) {
	for body, want := range map[string]string{
		`{"status":504,"message":"Timeout","code":"response_timeout","detail":"no answer","rpcId":"c1"}`: "the server answered 504: Timeout: response_timeout: no answer (call c1)",
		"plain text\n": "the server answered 504: plain text (call c2)",
		"":             "the server answered 504 (call c2)",
	} {
		c := server(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(HeaderCall, "c2")
			w.WriteHeader(504)
			io.WriteString(w, body)
		})
		err := c.Do(t.Context(), http.MethodGet, "/x", nil, nil)
		if err == nil || err.Error() != want || StatusOf(err) != 504 {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestNotices(t *testing.T) {
	stream := ": hello\n\nid: 1\nevent: Queued\ndata: {\"a\":\ndata: 1}\n\nid: 2\n\n:\nevent: state\ndata:{}\n\ndata: cut off"
	var got []string
	err := readNotices(strings.NewReader(stream), func(n Notice) error {
		got = append(got, n.ID+"|"+n.Name+"|"+string(n.Data))
		return nil
	})
	want := `1|Queued|{"a":1}` + "\n" + `2|state|{}`
	if err != nil || strings.Join(got, "\n") != want {
		t.Errorf("got %q, %v", got, err)
	}
	stop := errors.New("stop")
	if err := readNotices(strings.NewReader(stream), func(Notice) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("the reader's error became %v", err)
	}
}

// TestWatchThatIsCut: a server that shuts down ends its streams; that is not the end of the call.
func TestWatchThatIsCut(t *testing.T) {
	c := server(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "event: Queued\ndata: {}\n\n")
		if strings.Contains(r.URL.Path, "ended") {
			io.WriteString(w, "event: state\ndata: {}\n\n")
		}
	})
	all := func(Notice) error { return nil }
	if err := c.Watch(t.Context(), "open", all); !errors.Is(err, ErrCut) {
		t.Errorf("a stream that was cut gives %v", err)
	}
	if err := c.Watch(t.Context(), "ended", all); err != nil {
		t.Errorf("a call that ended gives %v", err)
	}
	if err := c.Watch(t.Context(), "open", func(Notice) error { return ErrStop }); err != nil {
		t.Errorf("who has seen enough gets %v", err)
	}
}

func TestStreamEndsWithTheServersReason(t *testing.T) {
	c := server(t, func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "event: error\ndata: {\"status\":503,\"message\":\"going down\"}\n\n")
	})
	err := c.Follow(t.Context(), StreamFilter{}, func(n Notice) error { return errors.New(n.Name + " was handed over") })
	if StatusOf(err) != 503 {
		t.Errorf("got %v", err)
	}
}

func TestLifeOf(t *testing.T) {
	// {"exp":4102444800}: 2100-01-01
	left, err := LifeOf("e30.eyJleHAiOjQxMDI0NDQ4MDB9.x")
	if err != nil || left < 365*24*time.Hour {
		t.Errorf("got %s, %v", left, err)
	}
	for _, text := range []string{"", "a.b", "e30.!.x", "e30.e30"} {
		if _, err := LifeOf(text); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}
