package serve

import (
	"context"
	"errors"

	"callchain/chains"
	"callchain/engine"
	"callchain/engine/owner"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/registry"

	"github.com/google/uuid"
)

// directory answers the engine from the registry and from the compiled chains.
type directory struct {
	registry *registry.Registry
	programs *programs
	rules    rpc.Settings // the server's own
}

var _ engine.Directory = (*directory)(nil)

// Cached implements engine.Directory.
func (d *directory) Cached(id uuid.UUID) (owner.Device, bool) {
	f, ok := d.registry.Cached(id)
	if !ok {
		return owner.Device{}, false
	}
	chain, ok := d.programs.cached(f.Device.Tenant, f.Profile.Chain)
	return d.device(f, chain), ok
}

// Device implements engine.Directory.
func (d *directory) Device(ctx context.Context, id uuid.UUID) (owner.Device, error) {
	f, err := d.registry.Facts(ctx, id)
	switch {
	case errors.Is(err, registry.ErrNotFound):
		return owner.Device{ID: id, Deleted: true}, nil
	case err != nil:
		return owner.Device{}, err
	}
	return d.device(f, d.programs.of(ctx, f.Device.Tenant, f.Profile.Chain)), nil
}

func (d *directory) device(f *registry.Facts, chain *chains.Program) owner.Device {
	return owner.Device{
		ID: f.Device.ID, Tenant: f.Device.Tenant, Partition: f.Device.Partition,
		Info: step.Info{
			Name: f.Device.Name, Type: f.Device.Type, Customer: f.Device.Customer,
			Chain: chain, Settings: d.settings(&f.Profile.RPC), LightFacts: f.Profile.RPC.LightFacts,
		},
	}
}

// Chain implements engine.Directory.
func (d *directory) Chain(id uuid.UUID) *chains.Program { return d.programs.active(id) }

// Version implements engine.Directory.
func (d *directory) Version(ctx context.Context, v step.Version) (*chains.Program, error) {
	return d.programs.version(ctx, v.Chain, v.Number)
}

// Generation implements engine.Directory.
func (d *directory) Generation() uint64 {
	return d.registry.Generation() + d.programs.generation.Load()
}

// settings are a profile's rules for calls, with the server's where it has none.
func (d *directory) settings(own *registry.RPCSettings) rpc.Settings {
	s := d.rules
	if own.SubmitOrder != "" {
		s.Order = orderOf(own.SubmitOrder)
	}
	if own.MaxRetries != nil {
		s.MaxRetries = *own.MaxRetries
	}
	if own.AckTimeout > 0 {
		s.AckTimeout = own.AckTimeout
	}
	if own.Response > 0 {
		s.ResponseTimeout = own.Response
	}
	if own.Backoff > 0 {
		s.Backoff = own.Backoff
	}
	if own.CloseOnTimeout != nil {
		s.CloseOnTimeout = *own.CloseOnTimeout
	}
	return s
}

// orderOf reads the settings' word, which was checked when it was set.
func orderOf(word string) rpc.Order {
	switch word {
	case "on_ack":
		return rpc.OrderOnAck
	case "on_response":
		return rpc.OrderOnResponse
	}
	return rpc.OrderBurst
}
