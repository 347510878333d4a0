package projection_test

import (
	"reflect"
	"strings"
	"testing"

	"callchain/engine/projection"

	"github.com/google/uuid"
)

func TestATraceIsReadBackAsItWasWritten(t *testing.T) {
	for _, call := range []uuid.UUID{uuid.Nil, callID} {
		want := projection.Trace{
			Node: uuid.UUID{1}, Partition: 63, Slot: 7, Tenant: tenant, ID: uuid.UUID{2}, At: 5, Message: uuid.UUID{3}, Call: call,
			Direction: projection.TraceOut, Failed: true, Body: projection.TraceBody{
				Chain: uuid.UUID{4}, Version: 2, Name: "n", EntityType: "DEVICE", Entity: uuid.UUID{5}, Type: "T", Relation: "Failure",
				Data: "<{\"a\":1}\x00", Metadata: map[string]string{"k": "é"}, Error: "why",
			},
		}
		r, err := want.Row()
		if err != nil {
			t.Fatal(err)
		}
		got, err := projection.ReadTrace(r.Values)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%v: got %+v, want %+v", err, got, want)
		}
	}
}

// What goes into a trace must never be a reason for the store to refuse the batch that it is in.
func TestTracesAreBoundedText(t *testing.T) {
	long := projection.Clip(strings.Repeat("é", 4000))
	if len(long) > 4100 || strings.ContainsRune(long, '\uFFFD') || !strings.HasSuffix(long, "é…") {
		t.Errorf("%d bytes, ending in %q", len(long), long[len(long)-6:])
	}
	if got := projection.Clip("a\xffb"); got != "a\uFFFDb" {
		t.Errorf("got %q", got)
	}
	many := map[string]string{}
	for i := range 1000 {
		many[strings.Repeat("k", i+1)] = "\xff"
	}
	if got := projection.ClipMetadata(many); len(got) != 89 || got["k"] != "\uFFFD" { // 1 + 2 + … + 89 characters and 89 values
		t.Errorf("%d keys", len(got))
	}
}
