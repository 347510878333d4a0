package e2e_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"
)

// The soak test leaves out its beginning, in which caches fill, when it fits lines through what it sampled.
const (
	soakSample  = 10 * time.Second
	soakLeftOut = 10 * time.Minute
	soakCalm    = time.Minute      // after a fault nothing is sampled: who waited comes all at once
	soakJudged  = 30 * time.Minute // of a process, beside its beginning
	soakRise    = 0.02             // of the mean, in an hour
	soakWarm    = time.Minute      // of load before the test: it opens connections that stay
	soakIdle    = 3 * time.Minute  // for what callers leave behind to end
	soakStill   = 20 * time.Second // nothing ended for so long: nothing more will
	crowdOpen   = 2000             // calls of the crowd at a time
)

// TestClusterSoak watches a cluster under steady load with a fault now and then, for -cluster.soak: the memory of each node does not rise, and at rest
// afterwards the nodes have no more goroutines and open files than at rest before. It is run by hand.
func TestClusterSoak(t *testing.T) {
	needsBinary(t)
	if *clusterSoak == 0 {
		t.Skip("NOT RUN: takes an hour; give -cluster.soak=60m -timeout=90m")
	}
	x := newTrial(t, binary)
	defer x.fleet.Close()
	d := driveOn(x.cluster)
	s := &soak{trial: x, series: map[string][]sample{}}
	_, stop := s.busy(d)
	<-time.After(soakWarm)
	stop()
	before := s.rest()
	crowd, stop := s.busy(d)
	defer stop()
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
	crowd.total.log(t, fmt.Sprintf("the others, %d of which were not sent since too many were open", crowd.left))
	t.Logf("%d calls, %d of them returned\n%s", x.number.Load(), len(x.returned), x.table())
	s.judge()
	s.compare(before, s.rest())
	x.prove()
}

// soak is what was sampled of each process: a node that was killed and started begins a new series.
type soak struct {
	*trial
	names  []string
	series map[string][]sample
}

// sample is a moment, in hours since the beginning of the process, and what was measured then.
type sample struct {
	hours, rss, goroutines, files float64
}

func (s *soak) sample() {
	if n := len(s.past); n > 0 && time.Since(s.past[n-1].healed) < soakCalm {
		return
	}
	for _, n := range s.cluster.nodes {
		v, err := n.sampled()
		if err != nil {
			continue // it does not run
		}
		key := fmt.Sprintf("%s, started %s", n.name, n.server.started.Format(time.TimeOnly))
		if s.series[key] == nil {
			s.names = append(s.names, key)
		}
		s.series[key] = append(s.series[key], v)
	}
}

