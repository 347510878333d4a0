package serve

import (
	"context"
	"time"

	"callchain/cmd/callchain/telemetry"

	"go.opentelemetry.io/otel/trace"
)

// Option is what New takes beside the settings.
type Option func(*Server)

// Version is the version of the program, as traces and metrics show it.
func Version(v string) Option { return func(s *Server) { s.version = v } }

// openTraces makes what traces go to, if the settings name a collector.
func (s *Server) openTraces(ctx context.Context) (err error) {
	o := &s.settings.OTel
	if o.Endpoint == "" {
		return nil
	}
	s.traces, err = telemetry.Open(ctx, telemetry.Options{
		Endpoint: o.Endpoint, Headers: o.Headers.Reveal(), Sample: o.Sample, Service: o.Service, Version: s.version, Node: s.node, Metrics: s.metrics, Log: s.log,
	})
	return err
}

// tracer makes the spans of REST, nil if there is no collector.
func (s *Server) tracer() trace.TracerProvider {
	if s.traces == nil {
		return nil
	}
	return s.traces.Provider()
}

// closeTraces sends the spans that wait. A collector that is away costs a second.
func (s *Server) closeTraces() {
	if s.traces == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := s.traces.Close(ctx); err != nil {
		s.log.Warn("the last traces were not sent", "error", err)
	}
}
