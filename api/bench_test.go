package api

import (
	"context"
	"io"
	"net/http"
	"testing"

	"callchain/engine"
	"callchain/engine/rpc"
)

// benchBody is a body that can be sent again and again.
type benchBody struct {
	text []byte
	at   int
}

func (b *benchBody) Read(p []byte) (int, error) {
	n := copy(p, b.text[b.at:])
	b.at += n
	if b.at == len(b.text) {
		return n, io.EOF
	}
	return n, nil
}

func (b *benchBody) Close() error { return nil }

// nullWriter is an answer that nobody reads.
type nullWriter struct{ header http.Header }

func (w *nullWriter) Header() http.Header         { return w.header }
func (w *nullWriter) Write(p []byte) (int, error) { return len(p), nil }
func (w *nullWriter) WriteHeader(int)             {}

// BenchmarkTwoway is the API's share of a two-way call: routing, token, body, and the device's answer on its way out. The engine
// answers at once; the network is not in it.
func BenchmarkTwoway(b *testing.B) {
	h := newHouse(b)
	response := rpc.NewPayload([]byte(`{"temperature": 21.50, "ok": true}`))
	fast := quickEngine{h.engine, engine.CallResult{ID: callID1, Phase: rpc.PhaseSucceeded, Response: response}}
	handler := h.handler(DefaultConfig(), fast)
	body := &benchBody{text: []byte(`{"method": "setGpio", "params": {"pin": 7, "value": 1}, "timeout": 5000}`)}
	r, err := http.NewRequest(http.MethodPost, twoway+deviceID.String(), nil)
	if err != nil {
		b.Fatal(err)
	}
	r.Header.Set("X-Authorization", "Bearer tenant")
	r.Body, r.ContentLength = body, int64(len(body.text))
	w := &nullWriter{header: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		body.at = 0
		clear(w.header)
		handler.ServeHTTP(w, r)
	}
	if w.header.Get(headerCall) == "" {
		b.Fatal("no call was made")
	}
}

type quickEngine struct {
	*engineDouble
	result engine.CallResult
}

func (e quickEngine) Call(context.Context, engine.CallRequest) (engine.CallResult, error) {
	return e.result, nil
}

func BenchmarkDecodeCall(b *testing.B) {
	body := []byte(`{"method": "setGpio", "params": {"pin": 7, "value": 1}, "timeout": 5000}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decodeCall(body); err != nil {
			b.Fatal(err)
		}
	}
}
