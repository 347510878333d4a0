package engine

import (
	"context"
	"encoding/json"

	"callchain/engine/bus"
	"callchain/engine/step"
	"callchain/engine/submit"

	"github.com/google/uuid"
)

// AttributeChange sets or deletes attributes of a device from outside.
type AttributeChange struct {
	Tenant uuid.UUID
	Device uuid.UUID
	Scope  string            // CLIENT_SCOPE, SHARED_SCOPE, SERVER_SCOPE
	Set    map[string][]byte // JSON by key
	Delete []string
	Actor  string
}

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

// ChangeAttributes sets or deletes attributes of a device and waits until the change is stored. Errors as of Call.
func (e *Engine) ChangeAttributes(ctx context.Context, c AttributeChange) error {
	set := make(map[string]json.RawMessage, len(c.Set))
	for name, value := range c.Set {
		set[name] = value
	}
	return e.change(ctx, c.Tenant, c.Device, c.Actor, step.ChangeAttributes{Scope: c.Scope, Set: set, Delete: c.Delete})
}

// ChangeSeries stores or deletes latest values of time series and waits until the change is stored. Errors as of Call.
func (e *Engine) ChangeSeries(ctx context.Context, c SeriesChange) error {
	return e.change(ctx, c.Tenant, c.Device, c.Actor, step.ChangeSeries{Points: c.Points, Delete: c.Delete})
}

func (e *Engine) change(ctx context.Context, tenant, device uuid.UUID, actor string, do step.Action) error {
	row, err := e.Device(ctx, tenant, device)
	if err != nil {
		return err
	}
	cmd := step.Command{Meta: submit.Meta(actor, "rest"), Device: device, Info: &row.Info, Generation: row.Generation, Do: do}
	return e.await(ctx, bus.Data, row.Partition, cmd)
}
