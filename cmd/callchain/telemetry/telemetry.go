// Package telemetry sends the server's traces to a collector, as OTLP over HTTP. What is traced, the engine and the API decide; this package
// knows the SDK of OpenTelemetry, and is the only one that does.
package telemetry

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"callchain/engine/observe"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// Options say where traces go, and how many.
type Options struct {
	Endpoint string  // URL of the collector; without a path, OTLP's own (/v1/traces)
	Headers  string  // "name=value,name=value", sent with every request
	Sample   float64 // share of the traces that begin here, 0 to 1; a caller that brings a trace has decided already
	Service  string
	Version  string
	Node     string
	Metrics  prometheus.Registerer
	Log      *slog.Logger
}

// The bounds of what waits for the collector. Spans beyond are dropped.
const (
	waitMost    = 8_192
	sendMost    = 1_024
	sendEvery   = time.Second
	sendTimeout = 10 * time.Second
)

// Traces is where spans go until Close.
type Traces struct {
	provider *sdk.TracerProvider
	ratio    sdk.Sampler
}

// Open makes what spans go to. The collector is not asked before there is something to send; while it is away, spans are dropped.
func Open(ctx context.Context, o Options) (*Traces, error) {
	headers, err := parseHeaders(o.Headers)
	if err != nil {
		return nil, fmt.Errorf("otel.headers: %w", err)
	}
	endpoint, err := url.Parse(o.Endpoint)
	if err != nil || endpoint.Host == "" || endpoint.Scheme != "http" && endpoint.Scheme != "https" {
		return nil, errors.New("otel.endpoint: must look like http://collector:4318")
	}
	if strings.Trim(endpoint.Path, "/") == "" {
		endpoint.Path = "/v1/traces"
	}
	otlp, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(endpoint.String()), otlptracehttp.WithHeaders(headers),
		otlptracehttp.WithTimeout(sendTimeout), otlptracehttp.WithRetry(otlptracehttp.RetryConfig{Enabled: false}))
	if err != nil {
		return nil, fmt.Errorf("otel.endpoint: %w", err)
	}
	ratio := sdk.TraceIDRatioBased(o.Sample)
	return &Traces{
		ratio: ratio,
		provider: sdk.NewTracerProvider(
			sdk.WithBatcher(newExporter(otlp, o.Metrics, o.Log),
				sdk.WithMaxQueueSize(waitMost), sdk.WithMaxExportBatchSize(sendMost), sdk.WithBatchTimeout(sendEvery), sdk.WithExportTimeout(sendTimeout)),
			sdk.WithSampler(sdk.ParentBased(ratio)),
			sdk.WithIDGenerator(ids{}),
			sdk.WithResource(resource.NewSchemaless(
				semconv.ServiceName(o.Service), semconv.ServiceVersion(o.Version), semconv.ServiceInstanceID(o.Node),
			)),
		),
	}, nil
}

// parseHeaders reads "name=value,name=value"; values may be percent-encoded, as in OTEL_EXPORTER_OTLP_HEADERS. What is wrong is told without
// the values: they are secrets.
func parseHeaders(text string) (map[string]string, error) {
	out := map[string]string{}
	for pair := range strings.SplitSeq(text, ",") {
		if pair = strings.TrimSpace(pair); pair == "" {
			continue
		}
		name, value, ok := strings.Cut(pair, "=")
		name = strings.TrimSpace(name)
		if !ok || name == "" {
			return nil, errors.New("must be name=value, and more of them with commas")
		}
		decoded, err := url.PathUnescape(strings.TrimSpace(value))
		if err != nil {
			return nil, fmt.Errorf("the value of %s is not percent-encoded well", name)
		}
		out[name] = decoded
	}
	return out, nil
}

// Provider makes tracers.
func (t *Traces) Provider() trace.TracerProvider { return t.provider }

// Engine is how the engine traces.
func (t *Traces) Engine() *observe.Tracing {
	return &observe.Tracing{Provider: t.provider, Sampled: func(id trace.TraceID) bool {
		return t.ratio.ShouldSample(sdk.SamplingParameters{TraceID: id}).Decision == sdk.RecordAndSample
	}}
}

// Close sends what waits, as far as ctx allows.
func (t *Traces) Close(ctx context.Context) error {
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("sending the last traces: %w", err)
	}
	return nil
}

// ids makes ids at random, but for spans whose id is decided.
type ids struct{}

// NewIDs implements the SDK's IDGenerator.
func (g ids) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	var id trace.TraceID
	for !id.IsValid() {
		_, _ = rand.Read(id[:]) // it cannot fail
	}
	return id, g.NewSpanID(ctx, id)
}

// NewSpanID implements the SDK's IDGenerator.
func (ids) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	id, _ := observe.SpanID(ctx)
	for !id.IsValid() {
		_, _ = rand.Read(id[:]) // it cannot fail
	}
	return id
}
