package settings

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "callchain.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func load(t *testing.T, from Sources) *Loaded {
	t.Helper()
	l, err := Load(from)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestDefaults(t *testing.T) {
	l := load(t, Sources{})
	if l.HTTP.Addr != "127.0.0.1:8080" || l.Partitions != 64 || l.RPC.MinTimeout != 5*time.Second || l.RPC.MaxRetries != 5 ||
		l.Retention.Light != 7*24*time.Hour || l.Limits.HTTPBody != 16<<20 || l.Auth.Token.Access != 9000*time.Second || l.RPC.CloseSession {
		t.Errorf("defaults are %+v", l.Settings)
	}
}

func TestLaterSourcesWin(t *testing.T) {
	path := file(t, "# mine\nrpc:\n  max_retries: 1\n  min_timeout: 1s\n  default_timeout: 2m\n  ack_timeout: 3s\nhttp.addr: ':1'\nlimits:\nlog: {level: WARN}\n")
	l := load(t, Sources{
		File: path,
		Environ: []string{
			"CALLCHAIN_RPC_MAX_RETRIES=3", "ACTORS_RPC_MAX_RETRIES=2", "DEFAULT_SERVER_SIDE_RPC_TIMEOUT=7000",
			"MQTT_BIND_PORT=1999", "ACTORS_RPC_SUBMIT_STRATEGY_TYPE=SEQUENTIAL_ON_ACK_FROM_DEVICE", "JWT_TOKEN_EXPIRATION_TIME=60",
			"CALLCHAIN_URL=http://x", "CALLCHAIN_TEST_POSTGRES=x", "OTHER=1", "CALLCHAIN_LIMITS_HTTP_BODY=1MiB",
		},
		Flags: map[string]string{"rpc.max_retries": "4"},
	})
	for what, got := range map[string][2]any{
		"flag over environment":    {l.RPC.MaxRetries, 4},
		"ThingsBoard's name, ms":   {l.RPC.DefaultTimeout, 7 * time.Second},
		"ThingsBoard's name, s":    {l.Auth.Token.Access, time.Minute},
		"ThingsBoard's name, port": {l.MQTT.Addr, "127.0.0.1:1999"},
		"ThingsBoard's word":       {l.RPC.SubmitStrategy, "on_ack"},
		"file":                     {l.RPC.MinTimeout, time.Second},
		"dotted key":               {l.HTTP.Addr, ":1"},
		"flow mapping, any case":   {l.Log.Level, "warn"},
		"bytes with a unit":        {l.Limits.HTTPBody, Bytes(1 << 20)},
		"origin of a file":         {l.Origin("rpc.ack_timeout"), "file callchain.yaml:6"},
		"origin of a flag":         {l.Origin("rpc.max_retries"), "flag --rpc.max_retries"},
		"origin of a default":      {l.Origin("partitions"), "default"},
		"origin of environment":    {l.Origin("limits.http_body"), "environment CALLCHAIN_LIMITS_HTTP_BODY"},
		"origin of ThingsBoard's":  {l.Origin("auth.token.access"), "environment JWT_TOKEN_EXPIRATION_TIME"},
	} {
		if got[0] != got[1] {
			t.Errorf("%s: %v, want %v", what, got[0], got[1])
		}
	}
}

func TestOwnNamesWinOverThingsBoards(t *testing.T) {
	for _, environ := range [][]string{
		{"CALLCHAIN_RPC_MAX_RETRIES=3", "ACTORS_RPC_MAX_RETRIES=2"}, {"ACTORS_RPC_MAX_RETRIES=2", "CALLCHAIN_RPC_MAX_RETRIES=3"},
	} {
		if l := load(t, Sources{Environ: environ}); l.RPC.MaxRetries != 3 {
			t.Errorf("%v: %d", environ, l.RPC.MaxRetries)
		}
	}
}

// An operator reads one line: what, what is allowed, what it is, where it came from.
// kafka begins a file with a database that may stand beside brokers.
const kafka = "store: {url: 'postgres://u:p@h:5432/n'}\nbus:\n  kafka:\n"

