package e2e_test

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"callchain/cmd/callchain/client"
)

// How long a node may take until it serves, counted from its start.
const nodeReadyMax = 30 * time.Second

// clusterPartitions is what onKafka gives the nodes.
const clusterPartitions = 16

// cluster is several nodes of one installation: one database, one broker, one auth.key, and for each node its own folder and listeners.
type cluster struct {
	t     *testing.T
	place *place // store, brokers and prefix, for those who read them beside the nodes
	env   []string
	nodes []*node
	token string // of the administrator, good on every node
}

// node is a place in the cluster and the process that was started there last.
type node struct {
	*place
	server *process
	rest   *client.Client
	ready  atomic.Bool // as the balancer saw it last
}

// newCluster makes places for nodes node-1, node-2, …; none is started.
func newCluster(t *testing.T, nodes int, flags ...string) *cluster {
	t.Helper()
	key := make([]byte, 32)
	_, _ = rand.Read(key) // it never fails
	c := &cluster{t: t, place: onKafka(t), env: []string{"CALLCHAIN_AUTH_KEY=" + hex.EncodeToString(key)}}
	c.place.flags = append(c.place.flags[:len(c.place.flags):len(c.place.flags)], flags...)
	for range nodes {
		c.add()
	}
	return c
}

// add makes the place of one more node.
func (c *cluster) add() *node {
	c.t.Helper()
	p := newPlace(c.t)
	p.name = fmt.Sprintf("node-%d", len(c.nodes)+1)
	p.store, p.brokers, p.prefix, p.env = c.place.store, c.place.brokers, c.place.prefix, c.env
	p.flags = append(c.place.flags[:len(c.place.flags):len(c.place.flags)], "--node.id", p.name)
	n := &node{place: p}
	c.nodes = append(c.nodes, n)
	return n
}

// start starts all nodes, the first one before the others: it makes the installation. Each has a client of the administrator then.
func (c *cluster) start() {
	c.t.Helper()
	c.nodes[0].server = start(c.t, c.nodes[0].place)
	c.nodes[0].rest = c.nodes[0].login(c.t)
	c.token = c.nodes[0].rest.Token()
	for _, n := range c.nodes[1:] {
		c.reach(n)
		n.server = launch(c.t, n.place)
	}
	for _, n := range c.nodes {
		c.serves(n)
	}
	c.shared()
}

// shared waits until every partition has an owner and every node that runs owns some.
func (c *cluster) shared() {
	c.t.Helper()
	eventually(c.t, nodeReadyMax, func() string {
		sum, without := 0, 0
		for _, n := range c.nodes {
			if !n.runs() {
				continue
			}
			owned, err := n.partitionsOwned()
			if err != nil {
				return err.Error()
			}
			if sum += owned; owned == 0 {
				without++
			}
		}
		if sum != clusterPartitions || without > 0 {
			return "the partitions are not shared out: " + c.owners()
		}
		return ""
	})
}

// reach gives a node a client of the administrator.
func (c *cluster) reach(n *node) {
	c.t.Helper()
	var err error
	if n.rest, err = client.New("http://"+n.http, c.token); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(n.rest.Close)
}

// startNode starts a node (again) and waits until it serves.
func (c *cluster) startNode(n *node) {
	c.t.Helper()
	n.server = launch(c.t, n.place)
	c.serves(n)
}

// serves waits until a node that was launched is ready. A node that ended by itself fails the test.
func (c *cluster) serves(n *node) {
	c.t.Helper()
	eventually(c.t, nodeReadyMax, func() string {
		select {
		case <-n.server.ended:
			c.t.Fatalf("%s ended by itself: %v\n%s", n.name, n.server.err, n.server.log.String())
		default:
		}
		if err := n.rest.Ready(c.t.Context()); err != nil {
			return fmt.Sprintf("%s: %v", n.name, err)
		}
		return ""
	})
}

// readied is how long a node that is started now takes until it serves.
func (c *cluster) readied(n *node) time.Duration {
	c.t.Helper()
	c.startNode(n)
	return time.Since(n.server.started)
}

// freeze stops a node as a long pause of its machine does; thaw lets it go on.
func (n *node) freeze() error { return n.server.cmd.Process.Signal(syscall.SIGSTOP) }
func (n *node) thaw() error   { return n.server.cmd.Process.Signal(syscall.SIGCONT) }

// runs tells whether the node's process was started and has not ended.
func (n *node) runs() bool {
	if n.server == nil {
		return false
	}
	select {
	case <-n.server.ended:
		return false
	default:
		return true
	}
}

// stop ends all nodes that run, as an operator does.
func (c *cluster) stop() {
	c.t.Helper()
	for _, n := range c.nodes {
		if !n.runs() {
			continue
		}
		if status := n.server.stop(); status != 0 {
			c.t.Errorf("%s ended with status %d", n.name, status)
		}
	}
}

// balance looks at /readyz of each node as a load balancer does, until stop is closed.
func (c *cluster) balance(nodes []*node, stop <-chan struct{}) {
	probe := &http.Client{Timeout: 500 * time.Millisecond}
	for _, n := range nodes {
		go func() {
			look := time.NewTicker(100 * time.Millisecond)
			defer look.Stop()
			for {
				answer, err := probe.Get("http://" + n.http + "/readyz")
				if err == nil {
					_ = answer.Body.Close() // its status is enough
				}
				n.ready.Store(err == nil && answer.StatusCode == http.StatusOK)
				select {
				case <-look.C:
				case <-stop:
					return
				}
			}
		}()
	}
}

// mqttAddrs are the addresses of the MQTT listeners of the nodes that were started.
func (c *cluster) mqttAddrs() (out []string) {
	for _, n := range c.nodes {
		if n.server != nil {
			out = append(out, n.mqtt)
		}
	}
	return out
}

// drained waits until every partition has an owner and nothing waits for one: what was kept while a partition went from node to node is stored.
func (c *cluster) drained() {
	c.t.Helper()
	c.shared()
	eventually(c.t, nodeReadyMax, func() string {
		for _, n := range c.nodes {
			for _, name := range []string{"callchain_kafka_lag", "callchain_kafka_unwritten", "callchain_inbox_waiting", "callchain_inbox_oldest_seconds"} {
				if !n.runs() {
					continue
				}
				if v, err := n.gauge(name); err != nil || v > 0 {
					return fmt.Sprintf("%s of %s is %v (%v)", name, n.name, v, err)
				}
			}
		}
		return ""
	})
}

// gauge reads a measurement of a node from /metrics: the sum of its series.
func (n *node) gauge(name string) (float64, error) {
	probe := &http.Client{Timeout: 5 * time.Second}
	answer, err := probe.Get("http://" + n.http + "/metrics")
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	return sumSeries(answer.Body, name)
}

// partitionsOwned is the number of partitions that a node owns, all of them loaded.
func (n *node) partitionsOwned() (int, error) {
	v, err := n.gauge("callchain_partitions_owned")
	return int(v), err
}

// owners tells how the partitions are spread, for the output.
func (c *cluster) owners() string {
	var out []string
	for _, n := range c.nodes {
		if !n.runs() {
			out = append(out, n.name+" is down")
			continue
		}
		owned, err := n.partitionsOwned()
		if err != nil {
			out = append(out, fmt.Sprintf("%s: %v", n.name, err))
			continue
		}
		out = append(out, fmt.Sprintf("%s owns %d", n.name, owned))
	}
	return strings.Join(out, ", ")
}
