package bench

import (
	"bytes"
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestClosedLoopCountsTheWindowOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := load{callers: 2, warmup: time.Second, duration: 10 * time.Second}
		var measuring atomic.Int64
		rec := l.drive(t.Context(), func(int) operation {
			return func(context.Context) string {
				<-time.After(100 * time.Millisecond)
				return ok
			}
		}, func() { measuring.Add(1) })
		if n := rec.statuses[ok]; n < 198 || n > 202 { // two callers, ten a second each; the edges may count
			t.Errorf("%d operations were counted, want 200", n)
		}
		if n := measuring.Load(); n != 1 {
			t.Errorf("the window began %d times", n)
		}
		if p50 := rec.latency.ValueAtQuantile(50); p50 < 99_000 || p50 > 101_000 {
			t.Errorf("the median is %d µs, want 100,000", p50)
		}
	})
}

// An operation that is due while all callers are busy has waited: its latency counts from when it was due. The server here stands still
// for a second once, which a closed loop would see as one slow operation.
func TestOpenLoopHidesNoWaiting(t *testing.T) {
	begin := time.Now()
	stall := begin.Add(200 * time.Millisecond)
	l := load{callers: 1, rate: 200, duration: 500 * time.Millisecond}
	rec := l.drive(t.Context(), func(int) operation {
		stalled := false
		return func(context.Context) string {
			if !stalled && time.Now().After(stall) {
				stalled = true
				<-time.After(300 * time.Millisecond)
			}
			return ok
		}
	}, func() {})
	if n := rec.statuses[ok]; n < 90 || n > 101 {
		t.Errorf("%d operations, want 100", n)
	}
	if p75 := rec.latency.ValueAtQuantile(75); p75 < 50_000 {
		t.Errorf("three quarters took at most %d µs, although 60 of 100 were due while the server stood still", p75)
	}
}

func TestNumbered(t *testing.T) {
	r := numbered([]byte(`POST "n":"9999999999" {"n":"0000000000"}`), 1234567890)
	if want := `POST "n":"9999999999" {"n":"1234567890"}`; string(r) != want {
		t.Errorf("got %s", r)
	}
	var e ends
	n, done := e.expect()
	e.ended(bytes.Clone(numbered([]byte(storedBody), n+1))) // another one's
	select {
	case <-done:
		t.Fatal("another call's end was taken")
	default:
	}
	e.ended(numbered([]byte(storedBody), n))
	<-done
	e.ended(numbered([]byte(storedBody), n)) // once more, which is nobody's
}

func TestResult(t *testing.T) {
	rec := newRecording()
	for range 99 {
		rec.add(ok, 2*time.Millisecond)
	}
	rec.add("504", 10*time.Second)
	r := Result{Mode: "twoway", Devices: 3, Callers: 4, CPU: &CPU{Server: 1, Others: 0.31}}
	r.measured(rec, 2, ok)
	if r.Operations != 100 || r.Failed != 1 || r.PerSecond != 49.5 || r.Latency.P50 < 1.9 || r.Latency.P50 > 2.1 || r.Latency.Max < 9900 {
		t.Errorf("got %+v, %+v", r, r.Latency)
	}
	if !r.Disturbed() {
		t.Error("0.31 cores of others do not disturb")
	}
	var b strings.Builder
	r.Print(&b)
	for _, want := range []string{"twoway: 3 devices, 4 callers, 2s", "200: 99, 504: 1", "1 failed", "all else 0.31"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, b.String())
		}
	}
}

func TestOptions(t *testing.T) {
	good := Options{Mode: "idle", Devices: 1, Callers: 1, Duration: time.Second}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Options){
		"mode": func(o *Options) { o.Mode = "fast" }, "devices": func(o *Options) { o.Devices = 0 },
		"callers": func(o *Options) { o.Callers = 0 }, "rate": func(o *Options) { o.Rate = -1 }, "duration": func(o *Options) { o.Duration = 0 },
	} {
		o := good
		change(&o)
		if err := o.Validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestUsage(t *testing.T) {
	before := usage{at: time.Unix(0, 0), all: 100, self: 10, server: 50}
	after := usage{at: time.Unix(10, 0), all: 1100, self: 210, server: 650}
	if c := after.since(before); c.Server != 0.6 || c.Generator != 0.2 || c.Others < 0.19 || c.Others > 0.21 {
		t.Errorf("got %+v", c)
	}
}
