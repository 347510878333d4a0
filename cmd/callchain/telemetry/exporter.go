package telemetry

import (
	"context"
	"log/slog"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	sdk "go.opentelemetry.io/otel/sdk/trace"
)

// exporter counts what is sent, and tells once when the collector goes away and when it is back. Errors end here: the SDK would print them.
type exporter struct {
	sdk.SpanExporter
	sent, lost prometheus.Counter
	away       atomic.Bool
	log        *slog.Logger
}

func newExporter(to sdk.SpanExporter, r prometheus.Registerer, log *slog.Logger) *exporter {
	spans := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "callchain", Name: "spans_total", Help: "Spans of traces that were handed to the collector (sent) or that it did not take (lost).",
	}, []string{"outcome"})
	r.MustRegister(spans)
	return &exporter{SpanExporter: to, sent: spans.WithLabelValues("sent"), lost: spans.WithLabelValues("lost"), log: log}
}

// ExportSpans implements the SDK's SpanExporter.
func (e *exporter) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	if err != nil {
		e.lost.Add(float64(len(spans)))
		if !e.away.Swap(true) {
			e.log.Warn("the collector takes no traces; they are dropped until it does", "error", err)
		}
		return nil // it is told and counted
	}
	e.sent.Add(float64(len(spans)))
	if e.away.Swap(false) {
		e.log.Info("the collector takes traces again")
	}
	return nil
}
