package serve

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	httpdevice "callchain/transports/http"

	"github.com/prometheus/client_golang/prometheus"
)

// assembleHTTP makes the device API over HTTP. It has no listener of its own: it lives beside REST.
func (s *Server) assembleHTTP() (err error) {
	l := s.settings.Limits
	c := httpdevice.Default()
	c.Body, c.Requests, c.Polls = int64(l.HTTPBody), l.HTTPRequests, l.HTTPPolls
	c.Bodies = max(c.Bodies, 4*c.Body)
	c.AnswerTimeout = s.settings.RPC.ClientSide + 10*time.Second
	s.httpDevices, err = httpdevice.New(c, s.registry, s.engine.Inbound(), s.log)
	if err != nil {
		return fmt.Errorf("setting up the device API over HTTP: %w", err)
	}
	registerHTTPDevices(s.metrics, s.httpDevices)
	return nil
}

// besideDevices serves the device API below its prefix and everything else with rest.
func (s *Server) besideDevices(rest http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, httpdevice.Prefix) {
			s.httpDevices.ServeHTTP(w, r)
			return
		}
		rest.ServeHTTP(w, r)
	})
}

// registerHTTPDevices shows the transport's counters.
func registerHTTPDevices(r *prometheus.Registry, server *httpdevice.Server) {
	for _, g := range []struct {
		name, help string
		value      func(httpdevice.Stats) int64
	}{
		{"polls", "Polls of HTTP devices that wait.", func(s httpdevice.Stats) int64 { return s.Polls }},
		{"sessions", "HTTP devices that poll.", func(s httpdevice.Stats) int64 { return s.Sessions }},
	} {
		opts := prometheus.GaugeOpts{Namespace: "callchain", Subsystem: "http_device", Name: g.name, Help: g.help}
		r.MustRegister(prometheus.NewGaugeFunc(opts, func() float64 { return float64(g.value(server.Stats())) }))
	}
	for _, c := range []struct {
		name, help string
		value      func(httpdevice.Stats) int64
	}{
		{"requests_total", "Requests to the device API.", func(s httpdevice.Stats) int64 { return s.Requests }},
		{"unauthorized_total", "Requests with a token that no device has.", func(s httpdevice.Stats) int64 { return s.Unauthorized }},
		{"refused_total", "Requests answered 503.", func(s httpdevice.Stats) int64 { return s.Refused }},
		{"payloads_refused_total", "Bodies that are too large or cannot be read.", func(s httpdevice.Stats) int64 { return s.PayloadsRefused }},
		{"polls_empty_total", "Polls that ended without anything.", func(s httpdevice.Stats) int64 { return s.PollsEmpty }},
		{"commands_taken_total", "Calls fetched by their devices.", func(s httpdevice.Stats) int64 { return s.CommandsTaken }},
		{"commands_lost_total", "Calls whose device hung up; they come again.", func(s httpdevice.Stats) int64 { return s.CommandsLost }},
		{"commands_refused_total", "Calls that could not be written.", func(s httpdevice.Stats) int64 { return s.CommandsRefused }},
	} {
		opts := prometheus.CounterOpts{Namespace: "callchain", Subsystem: "http_device", Name: c.name, Help: c.help}
		r.MustRegister(prometheus.NewCounterFunc(opts, func() float64 { return float64(c.value(server.Stats())) }))
	}
}
