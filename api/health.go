package api

import (
	"net/http"

	"callchain/registry/auth"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// liveView says that the process works.
type liveView struct {
	Alive bool `json:"alive"`
}

// readyView says why the server is not ready.
type readyView struct {
	Ready   bool     `json:"ready"`
	Reasons []string `json:"reasons"`
}

// live serves GET /livez.
func live(_ *server, c *gin.Context, _ *auth.Principal) error {
	return writeValue(c, liveView{true})
}

// ready serves GET /readyz: 503 with the reasons until everything is up.
func ready(s *server, c *gin.Context, _ *auth.Principal) error {
	reasons := s.engine.Ready()
	if s.waiting != nil {
		reasons = append(reasons[:len(reasons):len(reasons)], s.waiting()...)
	}
	status := http.StatusOK
	if len(reasons) > 0 {
		status = http.StatusServiceUnavailable
		c.Writer.Header().Set("Retry-After", "1")
	} else {
		reasons = []string{}
	}
	out, err := marshal(readyView{len(reasons) == 0, reasons})
	if err != nil {
		return err
	}
	writeJSON(c, status, out)
	return nil
}

// measured serves GET /metrics in Prometheus' text format.
func measured(r *prometheus.Registry) handler {
	h := promhttp.HandlerFor(r, promhttp.HandlerOpts{})
	return func(_ *server, c *gin.Context, _ *auth.Principal) error {
		h.ServeHTTP(c.Writer, c.Request)
		return nil
	}
}
