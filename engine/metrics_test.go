package engine_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"callchain/engine"
	"callchain/transports"

	"github.com/prometheus/client_golang/prometheus"
)

// series are the values that a registry shows: counters and gauges as they are, of histograms the number of observations.
func series(t *testing.T, r *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			name := strings.TrimPrefix(f.GetName(), "callchain_") + " " + strings.Join(labels, " ")
			out[strings.TrimSpace(name)] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return out
}

// TestStagesOfACallAreMeasured: the labels of call_seconds are kind, stage, transport; those of calls_ended_total kind, phase, reason.
func TestStagesOfACallAreMeasured(t *testing.T) {
	inBubble(t, func(r *rig) {
		d := r.connect("d1", "A")
		c := r.call("d1", chosen("c1"))
		cmd := d.one()
		pass(3 * time.Second)
		d.written(cmd)
		r.engine.Inbound().Acknowledged(d.session, cmd.Call, transports.EvidencePuback, time.Now())
		r.engine.Inbound().Reply(d.session, cmd.Wire, []byte(`1`), nil)
		c.want("succeeded  1")
		r.call("d2", func(q *engine.CallRequest) { q.Persistent = true }).want("queued  ")
		got := series(t, r.measured)
		for name, want := range map[string]float64{
			"call_seconds light taken none": 1, "call_seconds light queued none": 1, "call_seconds light written mqtt": 1, "call_seconds light acknowledged mqtt": 1,
			"call_seconds light answered mqtt": 1, "call_seconds light replied mqtt": 1, "call_seconds persistent queued none": 1,
			"calls_ended_total light succeeded": 1, "open_calls": 1, "sessions mqtt": 1, "inbox_waiting rpc": 0, "inbox_oldest_seconds rpc": 0, "ready": 1,
		} {
			if value, ok := got[name]; !ok || value != want {
				t.Errorf("%s is %v, want %v; there are %v", name, value, want, slices.Sorted(maps.Keys(got)))
			}
		}
	})
}

// TestOldestCommandGrowsWhileTheStoreIsAway: what was taken and is not committed counts.
func TestOldestCommandGrowsWhileTheStoreIsAway(t *testing.T) {
	inBubble(t, func(r *rig) {
		g := &gate{eventType: "Requested", open: make(chan struct{})}
		r.store.Before = g.before
		r.call("d1", chosen("c1"))
		pass(7 * time.Second)
		if got := series(t, r.measured)["inbox_oldest_seconds rpc"]; got < 7 || got > 8 {
			t.Errorf("the oldest command waits for %v s", got)
		}
		close(g.open)
		synctest.Wait()
		if got := series(t, r.measured)["inbox_oldest_seconds rpc"]; got != 0 {
			t.Errorf("nothing waits, and the oldest for %v s", got)
		}
	})
}
