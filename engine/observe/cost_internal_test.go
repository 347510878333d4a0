package observe

import (
	"testing"
	"time"

	"callchain/engine/bus"
	"callchain/engine/owner"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/eventstore"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
)

// oneCall is what a call leaves to be measured: one that ends at once, because its device has no rule chain.
func oneCall(t testing.TB) *owner.Release {
	t.Helper()
	now := rpc.At(time.Now())
	device := &owner.Device{ID: uuid.New(), Tenant: uuid.New(), Info: step.Info{Settings: rpc.DefaultSettings()}}
	o := owner.New(owner.Config{Partitions: 1, BatchEvents: 10, NewID: uuid.New, Chain: func(uuid.UUID) *owner.Program { return nil }})
	o.Assign(now, []int32{0})
	o.Ready(now)
	o.Claimed(now, &owner.Claimed{Partitions: []int32{0}, Recovered: []*owner.Recovered{{Checkpoint: eventstore.Checkpoint{Epoch: 1}}}})
	o.Take(now, owner.Arrived{RPC: []bus.Message{{Key: device.ID, Value: step.Command{
		Meta: rpc.Meta{Occurred: now}, Device: device.ID, Do: step.Call{Request: rpc.Request{ID: uuid.New(), Method: "m", Expires: now.Add(time.Minute)}},
	}}}})
	for _, read := range o.Ready(now).Reads {
		o.Answered(now, &owner.Answer{ID: read.ID, Registry: device})
	}
	batch := o.Ready(now).Append
	if batch == nil {
		t.Fatal("the call leaves nothing")
	}
	release := batch.Release(nil)
	passages, endings := 0, 0
	release.Passages(func(*owner.Passage) { passages++ })
	release.Endings(func(*owner.Ending) { endings++ })
	if passages != 2 || endings != 1 {
		t.Fatalf("the call leaves %d stages and %d ends", passages, endings)
	}
	return &release
}

// untraced is what a call asks of a tracer when tracing is off.
func untraced(t *Tracer) {
	cmd, m := step.Command{Do: step.Call{}}, bus.Message{}
	t.InboxWrite(&cmd, &m, true)(nil)
	t.Written(uuid.Nil, time.Time{}, true)
	t.Acknowledged(uuid.Nil, "puback", time.Time{})
	_, _ = t.Received(SpanAnswer, t.Reply(uuid.Nil, 1), false, uuid.Nil, nil) // only its cost is looked at
	t.Answered(SpanResult, nil, time.Time{})
}

// TestMeasuringAllocatesNothing: neither the stages of a call, nor tracing that is off.
func TestMeasuringAllocatesNothing(t *testing.T) {
	c, one, now := newCalls(prometheus.NewRegistry()), oneCall(t), time.Now()
	c.Measure(one, now) // makes the series
	if n := testing.AllocsPerRun(100, func() { c.Measure(one, now) }); n != 0 {
		t.Errorf("measuring a call allocates %v times", n)
	}
	if n := testing.AllocsPerRun(100, func() { untraced(nil) }); n != 0 {
		t.Errorf("not tracing a call allocates %v times", n)
	}
}

func BenchmarkMeasureCall(b *testing.B) {
	c, one, now := newCalls(prometheus.NewRegistry()), oneCall(b), time.Now()
	b.ReportAllocs()
	for b.Loop() {
		c.Measure(one, now)
	}
}

func BenchmarkTracingOff(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		untraced(nil)
	}
}
