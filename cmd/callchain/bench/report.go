package bench

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// Latency is a distribution in milliseconds.
type Latency struct {
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99_9"`
	Max  float64 `json:"max"`
}

// Result is what a run measured.
type Result struct {
	Mode       string             `json:"mode"`
	Devices    int                `json:"devices"`
	Callers    int                `json:"callers,omitempty"`
	Rate       float64            `json:"rate,omitempty"` // asked for, a second; 0 = closed loop
	Seconds    float64            `json:"seconds"`
	Operations int64              `json:"operations"`
	PerSecond  float64            `json:"perSecond"`
	Latency    *Latency           `json:"latencyMs,omitempty"`
	Statuses   map[string]int64   `json:"statuses,omitempty"`
	Failed     int64              `json:"failed"`
	CPU        *CPU               `json:"cpuCores,omitempty"` // absent where /proc is not
	RSS        int64              `json:"serverRssBytes,omitempty"`
	Figures    map[string]float64 `json:"figures,omitempty"` // of the mode
	Notes      []string           `json:"notes,omitempty"`
}

// OthersMax is how much of the processor other programs may use before the figures are worthless, in cores.
const OthersMax = 0.3

// Disturbed tells whether other programs used too much.
func (r *Result) Disturbed() bool { return r.CPU != nil && r.CPU.Others > OthersMax }

// measured fills in what the recordings tell. okay are the statuses that count as success.
func (r *Result) measured(rec *recording, seconds float64, okay ...string) {
	r.Seconds, r.Statuses = seconds, rec.statuses
	for status, n := range rec.statuses {
		r.Operations += n
		if !slices.Contains(okay, status) {
			r.Failed += n
		}
	}
	r.PerSecond = float64(r.Operations-r.Failed) / seconds
	if r.Operations == 0 {
		return
	}
	ms := func(micros int64) float64 { return float64(micros) / 1000 }
	h := rec.latency
	r.Latency = &Latency{
		P50: ms(h.ValueAtQuantile(50)), P90: ms(h.ValueAtQuantile(90)), P99: ms(h.ValueAtQuantile(99)),
		P999: ms(h.ValueAtQuantile(99.9)), Max: ms(h.Max()),
	}
}

// Print writes the result for people.
func (r *Result) Print(w io.Writer) {
	head := fmt.Sprintf("%s: %d devices", r.Mode, r.Devices)
	if r.Callers > 0 {
		head += fmt.Sprintf(", %d callers", r.Callers)
	}
	if r.Rate > 0 {
		head += fmt.Sprintf(", %g/s asked for (latency from the time each was due)", r.Rate)
	}
	fmt.Fprintf(w, "%s, %s\n", head, time.Duration(r.Seconds*float64(time.Second)).Round(10*time.Millisecond))
	if r.Operations > 0 {
		fmt.Fprintf(w, "  succeeded   %.0f a second (%d in all, %d failed)\n", r.PerSecond, r.Operations, r.Failed)
	}
	if l := r.Latency; l != nil {
		fmt.Fprintf(w, "  latency ms  p50 %.2f   p90 %.2f   p99 %.2f   p99.9 %.2f   max %.2f\n", l.P50, l.P90, l.P99, l.P999, l.Max)
	}
	if len(r.Statuses) > 0 {
		fmt.Fprintf(w, "  answers     %s\n", counted(r.Statuses))
	}
	for _, name := range slices.Sorted(maps.Keys(r.Figures)) {
		fmt.Fprintf(w, "  %-11s %.2f\n", name, r.Figures[name])
	}
	if r.CPU != nil {
		fmt.Fprintf(w, "  processor   server %.2f cores, this load generator %.2f, all else %.2f\n", r.CPU.Server, r.CPU.Generator, r.CPU.Others)
	}
	if r.RSS > 0 {
		fmt.Fprintf(w, "  memory      server %.1f MB resident at the end\n", float64(r.RSS)/1e6)
	}
	for _, note := range r.Notes {
		fmt.Fprintf(w, "  note: %s\n", note)
	}
}

func counted(statuses map[string]int64) string {
	var parts []string
	for _, status := range slices.Sorted(maps.Keys(statuses)) {
		parts = append(parts, fmt.Sprintf("%s: %d", status, statuses[status]))
	}
	return strings.Join(parts, ", ")
}
