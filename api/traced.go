package api

import (
	"net/http"

	"github.com/gin-gonic/gin"
	"go.opentelemetry.io/contrib/instrumentation/github.com/gin-gonic/gin/otelgin"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// traced gives each request a span: a child of the caller's if a W3C traceparent came with it. Probes have none. The measurements of the same
// package are left out: /metrics has them.
func traced(to trace.TracerProvider) gin.HandlerFunc {
	probes := map[string]bool{"/livez": true, "/readyz": true, "/metrics": true}
	return otelgin.Middleware(
		"", otelgin.WithTracerProvider(to), otelgin.WithPropagators(propagation.TraceContext{}), otelgin.WithMeterProvider(noop.NewMeterProvider()),
		otelgin.WithFilter(func(r *http.Request) bool { return !probes[r.URL.Path] }),
	)
}
