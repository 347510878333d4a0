package step_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"callchain/chains"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/nodes"
	"callchain/nodes/builtin"

	"github.com/cockroachdb/datadriven"
	"github.com/google/uuid"
)

// TestRuns plays the scripts in testdata/runs: chains as users write them, commands, and below each what the step answers. Lines
// begin with + for an event, > for an effect, w for a write, ? for what had to be fetched first; = is what waits. Run with
// -rewrite to record.
func TestRuns(t *testing.T) {
	datadriven.Walk(t, "testdata/runs", func(t *testing.T, path string) {
		s := &script{stage: newStage(), names: map[uuid.UUID]string{uuid.Nil: "-", device: "D", tenant: "T"}}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return s.play(t, d) })
	})
}

type script struct {
	*stage
	names map[uuid.UUID]string
	out   strings.Builder
}

func (s *script) play(t *testing.T, d *datadriven.TestData) string {
	s.out.Reset()
	if at := s.arg(d, "at", ""); at != "" {
		wait, err := time.ParseDuration(at)
		if err != nil {
			d.Fatalf(t, "%v", err)
		}
		s.now = began.Add(wait)
	}
	switch d.Cmd {
	case "chain":
		s.compile(t, d)
		return "ok\n"
	case "info":
		s.info.LightFacts = d.HasArg("light-facts")
		if d.HasArg("no-chain") {
			s.info.Chain = nil
		}
		return "ok\n"
	case "have":
		s.values[s.key(d)] = nodes.Value{JSON: []byte(d.Input), TS: s.now.Millis()}
		return "ok\n"
	case "forget-bodies":
		clear(s.atHand)
		return "ok\n"
	case "tick":
		s.tick(t)
	case "online":
		s.one(t, step.RPC{Do: rpc.Connect{Session: s.id("A"), Transport: "mqtt"}})
		s.one(t, step.RPC{Do: rpc.Subscribe{Session: s.id("A")}})
	default:
		s.one(t, s.action(t, d))
	}
	s.waiting()
	return s.out.String()
}

func (s *script) arg(d *datadriven.TestData, key, otherwise string) string {
	for _, a := range d.CmdArgs {
		if a.Key == key && len(a.Vals) > 0 {
			return a.Vals[0]
		}
	}
	return otherwise
}

func (s *script) id(name string) uuid.UUID {
	s.names[named(name)] = name
	return named(name)
}

func (s *script) key(d *datadriven.TestData) nodes.Key {
	scope := map[string]string{"client": nodes.ClientScope, "shared": nodes.SharedScope, "server": nodes.ServerScope, "latest": ""}
	return nodes.Key{Entity: nodes.Entity{Type: nodes.Device, ID: device}, Scope: scope[d.CmdArgs[0].Key], Name: d.CmdArgs[1].Key}
}

// compile makes the input a chain; "root" is the one of the device.
func (s *script) compile(t *testing.T, d *datadriven.TestData) {
	name := d.CmdArgs[0].Key
	version, err := strconv.Atoi(s.arg(d, "version", "1"))
	if err != nil {
		d.Fatalf(t, "%v", err)
	}
	def, err := chains.Parse(name+".yaml", []byte(d.Input))
	if err != nil {
		d.Fatalf(t, "%v", err)
	}
	p, err := chains.Compile(def, withPanic(builtin.Registry()), s.id(name), version)
	if err != nil {
		d.Fatalf(t, "%v", err)
	}
	s.programs[p.ID] = p
	if name == "root" {
		s.info.Chain = p
	}
}

func (s *script) action(t *testing.T, d *datadriven.TestData) step.Action {
	name := ""
	if len(d.CmdArgs) > 0 {
		name = d.CmdArgs[0].Key
	}
	switch d.Cmd {
	case "call":
		return s.call(t, d, s.id(name))
	case "device-call":
		return step.DeviceCall{Service: "node", Request: rpc.Request{
			ID: s.id(name), Direction: rpc.FromDevice, Method: s.arg(d, "method", "getTime"), Params: []byte(d.Input),
			Session: s.id("A"), Request: 7, Expires: s.now.Add(time.Minute),
		}}
	case "telemetry":
		return step.Data{Type: nodes.PostTelemetry, Payload: []byte(d.Input)}
	case "attributes":
		return step.Data{Type: nodes.PostAttributes, Payload: []byte(d.Input)}
	case "ask-attributes":
		return step.AskAttributes{Session: s.id("A"), Request: 3, Client: list(s.arg(d, "client", "")), Shared: list(s.arg(d, "shared", ""))}
	case "change-shared":
		return change(t, d, nodes.SharedScope)
	case "change-server":
		return change(t, d, nodes.ServerScope)
	case "change-series":
		return changeSeries(t, d)
	}
	return step.RPC{Do: s.command(t, d, name)}
}

