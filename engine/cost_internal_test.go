package engine

import (
	"testing"
	"time"

	"callchain/engine/bus"
	"callchain/engine/rpc"
	"callchain/engine/step"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
)

// oneCall is what a two-way call leaves to be measured.
func oneCall() *batch {
	now := rpc.At(time.Now())
	b := &batch{ends: []ending{{phase: rpc.PhaseSucceeded}}}
	for s := range stages {
		b.passages = append(b.passages, passage{stage: s, way: 1, accepted: now - 2_000, at: now})
	}
	return b
}

// untraced is what a call asks of the spans when tracing is off.
func untraced(s *spans) {
	cmd, m := step.Command{Do: step.Call{}}, bus.Message{}
	s.writing(&cmd, &m, true)(nil)
	if s.step(&cmd, &Device{}) != nil {
		panic("a span without a tracer")
	}
	s.left(uuid.Nil, time.Time{}, true)
	s.proved(uuid.Nil, "puback", time.Time{})
	_, _ = s.received(spanAnswer, s.answered(uuid.Nil, 1), false, uuid.Nil, nil) // only its cost is looked at
	s.told(spanTold, nil, time.Time{})
}

// TestMeasuringAllocatesNothing: neither the stages of a call, nor tracing that is off.
func TestMeasuringAllocatesNothing(t *testing.T) {
	p, b := newPassages(prometheus.NewRegistry()), oneCall()
	p.committed(b) // makes the series
	if n := testing.AllocsPerRun(100, func() { p.committed(b) }); n != 0 {
		t.Errorf("measuring a call allocates %v times", n)
	}
	if n := testing.AllocsPerRun(100, func() { untraced(nil) }); n != 0 {
		t.Errorf("not tracing a call allocates %v times", n)
	}
}

func BenchmarkMeasureCall(b *testing.B) {
	p, one := newPassages(prometheus.NewRegistry()), oneCall()
	b.ReportAllocs()
	for b.Loop() {
		p.committed(one)
	}
}

func BenchmarkTracingOff(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		untraced(nil)
	}
}
