package api

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"callchain/registry"

	"github.com/google/uuid"
)

// directoryDouble keeps the registry in memory, with as many rules as the API shows.
type directoryDouble struct {
	devices     []registry.Device
	credentials map[uuid.UUID]registry.Credentials
	profiles    []registry.Profile
	chains      []registry.Chain // all versions
	made        byte
}

func newDirectory() *directoryDouble {
	device := func(id, tenant, customer uuid.UUID, name string) registry.Device {
		return registry.Device{ID: id, Tenant: tenant, Customer: customer, Name: name, Profile: profileID, Type: "default", Created: begun, Version: 1}
	}
	return &directoryDouble{
		devices: []registry.Device{
			device(deviceID, tenantID, customerID, "d1"), device(loneID, tenantID, uuid.Nil, "d2"), device(foreignID, otherID, uuid.Nil, "d3"),
		},
		credentials: map[uuid.UUID]registry.Credentials{deviceID: {RowID: profileID, Device: deviceID, Kind: registry.AccessToken, ID: "T1", Created: begun, Version: 1}},
		profiles:    []registry.Profile{{ID: profileID, Tenant: tenantID, Name: "default", Transport: "DEFAULT", Default: true, Created: begun, Version: 1}},
	}
}

// newID gives ids that golden files can name.
func (d *directoryDouble) newID() uuid.UUID {
	d.made++
	return uuid.UUID{0xff, 15: d.made}
}

func find[T any](list []T, is func(*T) bool) (*T, error) {
	for i := range list {
		if is(&list[i]) {
			return &list[i], nil
		}
	}
	return nil, fmt.Errorf("%w: none in the double", registry.ErrNotFound)
}

func (d *directoryDouble) device(tenant, id uuid.UUID) (*registry.Device, error) {
	return find(d.devices, func(x *registry.Device) bool { return x.ID == id && x.Tenant == tenant })
}

func (d *directoryDouble) FactsOf(_ context.Context, tenant, id uuid.UUID) (*registry.Facts, error) {
	x, err := d.device(tenant, id)
	if err != nil {
		return nil, err
	}
	return &registry.Facts{Device: *x}, nil
}

func (d *directoryDouble) CreateDevice(ctx context.Context, x registry.Device, c registry.Credentials) (registry.Device, registry.Credentials, error) {
	if _, err := d.DeviceByName(ctx, x.Tenant, x.Name); err == nil {
		return x, c, fmt.Errorf("%w: a device with the name %q", registry.ErrExists, x.Name)
	}
	if x.Name == "" {
		return x, c, fmt.Errorf("%w: name must not be empty", registry.ErrInvalid)
	}
	x.ID, x.Created, x.Version, c.Device = d.newID(), begun, 1, x.ID
	if x.Profile == uuid.Nil {
		x.Profile = profileID
	}
	d.devices, d.credentials[x.ID] = append(d.devices, x), c
	return x, c, nil
}

func (d *directoryDouble) SaveDevice(_ context.Context, x registry.Device) (registry.Device, error) {
	old, err := d.device(x.Tenant, x.ID)
	if err != nil {
		return x, err
	}
	if x.Version != 0 && x.Version != old.Version {
		return x, fmt.Errorf("%w: version %d", registry.ErrStale, x.Version)
	}
	x.Version, x.Created, x.Profile = old.Version+1, old.Created, old.Profile
	*old = x
	return x, nil
}

func (d *directoryDouble) DeleteDevice(_ context.Context, tenant, id uuid.UUID) error {
	_, err := d.device(tenant, id)
	d.devices = slices.DeleteFunc(d.devices, func(x registry.Device) bool { return x.ID == id && x.Tenant == tenant })
	return err
}

func (d *directoryDouble) DeviceByName(_ context.Context, tenant uuid.UUID, name string) (registry.Device, error) {
	x, err := find(d.devices, func(x *registry.Device) bool { return x.Name == name && x.Tenant == tenant })
	if err != nil {
		return registry.Device{}, err
	}
	return *x, nil
}

func (d *directoryDouble) Devices(_ context.Context, tenant uuid.UUID, _ registry.DeviceFilter, p registry.Page) ([]registry.Device, int, error) {
	all := slices.DeleteFunc(slices.Clone(d.devices), func(x registry.Device) bool { return x.Tenant != tenant || !strings.Contains(x.Name, p.Search) })
	from := min(len(all), p.Size*p.Number)
	return all[from:min(len(all), from+p.Size)], len(all), nil
}

func (d *directoryDouble) Credentials(_ context.Context, _, device uuid.UUID) (registry.Credentials, error) {
	return d.credentials[device], nil
}

func (d *directoryDouble) SaveCredentials(_ context.Context, _ uuid.UUID, c registry.Credentials) (registry.Credentials, error) {
	if c.ID == "taken" {
		return c, fmt.Errorf("%w: another device has these credentials", registry.ErrExists)
	}
	c.RowID, c.Created, c.Version = profileID, begun, c.Version+1
	d.credentials[c.Device] = c
	return c, nil
}

func (d *directoryDouble) profile(tenant, id uuid.UUID) (*registry.Profile, error) {
	return find(d.profiles, func(x *registry.Profile) bool { return x.ID == id && x.Tenant == tenant })
}

func (d *directoryDouble) SaveProfile(_ context.Context, p registry.Profile) (registry.Profile, error) {
	p.ID, p.Created, p.Version = d.newID(), begun, 1
	d.profiles = append(d.profiles, p)
	return p, nil
}

