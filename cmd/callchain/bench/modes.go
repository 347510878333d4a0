package bench

import (
	"context"
	"fmt"
	"net/url"

	"callchain/cmd/callchain/fleet"
)

// callBody is the call that is sent: 60 bytes, as small settings changes are.
const callBody = `{"method":"setGpio","params":{"pin":7,"value":1},"timeout":10000}`

// twoway: the caller has the device's answer.
func (r *run) twoway(ctx context.Context) error {
	return r.light(ctx, "twoway", fleet.Fixed([]byte(`{"pin":7,"value":1}`)))
}

// oneway: the call is committed and the transport took it. Devices acknowledge (PUBACK) and do not answer.
func (r *run) oneway(ctx context.Context) error { return r.light(ctx, "oneway", nil) }

func (r *run) light(ctx context.Context, way string, answer func(fleet.Command) ([]byte, bool)) error {
	if err := r.prepare(ctx, ""); err != nil {
		return err
	}
	if _, err := r.connect(ctx, fleet.Options{Answer: answer}); err != nil {
		return err
	}
	requests, err := r.requests(way, callBody)
	if err != nil {
		return err
	}
	return r.drive(ctx, func(i int) operation {
		c, at := r.caller(), i
		return func(context.Context) string {
			at = (at + r.Callers) % len(requests)
			code, err := c.do(requests[at])
			return status(code, err)
		}
	}, ok)
}

// requests are the calls to all devices, ready to be sent.
func (r *run) requests(way, body string) ([][]byte, error) {
	u, err := url.Parse(r.Client.Base())
	if err != nil {
		return nil, fmt.Errorf("reading the server's address: %w", err)
	}
	out := make([][]byte, len(r.devices))
	for i, device := range r.devices {
		out[i] = request(u.Host, r.Client.Token(), "/api/rpc/"+way+"/"+device, body)
	}
	return out, nil
}

// clientSide: a device has the chain's answer to its own call.
func (r *run) clientSide(ctx context.Context) error {
	kind, err := r.answeringProfile(ctx)
	if err != nil {
		return err
	}
	if err := r.prepare(ctx, kind); err != nil {
		return err
	}
	f, err := r.connect(ctx, fleet.Options{Calling: true})
	if err != nil {
		return err
	}
	return r.drive(ctx, func(i int) operation {
		at := i
		return func(ctx context.Context) string {
			at = (at + r.Callers) % f.Len()
			ctx, cancel := context.WithTimeout(ctx, answerWait)
			defer cancel()
			answer, err := f.Request(ctx, at, "getTime", []byte("{}"))
			switch {
			case err != nil && ctx.Err() != nil:
				return "no answer"
			case err != nil:
				return "connection error"
			case string(answer) == `{"error":"timeout"}`:
				return "timeout"
			}
			return ok
		}
	}, ok)
}

// idle: what a connected device costs that does nothing.
func (r *run) idle(ctx context.Context) error {
	if err := r.prepare(ctx, ""); err != nil {
		return err
	}
	before := rss(r.PID)
	start, known := r.system.read()
	f, err := r.connect(ctx, fleet.Options{})
	if err != nil {
		return err
	}
	connected, _ := r.system.read()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer(r.Duration):
	}
	after := rss(r.PID)
	r.result.Seconds = r.Duration.Seconds()
	r.result.Figures = map[string]float64{"connections": float64(f.Stats().Online)}
	if known {
		rest, _ := r.system.read()
		cpu := rest.since(connected)
		r.result.CPU = &cpu
		r.result.Figures["connects/s"] = float64(f.Len()) / connected.at.Sub(start.at).Seconds()
	}
	if before > 0 {
		r.result.Figures["RSS before MB"] = float64(before) / 1e6
		r.result.Figures["RSS after MB"] = float64(after) / 1e6
		r.result.Figures["kB/connection"] = float64(after-before) / 1e3 / float64(f.Len())
	}
	return nil
}
