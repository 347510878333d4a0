// Package observe provides the engine's observability: its metrics, the stages of calls, the log lines for the owner's notices, and its spans.
//
// It decides nothing, and nothing depends on it.
package observe

import (
	"sync"

	"callchain/engine/bus"
	"callchain/engine/deadletter"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the engine's metrics.
type Metrics struct {
	Commands  Counters // by kind
	Events    Counters // by type
	Refusals  Counters // by code
	Calls     *Calls
	OpenCalls prometheus.Gauge

	Appended    prometheus.Gauge     // when the store last took an append
	AppendSize  prometheus.Histogram // events
	AppendTime  prometheus.Histogram // seconds
	InboxFull   prometheus.Counter
	Shed        *prometheus.CounterVec // by lane
	Stale       *prometheus.CounterVec // by reason: StaleEpoch, StaleDeadline
	PeerDropped prometheus.Counter
	Unpublished *prometheus.CounterVec // by topic and reason

	rejected       prometheus.Counter
	reloads        prometheus.Counter
	unknownAnswers prometheus.Counter
	deadLetters    *prometheus.CounterVec // by reason
	withoutRow     *prometheus.CounterVec // by reason
	tracesDropped  prometheus.Counter
	fenced         prometheus.Counter
	registerer     prometheus.Registerer
}

// The reasons of Metrics.Stale.
const (
	StaleEpoch    = "epoch"    // of a previous owner
	StaleDeadline = "deadline" // after the deadline of the call
)

// The reasons of Metrics.Unpublished, and of dead letters without a row.
const (
	ReasonRefused    = "refused"    // the topic takes nothing of that size; the store refuses the row
	ReasonUnreadable = "unreadable" // it cannot be encoded as a record
	ReasonNoRoom     = "no_room"    // too many are waiting
)

// NewMetrics makes the engine's metrics and registers them.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		registerer: r,
		Commands:   Counters{vec: counter(r, "commands_total", "Commands processed, by kind.", "kind")},
		Events:     Counters{vec: counter(r, "events_total", "Events committed, by type.", "type")},
		Refusals:   Counters{vec: counter(r, "refusals_total", "Commands refused, by code.", "code")},
		Calls:      newCalls(r),
		OpenCalls:  gauge(r, "open_calls", "Calls that have not ended."),

		Appended:    gauge(r, "append_last_timestamp_seconds", "When the store last took an append, in seconds since 1970."),
		AppendSize:  histogram(r, "append_events", "Events in one append.", prometheus.ExponentialBuckets(1, 2, 11)),
		AppendTime:  histogram(r, "append_seconds", "Duration of an append.", prometheus.ExponentialBuckets(0.0001, 2, 14)),
		InboxFull:   counter(r, "inbox_full_total", "Messages refused because the inbox was full.").WithLabelValues(),
		Shed:        counter(r, "shed_total", "Commands refused because the owner of their partition is behind, by lane.", "lane"),
		Stale:       counter(r, "stale_deliveries_total", "Deliveries not handed to a device, by reason.", "reason"),
		PeerDropped: counter(r, "peer_messages_dropped_total", "Messages to other nodes that were dropped.").WithLabelValues(),
		Unpublished: counter(r, "unpublished_total", "Events and dead letters that are left out of their topic for good, by topic and reason.", "topic", "reason"),

		rejected:       counter(r, "commands_rejected_total", "Commands that panicked or that the store refused.").WithLabelValues(),
		reloads:        counter(r, "reloads_total", "Failed appends after which partitions were loaded again.").WithLabelValues(),
		unknownAnswers: counter(r, "unknown_answers_total", "Answers of devices to unknown calls.").WithLabelValues(),
		deadLetters:    counter(r, "dead_letters_total", "Dead letters, by reason.", "reason"),
		withoutRow:     counter(r, "dead_letters_unstored_total", "Dead letters that have no row, by reason.", "reason"),
		tracesDropped:  counter(r, "traces_dropped_total", "Traces of rule nodes that found no room in their batch.").WithLabelValues(),
		fenced:         counter(r, "partitions_fenced_total", "Partitions that another node has claimed while this one owned them.").WithLabelValues(),
	}
	begin(m.Shed, LaneName(bus.RPC), LaneName(bus.Data))
	begin(m.Stale, StaleEpoch, StaleDeadline)
	begin(m.deadLetters, deadletter.Reasons()...)
	begin(m.withoutRow, ReasonRefused, ReasonNoRoom)
	begin(m.Unpublished.MustCurryWith(prometheus.Labels{"topic": string(bus.Events)}), ReasonRefused, ReasonUnreadable)
	begin(m.Unpublished.MustCurryWith(prometheus.Labels{"topic": string(bus.DeadLetters)}), ReasonRefused, ReasonNoRoom)
	return m
}

// LaneName is a lane as labels name it.
func LaneName(lane bus.Lane) string { return [bus.Lanes]string{bus.RPC: "rpc", bus.Data: "data"}[lane] }

const namespace = "callchain"

func counter(r prometheus.Registerer, name, help string, labels ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
	r.MustRegister(v)
	return v
}

func histogram(r prometheus.Registerer, name, help string, buckets []float64) prometheus.Histogram {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets})
	r.MustRegister(h)
	return h
}

func gauge(r prometheus.Registerer, name, help string) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help})
	r.MustRegister(g)
	return g
}

// begin creates series at 0: otherwise rate() misses the first increment.
func begin(v *prometheus.CounterVec, values ...string) {
	for _, value := range values {
		v.WithLabelValues(value)
	}
}

// Read registers a gauge that is computed when metrics are collected. labels may be nil.
func (m *Metrics) Read(name, help string, labels prometheus.Labels, read func() float64) {
	opts := prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help, ConstLabels: labels}
	m.registerer.MustRegister(prometheus.NewGaugeFunc(opts, read))
}

// Counters are counters by one label, found without building the label's hash each time.
type Counters struct {
	vec   *prometheus.CounterVec
	known sync.Map // label → prometheus.Counter
}

// Inc counts one.
func (c *Counters) Inc(label string) {
	one, ok := c.known.Load(label)
	if !ok {
		one, _ = c.known.LoadOrStore(label, c.vec.WithLabelValues(label))
	}
	one.(prometheus.Counter).Inc()
}
