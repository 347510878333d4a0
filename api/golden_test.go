package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"callchain/engine"
	"callchain/engine/deadletter"
	"callchain/engine/rpc"

	"github.com/cockroachdb/datadriven"
)

// names are what golden files write for ids.
var names = strings.NewReplacer(
	"<device>", deviceID.String(), "<lone>", loneID.String(), "<foreign>", foreignID.String(), "<profile>", profileID.String(),
	"<call>", callID1.String(), "<answered>", answeredID.String(), "<open>", openID.String(), "<removed>", removedID.String(),
	"<light>", lightID.String(), "<lonecall>", loneCallID.String(), "<nobody>", "11111111-2222-3333-4444-555555555555",
)

var unnamed = strings.NewReplacer(
	deviceID.String(), "<device>", loneID.String(), "<lone>", foreignID.String(), "<foreign>", profileID.String(), "<profile>",
	callID1.String(), "<call>", answeredID.String(), "<answered>", openID.String(), "<open>", removedID.String(), "<removed>",
	lightID.String(), "<light>", loneCallID.String(), "<lonecall>", tenantID.String(), "<tenant>", customerID.String(), "<customer>", adminID.String(), "<admin>",
)

// TestREST runs the scripts in testdata/rest. "engine" says what the next calls come to; "request" sends one, as it would be
// written on the wire (the token by its name), and shows the answer, and what the engine was asked.
func TestREST(t *testing.T) {
	datadriven.Walk(t, "testdata/rest", func(t *testing.T, path string) {
		h := newHouse(t)
		says := readContract(t, h)
		h.engine.answer = func(context.Context, engine.CallRequest) (engine.CallResult, error) {
			return engine.CallResult{}, errors.New("not scripted")
		}
		fillStore(t, h.store)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "engine":
				h.script(t, d.Input)
				return ""
			case "request":
				return h.request(t, says, d.Input)
			}
			t.Fatalf("unknown directive %q", d.Cmd)
			return ""
		})
	})
}

// script reads "phase [code] [json|text|binary payload]", "refuse code detail", "fail error", or "ready reasons…".
func (h *house) script(t *testing.T, line string) {
	verb, rest, _ := strings.Cut(line, " ")
	var result engine.CallResult
	var err error
	switch verb {
	case "refuse":
		code, detail, _ := strings.Cut(rest, " ")
		err = &rpc.Refusal{Code: rpc.Code(code), Detail: detail}
		h.engine.fail = err
	case "again": // what a dead letter's command comes to
		code, detail, _ := strings.Cut(rest, " ")
		h.engine.fail = &deadletter.RerunError{Code: code, Detail: detail}
	case "fail":
		err = map[string]error{
			"busy": engine.ErrBusy, "stopping": engine.ErrStopping, "unready": engine.ErrUnready, "uncertain": engine.ErrUncertain,
		}[rest]
		if rest == "stopping" || rest == "uncertain" {
			result.ID = callID1
		}
		h.engine.fail = err
	case "reasons":
		h.engine.reasons = strings.Split(rest, ";")
	default:
		result.Phase = rpc.ParsePhase(verb)
		kind, payload, _ := strings.Cut(rest, " ")
		forms := map[string]rpc.Form{"json": rpc.JSON, "text": rpc.Text, "binary": rpc.Binary}
		if form, ok := forms[kind]; ok {
			result.Response = rpc.Payload{Form: form, Bytes: []byte(payload)}
		} else {
			result.Code, result.Detail = rpc.Code(kind), payload
		}
		h.engine.fail = nil
	}
	h.engine.answer = func(context.Context, engine.CallRequest) (engine.CallResult, error) { return result, err }
}

// request sends "METHOD path", headers, an empty line and a body.
func (h *house) request(t *testing.T, says *contract, input string) string {
	in := bufio.NewReader(strings.NewReader(names.Replace(input)))
	first, err := in.ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	method, path, _ := strings.Cut(strings.TrimSpace(first), " ")
	header := http.Header{}
	for {
		line, err := in.ReadString('\n')
		name, value, found := strings.Cut(strings.TrimSpace(line), ": ")
		if found {
			header.Set(name, value)
		}
		if !found || err != nil {
			break
		}
	}
	body, err := io.ReadAll(in)
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(method, path, strings.NewReader(strings.TrimSuffix(string(body), "\n")))
	r.Header = header
	w := httptest.NewRecorder()
	asked := len(h.engine.calls)
	changed, ended := len(h.engine.changes), len(h.engine.ended)
	h.ServeHTTP(w, r)
	says.check(t, method, path, w)
	var out strings.Builder
	showAnswer(&out, w)
	for _, c := range h.engine.calls[asked:] {
		showCall(&out, &c)
	}
	for _, c := range h.engine.changes[changed:] {
		fmt.Fprintf(&out, "engine: change %s of %s: set %q delete %q by %s\n", c.Scope, c.Device, c.Set, c.Delete, c.Actor)
	}
	for _, e := range h.engine.ended[ended:] {
		fmt.Fprintf(&out, "engine: %s\n", e)
	}
	return unnamed.Replace(out.String())
}

