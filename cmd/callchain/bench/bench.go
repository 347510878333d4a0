// Package bench measures a running server from the outside: REST callers on the one side, simulated devices over MQTT (QoS 1) on the
// other. It says what other programs used of the machine meanwhile, because another job on it can halve every figure.
package bench

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"callchain/cmd/callchain/client"
	"callchain/cmd/callchain/fleet"

	"github.com/google/uuid"
)

// Options say what is measured, and where.
type Options struct {
	Mode     string
	Devices  int
	Callers  int
	Rate     float64 // operations a second, 0 = closed loop
	Duration time.Duration
	Warmup   time.Duration
	Client   *client.Client // logged in
	MQTT     string         // host:port
	PID      int            // of the server, 0 if unknown
	Names    []string       // programs that work for the server, like postgres
	Keep     bool           // the devices made for the run stay
	Log      func(format string, args ...any)
}

// modes are what can be measured.
var modes = map[string]func(*run, context.Context) error{
	"twoway":     (*run).twoway,
	"oneway":     (*run).oneway,
	"persistent": (*run).persistent,
	"client":     (*run).clientSide,
	"offline":    (*run).offline,
	"idle":       (*run).idle,
}

// Modes lists what can be measured.
func Modes() []string { return slices.Sorted(maps.Keys(modes)) }

// ErrOptions: an option is not acceptable; the text names it.
var ErrOptions = errors.New("wrong option")

// Validate finds the first option that is not acceptable.
func (o *Options) Validate() error {
	if modes[o.Mode] == nil {
		return fmt.Errorf("%w: mode %q: use one of %s", ErrOptions, o.Mode, strings.Join(Modes(), ", "))
	}
	switch {
	case o.Devices < 1 || o.Devices > 1_000_000:
		return fmt.Errorf("%w: devices must be between 1 and 1000000, is %d", ErrOptions, o.Devices)
	case o.Callers < 1 || o.Callers > 100_000:
		return fmt.Errorf("%w: callers must be between 1 and 100000, is %d", ErrOptions, o.Callers)
	case o.Rate < 0 || o.Rate > 1_000_000:
		return fmt.Errorf("%w: rate must be between 0 and 1000000, is %g", ErrOptions, o.Rate)
	case o.Duration < 100*time.Millisecond || o.Warmup < 0:
		return fmt.Errorf("%w: the duration must be at least 100ms, the warm-up not negative", ErrOptions)
	}
	return nil
}

// run is one measurement.
type run struct {
	Options
	name    string // prefix of everything made for the run
	devices []string
	tokens  []string
	undo    []func(context.Context)
	system  system
	result  Result
}

// Run prepares devices, measures, and removes the devices again.
func Run(ctx context.Context, o Options) (*Result, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	r := &run{Options: o, name: "bench-" + uuid.NewString()[:8], result: Result{Mode: o.Mode, Devices: o.Devices}}
	r.system.names = o.Names
	if o.PID > 0 {
		r.system.pids = []int{o.PID}
	} else {
		r.result.Notes = append(r.result.Notes, "the server's process is not known (--server-pid), so what it uses counts as used by others")
	}
	defer r.cleanUp(ctx)
	if err := modes[o.Mode](r, ctx); err != nil {
		return nil, fmt.Errorf("measuring %s: %w", o.Mode, err)
	}
	r.result.RSS = rss(o.PID)
	return &r.result, nil
}

// cleanUp removes what was made, the last first, also when the run was interrupted.
func (r *run) cleanUp(ctx context.Context) {
	if r.Keep {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	for _, undo := range slices.Backward(r.undo) {
		undo(ctx)
	}
}

// drive measures one kind of operation with the processor's use during the measured window.
func (r *run) drive(ctx context.Context, operationOf func(int) operation, okay ...string) error {
	r.result.Callers, r.result.Rate = r.Callers, r.Rate
	l := load{callers: r.Callers, rate: r.Rate, warmup: r.Warmup, duration: r.Duration}
	var before usage
	var known bool
	r.Log("measuring for %s after %s of warm-up", r.Duration, r.Warmup)
	rec := l.drive(ctx, operationOf, func() { before, known = r.system.read() })
	after, still := r.system.read()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if known && still {
		cpu := after.since(before)
		r.result.CPU = &cpu
	}
	r.result.measured(rec, r.Duration.Seconds(), okay...)
	return nil
}

// connect connects the devices; they leave when the run ends.
func (r *run) connect(ctx context.Context, o fleet.Options) (*fleet.Fleet, error) {
	o.Addr, o.QoS, o.KeepAlive = r.MQTT, 1, 5*time.Minute
	f := fleet.New(o, r.tokens)
	begin := time.Now()
	if err := f.Connect(ctx); err != nil {
		f.Close()
		return nil, err
	}
	r.undo = append(r.undo, func(context.Context) { f.Close() })
	r.Log("%d devices connected in %s", f.Len(), time.Since(begin).Round(time.Millisecond))
	return f, nil
}
