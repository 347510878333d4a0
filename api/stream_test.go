package api

import (
	"bufio"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"callchain/engine/rpc"
)

// reader reads a stream of server-sent events block by block.
type reader struct {
	t      *testing.T
	blocks chan string // closed at the end of the stream
	resp   *http.Response
}

// openStream asks for a stream on a real connection.
func openStream(t *testing.T, h http.Handler, path string, header ...string) *reader {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Authorization", "Bearer tenant")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	r := &reader{t: t, blocks: make(chan string), resp: resp}
	go r.read(ctx)
	return r
}

func (r *reader) read(ctx context.Context) {
	defer close(r.blocks)
	in := bufio.NewScanner(r.resp.Body)
	var block strings.Builder
	for in.Scan() {
		if in.Text() != "" {
			block.WriteString(in.Text() + "\n")
			continue
		}
		select {
		case r.blocks <- block.String():
		case <-ctx.Done():
			return
		}
		block.Reset()
	}
}

// next is the next block that is not a mere heartbeat.
func (r *reader) next() string {
	r.t.Helper()
	timeout := time.After(10 * time.Second)
	for {
		select {
		case b, more := <-r.blocks:
			if !more {
				return "end"
			}
			if b != ":\n" {
				return b
			}
		case <-timeout:
			r.t.Fatal("nothing came in 10 s")
		}
	}
}

func (r *reader) wants(parts ...string) {
	r.t.Helper()
	b := r.next()
	for _, p := range parts {
		if !strings.Contains(b, p) {
			r.t.Fatalf("got %q, want %q in it", b, p)
		}
	}
}

func fastBeat(c *Config) { c.Heartbeat = 20 * time.Millisecond }

func TestEventStream(t *testing.T) {
	h := newHouse(t)
	r := openStream(t, h, "/api/events/stream?after=c0&type=Queued,Sent&deviceId="+deviceID.String())
	if after := <-h.engine.follows; after != "c0" {
		t.Errorf("followed after %q", after)
	}
	if kind := r.resp.Header.Get("Content-Type"); r.resp.StatusCode != 200 || kind != "text/event-stream" {
		t.Fatalf("%d %s", r.resp.StatusCode, kind)
	}
	mine := history(t, answeredID, deviceID, 0, asked("m", `{}`, true), rpc.Queued{Wire: 1}, rpc.Sent{Attempt: 1})
	foreign := mine[1]
	foreign.Tenant = otherID
	lone := mine[1]
	lone.Device = loneID
	for _, ev := range append([]int{}, 0, 1, 2) {
		h.engine.feed <- foreign // neither another tenant's …
		h.engine.feed <- lone    // … nor another device's
		h.engine.feed <- mine[ev]
	}
	r.wants("id: cursor-Queued\nevent: Queued\ndata: {", `"version":2`, `"data":{"wire":1}`)
	r.wants("id: cursor-Sent\nevent: Sent\n")
	close(h.engine.feed)
	r.wants("event: error\n", `"status":500`)
	if b := r.next(); b != "end" {
		t.Errorf("the stream goes on with %q", b)
	}
}

func TestEventStreamResumesWhereTheReaderWas(t *testing.T) {
	h := newHouse(t, fastBeat)
	r := openStream(t, h, "/api/events/stream?after=old&type=Sent", "Last-Event-ID", "newer")
	if after := <-h.engine.follows; after != "newer" {
		t.Errorf("followed after %q", after)
	}
	h.engine.feed <- history(t, answeredID, deviceID, 0, asked("m", `{}`, true))[0]
	r.wants(":\nid: cursor-Requested\n") // a heartbeat moves the cursor on past what was not wanted
}

func TestEventStreamRefusesAWrongCursor(t *testing.T) {
	w := newHouse(t).do("GET", "/api/events/stream?after=bad", "tenant", "")
	if w.Code != 400 || !strings.Contains(w.Body.String(), `"code":"invalid_cursor"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestStreamsAreBounded(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.Streams = 1 })
	openStream(t, h, "/api/events/stream")
	w := h.do("GET", "/api/events/stream", "tenant", "")
	if w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	if w := h.do("GET", "/api/auth/user", "tenant", ""); w.Code != 200 {
		t.Errorf("a stream takes the place of a request: %d", w.Code)
	}
}

func TestWatchUntilTheEnd(t *testing.T) {
	h := newHouse(t)
	all := history(t, openID, deviceID, 0, asked("m", `{}`, true), rpc.Queued{Wire: 1}, rpc.Sent{Attempt: 1}, rpc.Succeeded{Response: rpc.NewPayload([]byte(`1`))})
	h.store.add(all[0])
	h.store.add(all[1])
	r := openStream(t, h, "/api/rpc/calls/"+openID.String()+"/watch")
	r.wants("id: 1\nevent: Requested\n")
	r.wants("id: 2\nevent: Queued\n")
	h.store.add(all[2])
	h.engine.feed <- all[2]
	r.wants("id: 3\nevent: Sent\n")
	h.engine.feed <- all[2] // told twice, shown once
	h.store.add(all[3])
	go func() { // who watches may have found it in the store by then, and be gone
		select {
		case h.engine.feed <- all[3]:
		case <-t.Context().Done():
		}
	}()
	r.wants("id: 4\nevent: Succeeded\n")
	r.wants("event: state\n", `"phase":"succeeded"`, `"response":{"json":1}`)
	if b := r.next(); b != "end" {
		t.Errorf("the stream goes on with %q", b)
	}
}

// An event between the reading of the history and the beginning of following is found at the next heartbeat.
func TestWatchFindsWhatItWasNotToldOf(t *testing.T) {
	h := newHouse(t, fastBeat)
	all := history(t, openID, deviceID, 0, asked("m", `{}`, true), rpc.Cancelled{})
	h.store.add(all[0])
	r := openStream(t, h, "/api/rpc/calls/"+openID.String()+"/watch")
	r.wants("event: Requested\n")
	h.store.add(all[1])
	r.wants("event: Cancelled\n")
	r.wants("event: state\n", `"phase":"cancelled"`)
}

func TestWatchResumesBehindAVersion(t *testing.T) {
	h := newHouse(t)
	fillStore(t, h.store)
	r := openStream(t, h, "/api/rpc/calls/"+answeredID.String()+"/watch", "Last-Event-ID", "4")
	r.wants("id: 5\nevent: Succeeded\n")
	r.wants("event: state\n")
	if w := h.do("GET", "/api/rpc/calls/"+uuidNobody+"/watch", "tenant", ""); w.Code != 404 {
		t.Errorf("watching the unknown: %d", w.Code)
	}
}

const uuidNobody = "11111111-2222-3333-4444-555555555555"