// sampled is what a node takes now.
func (n *node) sampled() (v sample, err error) {
	if !n.runs() {
		return v, fmt.Errorf("%s does not run", n.name)
	}
	rss, _, err := n.server.memory()
	if err != nil {
		return v, err
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", n.server.cmd.Process.Pid))
	if err != nil {
		return v, err
	}
	v = sample{hours: time.Since(n.server.started).Hours(), rss: float64(rss) / (1 << 20), files: float64(len(files))}
	v.goroutines, err = n.gauge("go_goroutines")
	return v, err
}

// busy lets all callers call until stop.
func (s *soak) busy(d *drive) (c *crowd, stop func()) {
	end := s.run(s.t.Context())
	c = startCrowd(s.trial, d)
	return c, func() {
		c.stop()
		end()
	}
}

// whole is what all nodes that run take together. Devices may be at any of them.
func (s *soak) whole() (all sample) {
	s.t.Helper()
	for _, n := range s.cluster.nodes {
		if !n.runs() {
			continue
		}
		v, err := n.sampled()
		if err != nil {
			s.t.Fatal(err)
		}
		all.goroutines, all.files = all.goroutines+v.goroutines, all.files+v.files
	}
	return all
}

// rest is the least that the nodes take without callers, once no more of what those left behind ends.
func (s *soak) rest() sample {
	s.t.Helper()
	for _, n := range s.cluster.nodes {
		n.rest.Close() // idle connections; the next request makes one
	}
	least, last := s.whole(), time.Now()
	look := time.NewTicker(time.Second)
	defer look.Stop()
	for end := time.After(soakIdle); time.Since(last) < soakStill; {
		select {
		case <-look.C:
		case <-end:
			s.t.Logf("%s after the load goroutines or files still end", soakIdle)
			return least
		}
		if now := s.whole(); now.goroutines < least.goroutines || now.files < least.files {
			least.goroutines, least.files = min(least.goroutines, now.goroutines), min(least.files, now.files)
			last = time.Now()
		}
	}
	return least
}

// compare complains if the nodes take more at rest than they did.
func (s *soak) compare(before, after sample) {
	s.t.Helper()
	said := fmt.Sprintf("at rest %.0f goroutines and %.0f open files before, %.0f and %.0f after", before.goroutines, before.files, after.goroutines, after.files)
	s.t.Log(said)
	const most = 1 + soakRise
	if after.goroutines > most*before.goroutines || after.files > most*before.files {
		s.t.Errorf("more than %.0f %% was left open: %s", 100*soakRise, said)
	}
}

// judge tells how what was sampled rises in an hour, the first minutes of each process left out. It complains of memory, of a process that was seen for
// long enough. Goroutines and files are as many as there are callers, who are more when all is slower, and devices, which go to other nodes; what memory
// a connection takes is no rise.
func (s *soak) judge() {
	leave := min(soakLeftOut, *clusterSoak/4).Hours()
	for _, name := range s.names {
		var hours, rss, goroutines, files []float64
		for _, v := range s.series[name] {
			if v.hours >= leave {
				hours, rss, goroutines, files = append(hours, v.hours), append(rss, v.rss), append(goroutines, v.goroutines), append(files, v.files)
			}
		}
		if len(hours) < 3 {
			s.t.Logf("%s: too short", name)
			continue
		}
		for _, one := range []struct {
			what string
			y    []float64
		}{{"memory in MiB", rss}, {"goroutines", goroutines}, {"open files", files}} {
			s.t.Logf("%s, %d samples: %s %.1f in the mean, %.1f to %.1f, %+.2f an hour",
				name, len(one.y), one.what, sum(one.y)/float64(len(one.y)), slices.Min(one.y), slices.Max(one.y), slope(hours, one.y))
		}
		rise, mean := slopeBeside(hours, files, rss), sum(rss)/float64(len(rss))
		s.t.Logf("%s: memory rises by %.2f MiB an hour (%.2f %%) beside what its connections take", name, rise, 100*rise/mean)
		if hours[len(hours)-1]-hours[0] >= soakJudged.Hours() && rise > soakRise*mean {
			s.t.Errorf("%s: memory rises by %.2f %% an hour, more than %.0f %%", name, 100*rise/mean, 100*soakRise)
		}
	}
}

// crowd is many light calls to devices of their own, at a steady pace, that make most of the load.
type crowd struct {
	*drive
	cancel context.CancelFunc
	all    sync.WaitGroup
	mu     sync.Mutex
	total  measured
	left   int // calls that were not sent
}

// startCrowd begins the calls of -cluster.soak.rate to the devices of a drive; stop ends them.
func startCrowd(x *trial, d *drive) *crowd {
	ctx, cancel := context.WithCancel(x.t.Context())
	c := &crowd{drive: d, cancel: cancel}
	open := make(chan struct{}, crowdOpen)
	began, begun := time.Now(), 0
	c.all.Go(func() {
		pace := time.NewTicker(10 * time.Millisecond)
		defer pace.Stop()
		for ctx.Err() == nil {
			for due := int(time.Since(began).Seconds() * float64(*clusterSoakRate)); begun < due; begun++ {
				select {
				case open <- struct{}{}:
					seed := uint64(begun)
					c.all.Go(func() {
						c.call(x, seed)
						<-open
					})
				default:
					c.left++
				}
			}
			select {
			case <-pace.C:
			case <-ctx.Done():
			}
		}
		c.total.lasted = time.Since(began)
	})
	return c
}

func (c *crowd) stop() {
	c.cancel()
	c.all.Wait()
}

// call makes one call to any node that is ready.
func (c *crowd) call(x *trial, seed uint64) {
	moments := rand.New(rand.NewPCG(seed, 0))
	var own measured
	ended, end := context.WithCancel(c.t.Context())
	end() // a refused call is not made again: others follow
	c.one(ended, x.anyNode(moments), moments, &own)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total.add(&own)
}