func showAnswer(out *strings.Builder, w *httptest.ResponseRecorder) {
	fmt.Fprintf(out, "%d", w.Code)
	for _, name := range []string{"Content-Type", headerCall, "Retry-After", "Connection", "Vary", "Callchain-Chain-Version"} {
		if v := w.Header().Get(name); v != "" {
			fmt.Fprintf(out, " %s: %s;", name, v)
		}
	}
	out.WriteByte('\n')
	if w.Body.Len() > 0 {
		fmt.Fprintf(out, "%s\n", strings.TrimSuffix(w.Body.String(), "\n"))
	}
}

func showCall(out *strings.Builder, c *engine.CallRequest) {
	kind := "twoway"
	if c.Oneway {
		kind = "oneway"
	}
	params := "absent"
	if c.Params != nil {
		params = string(c.Params)
	}
	fmt.Fprintf(out, "engine: %s %q params %s, expires in %d ms", kind, c.Method, params, c.Expires.Sub(begun).Milliseconds())
	if c.Persistent {
		out.WriteString(", persistent")
	}
	if c.Chosen {
		fmt.Fprintf(out, ", id %s", c.ID)
	}
	if c.Retries != nil {
		fmt.Fprintf(out, ", retries %d", *c.Retries)
	}
	if c.Info != nil {
		fmt.Fprintf(out, ", info %s", c.Info)
	}
	if c.FailOffline {
		out.WriteString(", fails offline")
	}
	if c.Order != rpc.OrderDefault {
		fmt.Fprintf(out, ", order %d", c.Order)
	}
	if !c.Trace.None() {
		fmt.Fprintf(out, ", trace %x", c.Trace.Trace)
	}
	fmt.Fprintf(out, ", by %s\n", c.Actor)
}

// Every answer that is no success is JSON with ThingsBoard's four fields and ours.
func TestErrorsCarryAllFields(t *testing.T) {
	h := newHouse(t)
	for _, r := range [][3]string{
		{"POST", "/api/rpc/twoway/nope", "tenant"},
		{"GET", "/nowhere", "tenant"},
		{"GET", "/api/rpc/twoway/" + deviceID.String(), "tenant"},
		{"POST", "/api/rpc/twoway/" + deviceID.String(), ""},
	} {
		w := h.do(r[0], r[1], r[2], "{}")
		var fields map[string]any
		if err := json.Unmarshal(w.Body.Bytes(), &fields); err != nil {
			t.Fatalf("%v: %v in %s", r, err, w.Body)
		}
		for _, name := range []string{"status", "message", "errorCode", "timestamp", "code", "detail"} {
			if _, ok := fields[name]; !ok {
				t.Errorf("%v: no %s in %s", r, name, w.Body)
			}
		}
		if got := int(fields["status"].(float64)); got != w.Code || !slices.Contains(w.Header()["Content-Type"], "application/json") {
			t.Errorf("%v: status %d in the body of a %d, %v", r, got, w.Code, w.Header())
		}
	}
}

func TestNodesAndSchemaAreDescribed(t *testing.T) {
	h := newHouse(t)
	var kinds []nodeView
	if err := json.Unmarshal(h.do("GET", "/api/nodes", "tenant", "").Body.Bytes(), &kinds); err != nil || len(kinds) < 15 {
		t.Fatalf("%d kinds, %v", len(kinds), err)
	}
	for _, k := range kinds {
		if k.Type == "" || k.Summary == "" || k.Schema["type"] != "object" || !json.Valid(k.Example) {
			t.Errorf("%+v is not described", k)
		}
	}
	var schema map[string]any
	if err := json.Unmarshal(h.do("GET", "/api/chains/schema", "tenant", "").Body.Bytes(), &schema); err != nil || schema["type"] != "object" {
		t.Errorf("schema of chains: %v, %v", schema["type"], err)
	}
}
