package e2e_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// The soak test leaves out its beginning, in which caches fill, when it fits lines through what it sampled.
const (
	soakSample  = 10 * time.Second
	soakLeftOut = 10 * time.Minute
)

// TestClusterSoak watches a cluster under steady load with a fault now and then, for -cluster.soak, and tells how memory, goroutines and open files
// of each node rise in an hour. It is run by hand.
func TestClusterSoak(t *testing.T) {
	needsBinary(t)
	if *clusterSoak == 0 {
		t.Skip("NOT RUN: takes an hour; give -cluster.soak=60m -timeout=90m")
	}
	x := newTrial(t)
	defer x.fleet.Close()
	stop := x.run(t.Context())
	defer stop()
	s := &soak{trial: x, began: time.Now(), series: map[string][]sample{}}
	next := time.NewTicker(*clusterFaultEvery)
	defer next.Stop()
	look := time.NewTicker(soakSample)
	defer look.Stop()
	plan := x.plan()
	for end := time.After(*clusterSoak); ; {
		select {
		case <-look.C:
			s.sample()
			continue
		case <-next.C:
			x.round(plan[len(x.past)%len(plan)])
			if t.Failed() {
				t.Fatalf("%s\n%s", x.cluster.owners(), x.table())
			}
			continue
		case <-end:
		}
		break
	}
	stop()
	t.Logf("%d calls, %d of them returned\n%s\n%s", x.number.Load(), len(x.returned), x.table(), s.slopes())
	x.settle()
	stored := x.check()
	x.cluster.stop()
	x.checkEnds(stored)
	x.verify()
	x.checkTopic()
}

// soak is what was sampled of each process: a node that was killed and started begins a new series.
type soak struct {
	*trial
	began  time.Time
	names  []string
	series map[string][]sample
}

// sample is a moment, in hours since the beginning of the process, and what was measured then.
type sample struct {
	hours, rss, goroutines, files float64
}

func (s *soak) sample() {
	for _, n := range s.cluster.nodes {
		if !n.runs() {
			continue
		}
		rss, _, err := n.server.memory()
		if err != nil {
			continue // it has ended since
		}
		goroutines, err := n.gauge("go_goroutines")
		if err != nil {
			continue
		}
		files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", n.server.cmd.Process.Pid))
		if err != nil {
			continue
		}
		key := fmt.Sprintf("%s, started %s", n.name, n.server.started.Format(time.TimeOnly))
		if s.series[key] == nil {
			s.names = append(s.names, key)
		}
		s.series[key] = append(s.series[key], sample{time.Since(n.server.started).Hours(), float64(rss) / (1 << 20), goroutines, float64(len(files))})
	}
}

// slopes tells how what was sampled rises in an hour, the first minutes of each process left out.
func (s *soak) slopes() string {
	var b strings.Builder
	leave := min(soakLeftOut, *clusterSoak/4).Hours()
	for _, name := range s.names {
		var x, rss, goroutines, files []float64
		for _, v := range s.series[name] {
			if v.hours >= leave {
				x, rss, goroutines, files = append(x, v.hours), append(rss, v.rss), append(goroutines, v.goroutines), append(files, v.files)
			}
		}
		if len(x) < 2 {
			fmt.Fprintf(&b, "%s: too short\n", name)
			continue
		}
		last := len(x) - 1
		fmt.Fprintf(&b, "%s, %d samples: memory %.1f MiB, %+.1f an hour; goroutines %.0f, %+.1f an hour; open files %.0f, %+.1f an hour\n",
			name, len(x), rss[last], slope(x, rss), goroutines[last], slope(x, goroutines), files[last], slope(x, files))
	}
	return b.String()
}
