package e2e_test

import (
	"fmt"
	"testing"
	"time"
)

// TestClusterRollingUpgrade replaces the nodes of an older build one by one by those of this one, and puts the old ones back, under load: builds work side by
// side, nothing is lost, and what one changes in the registry the other hears of.
func TestClusterRollingUpgrade(t *testing.T) {
	needsBinary(t)
	old := buildOf(t, *rollingFrom)
	x := newTrial(t, old)
	defer x.fleet.Close()
	stop := x.run(t.Context())
	defer stop()
	x.recover(time.Now())
	x.next()
	for _, turn := range []struct{ name, program string }{{"new", binary}, {"old again", old}} {
		for i, n := range x.cluster.nodes[:*clusterNodes] {
			x.round(fault{turn.name, func(x *trial) string { return x.replace(n, turn.program) }})
			if i == 0 { // it is one against the others
				x.registryReaches(n, x.cluster.nodes[1])
				x.registryReaches(x.cluster.nodes[1], n)
			}
			if t.Failed() {
				t.Fatalf("%s\n%s", x.cluster.owners(), x.table())
			}
		}
	}
	stop()
	t.Logf("%s, %d calls, %d of them returned\n%s", x.cluster.owners(), x.number.Load(), len(x.returned), x.table())
	x.cluster.drained()
	x.prove()
}

// replace stops a node and starts another program in its place.
func (x *trial) replace(n *node, program string) string {
	if status := n.server.stop(); status != 0 {
		x.t.Errorf("%s ended with status %d", n.name, status)
	}
	n.place.program = program
	x.cluster.startNode(n)
	x.cluster.shared()
	return fmt.Sprintf("%s was replaced", n.name)
}

// registryReaches: credentials that are changed through one node end the session at another.
func (x *trial) registryReaches(from, to *node) {
	(&routing{x.t, x.cluster, from, to}).credentials()
}
