package observe

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"callchain/engine/owner"
	"callchain/engine/rpc"
	"callchain/transports"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	stageNames = [owner.Stages]string{"taken", "queued", "written", "acknowledged", "answered", "replied"}
	kindNames  = [owner.CallKinds]string{"light", "persistent", "client"}
	// transportLabels are the transports; the first is for stages without a transport.
	transportLabels = append([]string{"none"}, transports.Names()...)
)

// Calls measures the stages and ends of calls. A series is made on first use, and found by index from then on.
type Calls struct {
	stages *prometheus.HistogramVec
	series [owner.Stages][owner.CallKinds][]atomic.Pointer[prometheus.Observer] // by transport

	ended *prometheus.CounterVec
	mu    sync.Mutex
	ends  map[end]prometheus.Counter
}

// end is how calls ended.
type end struct {
	phase  rpc.Phase
	reason rpc.Code
	kind   owner.CallKind
}

func newCalls(r prometheus.Registerer) *Calls {
	c := &Calls{
		stages: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: "call_seconds", Help: "Time from the acceptance of a call to each stage of its life.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 18),
		}, []string{"stage", "kind", "transport"}),
		ended: counter(r, "calls_ended_total", "Calls that reached their end, by phase and reason.", "phase", "reason", "kind"),
		ends:  map[end]prometheus.Counter{},
	}
	for stage := range c.series {
		for kind := range c.series[stage] {
			c.series[stage][kind] = make([]atomic.Pointer[prometheus.Observer], len(transportLabels))
		}
	}
	r.MustRegister(c.stages)
	return c
}

func (c *Calls) of(p *owner.Passage) prometheus.Observer {
	transport := max(0, slices.Index(transportLabels, p.Cause))
	slot := &c.series[p.Stage][p.Kind][transport]
	if o := slot.Load(); o != nil {
		return *o
	}
	o := c.stages.WithLabelValues(stageNames[p.Stage], kindNames[p.Kind], transportLabels[transport])
	slot.Store(&o)
	return o
}

// Measure measures a stored batch whose effects are released.
func (c *Calls) Measure(r *owner.Release, now time.Time) {
	r.Passages(func(p *owner.Passage) {
		at := p.At
		if at == 0 {
			at = rpc.At(now)
		}
		c.of(p).Observe(max(0, float64(at-p.Accepted)) / 1e6)
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	r.Endings(func(e *owner.Ending) {
		key := end{e.Phase, e.Reason, e.Kind}
		one, ok := c.ends[key]
		if !ok {
			one = c.ended.WithLabelValues(e.Phase.String(), string(e.Reason), kindNames[e.Kind])
			c.ends[key] = one
		}
		one.Inc()
	})
}
