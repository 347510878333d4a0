package projection_test

import (
	"encoding/json"
	"testing"

	"callchain/engine/projection"
	"callchain/engine/rpc"
	"callchain/eventstore"

	"github.com/google/uuid"
)

var (
	tenant = uuid.NewSHA1(uuid.NameSpaceOID, []byte("tenant"))
	callID = uuid.NewSHA1(uuid.NameSpaceOID, []byte("call"))
)

// stored makes the event that stores a fact.
func stored(t *testing.T, version int64, f rpc.Fact) *eventstore.Event {
	t.Helper()
	data, err := rpc.AppendData(nil, f)
	if err != nil {
		t.Fatal(err)
	}
	return &eventstore.Event{
		Stream: projection.CallStream(tenant, callID), Version: version, Type: f.Name(), TypeVersion: rpc.DataVersion, At: 100 + version,
		Tenant: tenant, Data: data, Actor: "system",
	}
}

// TestARowIsTheSameBeforeAndAfterStoring: the owner makes rows of what came in, a replay of what was stored.
func TestARowIsTheSameBeforeAndAfterStoring(t *testing.T) {
	for _, answer := range []string{` { "a" : [1, "x y"] } `, "1", "it is \"hot\"", "\xff\x00", ""} {
		facts := []rpc.Fact{
			rpc.Requested{Method: "get <x>", Params: []byte(`{"p": "<é>"}`), Persistent: true, Expires: 900},
			rpc.Queued{Wire: 3},
			rpc.Succeeded{Response: rpc.NewPayload([]byte(answer))},
			rpc.AnsweredLate{Response: rpc.NewPayload([]byte(answer))},
		}
		var fresh, folded projection.Call
		for i, f := range facts {
			e := stored(t, int64(i+1), f)
			fact, err := projection.DecodeCall(e)
			if err != nil {
				t.Fatal(err)
			}
			folded.Apply(e, fact, rpc.Settings{})
			fact.Fact = f
			fresh.Apply(e, fact, rpc.Settings{})
		}
		if folded.Ended != 103 || folded.Version != 4 || folded.State.Phase != rpc.PhaseSucceeded {
			t.Errorf("folded to %+v", folded)
		}
		a, b := row(t, &fresh), row(t, &folded)
		if a != b {
			t.Errorf("answer %q: the row made of what came in is\n%s\nof what was stored\n%s", answer, a, b)
		}
	}
}

func row(t *testing.T, c *projection.Call) string {
	t.Helper()
	r, err := c.Row()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(r.Values)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestAStreamNamedByNoIDIsRefused(t *testing.T) {
	e := stored(t, 1, rpc.Removed{})
	e.Stream = e.Stream[:len(e.Stream)-1] + "x"
	if ev, err := projection.DecodeCall(e); err == nil {
		t.Errorf("%s decodes as call %s", e.Stream, ev.Call)
	}
}

func TestALightCallHasARowFromItsEndOn(t *testing.T) {
	var c projection.Call
	for i, f := range []rpc.Fact{rpc.Requested{Method: "m", Expires: 9}, rpc.Rejected{Code: rpc.CodeTimeout}} {
		e := stored(t, int64(i+1), f)
		fact, err := projection.DecodeCall(e)
		if err != nil {
			t.Fatal(err)
		}
		c.Apply(e, fact, rpc.Settings{})
		if c.HasRow() != (i == 1) {
			t.Errorf("after %s it has a row: %t", f.Name(), c.HasRow())
		}
	}
}
