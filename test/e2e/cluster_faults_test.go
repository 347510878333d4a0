package e2e_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"callchain/cmd/callchain/fleet"
)

// How soon after a fault has healed a call to every device must succeed again, and how much later than its deadline a call may end then.
const (
	wholeMax   = 30 * time.Second
	endedGrace = 10 * time.Second
)

// trial is a cluster under load and the faults that it has had.
type trial struct {
	*load
	broker, database         service
	brokerLink, databaseLink *link // of the last node; there may be none to the broker
	longFreezes              int   // of three session time-outs, so far
	past                     []outcome
}

// outcome is one round.
type outcome struct {
	fault          string
	detail         string
	struck, healed time.Time
	whole          time.Duration // from the heal until a call to every device has succeeded
	*tally
}

// TestClusterFaults sends calls through any node of a cluster while nodes, the broker, the database and the network fail in turn (promises P1, P2 and
// P3): what was returned is never lost, each call ends exactly once and in time, a device that sees a command again sees the same wire id, a repeated
// request gets the same answer, what the API shows is the fold of the events, and the topic of events has them all.
func TestClusterFaults(t *testing.T) {
	needsBinary(t)
	x := newTrial(t, binary)
	defer x.fleet.Close()
	stop := x.run(t.Context())
	defer stop()
	x.recover(time.Now())
	x.next()
	for round, f := range x.plan() {
		x.round(f)
		if t.Failed() {
			t.Fatalf("round %d (%s) of -cluster.seed=%d; %s\n%s", round, x.past[len(x.past)-1].detail, x.seed, x.cluster.owners(), x.table())
		}
	}
	stop()
	t.Logf("%s, %d calls, %d of them returned\n%s", x.cluster.owners(), x.number.Load(), len(x.returned), x.table())
	x.cluster.drained()
	x.prove()
}

// prove waits for the calls that are open, ends the cluster, and holds what is stored against what callers and devices were told.
func (x *trial) prove() {
	x.settle()
	stored := x.check()
	x.cluster.stop()
	x.checkEnds(stored)
	x.verify()
	x.checkTopic()
}

// newTrial starts a cluster of nodes that run a program.
func newTrial(t *testing.T, program string) *trial {
	x := &trial{broker: controlled(t, "broker", "CALLCHAIN_TEST_KAFKA_CTL"), database: controlled(t, "database", "CALLCHAIN_TEST_POSTGRES_CTL")}
	c := newCluster(t, *clusterNodes)
	for _, n := range c.nodes {
		n.place.program = program
	}
	x.brokerLink, x.databaseLink = behindLinks(t, c.nodes[len(c.nodes)-1])
	x.load = &load{crashing: newFaults(t, c.place, *clusterSeed), cluster: c, acked: map[string]time.Time{}}
	x.mayExpire = true
	c.start()
	x.connectLoad()
	c.reach(c.add()) // the one that joins and leaves
	return x
}

// connectLoad makes the devices, spread over the nodes; they move on when theirs is away.
func (l *load) connectLoad() {
	l.place.http = l.cluster.nodes[0].http
	l.connect(fleet.Options{
		Addrs: l.cluster.mqttAddrs(), Delay: 15 * time.Millisecond, KeepAlive: time.Second,
		Answered: func(cmd fleet.Command, err error) {
			if err == nil {
				l.ackedMu.Lock()
				l.acked[numberOf(cmd)] = time.Now()
				l.ackedMu.Unlock()
			}
		},
	}, l.enroll(loadDevices))
}

// round lets one fault happen under load and waits until all is well again.
func (x *trial) round(f fault) {
	o := outcome{fault: f.name, struck: time.Now()}
	o.detail = f.strike(x)
	o.healed = time.Now()
	o.whole = x.recover(o.healed)
	o.tally = x.next()
	x.past = append(x.past, o)
	x.t.Logf("round %d: %s: %s: whole %s after the heal, longest without a success %s, of a device %s", len(x.past)-1, f.name, o.detail,
		o.whole.Round(time.Millisecond), o.gap.Round(time.Millisecond), o.worst.Round(time.Millisecond))
}

// recover waits until a call to every device that began after a moment has succeeded.
func (x *trial) recover(since time.Time) time.Duration {
	y := x.now.Load()
	deadline := time.NewTimer(wholeMax)
	defer deadline.Stop()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for {
		n, one := y.unreached(since)
		if n == 0 {
			return time.Since(since)
		}
		select {
		case <-look.C:
		case <-deadline.C:
			x.t.Errorf("%s after the heal %d devices are not reached, one is %s (%d), connected to %s; %d of %d devices are online; %s",
				wholeMax, n, x.devices[one], one, x.cluster.nodes[x.fleet.Node(one)].name, x.fleet.Stats().Online, len(x.devices), x.probe(one))
			return time.Since(since)
		}
	}
}

// probe tells what each node says to a call to a device, for the output of a failure.
func (x *trial) probe(device int) string {
	var out []string
	for _, n := range x.cluster.nodes {
		if !n.runs() {
			continue
		}
		w := x.wish(x.moments, false)
		w.device = device
		_, err := x.attempt(x.t.Context(), n, w)
		out = append(out, fmt.Sprintf("%s says to a call: %v", n.name, err))
	}
	return strings.Join(out, "; ")
}

// table sums the rounds up, one line a fault: "cut" counts attempts without an answer, "failed" answers that the
// device is away or silent, "no success" is the longest time in which no call succeeded, "a device" the longest in which none to one
// of the devices did, "back" the time from the heal until calls to all devices succeed, "twice" how often a device got a call once more.
func (x *trial) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-16s %6s %6s %8s %7s %6s %7s %10s %10s %10s %10s %6s\n", "fault", "rounds", "sent", "returned", "refused", "cut", "failed", "no success", "a device", "back p50", "back max", "twice")
	var names []string
	for _, o := range x.past {
		if !slices.Contains(names, o.fault) {
			names = append(names, o.fault)
		}
	}
	for _, name := range names {
		var rounds, sent, returned, refused, cut, failed, again int64
		var gap, worst time.Duration
		var back []time.Duration
		for _, o := range x.past {
			if o.fault != name {
				continue
			}
			rounds++
			sent, returned, refused, cut, failed = sent+o.sent.Load(), returned+o.returned.Load(), refused+o.refused.Load(), cut+o.unreachable.Load(), failed+o.failed.Load()
			again += int64(o.again)
			gap, worst = max(gap, o.gap), max(worst, o.worst)
			back = append(back, o.whole)
		}
		fmt.Fprintf(&b, "%-16s %6d %6d %8d %7d %6d %7d %10s %10s %10s %10s %6d\n", name, rounds, sent, returned, refused, cut, failed,
			gap.Round(time.Millisecond), worst.Round(time.Millisecond), quantile(back, 0.5).Round(time.Millisecond), slices.Max(back).Round(time.Millisecond), again)
	}
	return b.String()
}
