package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"callchain/cmd/callchain/client"
	"callchain/engine/rpc"

	"github.com/google/uuid"
)

// The light load that goes on through all faults.
const (
	loadDevices    = 30
	loadCallers    = 24                     // every other one sends persistent calls
	loadPause      = 150 * time.Millisecond // from one call of a caller to the next, whether the first has ended or not
	loadOpen       = 100                    // calls of a caller that have not ended
	lightTimeout   = 5 * time.Second
	persistentLife = 20 * time.Second
	attemptsMax    = 6
)

// load is the callers and devices of a cluster, what they were told, and what is counted of it.
type load struct {
	*crashing
	cluster *cluster
	now     atomic.Pointer[tally]

	complaints atomic.Int64

	ackedMu sync.Mutex
	acked   map[string]time.Time // call's number → when the server acknowledged the device's answer
}

// tally is what happened to the calls of a while.
type tally struct {
	// sent are calls; the others are attempts: refused with 503, without an answer, answered that the device is away or silent.
	sent, returned, refused, unreachable, failed atomic.Int64
	again                                        int // calls that a device got once more

	mu       sync.Mutex
	last     time.Time // of the last success, at first the beginning
	gap      time.Duration
	byDevice []reached
	worst    time.Duration // the longest that a device went without a success
	over     bool          // what comes later is counted, but its times are of the next while
}

// reached is what is known of a device.
type reached struct {
	began time.Time // of its latest call that succeeded
	last  time.Time // its latest success, at first the beginning
}

func newTally(devices int) *tally {
	y := &tally{last: time.Now(), byDevice: make([]reached, devices)}
	for i := range y.byDevice {
		y.byDevice[i].last = y.last
	}
	return y
}

// succeeded notes the success of a call to a device that began then.
func (y *tally) succeeded(device int, began time.Time) {
	y.returned.Add(1)
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.over {
		return
	}
	now := time.Now()
	y.gap, y.last = max(y.gap, now.Sub(y.last)), now
	d := &y.byDevice[device]
	y.worst, d.last = max(y.worst, now.Sub(d.last)), now
	if began.After(d.began) {
		d.began = began
	}
}

// unreached counts the devices that answered no call which began after a moment.
func (y *tally) unreached(since time.Time) (n, one int) {
	y.mu.Lock()
	defer y.mu.Unlock()
	for i := range y.byDevice {
		if y.byDevice[i].began.Before(since) {
			n, one = n+1, i
		}
	}
	return n, one
}

// wish is a call that a caller wants. With an id of its own it may be sent again, which changes nothing.
type wish struct {
	device  int
	oneself bool // it has an id of the caller's
	r       client.CallRequest
}

func (l *load) wish(moments *rand.Rand, persistent bool) wish {
	n := l.number.Add(1)
	w := wish{device: moments.IntN(len(l.devices)), oneself: moments.IntN(2) == 0}
	w.r = client.CallRequest{Method: "count", Params: json.RawMessage(fmt.Sprintf(`{"n":%d}`, n)), Persistent: persistent}
	if persistent {
		w.r.Expires = time.Now().Add(persistentLife).UnixMilli()
	} else {
		w.r.Timeout = lightTimeout.Milliseconds()
	}
	if w.oneself {
		w.r.ID = uuid.NewString()
	}
	return w
}

// caller begins calls to any node, at its pace, until ctx ends: a call that hangs must not hide that others succeed.
func (l *load) caller(ctx context.Context, i int) {
	moments := rand.New(rand.NewPCG(uint64(l.seed), uint64(i)+1))
	pause := time.NewTicker(loadPause)
	defer pause.Stop()
	open := make(chan struct{}, loadOpen)
	var calls sync.WaitGroup
	defer calls.Wait()
	for ctx.Err() == nil {
		w, own := l.wish(moments, i%2 == 0), rand.New(rand.NewPCG(moments.Uint64(), 0))
		select {
		case open <- struct{}{}:
			calls.Go(func() {
				if l.pursue(ctx, own, w) && w.oneself && own.IntN(8) == 0 {
					l.repeat(ctx, own, w)
				}
				<-open
			})
		default: // as many as there may be
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
		}
	}
}

