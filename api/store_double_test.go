package api

import (
	"testing"
	"time"

	"callchain/engine/rpc"
	"callchain/eventstore"

	"github.com/google/uuid"
)

// The calls that fillStore keeps, by what is special about them.
var (
	answeredID = uuid.MustParse("22222222-0000-4000-8000-000000000001")
	openID     = uuid.MustParse("22222222-0000-4000-8000-000000000002")
	removedID  = uuid.MustParse("22222222-0000-4000-8000-000000000003")
	lightID    = uuid.MustParse("22222222-0000-4000-8000-000000000004")
	loneCallID = uuid.MustParse("22222222-0000-4000-8000-000000000005") // of the device that is no customer's
)

// history is the stored form of facts of one call, a second apart from begun on, begun at an offset.
func history(t testing.TB, call, device uuid.UUID, offset time.Duration, facts ...rpc.Fact) []eventstore.Event {
	t.Helper()
	var out []eventstore.Event
	var hash eventstore.Hash
	for i, f := range facts {
		data, err := rpc.AppendData(nil, f)
		if err != nil {
			t.Fatal(err)
		}
		at := begun.Add(offset + time.Duration(i)*time.Second).UnixMicro()
		ev := eventstore.Event{
			Stream: "rpc/" + tenantID.String() + "/" + call.String(), Began: begun.Add(offset).UnixMicro(), Version: int64(i + 1), Partition: 3, Seq: int64(10 + i),
			Type: f.Name(), TypeVersion: rpc.DataVersion, At: at, Occurred: at, Tenant: tenantID, Device: device, Actor: "user:" + adminID.String(),
			Cause: "rest", Data: data,
		}
		ev.Hash = ev.Digest(hash)
		hash = ev.Hash
		out = append(out, ev)
	}
	return out
}

func asked(method, params string, persistent bool) rpc.Requested {
	retries := 3
	r := rpc.Requested{Method: method, Params: []byte(params), Persistent: persistent, Waiting: !persistent, Expires: rpc.At(begun.Add(time.Minute)), Content: []byte("digest")}
	if persistent {
		r.Retries, r.Info = &retries, []byte(`{"k":"v"}`)
	}
	return r
}

// fillStore keeps five calls, attributes, latest values and a dead letter.
func fillStore(t testing.TB, d *storeDouble) {
	t.Helper()
	queued, sent := rpc.Queued{Wire: 7}, rpc.Sent{Attempt: 1, Ack: true}
	d.keep(t, history(t, answeredID, deviceID, 0, asked("setGpio", `{"pin":7}`, true), queued, sent,
		rpc.Delivered{Evidence: "puback"}, rpc.Succeeded{Response: rpc.NewPayload([]byte(`{"done":1.50}`))}))
	d.keep(t, history(t, openID, deviceID, time.Minute, asked("open", `null`, true), rpc.Queued{Wire: 8}))
	d.keep(t, history(t, removedID, deviceID, 2*time.Minute, asked("gone", `{}`, true), rpc.CancelRequested{}, rpc.Cancelled{}, rpc.Removed{}))
	d.keep(t, history(t, lightID, deviceID, 3*time.Minute, asked("light", `[]`, false), rpc.Queued{Wire: 9}, sent, rpc.Expired{}))
	d.keep(t, history(t, loneCallID, loneID, 4*time.Minute, asked("lone", `{}`, true), rpc.Rejected{Code: rpc.CodeNotDispatched, Detail: "the chain ended"}))
	d.rows["attributes"] = [][]any{
		{deviceID, "CLIENT_SCOPE", "fw", []byte(`"1.2"`), begun.UnixMilli()},
		{deviceID, "SHARED_SCOPE", "interval", []byte(`30`), begun.UnixMilli()},
		{deviceID, "SHARED_SCOPE", "limits", []byte(`{"max":5}`), begun.UnixMilli()},
	}
	d.rows["latest"] = [][]any{
		{deviceID, "name", []byte(`"kitchen"`), begun.UnixMilli()},
		{deviceID, "temperature", []byte(`21.5`), begun.UnixMilli()},
	}
	d.rows["devices_state"] = [][]any{{deviceID, int64(3), int64(10), "device/x", int64(0), int64(5), nil, int64(2), int64(1)}}
	d.rows["traces"] = traceRows(t)
	d.rows["dead_letters"] = [][]any{{
		profileID, tenantID, deviceID, int64(3), begun.UnixMicro(), "command_rejected", "the step panicked: index out of range",
		[]byte(`{"kind":"call","actor":"user:x","cause":"rest","stored":{"v":1,"kind":"call","do":{"method":"open"}}}`),
	}}
}

// keep stores a call's stream and the row that follows from it.
func (d *storeDouble) keep(t testing.TB, events []eventstore.Event) {
	t.Helper()
	call, err := fold(events)
	if err != nil {
		t.Fatal(err)
	}
	row, err := call.Row()
	if err != nil {
		t.Fatal(err)
	}
	d.rows["calls"] = append(d.rows["calls"], row.Values)
	for _, ev := range events {
		d.add(ev)
	}
}
