package e2e_test

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// sessionMax is how long the group of owners waits for a member that is silent.
const sessionMax = 6 * time.Second

// fault is something that happens to a cluster. strike returns when it has healed, and tells what it did.
type fault struct {
	name   string
	strike func(x *trial) (detail string)
}

// plan is the faults of a run: all kinds in a random order, again and again.
func (x *trial) plan() []fault {
	kinds := []fault{
		{"kill", (*trial).killNode},
		{"freeze", (*trial).freezeNode},
		{"broker kill", func(x *trial) string { return x.restart(x.broker, "kill") }},
		{"broker stop", func(x *trial) string { return x.restart(x.broker, "stop") }},
		{"database kill", func(x *trial) string { return x.restart(x.database, "kill") }},
		{"cut database", func(x *trial) string { return x.cutLinks(x.databaseLink) }},
		{"slow", (*trial).slowLinks},
		{"join", (*trial).joinNode},
		{"leave", (*trial).leaveNode},
	}
	if x.brokerLink != nil {
		kinds = append(kinds, fault{"cut broker", func(x *trial) string { return x.cutLinks(x.brokerLink) }},
			fault{"cut both", func(x *trial) string { return x.cutLinks(x.brokerLink, x.databaseLink) }})
	}
	if *clusterFaults != "" {
		kinds = slices.DeleteFunc(kinds, func(f fault) bool { return !slices.Contains(strings.Split(*clusterFaults, ","), f.name) })
	}
	var out []fault
	for len(out) < *clusterRounds && len(kinds) > 0 {
		for _, i := range x.moments.Perm(len(kinds)) {
			out = append(out, kinds[i])
		}
	}
	out = out[:min(len(out), *clusterRounds)]
	if *clusterLong {
		out = append(out, fault{"freeze 60 s", func(x *trial) string { return x.freezeFor(time.Minute) }})
	}
	return out
}

// between is a random time.
func (x *trial) between(least, most time.Duration) time.Duration {
	return least + time.Duration(x.moments.Int64N(int64(most-least)+1))
}

func (x *trial) victim() *node { return x.cluster.nodes[x.moments.IntN(*clusterNodes)] }

// after waits, under load.
func (x *trial) after(d time.Duration) {
	select {
	case <-time.After(d):
	case <-x.t.Context().Done():
	}
}

func (x *trial) killNode() string {
	n, away := x.victim(), x.between(0, 3*time.Second)
	owned, _ := n.partitionsOwned() // for the output only
	n.server.kill()
	x.after(away)
	took := x.cluster.readied(n)
	return fmt.Sprintf("%s with %d partitions was killed, started after %s and ready %s later", n.name, owned, away.Round(time.Millisecond), took.Round(time.Millisecond))
}

// freezeNode stops a node for three session time-outs the first time, so that others own its partitions when it wakes, and shortly later on.
func (x *trial) freezeNode() string {
	if x.longFreezes == 0 {
		x.longFreezes++
		return x.freezeFor(3 * sessionMax)
	}
	return x.freezeFor(x.between(500*time.Millisecond, 8*time.Second))
}

func (x *trial) freezeFor(d time.Duration) string {
	n := x.victim()
	if err := n.freeze(); err != nil {
		x.t.Fatal(err)
	}
	x.after(d)
	if err := n.thaw(); err != nil {
		x.t.Fatal(err)
	}
	return fmt.Sprintf("%s was frozen for %s", n.name, d.Round(time.Millisecond))
}

// restart ends a service and starts it again; it is back when it serves.
func (x *trial) restart(s service, how string) string {
	s.do(x.t, how)
	away := x.between(300*time.Millisecond, 2*time.Second)
	x.after(away)
	s.do(x.t, "start")
	x.served()
	return fmt.Sprintf("%s of the %s, away for %s", how, s.name, away.Round(time.Millisecond))
}

func (x *trial) cutLinks(links ...*link) string {
	d := x.between(2*time.Second, 10*time.Second)
	for _, l := range links {
		l.cut()
	}
	x.after(d)
	for _, l := range links {
		l.heal()
	}
	return fmt.Sprintf("the last node was cut off for %s", d.Round(time.Millisecond))
}

func (x *trial) slowLinks() string {
	d := x.between(3*time.Second, 6*time.Second)
	for _, l := range []*link{x.brokerLink, x.databaseLink} {
		if l != nil {
			l.slow()
			defer l.heal()
		}
	}
	x.after(d)
	return fmt.Sprintf("the last node had a slow network for %s", d.Round(time.Millisecond))
}

// joinNode lets one more node come and go.
func (x *trial) joinNode() string {
	n, stay := x.cluster.nodes[*clusterNodes], x.between(2*time.Second, 4*time.Second)
	took := x.cluster.readied(n)
	x.after(stay)
	owned, _ := n.partitionsOwned() // for the output only
	if status := n.server.stop(); status != 0 {
		x.t.Errorf("%s ended with status %d", n.name, status)
	}
	return fmt.Sprintf("%s joined, was ready after %s, and left %s later with %d partitions", n.name, took.Round(time.Millisecond), stay.Round(time.Millisecond), owned)
}

func (x *trial) leaveNode() string {
	n, away := x.victim(), x.between(time.Second, 4*time.Second)
	begun := time.Now()
	if status := n.server.stop(); status != 0 {
		x.t.Errorf("%s ended with status %d", n.name, status)
	}
	took := time.Since(begun)
	x.after(away)
	x.cluster.startNode(n)
	return fmt.Sprintf("%s was stopped, which took %s, and started after %s", n.name, took.Round(time.Millisecond), away.Round(time.Millisecond))
}
