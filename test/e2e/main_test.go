// Package e2e_test runs the real binary as users run it: processes, ports, signals, foreign clients. It knows nothing of the inside but
// the event store, which it reads to compare what the server shows with what is stored.
package e2e_test

import (
	"flag"
	"os"
	"testing"
	"time"

	"callchain/test/program"
)

var (
	crashRounds       = flag.Int("crash.rounds", 30, "how often the crash test kills the server")
	clusterNodes      = flag.Int("cluster.nodes", 3, "nodes of the cluster of the fault test")
	clusterRounds     = flag.Int("cluster.rounds", 20, "faults of the fault test")
	clusterSeed       = flag.Int64("cluster.seed", 0, "seed of the faults; 0: a new one, which is printed")
	clusterLong       = flag.Bool("cluster.long", false, "the fault test freezes a node for 60 s, too")
	clusterWaiting    = flag.Int("cluster.waiting", 10_000, "calls that wait when a node is taken over; 100000 by hand")
	clusterOverload   = flag.Duration("cluster.overload", 10*time.Second, "how long each part of the overload test lasts; 5m by hand")
	clusterCallers    = flag.Int("cluster.callers", 48, "callers of the sustainable load; ten times as many overload it")
	clusterSoak       = flag.Duration("cluster.soak", 0, "how long the cluster is watched under load with a fault now and then; 0: not at all, 60m by hand")
	clusterFaultEvery = flag.Duration("cluster.soak.every", 10*time.Minute, "time between the faults of the soak test")
	clusterSoakRate   = flag.Int("cluster.soak.rate", 200, "calls a second of the soak test beside those that are checked one by one")
	upgradeFrom       = flag.String("upgrade.from", "997efe2", "commit whose build is upgraded from, and gone back to")
	rollingFrom       = flag.String("rolling.from", "17fbfa2", "commit whose nodes are replaced one by one, and put back")
	clusterFaults     = flag.String("cluster.faults", "", "names of the faults, with commas; empty: all")

	crashSeed = flag.Int64("crash.seed", 0, "seed of the moments of the kills; 0: a new one, which is printed")
)

// binary is the program under test.
var binary string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(program.Main(m, &binary))
}

func needsBinary(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("runs the real binary; left out with -short")
	}
}
