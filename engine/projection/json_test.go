package projection_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"callchain/engine/projection"
	"callchain/eventstore"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// TestAppendEvent: what is written by hand is what encoding/json makes of the view.
func TestAppendEvent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[ -~é\n"<&]{0,20}`)
		e := eventstore.Event{
			Stream: text.Draw(t, "stream"), Began: rapid.Int64Range(0, 1e16).Draw(t, "began"), Version: rapid.Int64().Draw(t, "version"),
			Partition: rapid.Int32().Draw(t, "partition"), Seq: rapid.Int64().Draw(t, "seq"), Type: text.Draw(t, "type"), TypeVersion: 1,
			At: rapid.Int64Range(0, 1e16).Draw(t, "at"), Occurred: rapid.Int64Range(0, 1e16).Draw(t, "occurred"),
			Tenant: uuid.UUID{rapid.Byte().Draw(t, "tenant")}, Device: uuid.UUID{rapid.Byte().Draw(t, "device")},
			Actor: text.Draw(t, "actor"), Cause: text.Draw(t, "cause"), Hops: rapid.Int16().Draw(t, "hops"), Trace: [16]byte{rapid.Byte().Draw(t, "trace")},
			ChainVersion: text.Draw(t, "chain"), KeyID: text.Draw(t, "key"), Data: []byte(`{"t":"<&>","n":1.0}`), Hash: eventstore.Hash{rapid.Byte().Draw(t, "hash")},
		}
		got, err := projection.AppendEvent([]byte("before"), &e)
		if err != nil {
			t.Fatal(err)
		}
		var want bytes.Buffer
		enc := json.NewEncoder(&want)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(projection.EventOf(&e)); err != nil {
			t.Fatal(err)
		}
		if string(got) != "before"+strings.TrimSuffix(want.String(), "\n") {
			t.Fatalf("by hand %s\nencoding/json %s", got, want.String())
		}
	})
}

func TestAppendEventRefusesDataThatIsNone(t *testing.T) {
	if b, err := projection.AppendEvent(nil, &eventstore.Event{Data: []byte(`{`)}); err == nil {
		t.Errorf("%s", b)
	}
}

func BenchmarkAppendEvent(b *testing.B) {
	e := eventstore.Event{Stream: "rpc/x/y", Type: "Queued", Tenant: uuid.New(), Device: uuid.New(), Data: []byte(`{"wire":1,"x":"some more text"}`)}
	b.ReportAllocs()
	buf := make([]byte, 0, 2048)
	for b.Loop() {
		if _, err := projection.AppendEvent(buf, &e); err != nil {
			b.Fatal(err)
		}
	}
}