func (d *directoryDouble) MakeDefault(ctx context.Context, tenant, id uuid.UUID) (registry.Profile, error) {
	return d.Profile(ctx, tenant, id)
}

func (d *directoryDouble) DeleteProfile(_ context.Context, tenant, id uuid.UUID) error {
	p, err := d.profile(tenant, id)
	if err == nil && p.Default {
		err = fmt.Errorf("%w: it is the default", registry.ErrInUse)
	}
	return err
}

func (d *directoryDouble) Profile(_ context.Context, tenant, id uuid.UUID) (registry.Profile, error) {
	p, err := d.profile(tenant, id)
	if err != nil {
		return registry.Profile{}, err
	}
	return *p, nil
}

func (d *directoryDouble) DefaultProfile(ctx context.Context, tenant uuid.UUID) (registry.Profile, error) {
	return d.Profile(ctx, tenant, profileID)
}

func (d *directoryDouble) Profiles(context.Context, uuid.UUID, registry.Page) ([]registry.Profile, int, error) {
	return d.profiles, len(d.profiles), nil
}

func (d *directoryDouble) UserByID(_ context.Context, id uuid.UUID) (registry.User, error) {
	u := registry.User{ID: id, Tenant: tenantID, Email: "tenant@x", Authority: registry.TenantAdmin, Enabled: true, Created: begun}
	switch id {
	case otherID: // a user of another tenant
		u.Tenant = otherID
	case adminID, customerID:
	default:
		return u, fmt.Errorf("%w: user %s", registry.ErrNotFound, id)
	}
	return u, nil
}

func (d *directoryDouble) Tenant(_ context.Context, id uuid.UUID) (registry.Tenant, error) {
	if id != tenantID {
		return registry.Tenant{}, fmt.Errorf("%w: tenant %s", registry.ErrNotFound, id)
	}
	return registry.Tenant{ID: id, Title: "House", Created: begun}, nil
}

func (d *directoryDouble) chain(tenant, id uuid.UUID, version int) (*registry.Chain, error) {
	return find(d.chains, func(x *registry.Chain) bool {
		return x.ID == id && x.Tenant == tenant && (version == 0 || x.Version == version)
	})
}

func (d *directoryDouble) SaveChain(ctx context.Context, c registry.Chain) (registry.Chain, error) {
	if c.ID == uuid.Nil {
		c.ID = d.newID()
	}
	versions, _ := d.ChainVersions(ctx, c.Tenant, c.ID)
	if c.Version != 0 && c.Version != len(versions) {
		return c, fmt.Errorf("%w: at version %d", registry.ErrStale, len(versions))
	}
	c.Version, c.Created, c.Begun = len(versions)+1, begun, begun
	d.chains = append([]registry.Chain{c}, d.chains...)
	return c, nil
}

func (d *directoryDouble) ActivateChain(_ context.Context, tenant, id uuid.UUID, version int) (registry.Chain, error) {
	if _, err := d.chain(tenant, id, version); err != nil {
		return registry.Chain{}, err
	}
	var out registry.Chain
	for i := range d.chains {
		if x := &d.chains[i]; x.ID == id {
			x.Active = x.Version == version
			if x.Active {
				out = *x
			}
		}
	}
	return out, nil
}

func (d *directoryDouble) SetRoot(_ context.Context, tenant, id uuid.UUID) error {
	_, err := d.chain(tenant, id, 0)
	for i := range d.chains {
		d.chains[i].Root = d.chains[i].ID == id
	}
	return err
}

func (d *directoryDouble) DeleteChain(_ context.Context, tenant, id uuid.UUID) error {
	c, err := d.chain(tenant, id, 0)
	if err == nil && c.Root {
		return fmt.Errorf("%w: it is the root chain", registry.ErrInUse)
	}
	d.chains = slices.DeleteFunc(d.chains, func(x registry.Chain) bool { return x.ID == id })
	return err
}

func (d *directoryDouble) Chain(_ context.Context, tenant, id uuid.UUID) (registry.Chain, error) {
	c, err := find(d.chains, func(x *registry.Chain) bool { return x.ID == id && x.Tenant == tenant && x.Active })
	if err != nil {
		c, err = d.chain(tenant, id, 0)
	}
	if err != nil {
		return registry.Chain{}, err
	}
	return *c, nil
}

func (d *directoryDouble) ChainVersion(_ context.Context, tenant, id uuid.UUID, version int) (registry.Chain, error) {
	c, err := d.chain(tenant, id, version)
	if err != nil {
		return registry.Chain{}, err
	}
	return *c, nil
}

func (d *directoryDouble) ChainVersions(_ context.Context, tenant, id uuid.UUID) ([]registry.Chain, error) {
	all := slices.DeleteFunc(slices.Clone(d.chains), func(x registry.Chain) bool { return x.ID != id || x.Tenant != tenant })
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: rule chain", registry.ErrNotFound)
	}
	return all, nil
}

func (d *directoryDouble) Chains(ctx context.Context, tenant uuid.UUID, _ registry.Page) ([]registry.Chain, int, error) {
	out, seen := []registry.Chain{}, map[uuid.UUID]bool{}
	for _, x := range d.chains {
		if x.Tenant != tenant || seen[x.ID] {
			continue
		}
		seen[x.ID] = true
		c, err := d.Chain(ctx, tenant, x.ID)
		if err != nil {
			return nil, 0, err
		}
		out = append(out, c)
	}
	return out, len(out), nil
}
