package step_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"callchain/engine/rpc"
	"callchain/engine/step"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// examples are commands of every kind that travels, filled as richly as they come.
func examples() map[string]step.Command {
	three := 3
	id := func(b byte) uuid.UUID { return uuid.UUID{15: b} }
	request := rpc.Request{
		ID: id(1), Method: "setLed", Params: json.RawMessage(`{"on":true,"text":"<&>"}`), Persistent: true, Expires: 1_700_000_010_000_000, Retries: &three,
		Order: rpc.OrderOnAck, Info: json.RawMessage(`{"by":"night"}`), Content: rpc.Digest{1, 2, 0xff},
	}
	own := rpc.Request{ID: id(2), Direction: rpc.FromDevice, Method: "now", Params: json.RawMessage(`null`), Expires: 7, Session: id(3), Request: 42}
	life := func(do rpc.Action) step.Action { return step.RPC{Do: do} }
	out := map[string]step.Command{}
	for name, do := range map[string]step.Action{
		"call":              step.Call{Request: request, Customer: id(4), FailOffline: true},
		"device_call":       step.DeviceCall{Request: own, Service: "node-1"},
		"data":              step.Data{Type: "POST_TELEMETRY_REQUEST", Payload: json.RawMessage(`{"t":21.50}`)},
		"ask_attributes":    step.AskAttributes{Session: id(3), Request: 1, Client: []string{"a"}, Shared: []string{"b", "c"}},
		"change_attributes": step.ChangeAttributes{Scope: "SHARED_SCOPE", Set: map[string]json.RawMessage{"limit": json.RawMessage(`1.0`)}, Delete: []string{"old"}},
		"change_series":     step.ChangeSeries{Points: []step.Point{{TS: 1_700_000_000_000, Key: "t", Value: json.RawMessage(`21.50`)}}, Delete: []string{"old"}},
		"reply":             life(rpc.Reply{Wire: 17, Response: rpc.NewPayload([]byte(`{"ok":true}`))}),
		"reply.binary":      life(rpc.Reply{Wire: 18, Response: rpc.NewPayload([]byte{0xff, 0})}),
		"written":           life(rpc.Written{Session: id(3), Call: id(1), Attempt: 2, Ack: true}),
		"acknowledged":      life(rpc.Acknowledged{Call: id(1), Evidence: "puback"}),
		"send_failed":       life(rpc.SendFailed{Session: id(3), Call: id(1), Detail: "queue_full", Permanent: true}),
		"cancel":            life(rpc.Cancel{Call: id(1)}),
		"remove":            life(rpc.Remove{Call: id(1)}),
		"connect":           life(rpc.Connect{Session: id(3), Transport: "mqtt", Remote: "127.0.0.1:9", Node: "node-1"}),
		"subscribe":         life(rpc.Subscribe{Session: id(3)}),
		"subscribe.once":    life(rpc.Subscribe{Session: id(3), Once: true}),
		"unsubscribe":       life(rpc.Unsubscribe{Session: id(3)}),
		"disconnect":        life(rpc.Disconnect{Session: id(3), Why: "closed"}),
	} {
		out[name] = step.Command{
			Meta:   rpc.Meta{Occurred: 1_700_000_000_000_000, Actor: "user:x", Cause: "rest", Hops: 1, Trace: [16]byte{0xab, 15: 1}},
			Tenant: id(9), Device: id(8), Waiter: step.Waiter{Node: "node-1/7", ID: id(7)}, Do: do,
		}
	}
	traced := out["call"]
	traced.Span = step.Span{ID: [8]byte{0xf0, 7: 7}, Sampled: true}
	out["call.traced"] = traced
	return out
}

