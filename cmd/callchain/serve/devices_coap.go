package serve

import (
	"context"
	"fmt"
	"net"

	"callchain/transports/coap"

	"github.com/prometheus/client_golang/prometheus"
)

// assembleCoAP makes the device API over CoAP.
func (s *Server) assembleCoAP() (err error) {
	if s.listener.coap == nil {
		return nil
	}
	c := coap.Default()
	c.DataOutstanding = s.settings.Limits.DataOutstanding
	s.coap, err = coap.New(c, s.registry, s.engine.Inbound(), s.log)
	if err != nil {
		return fmt.Errorf("setting up CoAP: %w", err)
	}
	registerCoAP(s.metrics, s.coap)
	return nil
}

// serveCoAP serves devices until ctx ends; it begins when the engine is ready.
func (s *Server) serveCoAP(ctx context.Context) error {
	if s.coap == nil || !s.awaitEngine(ctx) {
		return nil
	}
	return s.coap.Serve(ctx, s.listener.coap)
}

// CoAPAddr is the address of the CoAP listener, nil if CoAP is off.
func (s *Server) CoAPAddr() net.Addr {
	if s.listener.coap == nil {
		return nil
	}
	return s.listener.coap.LocalAddr()
}

// registerCoAP shows the transport's counters.
func registerCoAP(r *prometheus.Registry, server *coap.Server) {
	for _, g := range []struct {
		name, help string
		value      func(coap.Stats) int64
	}{
		{"endpoints", "CoAP peers that are remembered.", func(s coap.Stats) int64 { return s.Endpoints }},
		{"sessions", "CoAP sessions of devices.", func(s coap.Stats) int64 { return s.Sessions }},
		{"observers", "Observations of calls and attributes.", func(s coap.Stats) int64 { return s.Observers }},
	} {
		opts := prometheus.GaugeOpts{Namespace: "callchain", Subsystem: "coap", Name: g.name, Help: g.help}
		r.MustRegister(prometheus.NewGaugeFunc(opts, func() float64 { return float64(g.value(server.Stats())) }))
	}
	for _, c := range []struct {
		name, help string
		value      func(coap.Stats) int64
	}{
		{"packets_in_total", "Packets from devices that could be decoded.", func(s coap.Stats) int64 { return s.PacketsIn }},
		{"packets_out_total", "Packets to devices.", func(s coap.Stats) int64 { return s.PacketsOut }},
		{"malformed_total", "Packets that could not be decoded.", func(s coap.Stats) int64 { return s.Malformed }},
		{"unauthorized_total", "Requests with a token that no device has.", func(s coap.Stats) int64 { return s.Refused }},
		{"dropped_total", "Packets of peers that send too much, or that there is no room for.", func(s coap.Stats) int64 { return s.Dropped }},
		{"duplicates_total", "Repeated messages that were not done again.", func(s coap.Stats) int64 { return s.Duplicates }},
		{"retransmissions_total", "Messages to devices that were sent again.", func(s coap.Stats) int64 { return s.Retransmissions }},
		{"unacknowledged_total", "Messages to devices that were given up without an ACK.", func(s coap.Stats) int64 { return s.Unacknowledged }},
		{"resets_total", "Messages that devices answered with RST.", func(s coap.Stats) int64 { return s.Resets }},
		{"data_unanswered_total", "Telemetry and attributes answered 5.03.", func(s coap.Stats) int64 { return s.DataUnanswered }},
		{"payloads_refused_total", "Requests answered with an error.", func(s coap.Stats) int64 { return s.PayloadsRefused }},
		{"commands_written_total", "Calls written to devices.", func(s coap.Stats) int64 { return s.CommandsWritten }},
		{"commands_refused_total", "Calls that could not be written.", func(s coap.Stats) int64 { return s.CommandsRefused }},
		{"messages_dropped_total", "Attribute updates that did not fit.", func(s coap.Stats) int64 { return s.MessagesDropped }},
	} {
		opts := prometheus.CounterOpts{Namespace: "callchain", Subsystem: "coap", Name: c.name, Help: c.help}
		r.MustRegister(prometheus.NewCounterFunc(opts, func() float64 { return float64(c.value(server.Stats())) }))
	}
}
