package serve

import (
	"context"
	"errors"

	"callchain/chains"
	"callchain/engine"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/registry"

	"github.com/google/uuid"
)

// directory answers the engine from the registry's memory of devices and from the compiled chains. It is asked for every command.
type directory struct {
	registry *registry.Registry
	programs *programs
	rules    rpc.Settings // the server's own
}

var _ engine.Directory = (*directory)(nil)

// Device implements engine.Directory.
func (d *directory) Device(ctx context.Context, id uuid.UUID) (engine.Device, error) {
	f, ok := d.registry.Cached(id)
	if !ok {
		var err error
		if f, err = d.registry.Facts(ctx, id); errors.Is(err, registry.ErrNotFound) {
			return engine.Device{}, engine.ErrNoDevice
		} else if err != nil {
			return engine.Device{}, err
		}
	}
	return engine.Device{
		Tenant: f.Device.Tenant, Partition: f.Device.Partition,
		Info: step.Info{
			Name: f.Device.Name, Type: f.Device.Type, Customer: f.Device.Customer,
			Chain: d.programs.of(f.Device.Tenant, f.Profile.Chain), Settings: d.settings(&f.Profile.RPC), LightFacts: f.Profile.RPC.LightFacts,
		},
	}, nil
}

// Chain implements engine.Directory.
func (d *directory) Chain(id uuid.UUID) *chains.Program { return d.programs.active(id) }

// Pinned implements engine.Directory.
func (d *directory) Pinned(id uuid.UUID, version int) *chains.Program {
	return d.programs.pinned(id, version)
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
