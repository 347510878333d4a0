package engine

import (
	"context"
	"fmt"

	"callchain/engine/bus"
	"callchain/engine/rpc"
	"callchain/engine/step"

	"github.com/google/uuid"
)

// SeriesChange stores or deletes latest values of a device's time series from outside.
type SeriesChange struct {
	Tenant uuid.UUID
	Device uuid.UUID
	Points []Point
	Delete []string
	Actor  string
}

// Point is one value of a time series.
type Point = step.Point

// ChangeSeries stores or deletes latest values of time series and waits until that is committed.
func (e *Engine) ChangeSeries(ctx context.Context, c SeriesChange) error {
	device, err := e.directory.Device(ctx, c.Device)
	if err != nil || device.Tenant != c.Tenant {
		return &rpc.Refusal{Code: rpc.CodeUnknown, Detail: fmt.Sprintf("there is no device %s", c.Device)}
	}
	cmd := step.Command{Meta: e.meta(c.Actor, "rest"), Device: c.Device, Do: step.ChangeSeries{Points: c.Points, Delete: c.Delete}}
	return e.await(ctx, device.Partition, cmd, bus.Data)
}
