package settings

import (
	"fmt"
	"net"
	"reflect"
	"regexp"
	"strings"

	"callchain/registry"

	"github.com/knadh/koanf/maps"
	"github.com/knadh/koanf/v2"
)

// Sources are where settings come from, the weakest first.
type Sources struct {
	File    string            // path of the YAML file; empty: none
	Environ []string          // NAME=value, as os.Environ gives them
	Flags   map[string]string // key → value of the flags that were given
}

// Loaded are the settings and where each came from.
type Loaded struct {
	Settings
	origin map[string]origin // by key; defaults are not in it
}

// origin names a source as a message does: "file callchain.yaml:3".
type origin string

// Error is a setting that cannot be taken. Its text is one line: the key, what is allowed, the value unless it is a secret, and
// where it came from.
type Error struct {
	Key    string
	Reason string
	Value  string // empty for secrets
	Origin string
}

func (e *Error) Error() string {
	text := e.Key + ": " + e.Reason
	if e.Value != "" {
		text += ", is " + strings.ReplaceAll(e.Value, "\n", `\n`)
	}
	return text + " (from " + e.Origin + ")"
}

// layer is one source as koanf takes it.
type layer map[string]any

// ReadBytes is not wanted of a source without a parser.
func (l layer) ReadBytes() ([]byte, error) { return nil, fmt.Errorf("settings are no bytes") }

func (l layer) Read() (map[string]any, error) { return maps.Unflatten(l, "."), nil }

// given is a value of a source.
type given struct {
	key    string
	value  string
	origin origin
}

// Load reads all sources. It fails with *Error, whose text an operator can act on, or with what kept the file from being read.
func Load(from Sources) (*Loaded, error) {
	all := table()
	l := &Loaded{origin: map[string]origin{}}
	k := koanf.New(".")
	defaults := layer{}
	for _, s := range all {
		defaults[s.key] = s.def
	}
	if err := k.Load(defaults, nil); err != nil {
		return nil, fmt.Errorf("loading defaults: %w", err)
	}
	for _, read := range []func([]setting, *koanf.Koanf) ([]given, error){from.file, from.thingsBoard, from.environment, from.flags} {
		values, err := read(all, k)
		if err != nil {
			return nil, err
		}
		if err := l.add(k, values); err != nil {
			return nil, err
		}
	}
	if err := l.decode(all, k); err != nil {
		return nil, err
	}
	return l, l.check()
}

func (l *Loaded) add(k *koanf.Koanf, values []given) error {
	flat := layer{}
	for _, v := range values {
		flat[v.key] = v.value
		l.origin[v.key] = v.origin
	}
	if err := k.Load(flat, nil); err != nil {
		return fmt.Errorf("loading settings: %w", err)
	}
	return nil
}

func (l *Loaded) decode(all []setting, k *koanf.Koanf) error {
	into := reflect.ValueOf(&l.Settings).Elem()
	for _, s := range all {
		text := k.String(s.key)
		v, err := s.parse(text)
		if err != nil {
			return l.wrong(s, text, err.Error())
		}
		into.FieldByIndex(s.field).Set(reflect.ValueOf(v))
	}
	return nil
}

func (l *Loaded) wrong(s setting, value, reason string) error {
	if s.secret() {
		value = ""
	}
	from := string(l.origin[s.key])
	if from == "" {
		from = "default"
	}
	return &Error{s.key, reason, value, from}
}

// The bounds of passwords; the registry has the same.
const passwordBytesMin, passwordBytesMax = 6, 255

// check compares settings with one another.
func (l *Loaded) check() error {
	all := table()
	fail := func(key, value, reason string) error {
		s, _ := find(all, key)
		return l.wrong(s, value, reason)
	}
	if k := l.Auth.Key; k != "" {
		if _, err := registry.ParseKey(k.Reveal()); err != nil {
			return fail("auth.key", "", "must be 64 hex digits or the base64 of 32 bytes; make one with: openssl rand -hex 32")
		}
	}
	for _, u := range []struct {
		key      string
		email    string
		password Secret
	}{{"admin", l.Admin.Email, l.Admin.Password}, {"sysadmin", l.SysAdmin.Email, l.SysAdmin.Password}} {
		if u.email != "" && !strings.Contains(u.email, "@") {
			return fail(u.key+".email", u.email, "must look like name@domain")
		}
		if n := len(u.password); n > 0 && (n < passwordBytesMin || n > passwordBytesMax) {
			return fail(u.key+".password", "", fmt.Sprintf("must have %d to %d bytes", passwordBytesMin, passwordBytesMax))
		}
	}
	switch {
	case l.SysAdmin.Email != "" && l.SysAdmin.Password == "":
		return fail("sysadmin.password", "", "must be set together with sysadmin.email")
	case l.SysAdmin.Email == "" && l.SysAdmin.Password != "":
		return fail("sysadmin.email", "", "must be set together with sysadmin.password")
	case l.SysAdmin.Email != "" && strings.EqualFold(l.SysAdmin.Email, l.Admin.Email):
		return fail("sysadmin.email", l.SysAdmin.Email, "must differ from admin.email")
	}
	if l.Auth.Token.Refresh < l.Auth.Token.Access {
		return fail("auth.token.refresh", l.Auth.Token.Refresh.String(), "must not be shorter than auth.token.access")
	}
	if !topicPart.MatchString(l.Node.ID) {
		return fail("node.id", l.Node.ID, topicPartReason)
	}
	return l.checkKafka(fail)
}

// checkKafka compares the settings of the brokers with one another.
func (l *Loaded) checkKafka(fail func(key, value, reason string) error) error {
	k := &l.Bus.Kafka
	switch {
	case k.Brokers == "":
		return nil
	case l.Store.URL == "":
		return fail("store.url", "", "must name a PostgreSQL when bus.kafka.brokers is set: the embedded database serves one process only")
	case (k.TLS.Cert == "") != (k.TLS.Key == ""):
		return fail("bus.kafka.tls.key", k.TLS.Key, "must be set together with bus.kafka.tls.cert")
	case !k.TLS.Enabled && (k.TLS.CA != "" || k.TLS.Cert != ""):
		return fail("bus.kafka.tls.enabled", "false", "must be true when certificates are named")
	case k.SASL.Mechanism != "none" && (k.SASL.User == "" || k.SASL.Password == ""):
		return fail("bus.kafka.sasl.user", k.SASL.User, "must be set, with bus.kafka.sasl.password, when bus.kafka.sasl.mechanism is")
	case k.SASL.Mechanism == "none" && k.SASL.User != "":
		return fail("bus.kafka.sasl.mechanism", k.SASL.Mechanism, "must be plain, scram-sha-256 or scram-sha-512 when bus.kafka.sasl.user is set")
	}
	if len(k.BrokerList()) == 0 {
		return fail("bus.kafka.brokers", k.Brokers, "must be host:port, and more of them with commas")
	}
	for _, b := range k.BrokerList() {
		if _, _, err := net.SplitHostPort(b); err != nil {
			return fail("bus.kafka.brokers", k.Brokers, "must be host:port, and more of them with commas")
		}
	}
	if !topicPart.MatchString(k.Prefix) {
		return fail("bus.kafka.prefix", k.Prefix, topicPartReason)
	}
	return nil
}

// topicPart is what becomes a part of the names of topics. Kafka takes 249 letters of a name; the longest has the prefix, callchain.node. and the id of the node.
var topicPart = regexp.MustCompile(`^[a-zA-Z0-9._-]{0,100}$`)

const topicPartReason = "must have letters, digits, dots, underscores and hyphens only, 100 at most"
