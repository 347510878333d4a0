package rpc_test

import (
	"crypto/sha256"
	"encoding/json"
	"strconv"
	"testing"
	"time"

	"callchain/engine/rpc"

	"github.com/cockroachdb/datadriven"
	"github.com/google/uuid"
)

// args reads the arguments of one command of a script.
type args struct {
	t      *testing.T
	d      *datadriven.TestData
	script *script
}

func (a *args) has(key string) bool { return a.d.HasArg(key) }

func (a *args) text(key, otherwise string) string {
	for _, arg := range a.d.CmdArgs {
		if arg.Key == key && len(arg.Vals) > 0 {
			return arg.Vals[0]
		}
	}
	return otherwise
}

func (a *args) number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		a.d.Fatalf(a.t, "%q is no number", text)
	}
	return n
}

func (a *args) int(key string, otherwise int) int {
	if text := a.text(key, ""); text != "" {
		return a.number(text)
	}
	return otherwise
}

func (a *args) duration(key string, otherwise time.Duration) time.Duration {
	text := a.text(key, "")
	if text == "" {
		return otherwise
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		a.d.Fatalf(a.t, "%s: %v", key, err)
	}
	return d
}

// id is the id of what the first argument names.
func (a *args) id() uuid.UUID {
	if len(a.d.CmdArgs) == 0 {
		a.d.Fatalf(a.t, "name a call or a session")
	}
	return a.named(a.d.CmdArgs[0].Key)
}

func (a *args) named(name string) uuid.UUID {
	id := named(name)
	a.script.names[id] = name
	return id
}

// session is the session named, or the live one.
func (a *args) session() uuid.UUID {
	if name := a.text("session", ""); name != "" {
		return a.named(name)
	}
	return a.script.device.Session.ID
}

func (a *args) order(key string) rpc.Order {
	orders := map[string]rpc.Order{"": rpc.OrderDefault, "burst": rpc.OrderBurst, "on-ack": rpc.OrderOnAck, "on-response": rpc.OrderOnResponse}
	o, ok := orders[a.text(key, "")]
	if !ok {
		a.d.Fatalf(a.t, "unknown order %q", a.text(key, ""))
	}
	return o
}

func (a *args) settings() rpc.Settings {
	s := rpc.DefaultSettings()
	s.Order = a.order("order")
	s.MaxRetries = a.int("retries", s.MaxRetries)
	s.AckTimeout = a.duration("ack", s.AckTimeout)
	s.ResponseTimeout = a.duration("response", s.ResponseTimeout)
	s.Backoff = a.duration("backoff", s.Backoff)
	s.MaxOpen = a.int("open", s.MaxOpen)
	s.CloseOnTimeout = a.has("close-session")
	return s
}

// request reads: c1 [oneway] [persistent] [from id=7] [expires=60s] [retries=2] [order=on-ack] [content=x] [params=1] [info=1]
func (a *args) request() rpc.Request {
	r := rpc.Request{
		ID: a.id(), Method: a.text("method", "reboot"), Oneway: a.has("oneway"), Persistent: a.has("persistent"),
		Order: a.order("order"), Content: sha256.Sum256([]byte(a.text("content", ""))),
		Expires: began.Add(a.duration("expires", time.Minute)),
	}
	r.Waiting = !r.Persistent && !a.has("from")
	if p := a.text("params", ""); p != "" {
		r.Params = json.RawMessage(p)
	}
	if i := a.text("info", ""); i != "" {
		r.Info = json.RawMessage(i)
	}
	if a.has("retries") {
		n := a.int("retries", 0)
		r.Retries = &n
	}
	if a.has("from") {
		r.Direction, r.Session, r.Request = rpc.FromDevice, a.session(), int32(a.int("id", 0))
	}
	return r
}

// dispatch reads: c1 [fail-offline] [new-method=m] [new-params=1] [run=r1]
func (a *args) dispatch() rpc.Dispatch {
	d := rpc.Dispatch{Call: a.id(), FailOffline: a.has("fail-offline")}
	if m := a.text("new-method", ""); m != "" {
		d.Method = &m
	}
	if p := a.text("new-params", ""); p != "" {
		d.Params = json.RawMessage(p)
	}
	if r := a.text("run", ""); r != "" {
		d.Run = a.named(r)
	}
	return d
}