func (s *script) command(t *testing.T, d *datadriven.TestData, name string) rpc.Action {
	switch d.Cmd {
	case "written":
		o := s.devices[device]
		c := o.Find(s.id(name))
		return rpc.Written{Session: s.id("A"), Call: c.ID, Attempt: c.Attempt, Ack: true}
	case "ack":
		return rpc.Acknowledged{Call: s.id(name), Evidence: "puback"}
	case "reply":
		wire, err := strconv.Atoi(s.arg(d, "wire", "0"))
		if err != nil {
			d.Fatalf(t, "%v", err)
		}
		return rpc.Reply{Wire: int32(wire), Response: rpc.NewPayload([]byte(d.Input)), Late: s.late(d)}
	case "cancel":
		return rpc.Cancel{Call: s.id(name)}
	case "remove":
		return rpc.Remove{Call: s.id(name), Ended: d.HasArg("ended")}
	case "disconnect":
		return rpc.Disconnect{Session: s.id("A"), Why: "closed"}
	case "recover":
		return rpc.Recover{}
	}
	d.Fatalf(t, "unknown verb %q", d.Cmd)
	return nil
}

func (s *script) late(d *datadriven.TestData) uuid.UUID {
	if name := s.arg(d, "late", ""); name != "" {
		return s.id(name)
	}
	return uuid.Nil
}

func (s *script) call(t *testing.T, d *datadriven.TestData, id uuid.UUID) step.Call {
	wait, err := time.ParseDuration(s.arg(d, "expires", "60s"))
	if err != nil {
		d.Fatalf(t, "%v", err)
	}
	r := rpc.Request{
		ID: id, Method: s.arg(d, "method", "reboot"), Params: []byte(d.Input), Oneway: d.HasArg("oneway"),
		Persistent: d.HasArg("persistent"), Waiting: !d.HasArg("persistent"), Expires: began.Add(wait),
	}
	if d.Input == "" {
		r.Params = nil
	}
	r.Content = sha256.Sum256([]byte(r.Method + d.Input))
	return step.Call{Request: r, Customer: named("customer"), FailOffline: d.HasArg("fail-offline")}
}

func change(t *testing.T, d *datadriven.TestData, scope string) step.ChangeAttributes {
	a := step.ChangeAttributes{Scope: scope, Set: map[string]json.RawMessage{}}
	if d.Input != "" {
		if err := json.Unmarshal([]byte(d.Input), &a.Set); err != nil {
			d.Fatalf(t, "%v", err)
		}
	}
	for _, arg := range d.CmdArgs {
		if arg.Key == "delete" {
			a.Delete = arg.Vals
		}
	}
	return a
}

func changeSeries(t *testing.T, d *datadriven.TestData) step.ChangeSeries {
	var a step.ChangeSeries
	if err := json.Unmarshal([]byte(d.Input), &a); err != nil {
		d.Fatalf(t, "%v", err)
	}
	return a
}

func list(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, "+")
}

// tick fires what is due: the deadlines of calls, and the waits of runs.
func (s *script) tick(t *testing.T) {
	d := s.devices[device]
	for _, c := range openCalls(d) {
		if d.NextDeadline(c) <= s.now {
			s.one(t, step.RPC{Do: rpc.Tick{Call: c.ID}})
		}
	}
	for _, id := range slices.SortedFunc(maps.Keys(s.parked), func(a, b uuid.UUID) int { return strings.Compare(s.short(a), s.short(b)) }) {
		for _, p := range s.parked[id].Tokens {
			if p.Due != 0 && p.Due <= s.now {
				s.one(t, step.Wake{Run: id, Token: p.Number})
			}
		}
	}
}

// one steps one command and writes down the result.
func (s *script) one(t *testing.T, action step.Action) {
	t.Helper()
	r, panicked := s.guarded(t, action)
	if panicked != "" {
		s.line("panic: " + panicked)
		return
	}
	for _, f := range s.fetches {
		s.line("? " + f)
	}
	for i := range r.Events {
		s.line("+ " + s.event(t, &r.Events[i]))
	}
	for _, w := range r.Writes {
		s.line("w " + writeText(w))
	}
	for _, e := range r.Effects {
		s.line("> " + s.effect(t, e))
	}
	if r.Refusal != nil {
		s.line("refused: " + r.Refusal.Error())
	}
}

// guarded steps with a net: a node that panics must leave the state as it was.
func (s *script) guarded(t *testing.T, action step.Action) (r step.Result, panicked string) {
	before := fmt.Sprint(s.snapshot())
	defer func() {
		if p := recover(); p != nil {
			panicked = fmt.Sprint(p)
			if fmt.Sprint(s.snapshot()) != before {
				t.Error("a panic left the state changed")
			}
		}
	}()
	return s.do(t, action), ""
}

func (s *script) line(text string) { s.out.WriteString(s.readable(text) + "\n") }

var ids = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

// short is the short name of an id; ids that the step made are #1, #2, … in the order in which they were made.
func (s *script) short(id uuid.UUID) string {
	if name, ok := s.names[id]; ok {
		return name
	}
	for i := range s.ids {
		if name := fmt.Sprintf("#%d", i+1); named(name) == id {
			s.names[id] = name
			return name
		}
	}
	return id.String()
}

var (
	content = regexp.MustCompile(`,"content":"[^"]*"`)
	times   = regexp.MustCompile(`18000\d{11}|18000\d{8}`)
)

func (s *script) readable(text string) string {
	text = ids.ReplaceAllStringFunc(text, func(id string) string { return s.short(uuid.MustParse(id)) })
	text = content.ReplaceAllString(text, "")
	return times.ReplaceAllStringFunc(text, func(digits string) string {
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil {
			return digits
		}
		if len(digits) == 13 {
			n *= 1000
		}
		return "@" + (time.Duration(n-int64(began)) * time.Microsecond).String()
	})
}
