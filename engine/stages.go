package engine

import (
	"sync"
	"sync/atomic"
	"time"

	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/transports"

	"github.com/prometheus/client_golang/prometheus"
)

// stage is a point in the life of a call.
type stage uint8

// The stages; each is measured from the acceptance of the call on.
const (
	stageTaken        stage = iota // its owner took it from the inbox
	stageQueued                    // its Queued is committed
	stageWritten                   // the command left for the device
	stageAcknowledged              // the device has the command
	stageAnswered                  // the device's answer is here
	stageTold                      // its end is committed, and who waited is told
	stages
)

var stageNames = [stages]string{"taken", "queued", "written", "acknowledged", "answered", "told"}

// kind is what sort of call it is.
type kind uint8

const (
	kindLight kind = iota
	kindPersistent
	kindClient // of a device
	kinds
)

var kindNames = [kinds]string{"light", "persistent", "client"}

func kindOfCall(c *rpc.Call) kind {
	switch {
	case c.Direction == rpc.FromDevice:
		return kindClient
	case c.Persistent:
		return kindPersistent
	}
	return kindLight
}

// way is a transport, as the cause of an event names it.
type way uint8

var wayNames = [...]string{"none", "mqtt", "http", "coap"}

func wayOf(cause string) way {
	for i, name := range wayNames {
		if name == cause {
			return way(i)
		}
	}
	return 0
}

// passage is a call that reached a stage. At 0 it is when the batch is committed and its effects are out.
type passage struct {
	stage    stage
	kind     kind
	way      way
	accepted rpc.Instant
	at       rpc.Instant
}

// ending is how a call ended.
type ending struct {
	phase  rpc.Phase
	reason rpc.Code
	kind   kind
}

// passages are the measurements of stages and ends. A series is made when it is first needed, and found by an index from then on.
type passages struct {
	vec   *prometheus.HistogramVec
	known [stages][kinds][len(wayNames)]atomic.Pointer[prometheus.Observer]

	mu    sync.Mutex
	ended *prometheus.CounterVec
	ends  map[ending]prometheus.Counter
}

func newPassages(r prometheus.Registerer) *passages {
	p := &passages{
		vec: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "callchain", Name: "call_seconds", Help: "Time from the acceptance of a call to each stage of its life.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 18),
		}, []string{"stage", "kind", "transport"}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "callchain", Name: "calls_ended_total", Help: "Calls that reached their end, by phase and reason.",
		}, []string{"phase", "reason", "kind"}),
		ends: map[ending]prometheus.Counter{},
	}
	r.MustRegister(p.vec, p.ended)
	return p
}

func (p *passages) of(s stage, k kind, w way) prometheus.Observer {
	slot := &p.known[s][k][w]
	if o := slot.Load(); o != nil {
		return *o
	}
	o := p.vec.WithLabelValues(stageNames[s], kindNames[k], wayNames[w])
	slot.Store(&o)
	return o
}

// committed measures what a stored batch has brought about.
func (p *passages) committed(b *batch) {
	now := rpc.At(time.Now())
	for i := range b.passages {
		one := &b.passages[i]
		at := one.at
		if at == 0 {
			at = now
		}
		p.of(one.stage, one.kind, one.way).Observe(max(0, float64(at-one.accepted)) / 1e6)
	}
	if len(b.ends) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range b.ends {
		c, ok := p.ends[e]
		if !ok {
			c = p.ended.WithLabelValues(e.phase.String(), string(e.reason), kindNames[e.kind])
			p.ends[e] = c
		}
		c.Inc()
	}
}

// passes notes which stages a call reached with the events of a step. It is called before the call is forgotten.
func (o *owner) passes(c *rpc.Call, events []step.Event) {
	h, open := o.calls[c.ID]
	if !open {
		return
	}
	k := kindOfCall(c)
	for i := range events {
		ev := &events[i].Event
		if ev.Call != c.ID || ev.Fact == nil {
			continue
		}
		one := passage{kind: k, way: wayOf(ev.Cause), accepted: h.accepted, at: ev.Occurred}
		if one.at == 0 {
			one.at = ev.At
		}
		switch f := ev.Fact.(type) {
		case rpc.Requested:
			one.stage, one.at = stageTaken, ev.At
		case rpc.Queued:
			if one.stage, one.at = stageQueued, 0; f.Again {
				continue
			}
		case rpc.Sent:
			if one.stage = stageWritten; f.Attempt != 1 {
				continue
			}
		case rpc.Delivered:
			if one.stage = stageAcknowledged; f.Evidence == transports.EvidenceAnswer || f.Evidence == transports.EvidenceWritten {
				continue
			}
		case rpc.Succeeded:
			if one.stage = stageAnswered; c.Oneway {
				continue
			}
		default:
			continue
		}
		o.batch.passages = append(o.batch.passages, one)
	}
	if c.Phase.Terminal() {
		o.batch.ends = append(o.batch.ends, ending{c.Phase, c.Reason, k})
		o.batch.passages = append(o.batch.passages, passage{stage: stageTold, kind: k, way: wayOf(events[len(events)-1].Event.Cause), accepted: h.accepted})
	}
}
