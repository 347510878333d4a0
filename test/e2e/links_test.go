package e2e_test

import (
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// link is the network between one node and a service, which tests cut or slow down.
type link struct {
	t       *testing.T
	name    string
	service string
	proxy   *toxiproxy.Proxy
}

// newLink listens on an address (port 0: any) and hands on what comes to a service.
func newLink(t *testing.T, name, listen, service string) *link {
	t.Helper()
	zerolog.SetGlobalLevel(zerolog.Disabled) // some of it does not take the logger that is given
	l := &link{t: t, name: name, service: service}
	l.open(listen)
	t.Cleanup(func() { l.proxy.Stop() })
	return l
}

func (l *link) open(listen string) {
	l.t.Helper()
	l.proxy = toxiproxy.NewProxy(toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop()), l.name, listen, l.service)
	if err := l.proxy.Start(); err != nil {
		l.t.Fatalf("the proxy of the %s: %v", l.name, err)
	}
}

// cut swallows what is sent in either direction, connections that are made now included, until heal. Nobody is told.
func (l *link) cut() {
	l.t.Helper()
	l.add(`{"name":"cut-up","type":"timeout","stream":"upstream","attributes":{"timeout":0}}`)
	l.add(`{"name":"cut-down","type":"timeout","stream":"downstream","attributes":{"timeout":0}}`)
}

// slow delays what is sent by 200 ms in each direction and lets 100 KB through in a second.
func (l *link) slow() {
	l.t.Helper()
	for _, stream := range []string{"upstream", "downstream"} {
		l.add(fmt.Sprintf(`{"type":"latency","stream":"%s","attributes":{"latency":200}}`, stream))
		l.add(fmt.Sprintf(`{"type":"bandwidth","stream":"%s","attributes":{"rate":100}}`, stream))
	}
}

func (l *link) add(toxic string) {
	l.t.Helper()
	if _, err := l.proxy.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
		l.t.Fatalf("%s: %v", toxic, err)
	}
}

// heal lets everything through again. The connections end: to take toxics from connections that live can hang for ever, because the proxy then waits
// for one that ends, and that for the proxy.
func (l *link) heal() {
	listen := l.proxy.Listen
	l.proxy.Stop()
	l.open(listen)
}

// proxiedVariable names the two ports of a broker that was started with KAFKA_PROXIED (scripts/kafka-up.sh): where it listens, and what it tells.
const proxiedVariable = "CALLCHAIN_TEST_KAFKA_PROXIED"

// behindLinks puts links between a node and its services. Without the broker's second listener there is none to the broker.
func behindLinks(t *testing.T, n *node) (broker, database *link) {
	t.Helper()
	u, err := url.Parse(n.store)
	if err != nil {
		t.Fatal(err)
	}
	database = newLink(t, "database", "127.0.0.1:0", u.Host)
	u.Host = database.proxy.Listen
	n.place.store = u.String()
	listens, tells, ok := strings.Cut(strings.TrimSpace(os.Getenv(proxiedVariable)), " ")
	if !ok {
		t.Logf("NOT RUN: no link to the broker is cut: %s is not set; start the broker with KAFKA_PROXIED=1 (scripts/kafka-up.sh)", proxiedVariable)
		return nil, database
	}
	broker = newLink(t, "broker", "127.0.0.1:"+tells, "127.0.0.1:"+listens)
	n.place.flags = append(n.place.flags, "--bus.kafka.brokers", broker.proxy.Listen)
	return broker, database
}
