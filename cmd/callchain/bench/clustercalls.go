package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"callchain/cmd/callchain/client"

	"github.com/google/uuid"
)

const (
	// clusterCallers bounds the calls under way: enough that those which wait for a dead node's partitions keep no other waiting.
	clusterCallers = 512
	callTimeout    = 10 * time.Second
	// storedTimeout is what a persistent call has: its success is returned when it is stored, and it must not expire before it is asked for.
	storedTimeout = 5 * time.Minute
	// callWait is how long a caller waits for any answer: longer than the call may take.
	callWait = callTimeout + 5*time.Second
	// persistentOf is of how many calls one is persistent.
	persistentOf = 4
)

// caller makes the operations of one caller. Together they go through all nodes and all devices in turn.
func (w *watch) caller(first int) operation {
	k := first
	return func(ctx context.Context) string {
		k += clusterCallers
		w.call(ctx, k)
		return ok
	}
}

// call makes the call of number k and counts how it ends.
func (w *watch) call(ctx context.Context, k int) {
	device := k % len(w.devices)
	node := (k + k/len(w.devices)) % len(w.Clients) // so that each device is called through each node
	params := `{"n":` + strconv.Itoa(k) + `}`
	request := client.CallRequest{
		Method: "setGpio", Params: json.RawMessage(params), Timeout: callTimeout.Milliseconds(), Key: uuid.NewString(),
	}
	if k%persistentOf == 0 {
		request.Persistent, request.Timeout = true, storedTimeout.Milliseconds()
	}
	w.count(func(s *ClusterSecond) { s.Sent++ })
	var answer client.Answer
	var err error
	for attempt := range w.Clients {
		if attempt > 0 {
			w.count(func(s *ClusterSecond) { s.Again++ })
		}
		answer, err = w.send(ctx, (node+attempt)%len(w.Clients), w.devices[device], request)
		if err == nil || client.StatusOf(err) != 0 {
			break // a node has answered
		}
	}
	if err == nil && !request.Persistent && string(answer.Body) != params {
		err = fmt.Errorf("%w: %s in place of %s", errWrongAnswer, answer.Body, params)
	}
	w.ended(device, answer.ID, err)
}

var errWrongAnswer = errors.New("wrong answer")

func (w *watch) send(ctx context.Context, node int, device string, request client.CallRequest) (client.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, callWait)
	defer cancel()
	return w.Clients[node].Send(ctx, device, false, request)
}

func (w *watch) count(add func(*ClusterSecond)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	add(&w.now)
}

func (w *watch) ended(device int, id string, err error) {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	switch status := client.StatusOf(err); {
	case err == nil:
		w.now.Succeeded++
		w.returned = append(w.returned, id)
		w.silent(device, now)
		w.success, w.last[device] = now, now
	case status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests:
		w.now.Refused++
	default:
		w.now.Failed++
		w.result.Failed[failure(err)]++
	}
}

// failure names the reason of an end for the totals.
func failure(err error) string {
	var e *client.Error
	switch {
	case errors.Is(err, errWrongAnswer):
		return errWrongAnswer.Error()
	case errors.As(err, &e):
		return strconv.Itoa(e.Status) + " " + e.Code
	}
	return "no node answered"
}

// silent looks how long nothing had succeeded before now, at a device and at all. It needs the lock.
func (w *watch) silent(device int, now time.Time) {
	since := func(t time.Time) float64 {
		if t.IsZero() {
			t = w.begin
		}
		return now.Sub(t).Seconds()
	}
	w.result.Silence = max(w.result.Silence, since(w.success))
	w.result.DeviceSilence = max(w.result.DeviceSilence, since(w.last[device]))
}

// silences looks the same way at the end of the run: what never succeeded again was silent until then.
func (w *watch) silences(end time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.begin.Add(w.Duration).Before(end) {
		end = w.begin.Add(w.Duration) // from then on nothing was sent
	}
	for device := range w.devices {
		w.silent(device, end)
	}
}

// settleMax is how long persistent calls may take to be carried out after the last was sent.
const settleMax = 20 * time.Second

// settle asks for every call whose success was returned, until all have succeeded or it is late.
func (w *watch) settle(ctx context.Context, late <-chan time.Time) {
	open := w.returned
	w.result.Checked = len(open)
	for {
		lacks := make([]string, len(open))
		if inParallel(ctx, len(open), func(i int) error {
			lacks[i] = w.lack(ctx, open[i])
			return ctx.Err()
		}) != nil {
			return // interrupted
		}
		w.result.Lost = []string{}
		var still []string
		for i, why := range lacks {
			if why != "" {
				w.result.Lost, still = append(w.result.Lost, open[i]+": "+why), append(still, open[i])
			}
		}
		if open = still; len(open) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-late:
			return
		case <-timer(settlePause):
		}
	}
}

const settlePause = 200 * time.Millisecond

// lack asks the first node that answers what a call lacks; empty: it has succeeded.
func (w *watch) lack(ctx context.Context, id string) (why string) {
	for _, c := range w.Clients {
		call, err := c.Call(ctx, id)
		switch {
		case err == nil && call.Phase == "succeeded":
			return ""
		case err == nil:
			return "it is " + call.Phase + " " + call.Code
		case client.StatusOf(err) == http.StatusNotFound:
			return err.Error()
		}
		why = err.Error()
	}
	return why
}
