package step_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/nodes"

	"github.com/google/uuid"
)

func (s *script) event(t *testing.T, e *step.Event) string {
	data, err := e.AppendData(nil)
	if err != nil {
		t.Fatal(err)
	}
	kind := [...]string{"call", "device", "run"}[e.Stream.Kind]
	text := fmt.Sprintf("%s %s %s", kind, e.Stream.ID, e.Name())
	switch {
	case e.Name() == "RunParked":
		p := e.Run.(step.RunParked)
		text += fmt.Sprintf(" %d at %q", p.Number, p.Token.Node)
		if p.Call != uuid.Nil {
			text += " for call " + p.Call.String()
		}
		if p.Due != 0 {
			text += fmt.Sprintf(" until %d", p.Due)
		}
	case string(data) != "{}":
		text += " " + string(data)
	}
	if e.Event.Hops > 0 {
		text += fmt.Sprintf(" hops=%d", e.Event.Hops)
	}
	if e.Event.Chain != "" {
		text += fmt.Sprintf(" [%s]", e.Event.Chain)
	}
	return text
}

func writeText(w nodes.Write) string {
	scope := w.Key.Scope
	if scope == "" {
		scope = "latest"
	}
	if w.Delete {
		return fmt.Sprintf("%s %s deleted", scope, w.Key.Name)
	}
	return fmt.Sprintf("%s %s = %s at %d", scope, w.Key.Name, w.Value.JSON, w.Value.TS)
}

func (s *script) effect(t *testing.T, e step.Effect) string {
	switch e := e.(type) {
	case step.Deliver:
		body := e.Body
		if body == nil {
			read := s.bodies[e.Call.ID]
			body = &read
		}
		method, params := body.Command()
		return fmt.Sprintf("deliver %s wire=%d attempt=%d over %s: %s %s", e.Call.ID, e.Call.Wire, e.Call.Attempt, e.Session.ID, method, params)
	case step.NotifyCallers:
		text := fmt.Sprintf("notify %s %s", e.Call, e.Phase)
		if e.Code != "" {
			text += fmt.Sprintf(" %s %q", e.Code, e.Detail)
		}
		if e.Response.Form != rpc.Empty {
			text += fmt.Sprintf(" %s", e.Response.Bytes)
		}
		return text
	case step.Respond:
		return fmt.Sprintf("respond to %d over %s: %s", e.Request, e.Session, e.Body)
	case step.CloseSession:
		return fmt.Sprintf("close %s: %s", e.Session, e.Why)
	case step.GiveAttributes:
		return fmt.Sprintf("give attributes to request %d: client %s shared %s", e.Request, valuesText(e.Client), valuesText(e.Shared))
	case step.PushAttributes:
		return fmt.Sprintf("push shared %s, deleted %v", valuesText(e.Changed), e.Deleted)
	case step.LogLine:
		return "log " + e.Text
	case step.DeadLetter:
		return fmt.Sprintf("dead letter %s: %s", e.Reason, e.Detail)
	}
	t.Fatalf("unknown effect %T", e)
	return ""
}

func valuesText(m map[string][]byte) string {
	parts := make([]string, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%s=%s", k, m[k]))
	}
	return "{" + strings.Join(parts, " ") + "}"
}

// waiting writes what is open: calls and parked runs.
func (s *script) waiting() {
	d := s.devices[device]
	for _, c := range openCalls(d) {
		s.line(fmt.Sprintf("= call %s %s, shown %s", c.ID, c.Phase, c.Status))
	}
	for _, id := range slices.SortedFunc(maps.Keys(s.parked), func(a, b uuid.UUID) int { return strings.Compare(s.short(a), s.short(b)) }) {
		s.line(fmt.Sprintf("= run %s waits with %d tokens", id, len(s.parked[id].Tokens)))
	}
	if s.out.Len() == 0 {
		s.line("= nothing")
	}
}

// withPanic adds a node that panics, which no node may.
func withPanic(r nodes.Registry) nodes.Registry {
	return nodes.NewRegistry(append(r.Kinds(), nodes.Define(nodes.Spec{
		Type: "broken", Category: nodes.Action, Summary: "Panics.", Relations: []string{nodes.Success}, Terminal: true, Example: `{}`,
	}, func(nodes.EmptyConfig) (nodes.Node, error) { return broken{}, nil }))...)
}

type broken struct{}

func (broken) Process(nodes.Msg) nodes.Out { panic("this node is broken") }
