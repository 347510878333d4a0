package e2e_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// link is the network between one node and a service, which tests cut or slow down.
type link struct{ proxy *toxiproxy.Proxy }

// newLink listens on an address (port 0: any) and hands on what comes to a service.
func newLink(t *testing.T, name, listen, service string) link {
	t.Helper()
	zerolog.SetGlobalLevel(zerolog.Disabled) // some of it does not take the logger that is given
	p := toxiproxy.NewProxy(toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop()), name, listen, service)
	if err := p.Start(); err != nil {
		t.Fatalf("the proxy of the %s: %v", name, err)
	}
	t.Cleanup(p.Stop)
	return link{p}
}

// cut swallows what is sent in either direction, connections that are made now included, until heal. Nobody is told.
func (l link) cut(t *testing.T) {
	t.Helper()
	l.add(t, `{"name":"cut-up","type":"timeout","stream":"upstream","attributes":{"timeout":0}}`)
	l.add(t, `{"name":"cut-down","type":"timeout","stream":"downstream","attributes":{"timeout":0}}`)
}

// slow delays what is sent by 200 ms in each direction and lets 100 KB through in a second.
func (l link) slow(t *testing.T) {
	t.Helper()
	for _, stream := range []string{"upstream", "downstream"} {
		l.add(t, fmt.Sprintf(`{"type":"latency","stream":"%s","attributes":{"latency":200}}`, stream))
		l.add(t, fmt.Sprintf(`{"type":"bandwidth","stream":"%s","attributes":{"rate":100}}`, stream))
	}
}

func (l link) add(t *testing.T, toxic string) {
	t.Helper()
	if _, err := l.proxy.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
		t.Fatalf("%s: %v", toxic, err)
	}
}

// heal lets everything through again. Connections over which something was swallowed end.
func (l link) heal() { l.proxy.Toxics.ResetToxics(context.Background()) }

// proxiedVariable names the two ports of a broker that was started with KAFKA_PROXIED (scripts/kafka-up.sh): where it listens, and what it tells.
const proxiedVariable = "CALLCHAIN_TEST_KAFKA_PROXIED"

// behindLinks puts links between a node and its services. Without the broker's second listener there is none to the broker.
func behindLinks(t *testing.T, n *node) (broker, database link) {
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
		return link{}, database
	}
	broker = newLink(t, "broker", "127.0.0.1:"+tells, "127.0.0.1:"+listens)
	n.place.flags = append(n.place.flags, "--bus.kafka.brokers", broker.proxy.Listen)
	return broker, database
}
