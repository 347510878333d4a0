package engine

import (
	"sync"

	"callchain/engine/bus"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the engine's measurements.
type Metrics struct {
	commands   counters               // by kind
	events     counters               // by type
	refusals   *prometheus.CounterVec // by code
	passages   *passages              // of calls
	open       prometheus.Gauge       // calls
	appended   prometheus.Gauge       // when the store last took an append
	batch      prometheus.Histogram   // events a transaction
	commit     prometheus.Histogram   // seconds of an append
	inboxFull  prometheus.Counter
	rejected   prometheus.Counter // commands that panicked or that the store refused
	reloads    prometheus.Counter // times the memory was dropped after a failed append
	foreign    prometheus.Counter // answers to calls that nobody knows
	deadLetter *prometheus.CounterVec
	unstored   *prometheus.CounterVec // dead letters without a row, by reason
	untraced   prometheus.Counter
	fenced     prometheus.Counter     // partitions that another node has claimed under this one
	shed       *prometheus.CounterVec // commands refused because their owner is behind, by lane
	stale      *prometheus.CounterVec // deliveries of owners before, or after their deadline
	untold     prometheus.Counter     // messages to other nodes that were dropped
	// unpublished counts what is left out of its topic for good, by topic and reason.
	unpublished *prometheus.CounterVec
	registerer  prometheus.Registerer
}

// NewMetrics makes the engine's measurements and registers them.
func NewMetrics(r prometheus.Registerer) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "callchain", Name: name, Help: help}, labels)
		r.MustRegister(v)
		return v
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "callchain", Name: name, Help: help, Buckets: buckets})
		r.MustRegister(h)
		return h
	}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "callchain", Name: name, Help: help})
		r.MustRegister(g)
		return g
	}
	begun := func(v *prometheus.CounterVec, values ...string) *prometheus.CounterVec {
		for _, value := range values {
			v.WithLabelValues(value) // a rise from nothing cannot be told from a beginning
		}
		return v
	}
	unpublished := counter("unpublished_total", "Events and dead letters that are left out of their topic for good, by topic and reason.", "topic", "reason")
	for _, reason := range []string{reasonRefused, reasonUnreadable} {
		unpublished.WithLabelValues(string(bus.Events), reason)
	}
	for _, reason := range []string{reasonRefused, reasonNoRoom} {
		unpublished.WithLabelValues(string(bus.DeadLetters), reason)
	}
	return &Metrics{
		registerer: r,
		commands:   counters{vec: counter("commands_total", "Commands stepped, by kind.", "kind")},
		events:     counters{vec: counter("events_total", "Events committed, by type.", "type")},
		refusals:   counter("refusals_total", "Commands refused, by code.", "code"),
		passages:   newPassages(r),
		open:       gauge("open_calls", "Calls that have not ended."),
		appended:   gauge("append_last_timestamp_seconds", "When the store last took an append, in seconds since 1970."),
		batch:      histogram("append_events", "Events in one append.", prometheus.ExponentialBuckets(1, 2, 11)),
		commit:     histogram("append_seconds", "Duration of an append.", prometheus.ExponentialBuckets(0.0001, 2, 14)),
		inboxFull:  counter("inbox_full_total", "Messages refused because the inbox was full.").WithLabelValues(),
		rejected:   counter("commands_rejected_total", "Commands that panicked or that the store refused.").WithLabelValues(),
		reloads:    counter("reloads_total", "Times that the memory of the partitions was dropped and loaded again.").WithLabelValues(),
		foreign:    counter("foreign_answers_total", "Answers of devices to calls that nobody knows.").WithLabelValues(),
		untraced:   counter("traces_dropped_total", "Traces of rule nodes that found no room in their batch.").WithLabelValues(),
		fenced:     counter("partitions_fenced_total", "Partitions that another node has claimed while this one owned them.").WithLabelValues(),
		shed:       begun(counter("shed_total", "Commands refused because the owner of their partition is behind, by lane.", "lane"), "rpc", "data"),
		stale:      begun(counter("stale_deliveries_total", "Deliveries not let through to a device, by reason.", "reason"), "epoch", "deadline"),
		untold:     counter("peer_messages_dropped_total", "Messages to other nodes that could not be told in time.").WithLabelValues(),
		deadLetter: begun(counter("dead_letters_total", "Dead letters, by reason.", "reason"), deadLetterReasons...),
		unstored:   begun(counter("dead_letters_unstored_total", "Dead letters that have no row, by reason.", "reason"), reasonRefused, reasonNoRoom),

		unpublished: unpublished,
	}
}

// deadLetterReasons are why something becomes a dead letter. One that was run again and refused is not a new one.
var deadLetterReasons = []string{"command_rejected", "command_unreadable", "causation_loop", "chain_gone", "quarantined"}

// counters are counters by one label, found without building the label's hash each time.
type counters struct {
	vec   *prometheus.CounterVec
	known sync.Map // label → prometheus.Counter
}

func (c *counters) inc(label string) {
	one, ok := c.known.Load(label)
	if !ok {
		one, _ = c.known.LoadOrStore(label, c.vec.WithLabelValues(label))
	}
	one.(prometheus.Counter).Inc()
}

// watch adds the measurements that are read off the engine when somebody asks.
func (m *Metrics) watch(e *Engine) {
	gauge := func(name, help string, labels prometheus.Labels, read func() float64) {
		opts := prometheus.GaugeOpts{Namespace: "callchain", Name: name, Help: help, ConstLabels: labels}
		m.registerer.MustRegister(prometheus.NewGaugeFunc(opts, read))
	}
	for lane, name := range map[bus.Lane]string{bus.RPC: "rpc", bus.Data: "data"} {
		labels := prometheus.Labels{"lane": name}
		gauge("inbox_waiting", "Commands that wait in this process to be taken by their owner.", labels, func() float64 { return float64(e.inbox.Len(lane)) })
		gauge("inbox_oldest_seconds", "How long the oldest command waits that is not committed yet.", labels, func() float64 { return e.oldest(lane).Seconds() })
	}
	for _, transport := range wayNames[1:] {
		gauge("sessions", "Connections of devices, by transport.", prometheus.Labels{"transport": transport}, func() float64 {
			return float64(e.sessions.count(transport))
		})
	}
	gauge("partitions", "Partitions of the installation.", nil, func() float64 { return float64(e.config.Partitions) })
	gauge("partitions_owned", "Partitions that this node owns.", nil, func() float64 { return float64(e.held.count()) })
	gauge("nodes", "Nodes that are known to live, this one too.", nil, func() float64 { return float64(1 + len(e.members.others())) })
	gauge("feature_level", "The newest feature level that all live nodes have.", nil, func() float64 { return float64(e.members.level()) })
	gauge("waiting_callers", "Calls that somebody waits for.", nil, func() float64 { return float64(e.waiters.len()) })
	gauge("ready", "1 if the engine serves, 0 if it does not.", nil, func() float64 {
		if len(e.Ready()) > 0 {
			return 0
		}
		return 1
	})
	gauge("relay_waiting_events", "Committed events that are not published yet.", nil, func() float64 {
		if e.relay == nil {
			return 0
		}
		return float64(e.relay.lag())
	})
}
