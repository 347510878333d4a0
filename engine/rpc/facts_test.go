package rpc_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"testing"

	"callchain/engine/rpc"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// factGens makes every fact, by its stored name.
func factGens() map[string]*rapid.Generator[rpc.Fact] {
	return map[string]*rapid.Generator[rpc.Fact]{
		"Requested":       gen(requested),
		"Queued":          gen(queued),
		"Sent":            gen(sent),
		"Delivered":       gen(func(t *rapid.T) rpc.Delivered { return rpc.Delivered{Evidence: text(t)} }),
		"Progressed":      gen(func(t *rapid.T) rpc.Progressed { return rpc.Progressed{Progress: jsonText(t)} }),
		"DeliveryFailed":  gen(deliveryFailed),
		"CancelRequested": rapid.Just[rpc.Fact](rpc.CancelRequested{}),
		"AnsweredLate":    gen(func(t *rapid.T) rpc.AnsweredLate { return rpc.AnsweredLate{Response: payload(t)} }),
		"Removed":         rapid.Just[rpc.Fact](rpc.Removed{}),
		"Succeeded":       gen(func(t *rapid.T) rpc.Succeeded { return rpc.Succeeded{Response: payload(t)} }),
		"Failed":          gen(func(t *rapid.T) rpc.Failed { return rpc.Failed{Code: rpc.Code(text(t)), Detail: text(t)} }),
		"Expired":         gen(func(t *rapid.T) rpc.Expired { return rpc.Expired{Offline: flip(t)} }),
		"Cancelled":       rapid.Just[rpc.Fact](rpc.Cancelled{}),
		"Rejected":        gen(func(t *rapid.T) rpc.Rejected { return rpc.Rejected{Code: rpc.Code(text(t)), Detail: text(t)} }),
		"SessionOpened": gen(func(t *rapid.T) rpc.SessionOpened {
			return rpc.SessionOpened{Session: id(t), Transport: text(t), Remote: text(t), Node: text(t)}
		}),
		"Subscribed":    gen(func(t *rapid.T) rpc.Subscribed { return rpc.Subscribed{Session: id(t), Once: flip(t)} }),
		"Unsubscribed":  gen(func(t *rapid.T) rpc.Unsubscribed { return rpc.Unsubscribed{Session: id(t)} }),
		"SessionClosed": gen(func(t *rapid.T) rpc.SessionClosed { return rpc.SessionClosed{Session: id(t), Why: text(t)} }),
	}
}

func gen[F rpc.Fact](make func(*rapid.T) F) *rapid.Generator[rpc.Fact] {
	return rapid.Custom(func(t *rapid.T) rpc.Fact { return make(t) })
}

func requested(t *rapid.T) rpc.Requested {
	f := rpc.Requested{
		Direction: rapid.SampledFrom([]rpc.Direction{rpc.ToDevice, rpc.FromDevice}).Draw(t, "direction"), Method: text(t),
		Oneway: flip(t), Persistent: flip(t), Waiting: flip(t), Expires: instant(t),
		Order: rpc.Order(rapid.IntRange(0, 3).Draw(t, "order")), Request: rapid.Int32().Draw(t, "request"),
	}
	if flip(t) {
		f.Params, f.Info, f.Session = jsonText(t), jsonText(t), id(t)
		n := rapid.Int().Draw(t, "retries")
		f.Retries = &n
		f.Content = rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "content")
	}
	return f
}

func queued(t *rapid.T) rpc.Queued {
	f := rpc.Queued{Wire: rapid.Int32().Draw(t, "wire"), Again: flip(t)}
	if flip(t) {
		m := text(t)
		f.Method, f.Params, f.Run = &m, jsonText(t), id(t)
	}
	return f
}

func sent(t *rapid.T) rpc.Sent {
	return rpc.Sent{Session: id(t), Attempt: rapid.Int16().Draw(t, "attempt"), Ack: flip(t)}
}

func deliveryFailed(t *rapid.T) rpc.DeliveryFailed {
	return rpc.DeliveryFailed{Attempt: rapid.Int16().Draw(t, "attempt"), Reason: rpc.Code(text(t)), Requeue: flip(t), RetryAt: instant(t)}
}

// id is one of a few, so that facts of one call and one session meet.
func id(t *rapid.T) uuid.UUID {
	return rapid.SampledFrom([]uuid.UUID{uuid.Nil, named("c1"), named("c2"), named("A")}).Draw(t, "id")
}

func flip(t *rapid.T) bool           { return rapid.Bool().Draw(t, "flag") }
func instant(t *rapid.T) rpc.Instant { return rpc.Instant(rapid.Int64().Draw(t, "instant")) }
func text(t *rapid.T) string         { return rapid.String().Draw(t, "text") }

// jsonText is compact JSON, as the stored form keeps it.
func jsonText(t *rapid.T) json.RawMessage {
	return rapid.SampledFrom([]json.RawMessage{
		json.RawMessage(`null`), json.RawMessage(`{}`), json.RawMessage(`[1,2.5,-3e9]`), json.RawMessage(`"a b<c>&\u2028ü"`),
		json.RawMessage(`{"k":{"n":[true,false,null]}}`), json.RawMessage(`9007199254740993`),
	}).Draw(t, "json")
}

func payload(t *rapid.T) rpc.Payload {
	if flip(t) {
		return rpc.NewPayload(jsonText(t))
	}
	return rpc.NewPayload(rapid.SliceOf(rapid.Byte()).Filter(func(b []byte) bool { return !json.Valid(b) }).Draw(t, "bytes"))
}

// factNames are the stored names of all types that have isFact, read from the source: a fact that is added and left out of
// a test shows.
func factNames(t *testing.T) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "event.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range file.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Name.Name == "isFact" {
			names = append(names, fn.Recv.List[0].Type.(*ast.Ident).Name)
		}
	}
	slices.Sort(names)
	return names
}