// TestStoredCommands: commands that were written once are read for ever. Files of testdata/commands are added, never changed.
func TestStoredCommands(t *testing.T) {
	for name, c := range examples() {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join("testdata", "commands", name+".v1.json")
			want, err := os.ReadFile(file)
			if os.IsNotExist(err) && *record {
				b, err := step.AppendCommand(nil, c)
				if err != nil {
					t.Fatal(err)
				}
				want = append(b, '\n')
				err = os.WriteFile(file, want, 0o600)
				if err != nil {
					t.Fatal(err)
				}
			}
			if err != nil && len(want) == 0 {
				t.Fatalf("%v; -record writes what is new", err)
			}
			got, err := step.ReadCommand(want)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, c) {
				t.Errorf("%s is read as\n%+v, was\n%+v", file, got, c)
			}
			if kind, _, _ := strings.Cut(name, "."); step.KindOf(got.Do) != kind {
				t.Errorf("its kind is %q", step.KindOf(got.Do))
			}
		})
	}
}

// TestOwnCommandsAreNotEncoded: a command of the owner itself in an inbox would be forged, or a bug.
func TestOwnCommandsAreNotEncoded(t *testing.T) {
	for _, do := range []step.Action{step.Wake{}, step.RPC{Do: rpc.Tick{}}, step.RPC{Do: rpc.Recover{}}, step.RPC{Do: rpc.Dispatch{}}} {
		if b, err := step.AppendCommand(nil, step.Command{Do: do}); err == nil {
			t.Errorf("%T is written as %s", do, b)
		}
		if step.KindOf(do) != "" {
			t.Errorf("%T has the kind %q", do, step.KindOf(do))
		}
	}
}

func TestMalformedCommands(t *testing.T) {
	for text, want := range map[string]string{
		``:                       "unexpected end",
		`[]`:                     "cannot unmarshal",
		`{"v":2,"kind":"call"}`:  "version 2",
		`{"kind":"call"}`:        "version 0",
		`{"v":1,"kind":"tick"}`:  `kind "tick"`,
		`{"v":1,"kind":"reply"}`: "reading a reply",
		`{"v":1,"kind":"cancel","trace":"12","do":{}}`:                                 "32 digits",
		`{"v":1,"kind":"cancel","trace":"` + strings.Repeat("g", 32) + `","do":{}}`:    "trace id",
		`{"v":1,"kind":"call","do":{"content":"00"}}`:                                  "64 hex digits",
		`{"v":1,"kind":"reply","do":{"wire":99999999999,"response":{}}}`:               "reading a reply",
		`{"v":1,"kind":"data","device":"not a uuid","do":{"type":"x","payload":null}}`: "reading a command",
	} {
		_, err := step.ReadCommand([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %q", text, err, want)
		}
	}
}

// TestAnswersTravelWhole: whatever bytes a device answers with, the owner sees the same, but for white space in JSON.
func TestAnswersTravelWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		was := step.Command{Device: uuid.UUID{1}, Do: step.RPC{Do: rpc.Reply{
			Wire: rapid.Int32().Draw(t, "wire"), Response: rpc.NewPayload(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")),
		}}}
		was.Actor = rapid.String().Filter(func(s string) bool { return strings.ToValidUTF8(s, "") == s }).Draw(t, "actor")
		b, err := step.AppendCommand(nil, was)
		if err != nil {
			t.Fatal(err)
		}
		got, err := step.ReadCommand(b)
		if err != nil {
			t.Fatal(err)
		}
		twice, err := step.AppendCommand(nil, got)
		if err != nil || string(twice) != string(b) || got.Actor != was.Actor {
			t.Fatalf("%s became %s (%v)", b, twice, err)
		}
	})
}

func FuzzReadCommand(f *testing.F) {
	for _, c := range examples() {
		b, err := step.AppendCommand(nil, c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := step.ReadCommand(b)
		if err != nil {
			return
		}
		again, err := step.AppendCommand(nil, c)
		if err != nil {
			t.Fatalf("%s was read, but cannot be written: %v", b, err)
		}
		if _, err := step.ReadCommand(again); err != nil {
			t.Fatalf("%s became %s: %v", b, again, err)
		}
	})
}

func BenchmarkCommandOnTheWay(b *testing.B) {
	c := examples()["call"]
	b.ReportAllocs()
	var buf []byte
	for b.Loop() {
		var err error
		if buf, err = step.AppendCommand(buf[:0], c); err != nil {
			b.Fatal(err)
		}
		if _, err = step.ReadCommand(buf); err != nil {
			b.Fatal(err)
		}
	}
}
