package bench

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	"callchain/cmd/callchain/client"
)

// requestsAtATime bounds what the preparation asks of the server at once.
const requestsAtATime = 8

// prepare makes the devices. A profile's name in kind lets them have it, empty means "default".
func (r *run) prepare(ctx context.Context, kind string) error {
	if kind == "" {
		kind = "default"
	}
	r.Log("making %d devices", r.Devices)
	r.devices, r.tokens = make([]string, r.Devices), make([]string, r.Devices)
	r.undo = append(r.undo, r.deleteDevices)
	return inParallel(ctx, r.Devices, func(i int) error {
		name := r.name + "-" + strconv.Itoa(i)
		d, err := r.Client.CreateDevice(ctx, client.Device{Name: name, Type: kind}, name)
		if err != nil {
			return fmt.Errorf("making device %s: %w", name, err)
		}
		r.devices[i], r.tokens[i] = d.ID.ID, name
		return nil
	})
}

func (r *run) deleteDevices(ctx context.Context) {
	err := inParallel(ctx, len(r.devices), func(i int) error {
		if r.devices[i] == "" {
			return nil
		}
		return r.Client.DeleteDevice(ctx, r.devices[i])
	})
	if err != nil {
		r.Log("the devices %s-… could not all be removed: %v", r.name, err)
	}
}

// inParallel does n things, a few at a time, and gives the first error.
func inParallel(ctx context.Context, n int, do func(i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for first := range min(n, requestsAtATime) {
		wg.Go(func() {
			for i := first; i < n && ctx.Err() == nil; i += requestsAtATime {
				if err := do(i); err != nil {
					cancel(err)
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// caller opens a connection to the REST API for one caller. An error to connect shows as the status of its first operation.
func (r *run) caller() *conn {
	c, err := dial(r.Client.Base())
	if err != nil && c == nil {
		return &conn{}
	}
	return c
}

// status is how an operation ended, for the table.
func status(code int, err error) string {
	switch {
	case err != nil:
		return "connection error"
	case code == 200:
		return ok
	}
	return strconv.Itoa(code)
}

const ok = "200"
