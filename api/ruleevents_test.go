package api

import (
	"strings"
	"testing"
	"time"

	"callchain/engine/projection"

	"github.com/google/uuid"
)

// traceRows are two executions of a node: one went well, one failed a day later. A third is another tenant's.
func traceRows(t testing.TB) [][]any {
	t.Helper()
	node := uuid.MustParse("33333333-0000-4000-8000-000000000001")
	message := func(n byte) uuid.UUID { return uuid.UUID{0x44, 15: n} }
	trace := func(n byte, after time.Duration, direction, relation, why string) projection.Trace {
		return projection.Trace{
			Node: node, Partition: 3, Slot: int64(n), Tenant: tenantID, ID: uuid.UUID{0x55, 15: n}, At: begun.Add(after).UnixMicro(), Message: message(n / 2),
			Direction: direction, Failed: why != "", Body: projection.TraceBody{
				Chain: profileID, Version: 4, Name: "call", EntityType: "DEVICE", Entity: deviceID, Type: "RPC_CALL_FROM_SERVER_TO_DEVICE", Relation: relation,
				Data: `{"method":"m"}`, Metadata: map[string]string{"deviceName": "d1"}, Error: why,
			},
		}
	}
	list := []projection.Trace{
		trace(2, -25*time.Hour, projection.TraceIn, "", ""), trace(3, -25*time.Hour, projection.TraceOut, "Success", ""),
		trace(4, -time.Hour, projection.TraceIn, "", ""), trace(5, -time.Hour, projection.TraceOut, "Failure", "TIMEOUT"),
		trace(6, -time.Hour, projection.TraceIn, "", ""),
	}
	list[2].Call, list[3].Call, list[4].Tenant = openID, openID, otherID
	var rows [][]any
	for i := range list {
		row, err := list[i].Row()
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, row.Values)
	}
	return rows
}

func TestOldTracesAreNotShown(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.Traces = 24 * time.Hour })
	fillStore(t, h.store)
	w := h.do("GET", "/api/traces", "tenant", "")
	if got := w.Body.String(); w.Code != 200 || !strings.Contains(got, `"totalElements":2,`) {
		t.Errorf("%d %s", w.Code, got)
	}
}
