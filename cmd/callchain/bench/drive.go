package bench

import (
	"context"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// The range of a histogram: microseconds, up to two minutes, three digits.
const (
	latencyMin    = 1
	latencyMax    = 120_000_000
	latencyDigits = 3
)

// operation does one thing that is measured and tells how it ended: an HTTP status, or a word.
type operation func(ctx context.Context) string

// load is how operations are sent.
type load struct {
	callers  int
	rate     float64 // a second; 0 = closed loop: each caller sends when it has its answer
	warmup   time.Duration
	duration time.Duration
}

// recording is what one caller measured. Nobody else touches it before the end.
type recording struct {
	latency  *hdrhistogram.Histogram
	statuses map[string]int64
}

func newRecording() *recording {
	return &recording{latency: hdrhistogram.New(latencyMin, latencyMax, latencyDigits), statuses: map[string]int64{}}
}

func (r *recording) add(status string, took time.Duration) {
	r.statuses[status]++
	micros := min(max(int64(took/time.Microsecond), latencyMin), latencyMax)
	_ = r.latency.RecordValue(micros) // it is within the range
}

func (r *recording) merge(other *recording) {
	r.latency.Merge(other.latency)
	for status, n := range other.statuses {
		r.statuses[status] += n
	}
}

// drive runs callers for the warm-up and the duration. operationOf makes the operation of one caller, which that caller alone uses.
// measuring is called when the warm-up is over.
func (l load) drive(ctx context.Context, operationOf func(caller int) operation, measuring func()) *recording {
	begin := time.Now()
	from := begin.Add(l.warmup)
	until := from.Add(l.duration)
	issuing, stop := context.WithDeadline(ctx, until)
	defer stop()
	mark := time.AfterFunc(l.warmup, measuring)
	defer mark.Stop()
	due := l.schedule(ctx, begin)
	all := make([]*recording, l.callers)
	var wg sync.WaitGroup
	for i := range l.callers {
		all[i] = newRecording()
		wg.Go(func() {
			c := caller{do: operationOf(i), from: from, until: until, into: all[i]}
			if due == nil {
				c.closed(ctx, issuing)
			} else {
				c.open(ctx, due)
			}
		})
	}
	wg.Wait()
	out := newRecording()
	for _, r := range all {
		out.merge(r)
	}
	return out
}

// caller sends one operation after the other.
type caller struct {
	do          operation
	from, until time.Time
	into        *recording
}

// closed sends the next operation when the last one is answered. What ends within the window counts.
func (c *caller) closed(ctx, issuing context.Context) {
	for issuing.Err() == nil {
		begin := time.Now()
		status := c.do(ctx)
		end := time.Now()
		if !end.Before(c.from) && end.Before(c.until) {
			c.into.add(status, end.Sub(begin))
		}
	}
}

// open takes operations from the schedule. What was due within the window counts, from the time it was due: an operation that had
// to wait for a free caller has waited, as a user would (no coordinated omission).
func (c *caller) open(ctx context.Context, due <-chan time.Time) {
	for t := range due {
		status := unsent
		if time.Now().Before(c.until.Add(drainMax)) {
			status = c.do(ctx)
		}
		if !t.Before(c.from) {
			c.into.add(status, time.Since(t))
		}
	}
}

// What is still due so long after the end is not sent any more: the server is far too slow for the rate.
const (
	drainMax = 10 * time.Second
	unsent   = "not sent"
)

// scheduledMax bounds the operations that are due and wait for a caller; the schedule waits then, but keeps its times.
const scheduledMax = 1 << 16

// schedule tells when operations are due, nil in a closed loop. It ends with the measured time, or with ctx.
func (l load) schedule(ctx context.Context, begin time.Time) <-chan time.Time {
	if l.rate <= 0 {
		return nil
	}
	due := make(chan time.Time, scheduledMax)
	go func() {
		ownThread()
		defer close(due)
		for k := int64(0); ; k++ {
			after := time.Duration(float64(k) / l.rate * float64(time.Second))
			if after >= l.warmup+l.duration {
				return
			}
			t := begin.Add(after)
			waitUntil(t)
			select {
			case due <- t:
			case <-ctx.Done():
				return
			}
		}
	}()
	return due
}
