package api

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"testing"

	"callchain/api/jackson"
	"callchain/engine"
	"callchain/engine/rpc"
	"callchain/eventstore"
	"callchain/registry"
	"callchain/registry/auth"
	"callchain/registry/password"
)

// everyCode reads the constants of type Code from the source of engine/rpc, so that a new one must be judged here.
func everyCode(t *testing.T) []rpc.Code {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "../engine/rpc/command.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var codes []rpc.Code
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if kind, ok := spec.Type.(*ast.Ident); !ok || kind.Name != "Code" {
			return true
		}
		text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		codes = append(codes, rpc.Code(text))
		return true
	})
	if len(codes) < 16 {
		t.Fatalf("found only %v", codes)
	}
	return codes
}

// TestEveryCodeHasAnAnswer: status as the end of a call in v1 and v2 (decision 0004), and as a refusal.
func TestEveryCodeHasAnAnswer(t *testing.T) {
	want := map[rpc.Code][3]int{
		rpc.CodeTimeout:         {408, 504, 409},
		rpc.CodeOffline:         {409, 504, 409},
		rpc.CodeNotDispatched:   {408, 504, 409},
		rpc.CodeChainFailed:     {408, 504, 409},
		rpc.CodeDeliveryTimeout: {408, 504, 409},
		rpc.CodeAnswerTimeout:   {408, 504, 409},
		rpc.CodeTransport:       {408, 504, 409},
		rpc.CodeCallerGone:      {408, 504, 409},
		rpc.CodeCancelled:       {408, 504, 409},
		rpc.CodeTooManyOpen:     {429, 429, 429},
		rpc.CodeKnown:           {409, 409, 409},
		rpc.CodeEnded:           {408, 504, 409},
		rpc.CodeUnknown:         {408, 504, 404},
		rpc.CodeDispatched:      {408, 504, 409},
		rpc.CodeSessionGone:     {408, 504, 409},
		rpc.CodeNoAck:           {408, 504, 409},
	}
	for _, code := range everyCode(t) {
		statuses, judged := want[code]
		if !judged {
			t.Errorf("%s is not judged: add it to refusalAnswer or outcomeMessages, and here", code)
			continue
		}
		result := engine.CallResult{ID: callID1, Phase: rpc.PhaseFailed, Code: code, Detail: "why"}
		got := []*apiError{outcomeError(v1, result), outcomeError(v2, result), answerTo(fmt.Errorf("calling: %w", &rpc.Refusal{Code: code, Detail: "why"}))}
		for i, e := range got {
			if e.status != statuses[i] || e.code != string(code) || e.message == "" || e.detail != "why" {
				t.Errorf("%s, case %d: %d %q %q %q, want %d", code, i, e.status, e.code, e.message, e.detail, statuses[i])
			}
		}
		if got[0].call != callID1 {
			t.Errorf("%s: the answer does not name the call", code)
		}
	}
}

func TestSentinelsHaveAnswers(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		number int
		code   string
	}{
		{engine.ErrBusy, 503, 2, "busy"},
		{engine.ErrStopping, 503, 2, "shutting_down"},
		{engine.ErrUnready, 503, 2, "not_ready"},
		{engine.ErrUncertain, 503, 2, "outcome_unknown"},
		{engine.ErrCursor, 400, 31, "invalid_cursor"},
		{registry.ErrNotFound, 404, 32, "not_found"},
		{registry.ErrExists, 400, 31, "already_exists"},
		{registry.ErrInvalid, 400, 31, "invalid_value"},
		{registry.ErrStale, 409, 35, "version_conflict"},
		{registry.ErrInUse, 400, 31, "in_use"},
		{registry.ErrBadPassword, 401, 10, "bad_credentials"},
		{registry.ErrDisabled, 401, 10, "user_disabled"},
		{auth.ErrMalformed, 401, 10, "bad_credentials"},
		{auth.ErrNotAccess, 401, 10, "bad_credentials"},
		{auth.ErrExpired, 401, 11, "token_expired"},
		{&auth.TooManyError{RetryAfter: 1}, 429, 33, "too_many_logins"},
		{password.ErrBusy, 503, 2, "busy"},
		{&eventstore.OutageError{Reason: eventstore.ReasonFull, Err: errors.New("53100")}, 503, 2, "database_unavailable"},
		{&eventstore.OutageError{Reason: eventstore.ReasonUncertain, Err: errors.New("broken pipe")}, 503, 2, "outcome_unknown"},
		{fmt.Errorf("%w: %w", engine.ErrUncertain, &eventstore.OutageError{Reason: eventstore.ReasonAway, Err: errors.New("refused")}), 503, 2, "outcome_unknown"},
		{jackson.ErrSyntax, 400, 31, "invalid_body"},
		{context.DeadlineExceeded, 503, 2, "deadline_exceeded"},
		{errors.New("disk on fire"), 500, 2, "internal"},
	} {
		e := answerTo(fmt.Errorf("doing: %w", c.err))
		if e.status != c.status || e.errorCode != c.number || e.code != c.code || e.message == "" {
			t.Errorf("%v: %d %d %q %q, want %d %d %q", c.err, e.status, e.errorCode, e.code, e.message, c.status, c.number, c.code)
		}
		if (c.status == 503 || c.status == 429) && e.retry == 0 {
			t.Errorf("%v: no Retry-After", c.err)
		}
		if c.status == 500 && e.detail == "doing: disk on fire" {
			t.Error("an internal error is told to the caller")
		}
	}
}
