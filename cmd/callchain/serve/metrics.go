package serve

import (
	"callchain/transports/mqtt"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// registerMQTT shows the transport's counters.
func registerMQTT(r *prometheus.Registry, server *mqtt.Server) {
	for _, g := range []struct {
		name, help string
		value      func(mqtt.Stats) int64
	}{
		{"connections", "Open MQTT sockets.", func(s mqtt.Stats) int64 { return s.Connections }},
		{"sessions", "MQTT sessions of devices.", func(s mqtt.Stats) int64 { return s.Sessions }},
	} {
		opts := prometheus.GaugeOpts{Namespace: "callchain", Subsystem: "mqtt", Name: g.name, Help: g.help}
		r.MustRegister(prometheus.NewGaugeFunc(opts, func() float64 { return float64(g.value(server.Stats())) }))
	}
	for _, c := range []struct {
		name, help string
		value      func(mqtt.Stats) int64
	}{
		{"accepted_total", "Sockets accepted.", func(s mqtt.Stats) int64 { return s.Accepted }},
		{"refused_total", "Connections refused.", func(s mqtt.Stats) int64 { return s.Refused }},
		{"packets_in_total", "Packets from devices.", func(s mqtt.Stats) int64 { return s.PacketsIn }},
		{"packets_out_total", "Packets to devices.", func(s mqtt.Stats) int64 { return s.PacketsOut }},
		{"bytes_in_total", "Bytes from devices.", func(s mqtt.Stats) int64 { return s.BytesIn }},
		{"bytes_out_total", "Bytes to devices.", func(s mqtt.Stats) int64 { return s.BytesOut }},
		{"data_dropped_total", "Telemetry and attributes dropped.", func(s mqtt.Stats) int64 { return s.DataDropped }},
		{"data_unanswered_total", "Telemetry and attributes left unacknowledged.", func(s mqtt.Stats) int64 { return s.DataUnanswered }},
		{"commands_written_total", "Calls written to devices.", func(s mqtt.Stats) int64 { return s.CommandsWritten }},
		{"commands_refused_total", "Calls that could not be written.", func(s mqtt.Stats) int64 { return s.CommandsRefused }},
		{"messages_dropped_total", "Answers and attribute updates that did not fit.", func(s mqtt.Stats) int64 { return s.MessagesDropped }},
		{"payloads_refused_total", "Publishes refused.", func(s mqtt.Stats) int64 { return s.PayloadsRefused }},
		{"protocol_errors_total", "Connections closed for breaking MQTT.", func(s mqtt.Stats) int64 { return s.ProtocolErrors }},
		{"stalled_closed_total", "Connections closed because the device did not read.", func(s mqtt.Stats) int64 { return s.StalledClosed }},
		{"keep_alive_expired_total", "Connections closed for silence.", func(s mqtt.Stats) int64 { return s.KeepAliveExpired }},
	} {
		opts := prometheus.CounterOpts{Namespace: "callchain", Subsystem: "mqtt", Name: c.name, Help: c.help}
		r.MustRegister(prometheus.NewCounterFunc(opts, func() float64 { return float64(c.value(server.Stats())) }))
	}
}

// measure shows what is not the engine's, the API's or a transport's to show.
func (s *Server) measure() {
	s.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), s.newStorage())
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "callchain", Name: "build_info", Help: "1, with the version of the program."}, []string{"version"})
	build.WithLabelValues(s.version).Set(1)
	s.metrics.MustRegister(build)
	if s.kafka != nil {
		s.metrics.MustRegister(newBrokers(s.kafka.Stats))
	}
}
