package registry

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
)

// Facts are what a call or a message needs to know of its device. They are shared by all who asked: nobody changes them.
type Facts struct {
	Device  Device
	Profile Profile // but for Default, which is always false here: it changes with another profile
	Gateway bool    // additionalInfo has "gateway": true
}

const deviceColumns = `d.id, d.tenant, d.customer, d.name, d.label, d.profile, p.name, d.partition, d.additional, d.data, d.created, d.version`

const deviceFrom = ` FROM devices d JOIN device_profiles p ON p.id = d.profile `

func scanDevice(row row, more ...any) (Device, error) {
	var d Device
	var created int64
	into := []any{
		&d.ID, &d.Tenant, &d.Customer, &d.Name, &d.Label, &d.Profile, &d.Type, &d.Partition,
		raw{&d.Additional},
		raw{&d.Data},
		&created, &d.Version,
	}
	if err := row.Scan(append(into, more...)...); err != nil {
		return Device{}, err
	}
	d.Created = fromMicros(created)
	return d, nil
}

// Cached gives the facts of a device if they are in memory. It does not wait and does not allocate.
func (r *Registry) Cached(id uuid.UUID) (*Facts, bool) { return r.devices.get(id) }

// Facts gives the facts of a device of any tenant, from memory or from the database; ErrNotFound if there is none.
func (r *Registry) Facts(ctx context.Context, id uuid.UUID) (*Facts, error) {
	if f, ok := r.devices.get(id); ok {
		return f, nil
	}
	stamp := r.devices.stamp(id)
	f := &Facts{}
	p := &f.Profile
	var created int64
	d, err := scanDevice(
		r.query(ctx).row(`SELECT `+deviceColumns+`, p.id, p.tenant, p.description, p.transport, p.chain, p.data, p.created, p.version`+
			deviceFrom+`WHERE d.id = $1`, id),
		&p.ID, &p.Tenant, &p.Description, &p.Transport, &p.Chain, raw{&p.Data}, &created, &p.Version)
	if err != nil {
		return nil, missing(err, "device", id)
	}
	f.Device, f.Gateway, p.Name, p.Created = d, isGateway(d.Additional), d.Type, fromMicros(created)
	if p.RPC, err = rpcSettings(p.Data); err != nil {
		return nil, fmt.Errorf("reading the profile of device %s: %w", id, err)
	}
	r.devices.put(id, f, stamp)
	return f, nil
}

// FactsOf is Facts of a device that must belong to the tenant; another tenant's device is ErrNotFound.
func (r *Registry) FactsOf(ctx context.Context, tenant, id uuid.UUID) (*Facts, error) {
	f, err := r.Facts(ctx, id)
	if err != nil {
		return nil, err
	}
	if f.Device.Tenant != tenant {
		return nil, fmt.Errorf("%w: device %s", ErrNotFound, id)
	}
	return f, nil
}

// Device is a device of the tenant; ErrNotFound if there is none or it is another tenant's.
func (r *Registry) Device(ctx context.Context, tenant, id uuid.UUID) (Device, error) {
	f, err := r.FactsOf(ctx, tenant, id)
	if err != nil {
		return Device{}, err
	}
	return f.Device, nil
}

// isGateway reads ThingsBoard's flag; anything but the JSON value true is no.
func isGateway(additional json.RawMessage) bool {
	if len(additional) == 0 {
		return false
	}
	var info struct {
		Gateway any `json:"gateway"`
	}
	if json.Unmarshal(additional, &info) != nil {
		return false // an array or a number: no gateway
	}
	return info.Gateway == true
}
