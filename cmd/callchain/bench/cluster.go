package bench

import (
	"context"
	"fmt"
	"sync"
	"time"

	"callchain/cmd/callchain/client"
	"callchain/cmd/callchain/fleet"

	"github.com/google/uuid"
)

// ClusterOptions say which nodes are watched, and under which load.
type ClusterOptions struct {
	Clients  []*client.Client // one a node, logged in
	MQTT     []string         // host:port of the same nodes' MQTT listeners
	Devices  int
	Rate     float64 // calls a second, through all nodes
	Duration time.Duration
	Marks    <-chan string // what somebody does to the cluster meanwhile; may be nil
	Row      func(ClusterSecond)
	Log      func(format string, args ...any)
}

// Validate finds the first option that is not acceptable.
func (o *ClusterOptions) Validate() error {
	switch {
	case len(o.Clients) == 0 || len(o.Clients) > clusterNodesMax:
		return fmt.Errorf("%w: name 1 to %d nodes", ErrOptions, clusterNodesMax)
	case len(o.Clients) != len(o.MQTT):
		return fmt.Errorf("%w: %d REST addresses do not go with %d MQTT addresses: name both of each node", ErrOptions, len(o.Clients), len(o.MQTT))
	case o.Devices < 1 || o.Devices > 10_000:
		return fmt.Errorf("%w: devices must be between 1 and 10000, is %d", ErrOptions, o.Devices)
	case o.Rate <= 0 || o.Rate > 1000:
		return fmt.Errorf("%w: rate must be above 0 and at most 1000, is %g: the other modes are for higher loads", ErrOptions, o.Rate)
	case o.Duration < time.Second || o.Duration > time.Hour:
		return fmt.Errorf("%w: duration must be between 1s and 1h, is %s", ErrOptions, o.Duration)
	}
	return nil
}

const clusterNodesMax = 100

// ClusterTotal counts calls.
type ClusterTotal struct {
	Sent      int64 `json:"sent"`
	Succeeded int64 `json:"succeeded"` // the caller has the device's answer; a persistent call is stored
	Refused   int64 `json:"refused"`   // 503, 429
	Failed    int64 `json:"failed"`    // any other end
	Again     int64 `json:"again"`     // sent again through another node, because the first could not be reached
}

func (t *ClusterTotal) add(other ClusterTotal) {
	t.Sent, t.Succeeded, t.Refused = t.Sent+other.Sent, t.Succeeded+other.Succeeded, t.Refused+other.Refused
	t.Failed, t.Again = t.Failed+other.Failed, t.Again+other.Again
}

// ClusterSecond is what happened in one second.
type ClusterSecond struct {
	Second int `json:"second"` // from 1
	ClusterTotal
	// Owned are the partitions of each node, -1 for a node that does not answer; Connected its devices.
	Owned     []int    `json:"owned"`
	Connected []int    `json:"connected"`
	Marks     []string `json:"marks,omitempty"`
}

// ClusterResult is what a run saw.
type ClusterResult struct {
	Seconds []ClusterSecond  `json:"seconds"`
	Total   ClusterTotal     `json:"total"`
	Failed  map[string]int64 `json:"failures"` // by reason
	// The longest times without a success, in seconds: of all devices together, and of the device that had to wait longest.
	Silence       float64  `json:"longestWithoutSuccess"`
	DeviceSilence float64  `json:"longestWithoutSuccessOfADevice"`
	Checked       int      `json:"checked"` // calls whose success was returned
	Lost          []string `json:"lost"`    // those of them that the cluster does not know afterwards, or did not carry out
}

// WatchCluster sends a small load through all nodes, a quarter of it persistent, tells what becomes of it second by second, and asks at the
// end for every call whose success was returned. A call whose node cannot be reached goes to the next one with the same Idempotency-Key;
// devices go to the next node when theirs is away.
func WatchCluster(ctx context.Context, o ClusterOptions) (*ClusterResult, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	r := &run{Options: Options{Devices: o.Devices, Client: o.Clients[0], Keep: true, Log: o.Log}, name: "cluster-" + uuid.NewString()[:8]}
	if err := r.prepare(ctx, ""); err != nil {
		return nil, err
	}
	devices := fleet.New(fleet.Options{Addrs: o.MQTT, QoS: 1, KeepAlive: time.Minute, Answer: fleet.Echo, Reconnect: true}, r.tokens)
	defer devices.Close()
	if err := devices.Connect(ctx); err != nil {
		return nil, err
	}
	w := &watch{ClusterOptions: o, devices: r.devices, fleet: devices, begin: time.Now()}
	w.last = make([]time.Time, len(w.devices))
	w.result.Failed = map[string]int64{}
	w.drive(ctx)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	w.silences(time.Now())
	w.settle(ctx, timer(settleMax))
	return &w.result, ctx.Err()
}

// watch is one run.
type watch struct {
	ClusterOptions
	devices []string
	fleet   *fleet.Fleet
	begin   time.Time

	mu       sync.Mutex // guards what follows
	now      ClusterSecond
	success  time.Time   // the last one
	last     []time.Time // the same, by device
	returned []string    // calls whose success was returned
	result   ClusterResult
}

// drive sends calls at their times, and tells of each second, until the last call has ended.
func (w *watch) drive(ctx context.Context) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l := load{callers: clusterCallers, rate: w.Rate, duration: w.Duration}
		l.drive(ctx, func(first int) operation { return w.caller(first) }, func() {})
	}()
	second := time.NewTicker(time.Second)
	defer second.Stop()
	marks := w.Marks
	for {
		select {
		case mark, open := <-marks:
			if !open {
				marks = nil
				continue
			}
			w.mu.Lock()
			w.now.Marks = append(w.now.Marks, mark)
			w.mu.Unlock()
		case <-second.C:
			w.turn(ctx)
		case <-ended:
			if w.turn(ctx); ctx.Err() == nil {
				w.Log("all calls have ended; asking for those whose success was returned")
			}
			return
		}
	}
}

// turn ends a second.
func (w *watch) turn(ctx context.Context) {
	owned := w.owned(ctx)
	w.mu.Lock()
	row := w.now
	w.now = ClusterSecond{}
	w.mu.Unlock()
	row.Second, row.Owned, row.Connected = len(w.result.Seconds)+1, owned, w.fleet.OnlineByNode()
	w.result.Seconds = append(w.result.Seconds, row)
	w.result.Total.add(row.ClusterTotal)
	if w.Row != nil {
		w.Row(row)
	}
}

// ownedWait bounds how long a node may take to tell what it owns: a row comes every second.
const ownedWait = 500 * time.Millisecond

func (w *watch) owned(ctx context.Context) []int {
	ctx, cancel := context.WithTimeout(ctx, ownedWait)
	defer cancel()
	out := make([]int, len(w.Clients))
	var wg sync.WaitGroup
	for i, c := range w.Clients {
		wg.Go(func() {
			n, err := c.Gauge(ctx, "callchain_partitions_owned")
			if out[i] = int(n); err != nil {
				out[i] = -1
			}
		})
	}
	wg.Wait()
	return out
}
