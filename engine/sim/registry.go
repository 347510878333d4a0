package sim

import (
	"context"
	"errors"
	"time"

	"callchain/engine/owner"
	"callchain/engine/rpc"
	"callchain/engine/step"

	"github.com/google/uuid"
)

var tenant = uuid.NewSHA1(uuid.NameSpaceOID, []byte("tenant"))

// registry has the devices of a world.
type registry struct {
	w          *world
	chain      *owner.Program
	rows       map[uuid.UUID]*row
	generation uint64
}

type row struct {
	partition int32
	settings  rpc.Settings
}

// add registers a device.
func (r *registry) add(device uuid.UUID, partition int32) {
	s := rpc.DefaultSettings()
	s.MaxRetries, s.AckTimeout, s.Order = 2, 10*time.Second, rpc.Order(1+r.w.rng.IntN(3))
	r.rows[device] = &row{partition, s}
}

// change changes the settings of a device.
func (r *registry) change() {
	d := r.w.devices[r.w.rng.IntN(len(r.w.devices))]
	r.rows[d.id].settings.MaxRetries = r.w.rng.IntN(4)
	r.generation++
}

// Device implements recovery.Registry.
func (r *registry) Device(_ context.Context, id uuid.UUID) (owner.Device, error) {
	if !r.w.calm() && r.w.chance(4) {
		r.w.report.FailedReads++
		return owner.Device{}, errors.New("the registry is away")
	}
	one := r.rows[id]
	if one == nil {
		return owner.Device{ID: id, Deleted: true}, nil
	}
	return owner.Device{ID: id, Tenant: tenant, Partition: one.partition, Info: step.Info{Name: "d", Type: "t", Chain: r.chain, Settings: one.settings}}, nil
}

// Version implements recovery.Registry.
func (r *registry) Version(context.Context, step.Version) (*owner.Program, error) {
	return r.chain, nil
}

// Generation implements recovery.Registry.
func (r *registry) Generation() uint64 { return r.generation }