func TestWrongSettingsAreOneLine(t *testing.T) {
	for _, c := range []struct {
		file, env, flag string // flag is key=value
		want            string
	}{
		{file: "rpc:\n\n  max_retries: 900", want: "rpc.max_retries: must be between 0 and 100, is 900 (from file callchain.yaml:3)"},
		{env: "CALLCHAIN_RPC_MAX_RETRIES=many", want: "rpc.max_retries: must be a whole number, is many (from environment CALLCHAIN_RPC_MAX_RETRIES)"},
		{flag: "rpc.max_retries=-1", want: "rpc.max_retries: must be between 0 and 100, is -1 (from flag --rpc.max_retries)"},
		{env: "ACTORS_RPC_MAX_RETRIES=1e3", want: "rpc.max_retries: must be a whole number, is 1e3 (from environment ACTORS_RPC_MAX_RETRIES)"},
		{file: "rpc:\n  min_timeout: 5000", want: "rpc.min_timeout: must be a duration with a unit such as 500ms, 10s, 5m, 12h or 7d, is 5000 (from file callchain.yaml:2)"},
		{file: "rpc:\n  max_retrys: 5", want: "rpc.max_retrys: is no setting, did you mean rpc.max_retries? (from file callchain.yaml:2)"},
		{file: "htpp:\n  addr: x", want: "htpp: is no setting (from file callchain.yaml:1)"},
		{env: "CALLCHAIN_HTTP_ADRR=x", want: "CALLCHAIN_HTTP_ADRR: is no setting, did you mean CALLCHAIN_HTTP_ADDR? (from environment)"},
		{flag: "http.port=1", want: "http.port: is no setting, did you mean http.addr? (from flag --http.port)"},
		{flag: "http.addr=8080", want: "http.addr: must look like host:port with a port between 0 and 65535, for example 127.0.0.1:8080, is 8080 (from flag --http.addr)"},
		{flag: "http.addr=", want: "http.addr: must not be empty (from flag --http.addr)"},
		{file: "http: {addr: ':1', addr: ':2'}", want: "mapping key"},
		{file: "http.addr: ':1'\nhttp: {addr: ':2'}", want: "http.addr: is set twice (from file callchain.yaml:2)"},
		{file: "http: 5", want: "http: must hold keys with values (from file callchain.yaml:1)"},
		{file: "http:\n  addr: [a, b]", want: "http.addr: must be a single value (from file callchain.yaml:2)"},
		{file: "- a", want: "must hold keys with values (from file callchain.yaml:1)"},
		{file: "a: b: c", want: "reading the settings of"},
		{file: "rpc:\n  submit_strategy: fifo", want: "rpc.submit_strategy: must be one of burst, on_ack, on_response, is fifo (from file callchain.yaml:2)"},
		{file: "rpc:\n  close_session_on_delivery_timeout: maybe", want: "must be true or false, is maybe"},
		{file: "limits:\n  http_body: 99999999999GiB", want: "limits.http_body: must be a number of bytes"},
		{env: "CALLCHAIN_STORE_URL=mysql://user:hunter2@host/x", want: "store.url: must be empty or look like postgres://user:password@host:5432/name (from environment CALLCHAIN_STORE_URL)"},
		{env: "CALLCHAIN_AUTH_KEY=hunter2", want: "auth.key: must be 64 hex digits or the base64 of 32 bytes; make one with: openssl rand -hex 32 (from environment CALLCHAIN_AUTH_KEY)"},
		{flag: "sysadmin.email=s@x", want: "sysadmin.password: must be set together with sysadmin.email (from default)"},
		{env: "CALLCHAIN_ADMIN_PASSWORD=hunt2", want: "admin.password: must have 6 to 255 bytes (from environment CALLCHAIN_ADMIN_PASSWORD)"},
		{env: "CALLCHAIN_AUTH_TOKEN_REFRESH=20m", want: "auth.token.refresh: must not be shorter than auth.token.access, is 20m0s (from environment CALLCHAIN_AUTH_TOKEN_REFRESH)"},
		{flag: "bus.kafka.brokers=k:9092", want: "store.url: must name a PostgreSQL when bus.kafka.brokers is set"},
		{file: kafka + "    brokers: k", want: "bus.kafka.brokers: must be host:port, and more of them with commas, is k (from file callchain.yaml:4)"},
		{file: kafka + "    brokers: ','", want: "bus.kafka.brokers: must be host:port"},
		{file: kafka + "    brokers: k:9092\n    prefix: a b", want: "bus.kafka.prefix: must have letters, digits"},
		{flag: "node.id=node/1", want: "node.id: must have letters, digits, dots, underscores and hyphens only, 100 at most, is node/1 (from flag --node.id)"},
		{env: "CALLCHAIN_NODE_ID=" + strings.Repeat("n", 101), want: "node.id: must have letters, digits"},
		{file: kafka + "    brokers: k:9092\n    prefix: " + strings.Repeat("p", 101), want: "bus.kafka.prefix: must have letters, digits"},
		{file: kafka + "    brokers: k:9092\n    tls: {cert: c.pem}", want: "bus.kafka.tls.key: must be set together with bus.kafka.tls.cert"},
		{file: kafka + "    brokers: k:9092\n    tls: {ca: c.pem}", want: "bus.kafka.tls.enabled: must be true when certificates are named"},
		{file: kafka + "    brokers: k:9092\n    sasl: {mechanism: plain, user: u}", want: "bus.kafka.sasl.user: must be set, with bus.kafka.sasl.password"},
		{file: kafka + "    brokers: k:9092\n    sasl: {user: u}", want: "bus.kafka.sasl.mechanism: must be plain, scram-sha-256 or scram-sha-512"},
	} {
		from := Sources{}
		if c.file != "" {
			from.File = file(t, c.file)
		}
		if c.env != "" {
			from.Environ = []string{c.env}
		}
		if key, value, ok := strings.Cut(c.flag, "="); ok {
			from.Flags = map[string]string{key: value}
		}
		_, err := Load(from)
		if err == nil {
			t.Errorf("%+v was loaded", c)
			continue
		}
		if got := err.Error(); !strings.Contains(got, c.want) || strings.Contains(got, "\n") || strings.Contains(got, "hunt") {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

func TestMissingFileIsAnError(t *testing.T) {
	_, err := Load(Sources{File: "/nowhere/callchain.yaml"})
	if err == nil || !strings.Contains(err.Error(), "/nowhere/callchain.yaml") {
		t.Errorf("error is %v", err)
	}
}

func TestSecretsDoNotShow(t *testing.T) {
	l := load(t, Sources{Environ: []string{
		"CALLCHAIN_ADMIN_PASSWORD=hunter2", "CALLCHAIN_AUTH_KEY=" + strings.Repeat("1a", 32),
		"CALLCHAIN_STORE_URL=postgres://u:hunter2@h/n?password=hunter2",
	}})
	var out strings.Builder
	if err := l.Print(&out); err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.Marshal(l.Settings)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&out, "%v %+v %#v %s", l.Settings, l.Settings, l.Settings, asJSON)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "s", l.Settings, "p", l.Admin.Password, "u", l.Store.URL)
	if s := out.String(); strings.Contains(s, "hunter2") || strings.Contains(s, "1a1a") {
		t.Errorf("a secret shows in %s", s)
	}
	for _, want := range []string{"admin.password: \"********\"  # environment CALLCHAIN_ADMIN_PASSWORD", "postgres://u:xxxxx@h/n?password=xxxxx", "auth.token.refresh: 7d\n", "auth.token.access: 2h30m\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s is missing in %s", want, out.String())
		}
	}
	if l.Admin.Password.Reveal() != "hunter2" || l.Store.URL.Reveal() != "postgres://u:hunter2@h/n?password=hunter2" {
		t.Error("the secrets themselves are changed")
	}
}

