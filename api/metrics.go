package api

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the API's measurements. Routes are labels, never paths: their number is fixed.
type metrics struct {
	requests *prometheus.CounterVec   // by method, route, status
	seconds  *prometheus.HistogramVec // by method, route
	streams  prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "callchain", Name: "http_requests_total", Help: "HTTP requests served, by method, route and status.",
		}, []string{"method", "route", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "callchain", Name: "http_request_seconds", Help: "Duration of HTTP requests, waiting for devices included.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2.5, 12),
		}, []string{"method", "route"}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "callchain", Name: "http_streams", Help: "Server-sent event streams open now.",
		}),
	}
	r.MustRegister(m.requests, m.seconds, m.streams)
	return m
}

// forRoute gives what counts the requests of one route. The counter of a plain success is looked up once.
func (m *metrics) forRoute(method, route string) func(status int, took time.Duration) {
	if route == "" {
		method, route = "any", "none"
	}
	byStatus := m.requests.MustCurryWith(prometheus.Labels{"method": method, "route": route})
	seconds := m.seconds.WithLabelValues(method, route)
	ok := byStatus.WithLabelValues("200")
	return func(status int, took time.Duration) {
		if status == 200 {
			ok.Inc()
		} else {
			byStatus.WithLabelValues(strconv.Itoa(status)).Inc()
		}
		seconds.Observe(took.Seconds())
	}
}
