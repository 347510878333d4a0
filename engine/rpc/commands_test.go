package rpc_test

import (
	"time"

	"callchain/engine/rpc"

	"pgregory.net/rapid"
)

// pauses are the times between two random commands.
var pauses = []time.Duration{0, time.Microsecond, time.Second, 10 * time.Second, time.Minute}

func settings(t *rapid.T) rpc.Settings {
	return rpc.Settings{
		Order: rpc.Order(rapid.IntRange(0, 3).Draw(t, "order")), MaxRetries: rapid.IntRange(0, 3).Draw(t, "retries"),
		AckTimeout: 10 * time.Second, ResponseTimeout: 30 * time.Second, CloseOnTimeout: flip(t),
		Backoff: rapid.SampledFrom([]time.Duration{0, time.Second}).Draw(t, "backoff"), MaxOpen: rapid.IntRange(1, 5).Draw(t, "open"),
	}
}

// action is a random command about one of a few calls and sessions.
func action(t *rapid.T, w *world) rpc.Action {
	session := rapid.SampledFrom([]string{"A", "B"}).Draw(t, "session")
	name := rapid.SampledFrom([]string{"c1", "c2", "c3", "d1"}).Draw(t, "call")
	call := named(name)
	wire := rapid.Int32Range(0, 4).Draw(t, "wire")
	makes := []func() rpc.Action{
		func() rpc.Action { return request(t, w, name) },
		func() rpc.Action { return rpc.Dispatch{Call: call, FailOffline: flip(t)} },
		func() rpc.Action { return rpc.Dispatch{Call: call} },
		func() rpc.Action { return rpc.Reject{Call: call, Code: rpc.CodeNotDispatched} },
		func() rpc.Action {
			return rpc.Written{Session: named(session), Call: call, Attempt: rapid.Int16Range(0, 4).Draw(t, "attempt"), Ack: flip(t)}
		},
		func() rpc.Action { return rpc.Acknowledged{Call: call, Evidence: "puback"} },
		func() rpc.Action { return rpc.SendFailed{Session: named(session), Call: call, Permanent: flip(t)} },
		func() rpc.Action { return rpc.Reply{Wire: wire, Response: payload(t), Late: w.latest(wire)} },
		func() rpc.Action { return rpc.Answer{Session: named(session), Request: wire, Body: payload(t)} },
		func() rpc.Action { return rpc.Cancel{Call: call} },
		func() rpc.Action { return rpc.Remove{Call: call, Ended: w.ended(name)} },
		func() rpc.Action { return rpc.Connect{Session: named(session)} },
		func() rpc.Action { return rpc.Subscribe{Session: named(session), Once: flip(t)} },
		func() rpc.Action { return rpc.Unsubscribe{Session: named(session)} },
		func() rpc.Action { return rpc.Disconnect{Session: named(session)} },
		func() rpc.Action { return rpc.Tick{Call: call} },
		func() rpc.Action { return rpc.Recover{} },
	}
	return rapid.SampledFrom(makes).Draw(t, "action")()
}

// request asks for a call whose name has not been used, or repeats an open one.
func request(t *rapid.T, w *world, name string) rpc.Action {
	if len(w.stream(named(name))) > 0 && w.device.Find(named(name)) == nil {
		return rpc.Tick{Call: named(name)} // the owner knows the ids of calls that have ended
	}
	r := rpc.Request{ID: named(name), Method: "m", Oneway: flip(t), Persistent: flip(t), Waiting: flip(t), Expires: w.now.Add(time.Minute)}
	if name == "d1" {
		r.Direction, r.Session, r.Request = rpc.FromDevice, named("A"), 1
	}
	return r
}

// ended is what the owner adds to a removal.
func (w *world) ended(name string) bool {
	c := rpc.FoldCall(w.stream(named(name)), w.device.Settings)
	return c.Phase.Terminal() && !c.Removed
}