func TestFlags(t *testing.T) {
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	flags.String("config", "", "not a setting")
	AddFlags(flags)
	if err := flags.Parse([]string{"--config", "x", "--http.addr", ":0", "--rpc.close_session_on_delivery_timeout", "--retention.light=2d"}); err != nil {
		t.Fatal(err)
	}
	given := Given(flags)
	l := load(t, Sources{Flags: given})
	if len(given) != 3 || l.HTTP.Addr != ":0" || !l.RPC.CloseSession || l.Retention.Light != 48*time.Hour {
		t.Errorf("given %v, loaded %+v", given, l.Settings)
	}
	if err := flags.Parse([]string{"--http.adr", ":0"}); err == nil {
		t.Error("an unknown flag is taken")
	}
}

// The sample must be what it says: every setting at its default, also once the comments are taken away.
func TestSampleLoads(t *testing.T) {
	sample := Sample()
	load(t, Sources{File: file(t, sample)})
	var live []string
	for line := range strings.Lines(sample) {
		text := strings.TrimLeft(line, " ")
		if strings.HasPrefix(text, "#") && !strings.HasPrefix(text, "# ") {
			line = strings.Replace(line, "#", "", 1)
		}
		live = append(live, line)
	}
	l := load(t, Sources{File: file(t, strings.Join(live, ""))})
	if want := load(t, Sources{}); l.Settings != want.Settings {
		t.Errorf("the sample gives %+v", l.Settings)
	}
	if len(l.origin) != len(table()) {
		t.Errorf("the sample sets %d of %d settings", len(l.origin), len(table()))
	}
}

func TestTableIsSound(t *testing.T) {
	names := map[string]string{}
	for _, s := range table() {
		if _, err := s.parse(s.def); err != nil {
			t.Errorf("%s: its default %v", s.key, err)
		}
		if s.doc == "" || !strings.HasSuffix(s.doc, ".") {
			t.Errorf("%s: its doc is no sentence: %q", s.key, s.doc)
		}
		for _, name := range []string{s.key, s.environment(), s.tb} {
			if other := names[name]; other != "" && name != "" {
				t.Errorf("%s and %s are both named %s", s.key, other, name)
			}
			names[name] = s.key
		}
		if row := "| `" + s.key + "` |"; !strings.Contains(Markdown(), row) {
			t.Errorf("the documentation lacks %s", s.key)
		}
	}
}

func FuzzFile(f *testing.F) {
	for _, s := range []string{Sample(), "rpc: {max_retries: 1}", "a: &a [*a]", "? x\n: y", "--- 1\n---\nhttp:", "http: !!binary x", "<<: {http: 1}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		l, err := Load(Sources{File: file(t, text)})
		if err == nil && l.Partitions < 1 {
			t.Fatalf("%q gives %d partitions", text, l.Partitions)
		}
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Fatalf("more than one line: %v", err)
		}
	})
}
