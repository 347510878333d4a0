package bench

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"callchain/cmd/callchain/fleet"
)

// answerWait is how long an operation waits for what a device or the server owes it.
const answerWait = 15 * time.Second

func timer(d time.Duration) <-chan time.Time { return time.NewTimer(d).C }

// storedBody carries a number in the params, by which the device's answer finds the caller that waits. The number has a fixed
// length, so that a request is patched and not built.
const (
	storedBody   = `{"method":"setGpio","params":{"n":"0000000000"},"persistent":true,"timeout":60000}`
	numberDigits = 10
	numberMark   = `"n":"`
)

// ends tells waiting callers that their call has ended.
type ends struct {
	next atomic.Int64
	wait sync.Map // number → chan struct{}
}

func (e *ends) expect() (int64, chan struct{}) {
	n, done := e.next.Add(1), make(chan struct{})
	e.wait.Store(n, done)
	return n, done
}

// ended finds the number in a command that the device has answered.
func (e *ends) ended(payload []byte) {
	at := bytes.Index(payload, []byte(numberMark))
	if at < 0 || len(payload) < at+len(numberMark)+numberDigits {
		return
	}
	at += len(numberMark)
	n, err := strconv.ParseInt(string(payload[at:at+numberDigits]), 10, 64)
	if err != nil {
		return
	}
	if done, waiting := e.wait.LoadAndDelete(n); waiting {
		if done, isChannel := done.(chan struct{}); isChannel {
			close(done)
		}
	}
}

// persistent: the call is stored, delivered, answered and ended. Its end is seen at the device: the server acknowledges the answer
// (PUBACK) when the call's last event is durable.
func (r *run) persistent(ctx context.Context) error {
	if err := r.prepare(ctx, ""); err != nil {
		return err
	}
	var e ends
	_, err := r.connect(ctx, fleet.Options{
		Answer: fleet.Fixed([]byte(`{"done":true}`)),
		Answered: func(c fleet.Command, err error) {
			if err == nil {
				e.ended(c.Payload)
			}
		},
	})
	if err != nil {
		return err
	}
	requests, err := r.requests("twoway", storedBody)
	if err != nil {
		return err
	}
	err = r.drive(ctx, func(i int) operation {
		c, at, buf := r.caller(), i, []byte(nil)
		return func(ctx context.Context) string {
			at = (at + r.Callers) % len(requests)
			n, done := e.expect()
			buf = numbered(append(buf[:0], requests[at]...), n)
			if code, err := c.do(buf); code != 200 {
				e.wait.Delete(n)
				return status(code, err)
			}
			late := time.NewTimer(answerWait)
			defer late.Stop()
			select {
			case <-done:
				return ok
			case <-late.C:
				return "not ended"
			case <-ctx.Done():
				return "interrupted"
			}
		}
	}, ok)
	if err == nil {
		r.result.Notes = append(r.result.Notes, "latency is from the request to the call's end, as the device sees it")
	}
	return err
}

// numbered writes a number over the digits of a request.
func numbered(request []byte, n int64) []byte {
	at := bytes.LastIndex(request, []byte(numberMark)) + len(numberMark)
	for i := numberDigits - 1; i >= 0; i-- {
		request[at+i] = byte('0' + n%10)
		n /= 10
	}
	return request
}

// offline: calls are stored for devices that are away; then the devices come, and all calls are delivered and answered.
func (r *run) offline(ctx context.Context) error {
	if err := r.prepare(ctx, ""); err != nil {
		return err
	}
	requests, err := r.requests("twoway", storedBody)
	if err != nil {
		return err
	}
	var stored atomic.Int64
	err = r.drive(ctx, func(i int) operation {
		c, at := r.caller(), i
		return func(context.Context) string {
			at = (at + r.Callers) % len(requests)
			code, err := c.do(requests[at])
			if code == 200 {
				stored.Add(1)
			}
			return status(code, err)
		}
	}, ok)
	if err != nil {
		return err
	}
	return r.drain(ctx, stored.Load())
}

// drain connects the devices and measures until all stored calls have ended.
func (r *run) drain(ctx context.Context, stored int64) error {
	var ended atomic.Int64
	all := make(chan struct{})
	if stored == 0 {
		close(all)
	}
	begin := time.Now()
	_, err := r.connect(ctx, fleet.Options{
		Answer: fleet.Fixed([]byte(`{"done":true}`)),
		Answered: func(_ fleet.Command, err error) {
			if err == nil && ended.Add(1) == stored {
				close(all)
			}
		},
	})
	if err != nil {
		return err
	}
	select {
	case <-all:
	case <-timer(time.Minute):
		r.result.Failed += stored - ended.Load()
		r.result.Notes = append(r.result.Notes, fmt.Sprintf("%d of %d stored calls were not answered within a minute", stored-ended.Load(), stored))
	case <-ctx.Done():
		return ctx.Err()
	}
	took := time.Since(begin).Seconds()
	r.result.Figures = map[string]float64{"drained": float64(ended.Load()), "drained/s": float64(ended.Load()) / took, "drain s": took}
	return nil
}
