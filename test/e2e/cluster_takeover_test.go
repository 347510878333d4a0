package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"callchain/cmd/callchain/client"
	"callchain/cmd/callchain/fleet"
)

// What a survivor may take for the partitions of a node that was killed.
const (
	takeoverMax = 10 * time.Second
	takeoverRSS = 400 << 20 // bytes
	fillCallers = 64
	fillEach    = 100 // calls that wait for one device
)

// TestClusterTakeover: many persistent calls wait for devices that are offline, the owner of most of them is killed, and the other node owns all and
// serves soon, in little memory.
func TestClusterTakeover(t *testing.T) {
	needsBinary(t)
	c := newCluster(t, 2)
	c.start()
	f := &filling{t: t, c: c, tokens: map[string]string{}}
	f.devices(*clusterWaiting / fillEach)
	began := time.Now()
	f.fill()
	filled := time.Since(began)
	victim, survivor := c.nodes[0], c.nodes[1]
	if owned, err := survivor.partitionsOwned(); err != nil {
		t.Fatal(err)
	} else if owned > clusterPartitions/2 {
		victim, survivor = survivor, victim
	}
	before, _, err := survivor.server.memory()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d calls wait, made in %s; %s; the survivor has %s", *clusterWaiting, filled.Round(time.Millisecond), c.owners(), mib(before))
	victim.server.kill()
	whole, loading := f.takenOver(survivor)
	after, peak, err := survivor.server.memory()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s after the kill the survivor owns all partitions and is ready, %s after the first of them was its own; it has %s, at most %s",
		whole.Round(time.Millisecond), loading.Round(time.Millisecond), mib(after), mib(peak))
	if whole > sessionMax+takeoverMax {
		t.Errorf("the survivor was ready %s after the kill, later than a session of %s and %s", whole, sessionMax, takeoverMax)
	}
	if peak > takeoverRSS {
		t.Errorf("the survivor took %s, more than %s", mib(peak), mib(takeoverRSS))
	}
	f.deliver(survivor, 20)
	c.stop()
}

// filling makes calls that wait.
type filling struct {
	t      *testing.T
	c      *cluster
	ids    []string
	mu     sync.Mutex
	tokens map[string]string // by device
}

// each runs a function for the numbers below n, many at a time, one node after the other.
func (f *filling) each(n int, do func(through *node, i int) error) {
	f.t.Helper()
	var next atomic.Int64
	var workers sync.WaitGroup
	ctx, stop := context.WithCancelCause(f.t.Context())
	defer stop(nil)
	for w := range fillCallers {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < int64(n) && ctx.Err() == nil; i = next.Add(1) - 1 {
				if err := do(f.c.nodes[w%len(f.c.nodes)], int(i)); err != nil {
					stop(err)
				}
			}
		})
	}
	workers.Wait()
	if err := context.Cause(ctx); err != nil {
		f.t.Fatal(err)
	}
}

func (f *filling) devices(n int) {
	f.t.Helper()
	f.ids = make([]string, n)
	f.each(n, func(through *node, i int) error {
		token := "waiting-" + strconv.Itoa(i)
		d, err := through.rest.CreateDevice(f.t.Context(), client.Device{Name: token}, token)
		if err != nil {
			return err
		}
		f.ids[i] = d.ID.ID
		f.mu.Lock()
		f.tokens[d.ID.ID] = token
		f.mu.Unlock()
		return nil
	})
}

// fill makes the calls, those of one device one after the other.
func (f *filling) fill() {
	f.t.Helper()
	expires := time.Now().Add(time.Hour).UnixMilli()
	f.each(len(f.ids), func(through *node, i int) error {
		for n := range fillEach {
			wish := client.CallRequest{Method: "count", Params: json.RawMessage(fmt.Sprintf(`{"n":%d}`, i*fillEach+n)), Persistent: true, Expires: expires}
			if _, err := through.rest.Send(f.t.Context(), f.ids[i], false, wish); err != nil {
				return err
			}
		}
		return nil
	})
}

// takenOver waits until a node owns every partition and is ready, and tells how long that took, and since when it had one more than before.
func (f *filling) takenOver(n *node) (whole, loading time.Duration) {
	f.t.Helper()
	began := time.Now()
	had, err := n.partitionsOwned()
	if err != nil {
		f.t.Fatal(err)
	}
	var first time.Time
	eventually(f.t, 2*time.Minute, func() string {
		owned, err := n.partitionsOwned()
		if err != nil {
			return err.Error()
		}
		ready := n.rest.Ready(f.t.Context())
		if first.IsZero() && (owned > had || ready != nil) {
			first = time.Now()
		}
		if owned < clusterPartitions || ready != nil {
			return fmt.Sprintf("%s owns %d partitions, and is ready: %v", n.name, owned, ready)
		}
		return ""
	})
	return time.Since(began), time.Since(first)
}

// deliver connects some of the devices: all that waits for them comes, in its order, and ends.
func (f *filling) deliver(through *node, devices int) {
	f.t.Helper()
	var mu sync.Mutex
	got := map[int][]string{}
	ids := f.ids[:min(devices, len(f.ids))]
	tokens := make([]string, len(ids))
	for i, id := range ids {
		tokens[i] = f.tokens[id]
	}
	fl := fleet.New(fleet.Options{Addr: through.mqtt, QoS: 1, Answer: func(cmd fleet.Command) ([]byte, bool) {
		mu.Lock()
		got[cmd.Device] = append(got[cmd.Device], cmd.Wire+"="+numberOf(cmd))
		mu.Unlock()
		return fleet.Echo(cmd)
	}}, tokens)
	defer fl.Close()
	if err := fl.Connect(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
	eventually(f.t, 30*time.Second, func() string {
		for _, id := range ids {
			page, err := through.rest.Calls(f.t.Context(), client.CallFilter{Device: id, Status: "succeeded", Size: fillEach + 1})
			if err != nil || len(page.Data) != fillEach {
				return fmt.Sprintf("%d calls of device %s have succeeded, %v", len(page.Data), id, err)
			}
		}
		return ""
	})
	mu.Lock()
	defer mu.Unlock()
	for i := range ids {
		for n, is := range got[i] {
			if want := fmt.Sprintf("%d=%d", n, i*fillEach+n); is != want {
				f.t.Errorf("device %d got %s as number %d, want %s", i, is, n, want)
				break
			}
		}
		if len(got[i]) != fillEach {
			f.t.Errorf("device %d got %d calls", i, len(got[i]))
		}
	}
}
