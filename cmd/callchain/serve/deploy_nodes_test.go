package serve

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"callchain/cmd/callchain/settings"

	"github.com/goccy/go-yaml"
	"github.com/spf13/pflag"
)

// deployFile is the text of a file in deploy/.
func deployFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../../deploy", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// composed are the services of compose.yaml, as far as the tests look at them.
func composed(t *testing.T) map[string]composeService {
	t.Helper()
	var file struct {
		Services map[string]composeService `yaml:"services"`
	}
	if err := yaml.Unmarshal([]byte(deployFile(t, "compose.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	return file.Services
}

type composeService struct {
	Environment map[string]string `yaml:"environment"`
	Ports       []string          `yaml:"ports"`
}

var variable = regexp.MustCompile(`\$\{([A-Z_]+)(:[-?][^}]*)?\}`)

// TestComposeRunsThreeNodes: the server takes the settings of each node, which differ by its name only, and only the loopback address is reached.
func TestComposeRunsThreeNodes(t *testing.T) {
	given := map[string]string{
		"POSTGRES_PASSWORD": "p4ssw0rd", "CALLCHAIN_AUTH_KEY": strings.Repeat("0f", 32), "CALLCHAIN_ADMIN_PASSWORD": "tenant", "CALLCHAIN_ADMIN_EMAIL": "a@b",
	}
	services := composed(t)
	ids := map[string]bool{}
	for name, s := range services {
		for _, port := range s.Ports {
			if !strings.HasPrefix(port, "127.0.0.1:") {
				t.Errorf("%s: port %s is open to others", name, port)
			}
		}
		if !strings.HasPrefix(name, "node-") {
			continue
		}
		var environ []string
		for key, value := range s.Environment {
			environ = append(environ, key+"="+variable.ReplaceAllStringFunc(value, func(v string) string { return given[variable.FindStringSubmatch(v)[1]] }))
		}
		loaded, err := settings.Load(settings.Sources{Environ: append(environ, imageSettings(t)...)})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := loaded.Settings
		ids[got.Node.ID] = true
		if got.Node.ID != name || got.Auth.Key.Reveal() != given["CALLCHAIN_AUTH_KEY"] || got.Admin.Password.Reveal() == "" ||
			!strings.Contains(got.Store.URL.Reveal(), given["POSTGRES_PASSWORD"]) || services[strings.Split(got.Bus.Kafka.Brokers, ":")[0]].Environment == nil {
			t.Errorf("%s runs with %+v", name, got)
		}
		want := []string{":" + portOf(got.HTTP.Addr), ":" + portOf(got.MQTT.Addr), ":" + portOf(got.CoAP.Addr) + "/udp"}
		for i, port := range s.Ports {
			if !strings.HasSuffix(port, want[i]) {
				t.Errorf("%s: port %s leads nowhere, the server listens on %s", name, port, want[i])
			}
		}
	}
	if len(ids) != 3 {
		t.Errorf("the nodes are %v, want three", ids)
	}
}

func portOf(addr string) string { return addr[strings.LastIndex(addr, ":")+1:] }

// imageSettings are the settings that the image has.
func imageSettings(t *testing.T) []string {
	t.Helper()
	return regexp.MustCompile(`CALLCHAIN_[A-Z_]+=\S+`).FindAllString(deployFile(t, "Dockerfile"), -1)
}

// TestImageOpensItsPorts: the ports that the image names are those that it listens on.
func TestImageOpensItsPorts(t *testing.T) {
	loaded, err := settings.Load(settings.Sources{Environ: imageSettings(t)})
	if err != nil {
		t.Fatal(err)
	}
	s := loaded.Settings
	want := "EXPOSE " + portOf(s.HTTP.Addr) + "/tcp " + portOf(s.MQTT.Addr) + "/tcp " + portOf(s.CoAP.Addr) + "/udp\n"
	text := deployFile(t, "Dockerfile")
	for _, line := range []string{want, "WORKDIR " + s.Data.Dir + "\n", "VOLUME " + s.Data.Dir + "\n"} {
		if !strings.Contains(text, line) {
			t.Errorf("the Dockerfile has no line %q", line)
		}
	}
}

// TestNoSecretHasADefault: who starts the nodes has to name each secret.
func TestNoSecretHasADefault(t *testing.T) {
	found := 0
	for _, v := range variable.FindAllStringSubmatch(deployFile(t, "compose.yaml"), -1) {
		if strings.Contains(v[1], "PASSWORD") || strings.Contains(v[1], "KEY") {
			found++
			if !strings.HasPrefix(v[2], ":?") {
				t.Errorf("compose.yaml: %s starts without a value", v[0])
			}
		}
	}
	if found < 4 {
		t.Errorf("compose.yaml has %d secrets", found)
	}
	for line := range strings.Lines(deployFile(t, "systemd/secrets.env")) {
		if !strings.HasPrefix(line, "#") {
			t.Errorf("secrets.env: %q is no comment", line)
		}
	}
}

// TestSettingsOfServiceAndChart: each name in the unit's files and in the chart is a setting, and the ports and paths are the server's.
func TestSettingsOfServiceAndChart(t *testing.T) {
	loaded, err := settings.Load(settings.Sources{File: "../../../deploy/systemd/callchain.yaml", Environ: []string{"CALLCHAIN_STORE_URL=postgres://c@d/e"}})
	if err != nil {
		t.Fatal(err)
	}
	if s := loaded.Settings; len(s.Bus.Kafka.BrokerList()) < 3 || s.Node.ID == "" {
		t.Errorf("callchain.yaml makes no node of several: %+v", s)
	}
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	settings.AddFlags(flags)
	known := map[string]bool{}
	flags.VisitAll(func(f *pflag.Flag) { known["CALLCHAIN_"+strings.ToUpper(strings.ReplaceAll(f.Name, ".", "_"))] = true })
	for _, file := range []string{"systemd/callchain.service", "systemd/secrets.env", "helm/callchain/templates/_env.tpl"} {
		names := regexp.MustCompile(`CALLCHAIN_[A-Z_]*[A-Z]\b`).FindAllString(deployFile(t, file), -1)
		if len(names) == 0 {
			t.Errorf("%s names no settings", file)
		}
		for _, name := range names {
			if !known[name] {
				t.Errorf("%s names %s, which is no setting", file, name)
			}
		}
	}
	env, pod := deployFile(t, "helm/callchain/templates/_env.tpl"), deployFile(t, "helm/callchain/templates/statefulset.yaml")
	for kind, key := range map[string]string{"http": "HTTP", "mqtt": "MQTT", "coap": "COAP"} {
		port := regexp.MustCompile(`CALLCHAIN_` + key + `_ADDR, value: .*?0\.0\.0\.0:(\d+)"`).FindStringSubmatch(env)
		if port == nil || !strings.Contains(pod, "{name: "+kind+", containerPort: "+port[1]) {
			t.Errorf("the chart's pod has no port %s of %v", kind, port)
		}
	}
}

// TestProbesAreServed: what deploy/ asks the server for, the server answers.
func TestProbesAreServed(t *testing.T) {
	server, _ := run(t, load(t, t.TempDir(), nil))
	paths := map[string]bool{}
	for _, file := range []string{"helm/callchain/templates/statefulset.yaml", "helm/callchain/templates/servicemonitor.yaml", "prometheus/prometheus.yml"} {
		for _, m := range regexp.MustCompile(`(?:metrics_)?path: (/[a-z]+)`).FindAllStringSubmatch(deployFile(t, file), -1) {
			paths[m[1]] = true
		}
	}
	if got := slices.Sorted(maps.Keys(paths)); !slices.Equal(got, []string{"/livez", "/metrics", "/readyz"}) {
		t.Errorf("deploy/ asks for %v", got)
	}
	for path := range paths {
		if status, _ := get(t, server, path); status != 200 {
			t.Errorf("%s: status %d", path, status)
		}
	}
}
