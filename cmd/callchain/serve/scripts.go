package serve

import (
	"context"

	"callchain/nodes/builtin"
	"callchain/nodes/script/goja"

	"github.com/prometheus/client_golang/prometheus"
)

// openScripts makes the engine of scripts, and with it the list of all kinds of nodes.
func (s *Server) openScripts(context.Context) error {
	scripts := goja.New(s.settings.Chains.ScriptBudget)
	s.kinds = builtin.WithScripts(scripts)
	for name, c := range map[string]struct {
		help  string
		value func(goja.Stats) int64
	}{
		"runs_total":            {"Scripts of rule nodes that were run.", func(s goja.Stats) int64 { return s.Runs }},
		"budget_exceeded_total": {"Scripts that were ended because they ran longer than chains.script_budget.", func(s goja.Stats) int64 { return s.Excesses }},
	} {
		opts := prometheus.CounterOpts{Namespace: "callchain", Subsystem: "script", Name: name, Help: c.help}
		s.metrics.MustRegister(prometheus.NewCounterFunc(opts, func() float64 { return float64(c.value(scripts.Stats())) }))
	}
	return nil
}
