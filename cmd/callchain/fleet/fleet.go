// Package fleet is a number of simulated devices in one process: they connect over MQTT, take calls, answer, and make calls of
// their own. The commands "device simulate", "bench" and "demo" and the end-to-end tests use it.
package fleet

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Command is a call as a device gets it. Payload is {"method":…,"params":…} and valid during the function only.
type Command struct {
	Device  int    // index of the token
	Wire    string // request id on the wire
	Payload []byte
	Dup     bool
}

// Options say what all devices of a fleet do.
type Options struct {
	Addr string // host:port of the MQTT listener
	// Addrs are the listeners of several nodes, in place of Addr: device i begins with number i modulo their number, and takes the
	// next one whenever it connects again.
	Addrs     []string
	Version   byte // mqttclient.V31, V311 (0), V5
	QoS       byte // of subscriptions and answers
	KeepAlive time.Duration
	// Answer makes the answer to a command; false: the device stays silent. nil: all are silent.
	Answer func(Command) ([]byte, bool)
	Delay  time.Duration // before the answer
	// Answered is called when the server has acknowledged an answer (QoS 1), or with the error that kept it from being
	// acknowledged. The command's payload is a copy.
	Answered  func(c Command, err error)
	Calling   bool // devices make calls: they subscribe to the answers, too
	Reconnect bool // at once, then with growing pauses up to a second
	Parallel  int  // connections made at a time, 0 = 64
}

// Fleet is the devices. Its methods may be used from many goroutines.
type Fleet struct {
	o       Options
	devices []*device
	ctx     context.Context
	stop    context.CancelFunc
	mu      sync.Mutex // guards closed, so that nothing begins once Close waits
	closed  bool
	wg      sync.WaitGroup

	online, calls, answers, reconnects atomic.Int64
}

// Stats count what happened so far; Online is now.
type Stats struct{ Online, Calls, Answers, Reconnects int64 }

// New makes a device for each access token. Nothing is connected yet.
func New(o Options, tokens []string) *Fleet {
	if o.Parallel <= 0 {
		o.Parallel = 64
	}
	if len(o.Addrs) == 0 {
		o.Addrs = []string{o.Addr}
	}
	f := &Fleet{o: o}
	f.ctx, f.stop = context.WithCancel(context.Background())
	for i, token := range tokens {
		f.devices = append(f.devices, &device{fleet: f, index: i, token: token, node: i % len(o.Addrs), waiting: map[int32]chan []byte{}})
	}
	return f
}

// Len is the number of devices.
func (f *Fleet) Len() int { return len(f.devices) }

// Stats reads the counters.
func (f *Fleet) Stats() Stats {
	return Stats{f.online.Load(), f.calls.Load(), f.answers.Load(), f.reconnects.Load()}
}

// Connect connects and subscribes all devices, or fails with the first that could not.
func (f *Fleet) Connect(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan *device)
	var wg sync.WaitGroup
	for range min(f.o.Parallel, len(f.devices)) {
		wg.Go(func() {
			for d := range next {
				if err := d.connect(ctx); err != nil {
					cancel(fmt.Errorf("connecting device %d to %s: %w", d.index, d.addr(), err))
				}
			}
		})
	}
	for _, d := range f.devices {
		if ctx.Err() != nil {
			break
		}
		next <- d
	}
	close(next)
	wg.Wait()
	return context.Cause(ctx)
}

// Close disconnects all devices and waits for them.
func (f *Fleet) Close() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.stop()
	f.wg.Wait()
	for _, d := range f.devices {
		if c := d.current(); c != nil {
			c.Close()
		}
	}
}

// beside runs fn on a goroutine that Close waits for.
func (f *Fleet) beside(fn func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		f.wg.Go(fn)
	}
}

// Drop cuts a device's connection without a goodbye.
func (f *Fleet) Drop(device int) {
	if c := f.devices[device].current(); c != nil {
		c.Drop()
	}
}

var errOffline = errors.New("the device is not connected")

// Node is the index of the address that a device is connected to, or tries.
func (f *Fleet) Node(device int) int {
	d := f.devices[device]
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.node
}

// OnlineByNode counts the devices that are online now at each of the addresses.
func (f *Fleet) OnlineByNode() []int {
	out := make([]int, len(f.o.Addrs))
	for _, d := range f.devices {
		d.mu.Lock()
		if d.subscribed {
			out[d.node]++
		}
		d.mu.Unlock()
	}
	return out
}

// Request makes a call of a device to the server and waits for the answer. The fleet must be Calling.
func (f *Fleet) Request(ctx context.Context, device int, method string, params []byte) ([]byte, error) {
	return f.devices[device].request(ctx, method, params)
}

// Publish sends telemetry or whatever else a device may publish.
func (f *Fleet) Publish(device int, topic string, payload []byte) error {
	c := f.devices[device].current()
	if c == nil {
		return errOffline
	}
	return c.Publish(topic, payload, f.o.QoS, nil)
}

const pauseMax = time.Second

// reconnect tries until it works or the fleet is closed.
func (f *Fleet) reconnect(d *device) {
	pause := 10 * time.Millisecond
	for f.ctx.Err() == nil {
		d.elsewhere()
		ctx, cancel := context.WithTimeout(f.ctx, 10*time.Second)
		err := d.connect(ctx)
		cancel()
		if err == nil {
			f.reconnects.Add(1)
			return
		}
		select {
		case <-time.After(pause):
			pause = min(2*pause, pauseMax)
		case <-f.ctx.Done():
		}
	}
}
