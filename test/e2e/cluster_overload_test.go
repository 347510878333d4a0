package e2e_test

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"callchain/cmd/callchain/client"
	"callchain/cmd/callchain/fleet"
)

// What overload may cost.
const (
	overloadTimes   = 10
	overloadGoodput = 0.8 // of the best
	overloadRSS     = 600 << 20
	normalAfter     = 30 * time.Second
	normalP99       = 3 // times as long as before
)

// drive is callers that send light calls one after the other, as fast as they are answered.
type drive struct {
	t       *testing.T
	c       *cluster
	devices []string
}

// measured is a while under load.
type measured struct {
	lasted          time.Duration
	took            []time.Duration // of the calls that succeeded
	refused, failed int
	first           error // of those that failed
}

func (m *measured) perSecond() float64 { return float64(len(m.took)) / m.lasted.Seconds() }

// share is how many of all calls succeeded.
func (m *measured) share() float64 {
	return float64(len(m.took)) / float64(max(1, len(m.took)+m.refused+m.failed))
}

// add counts what another measured, too.
func (m *measured) add(o *measured) {
	m.took, m.refused, m.failed = append(m.took, o.took...), m.refused+o.refused, m.failed+o.failed
	if m.first == nil {
		m.first = o.first
	}
}

func (m *measured) log(t *testing.T, what string) {
	t.Helper()
	t.Logf("%s: %.0f calls/s, p50 %s, p99 %s; %d refused, %d failed; first failure: %v", what, m.perSecond(), quantile(m.took, 0.5).Round(time.Microsecond),
		quantile(m.took, 0.99).Round(time.Microsecond), m.refused, m.failed, m.first)
}

// TestClusterOverload: ten times as many callers as a cluster can serve get little less done, cost little memory, and are forgotten soon after.
func TestClusterOverload(t *testing.T) {
	needsBinary(t)
	d := newDrive(t)
	warm := d.load(*clusterCallers, *clusterOverload/4)
	warm.log(t, "warm-up")
	normal := d.load(*clusterCallers, *clusterOverload)
	normal.log(t, "normal")
	over := d.load(overloadTimes**clusterCallers, *clusterOverload)
	over.log(t, "overload")
	ended := time.Now()
	best := max(normal.perSecond(), over.perSecond())
	if over.perSecond() < overloadGoodput*best {
		t.Errorf("goodput fell from %.0f to %.0f calls/s under overload", best, over.perSecond())
	}
	for {
		again := d.load(*clusterCallers, min(5*time.Second, *clusterOverload))
		again.log(t, "after it")
		if quantile(again.took, 0.99) <= normalP99*quantile(normal.took, 0.99) && again.share() >= 0.99 {
			t.Logf("normal again %s after the overload", time.Since(ended).Round(time.Millisecond))
			break
		}
		if time.Since(ended) > normalAfter {
			t.Errorf("not normal %s after the overload", time.Since(ended))
			break
		}
	}
	for _, n := range d.c.nodes {
		_, peak, err := n.server.memory()
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s took %s at most", n.name, mib(peak))
		if peak > overloadRSS {
			t.Errorf("%s took %s, more than %s", n.name, mib(peak), mib(overloadRSS))
		}
	}
	d.c.stop()
}

// newDrive starts three nodes with a hundred devices that answer at once.
func newDrive(t *testing.T) *drive {
	t.Helper()
	c := newCluster(t, *clusterNodes)
	c.start()
	return driveOn(c)
}

// driveOn connects the devices to a cluster that runs.
func driveOn(c *cluster) *drive {
	c.t.Helper()
	t, d := c.t, &drive{t: c.t, c: c}
	tokens := make([]string, 100)
	for i := range tokens {
		tokens[i] = "drive-" + strconv.Itoa(i)
		made, err := d.c.nodes[0].rest.CreateDevice(t.Context(), client.Device{Name: tokens[i]}, tokens[i])
		if err != nil {
			t.Fatal(err)
		}
		d.devices = append(d.devices, made.ID.ID)
	}
	f := fleet.New(fleet.Options{Addrs: d.c.mqttAddrs(), QoS: 1, KeepAlive: time.Second, Reconnect: true, Answer: fleet.Echo}, tokens)
	t.Cleanup(f.Close)
	if err := f.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	return d
}

// load lets callers call for a while.
func (d *drive) load(callers int, lasting time.Duration) *measured {
	d.t.Helper()
	ctx, stop := context.WithTimeout(d.t.Context(), lasting)
	defer stop()
	m := &measured{}
	began := time.Now()
	var mu sync.Mutex
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			moments := rand.New(rand.NewPCG(uint64(i), 0))
			own := &measured{}
			for ctx.Err() == nil {
				d.one(ctx, d.c.nodes[i%len(d.c.nodes)], moments, own)
			}
			mu.Lock()
			defer mu.Unlock()
			m.add(own)
		})
	}
	all.Wait()
	m.lasted = time.Since(began)
	return m
}

// one makes a call; a caller that is refused comes again when it may.
func (d *drive) one(ctx context.Context, n *node, moments *rand.Rand, m *measured) {
	began := time.Now()
	wish := client.CallRequest{Method: "m", Params: json.RawMessage(`{"x":1}`), Timeout: 10_000}
	_, err := n.rest.Send(context.WithoutCancel(ctx), d.devices[moments.IntN(len(d.devices))], false, wish)
	switch {
	case err == nil:
		m.took = append(m.took, time.Since(began))
	case client.StatusOf(err) == http.StatusServiceUnavailable:
		m.refused++
		wait := client.RetryAfterOf(err)
		if wait <= 0 {
			d.t.Errorf("a call was refused without a Retry-After: %v", err)
			wait = time.Second
		}
		select {
		case <-time.After(time.Duration(moments.Int64N(int64(wait)) + 1)):
		case <-ctx.Done():
		}
	default:
		if m.failed++; m.first == nil {
			m.first = err
		}
	}
}
