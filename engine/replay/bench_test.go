package replay_test

import (
	"fmt"
	"testing"

	"callchain/engine/projection"
	"callchain/engine/replay"
	"callchain/engine/rpc"
	"callchain/eventstore"

	"github.com/google/uuid"
)

// busy writes calls of five events in appends of about 400 events, as an owner under load does: the facts of a call stand in three appends.
func busy(b *testing.B, s eventstore.Store, calls int) int {
	b.Helper()
	h := newHistory(b, s)
	const each = 80
	var begun, sent []uuid.UUID
	for at := 0; at < calls+2*each; at += each {
		for _, id := range sent {
			h.addFacts(id, rpc.Delivered{Evidence: "puback"}, rpc.Succeeded{Response: rpc.NewPayload([]byte(`{"value":1,"unit":"°C"}`))})
			delete(h.calls, id)
		}
		for _, id := range begun {
			h.addFacts(id, rpc.Sent{Session: named("session"), Attempt: 1, Ack: true})
		}
		sent, begun = begun, nil
		for i := at; i < min(at+each, calls); i++ {
			id := named(fmt.Sprint("call ", i))
			begun = append(begun, id)
			h.addFacts(id, rpc.Requested{
				Method: "setGpio", Params: fmt.Appendf(nil, `{"pin":%d,"value":1}`, i), Waiting: true, Expires: rpc.Instant(h.now + 60_000_000), Content: make([]byte, 32),
			}, rpc.Queued{Wire: int32(i)})
		}
		h.commit()
	}
	return calls * 5
}

func perSecond(b *testing.B, events int64) {
	b.ReportMetric(float64(events)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkReadDecodeFold reads, decodes and folds a log in SQLite, by as many workers as there are processors.
func BenchmarkReadDecodeFold(b *testing.B) {
	s := embedded(b)
	want := busy(b, s, 20_000)
	b.ReportAllocs()
	var events int64
	for b.Loop() {
		sum, err := replay.Calls(b.Context(), s, replay.Options{}, func(*projection.Call, bool) error { return nil })
		if err != nil || sum.Events != int64(want) || sum.Open != 0 {
			b.Fatalf("Calls = %+v, %v, want %d events", sum, err, want)
		}
		events += sum.Events
	}
	perSecond(b, events)
}

// BenchmarkCheck compares each row, too.
func BenchmarkCheck(b *testing.B) {
	s := embedded(b)
	want := busy(b, s, 20_000)
	var events int64
	for b.Loop() {
		sum, err := replay.Check(b.Context(), s, replay.Options{}, func(d replay.Difference) { b.Fatal(d) })
		if err != nil || sum.Rows != int64(want/5) {
			b.Fatalf("Check = %+v, %v", sum, err)
		}
		events += sum.Events
	}
	perSecond(b, events)
}