// pursue sends a call to one node after the other until one says how it ended; a node that cannot be reached or refuses (503) says nothing. A call
// without an id of its own is not sent again, for it may be on its way.
func (l *load) pursue(ctx context.Context, moments *rand.Rand, w wish) bool {
	y := l.now.Load()
	y.sent.Add(1)
	began := time.Now()
	for range attemptsMax {
		status, err := l.attempt(ctx, l.anyNode(moments), w)
		switch {
		case ctx.Err() != nil:
			return false
		case err == nil:
			y.succeeded(w.device, began)
			return true
		case status == http.StatusServiceUnavailable:
			y.refused.Add(1)
		case status == 0:
			y.unreachable.Add(1)
		default:
			y.failed.Add(1)
			l.judge(w, err)
			return false
		}
		if !w.oneself {
			return false
		}
	}
	return false
}

// attempt sends a call to a node once and notes what was promised.
func (l *load) attempt(ctx context.Context, n *node, w wish) (status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, lightTimeout+2*time.Second)
	defer cancel()
	answer, err := n.rest.Send(ctx, l.devices[w.device], false, w.r)
	if err != nil {
		if status = client.StatusOf(err); status == http.StatusServiceUnavailable && client.RetryAfterOf(err) <= 0 {
			l.t.Errorf("%s refused a call without a Retry-After: %v", n.name, err)
		}
		return status, err
	}
	p := promise{persistent: w.r.Persistent}
	if !p.persistent {
		if p.answer = string(answer.Body); p.answer != string(w.r.Params) {
			l.t.Errorf("call %s with %s got the answer %s from %s", answer.ID, w.r.Params, answer.Body, n.name)
		}
	}
	if _, err := uuid.Parse(answer.ID); err != nil || w.oneself && answer.ID != w.r.ID {
		l.t.Errorf("call %s with %s has the id %q of %s", w.r.ID, w.r.Params, answer.ID, n.name)
	}
	l.mu.Lock()
	l.returned[answer.ID] = p
	l.mu.Unlock()
	return 0, nil
}

// judge tells whether an answer that is no success may be one in the midst of faults: the device is away, or was silent for too long.
func (l *load) judge(w wish, err error) {
	switch client.StatusOf(err) {
	case http.StatusRequestTimeout, http.StatusGatewayTimeout, http.StatusConflict:
		if codeOf(err) != string(rpc.CodeKnown) {
			return
		}
	}
	if l.complaints.Add(1) <= complaintsMax {
		l.t.Errorf("call %s with %s to device %d was answered: %v", w.r.ID, w.r.Params, w.device, err)
	}
	l.t.Fail()
}

// repeat sends a call that succeeded once more to another node: it must be told the same. What it is told, attempt checks.
func (l *load) repeat(ctx context.Context, moments *rand.Rand, w wish) {
	status, err := l.attempt(ctx, l.anyNode(moments), w)
	if err != nil && ctx.Err() == nil && status != 0 && status != http.StatusServiceUnavailable {
		l.t.Errorf("call %s with %s had succeeded; the same again was answered: %v%s", w.r.ID, w.r.Params, err, l.history(w.r.ID))
	}
}

// anyNode is one of those that the balancer knows to be ready, or any if it knows none.
func (l *load) anyNode(moments *rand.Rand) *node {
	var ready []*node
	for _, n := range l.cluster.nodes {
		if n.ready.Load() {
			ready = append(ready, n)
		}
	}
	if len(ready) == 0 {
		return l.cluster.nodes[moments.IntN(*clusterNodes)]
	}
	return ready[moments.IntN(len(ready))]
}

// run keeps the callers going until the function that it gives is called.
func (l *load) run(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	l.now.Store(newTally(len(l.devices)))
	l.cluster.balance(l.cluster.nodes, ctx.Done())
	var callers sync.WaitGroup
	for i := range loadCallers {
		callers.Go(func() { l.caller(ctx, i) })
	}
	return func() {
		cancel()
		callers.Wait()
	}
}

// next begins a new tally and gives the one before.
func (l *load) next() *tally {
	l.seen.mu.Lock()
	again := l.seen.again
	l.seen.again = 0
	l.seen.mu.Unlock()
	before := l.now.Swap(newTally(len(l.devices)))
	before.mu.Lock()
	before.over = true
	before.mu.Unlock()
	before.again = again
	return before
}
