package serve

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"callchain/cmd/callchain/client"
	"callchain/engine/bus/kafka"

	"github.com/goccy/go-yaml"
)

const (
	alertsFile = "../../../deploy/prometheus/alerts.yml"
	boardFile  = "../../../deploy/grafana/callchain.json"
	alertsPage = "../../../docs/observability.md"
)

// alert is an alert rule of Prometheus, as far as the tests look at it.
type alert struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func alerts(t *testing.T) []alert {
	t.Helper()
	text, err := os.ReadFile(alertsFile)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Rules []alert `yaml:"rules"`
		} `yaml:"groups"`
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	var all []alert
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

// panelQueries are the queries of the board, by the title of their panel.
func panelQueries(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(boardFile)
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			Title   string `json:"title"`
			Targets []struct {
				Expr string `json:"expr"`
			} `json:"targets"`
		} `json:"panels"`
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	out := map[string][]string{}
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			out[p.Title] = append(out[p.Title], target.Expr)
		}
	}
	return out
}

// metric is a family of series: the values of each label.
type metric map[string]map[string]bool

var (
	seriesLine = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? [^ ]+$`)
	labelPair  = regexp.MustCompile(`([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"`)
)

// measurements are what /metrics shows of a server on which everything has happened that is measured.
func measurements(t *testing.T) map[string]metric {
	t.Helper()
	to := newCollector(t)
	to.away = true // so that spans are lost, too
	server, c := run(t, load(t, t.TempDir(), map[string]string{"otel.endpoint": to.url}))
	if server.kafka == nil {
		server.metrics.MustRegister(newBrokers(func() kafka.Stats { return kafka.Stats{} }))
	}
	id, _ := device(t, server, c, "d", "default")
	for _, oneway := range []bool{true, false} {
		if _, err := c.Send(t.Context(), id, oneway, client.CallRequest{Method: "m"}); err != nil {
			t.Fatal(err)
		}
	}
	request := client.CallRequest{Method: "m", Persistent: true, ID: "11111111-1111-4111-8111-111111111111"}
	if _, err := c.Send(t.Context(), id, false, request); err != nil {
		t.Fatal(err)
	}
	until(t, func() bool {
		return measured(t, server, `callchain_calls_ended_total{kind="persistent",phase="succeeded",reason=""}`) == 1
	}, "the call does not end")
	if _, err := c.Cancel(t.Context(), request.ID); err == nil {
		t.Fatal("a call that has ended was cancelled")
	}
	until(t, func() bool { return measured(t, server, `callchain_spans_total{outcome="lost"}`) > 0 }, "no span was lost")
	return parseMeasurements(scrape(t, server))
}

func parseMeasurements(text string) map[string]metric {
	out := map[string]metric{}
	for line := range strings.Lines(text) {
		m := seriesLine.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		if out[m[1]] == nil {
			out[m[1]] = metric{}
		}
		for _, pair := range labelPair.FindAllStringSubmatch(m[2], -1) {
			if out[m[1]][pair[1]] == nil {
				out[m[1]][pair[1]] = map[string]bool{}
			}
			out[m[1]][pair[1]][pair[2]] = true
		}
	}
	return out
}

// words of PromQL that are no metrics.
var promQL = map[string]bool{
	"sum": true, "min": true, "max": true, "by": true, "on": true, "and": true, "rate": true, "increase": true, "time": true, "changes": true, "histogram_quantile": true,
}

// fromPrometheus are labels that Prometheus adds to what it scrapes, and the metric that it makes itself.
var fromPrometheus = map[string]bool{"job": true, "instance": true, "up": true}

var (
	word      = regexp.MustCompile(`[a-zA-Z_:][a-zA-Z0-9_:]*`)
	selector  = regexp.MustCompile(`([a-zA-Z_:][a-zA-Z0-9_:]*)?\{([^}]*)\}`)
	matcher   = regexp.MustCompile(`([a-zA-Z_][a-zA-Z0-9_]*)(=~|=)"([^"]*)"`)
	grouping  = regexp.MustCompile(`\b(?:by|on) *\(([^)]*)\)`)
	durations = regexp.MustCompile(`\[[^\]]*\]`)
)

// unknown lists what a query names and the server does not measure.
func unknown(query string, known map[string]metric) []string {
	var wrong []string
	labels := map[string]bool{}
	for _, s := range selector.FindAllStringSubmatch(query, -1) {
		for _, m := range matcher.FindAllStringSubmatch(s[2], -1) {
			values := known[s[1]][m[1]]
			if fromPrometheus[m[1]] {
				continue
			}
			if values == nil || m[2] == "=" && !values[m[3]] {
				wrong = append(wrong, s[1]+"{"+m[0]+"}")
			}
		}
	}
	rest := durations.ReplaceAllString(selector.ReplaceAllString(query, "$1 "), "")
	groups := grouping.FindAllStringSubmatch(rest, -1)
	for _, name := range word.FindAllString(grouping.ReplaceAllString(rest, ""), -1) {
		switch {
		case promQL[name] || fromPrometheus[name]:
		case known[name] == nil:
			wrong = append(wrong, name)
		default:
			for label := range known[name] {
				labels[label] = true
			}
		}
	}
	for _, g := range groups {
		for _, label := range word.FindAllString(g[1], -1) {
			if !labels[label] && !fromPrometheus[label] {
				wrong = append(wrong, "by ("+label+")")
			}
		}
	}
	return wrong
}

// TestBoardAndAlertsNameWhatIsMeasured: each metric, label and value that deploy/ names is one that a running server shows.
func TestBoardAndAlertsNameWhatIsMeasured(t *testing.T) {
	known := measurements(t)
	for _, a := range alerts(t) {
		if wrong := unknown(a.Expr, known); len(wrong) > 0 {
			t.Errorf("alert %s: the server does not measure %v", a.Alert, wrong)
		}
	}
	queries := panelQueries(t)
	if len(queries) < 20 {
		t.Errorf("the board has %d panels", len(queries))
	}
	for _, title := range slices.Sorted(maps.Keys(queries)) {
		for _, query := range queries[title] {
			if wrong := unknown(query, known); len(wrong) > 0 {
				t.Errorf("panel %q: the server does not measure %v", title, wrong)
			}
		}
	}
	page, err := os.ReadFile(alertsPage)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range regexp.MustCompile(`callchain_[a-z_]+`).FindAllString(string(page), -1) {
		if known[name] == nil && known[name+"_bucket"] == nil {
			t.Errorf("docs/observability.md names %s, which the server does not measure", name)
		}
	}
	for name := range known {
		if strings.HasPrefix(name, "callchain_") && !wellNamed(name, known[name]) {
			t.Errorf("%s: names end in _total, _bytes, _seconds, … and no label holds an id", name)
		}
		if dropped := strings.Join(queries["Dropped"], " "); strings.HasSuffix(name, "dropped_total") && !strings.Contains(dropped, name) {
			t.Errorf("the board's panel \"Dropped\" does not show %s", name)
		}
	}
}

// wellNamed holds a metric against Prometheus' conventions: base units, and labels of few values.
func wellNamed(name string, m metric) bool {
	for _, label := range m {
		for value := range label {
			if len(label) > 120 || strings.Count(value, "-") == 4 && len(value) == 36 {
				return false
			}
		}
	}
	return !regexp.MustCompile(`_(ms|millis|milliseconds|micros|kb|mb|percent)(_|$)`).MatchString(name)
}

// TestUnknownMetricsAreFound: the test above can fail.
func TestUnknownMetricsAreFound(t *testing.T) {
	known := map[string]metric{"callchain_a": {"lane": {"rpc": true}}, "callchain_b": {}}
	for query, want := range map[string]string{
		`sum by (lane) (rate(callchain_a{lane="rpc"}[5m])) / callchain_b`: "",
		`callchain_c > 1`:                                         "callchain_c",
		`callchain_a{lane="data"}`:                                `callchain_a{lane="data"}`,
		`callchain_a{way=~"$way"}`:                                `callchain_a{way=~"$way"}`,
		`sum by (way) (callchain_a)`:                              "by (way)",
		`callchain_a and on (job) max by (job) (callchain_x) > 1`: "callchain_x",
	} {
		if got := strings.Join(unknown(query, known), " "); got != want {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
}

// TestEveryAlertHasItsRunbook: docs/observability.md tells of each alert what it means and what to do.
func TestEveryAlertHasItsRunbook(t *testing.T) {
	page, err := os.ReadFile(alertsPage)
	if err != nil {
		t.Fatal(err)
	}
	sections := strings.Split(string(page), "\n### ")
	for _, a := range alerts(t) {
		if want := "docs/observability.md#" + strings.ToLower(a.Alert); a.Annotations["runbook"] != want || a.Annotations["summary"] == "" || a.Labels["severity"] == "" {
			t.Errorf("alert %s has the annotations %v, want the runbook %s", a.Alert, a.Annotations, want)
		}
		if !slices.ContainsFunc(sections, func(s string) bool { return strings.HasPrefix(s, a.Alert+"\n") && strings.Contains(s, "**Do:**") }) {
			t.Errorf("%s has no section %q that says what to do", filepath.Base(alertsPage), a.Alert)
		}
	}
	for _, s := range sections[1:] {
		name, _, _ := strings.Cut(s, "\n")
		if strings.HasPrefix(name, "Callchain") && !slices.ContainsFunc(alerts(t), func(a alert) bool { return a.Alert == name }) {
			t.Errorf("%s has the section %s, and there is no such alert", filepath.Base(alertsPage), name)
		}
	}
}

// TestStorageIsMeasured: the size of the database grows with what is written, and the file system has room.
func TestStorageIsMeasured(t *testing.T) {
	server, _ := run(t, load(t, t.TempDir(), map[string]string{"retention.max_bytes": "1GiB"}))
	until(t, func() bool { return measured(t, server, "callchain_store_bytes") > 4096 }, "the database has no size")
	if limit := measured(t, server, "callchain_store_limit_bytes"); limit != 1<<30 {
		t.Errorf("the limit is shown as %v", limit)
	}
	if total, free := measured(t, server, "callchain_data_dir_total_bytes"), measured(t, server, "callchain_data_dir_free_bytes"); free <= 0 || free > total {
		t.Errorf("%v of %v bytes are free", free, total)
	}
}
