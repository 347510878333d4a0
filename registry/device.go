package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
)

// DeviceFilter selects devices of a list; zero fields select all.
type DeviceFilter struct {
	Customer uuid.UUID
	Profile  uuid.UUID
	Type     string // name of the profile
}

// CreateDevice adds a device with its credentials. The profile is Profile, else the one named Type, which is made if there is
// none, else the default. Zero credentials, or ACCESS_TOKEN without ID, get a random token of 20 alphanumerics.
// It fails with ErrExists (name, token) and ErrInvalid, which names the field.
func (r *Registry) CreateDevice(ctx context.Context, d Device, c Credentials) (Device, Credentials, error) {
	if d.ID == uuid.Nil {
		d.ID = newID()
	}
	if c.Kind == "" && c.ID == "" {
		c.Kind = AccessToken
	}
	if c.Kind == AccessToken && c.ID == "" {
		c.ID = randomText(generatedTokenLen)
	}
	c, err := normalize(c)
	if err := errors.Join(checkDevice(d), err); err != nil {
		return Device{}, Credentials{}, err
	}
	now := r.now()
	d.Partition, d.Created, d.Version = partitionOf(d.ID, r.opt.Partitions), fromMicros(now), 1
	c.RowID, c.Device, c.Created, c.Version = newID(), d.ID, fromMicros(now), 1
	err = r.write(ctx, func(tx *tx) error {
		p, err := r.profileFor(tx, d)
		if err != nil {
			return err
		}
		d.Profile, d.Type = p.ID, p.Name
		tx.tell(Change{Kind: DeviceCreated, Tenant: d.Tenant, Device: d.ID, Profile: d.Profile})
		if err := insertDevice(tx, d); err != nil {
			return err
		}
		return insertCredentials(tx, c)
	})
	if err != nil {
		return Device{}, Credentials{}, fmt.Errorf("creating device %s: %w", d.Name, err)
	}
	return d, c, nil
}

func checkDevice(d Device) error {
	if d.Tenant == uuid.Nil {
		return fmt.Errorf("%w: a device needs a tenant", ErrInvalid)
	}
	return errors.Join(checkName("name", d.Name), checkText("label", d.Label), checkJSON("additionalInfo", d.Additional), checkJSON("deviceData", d.Data))
}

func insertDevice(tx *tx, d Device) error {
	_, err := tx.exec(`INSERT INTO devices (id, tenant, customer, name, folded, label, profile, partition, additional, data, created, version)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
		d.ID, d.Tenant, d.Customer, d.Name, strings.ToLower(d.Name), d.Label, d.Profile, d.Partition, d.Additional, d.Data,
		d.Created.UnixMicro(), d.Version)
	if isTaken(err) {
		return fmt.Errorf("%w: a device with the name %q or the id %s", ErrExists, d.Name, d.ID)
	}
	return err
}

// SaveDevice replaces the fields of a device but its partition, credentials and time of creation. A version other than 0 must be
// the stored one, else ErrStale. Profile and Type are taken as CreateDevice takes them; with neither, the profile stays.
func (r *Registry) SaveDevice(ctx context.Context, d Device) (Device, error) {
	if err := checkDevice(d); err != nil {
		return Device{}, err
	}
	err := r.write(ctx, func(tx *tx) error {
		old, err := scanDevice(tx.row(`SELECT `+deviceColumns+deviceFrom+`WHERE d.id = $1 AND d.tenant = $2`+tx.lockingOnly("d"), d.ID, d.Tenant))
		if err != nil {
			return missing(err, "device", d.ID)
		}
		if d.Version != 0 && d.Version != old.Version {
			return fmt.Errorf("%w: device %s has version %d, not %d: read it again", ErrStale, d.Name, old.Version, d.Version)
		}
		d.Partition, d.Created, d.Version = old.Partition, old.Created, old.Version+1
		if d.Profile == uuid.Nil && d.Type == "" {
			d.Profile = old.Profile
		}
		p, err := r.profileFor(tx, d)
		if err != nil {
			return err
		}
		d.Profile, d.Type = p.ID, p.Name
		tx.tell(Change{Kind: DeviceUpdated, Tenant: d.Tenant, Device: d.ID, Profile: d.Profile})
		return updateDevice(tx, d)
	})
	if err != nil {
		return Device{}, fmt.Errorf("saving device %s: %w", d.Name, err)
	}
	return d, nil
}

func updateDevice(tx *tx, d Device) error {
	_, err := tx.exec(`UPDATE devices SET customer = $2, name = $3, folded = $4, label = $5, profile = $6, additional = $7, data = $8, version = $9
		WHERE id = $1`, d.ID, d.Customer, d.Name, strings.ToLower(d.Name), d.Label, d.Profile, d.Additional, d.Data, d.Version)
	if isTaken(err) {
		return fmt.Errorf("%w: a device with the name %q", ErrExists, d.Name)
	}
	return err
}

// DeleteDevice removes a device and its credentials; its events and calls stay. ErrNotFound if there is none in the tenant.
func (r *Registry) DeleteDevice(ctx context.Context, tenant, id uuid.UUID) error {
	err := r.write(ctx, func(tx *tx) error {
		tx.tell(Change{Kind: DeviceDeleted, Tenant: tenant, Device: id})
		n, err := tx.exec(`DELETE FROM devices WHERE id = $1 AND tenant = $2`, id, tenant)
		if err == nil && n == 0 {
			err = fmt.Errorf("%w: device %s", ErrNotFound, id)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("deleting device %s: %w", id, err)
	}
	return nil
}

// DeviceByName is the device of the tenant with exactly this name; ErrNotFound if there is none.
func (r *Registry) DeviceByName(ctx context.Context, tenant uuid.UUID, name string) (Device, error) {
	d, err := scanDevice(r.query(ctx).row(`SELECT `+deviceColumns+deviceFrom+`WHERE d.tenant = $1 AND d.name = $2`, tenant, name))
	if err != nil {
		return Device{}, missing(err, "device", name)
	}
	return d, nil
}

// Devices is a page of the tenant's devices, and how many match in all. Page.Sort takes createdTime, name, label and type.
func (r *Registry) Devices(ctx context.Context, tenant uuid.UUID, f DeviceFilter, p Page) ([]Device, int, error) {
	order, err := p.order(map[string]string{"": "d.created", "createdTime": "d.created", "name": "d.name", "label": "d.label", "type": "p.name"}, "d.id")
	if err != nil {
		return nil, 0, err
	}
	var where conditions
	where.add("d.tenant = ?", tenant)
	where.search("d.folded", p.Search)
	if f.Customer != uuid.Nil {
		where.add("d.customer = ?", f.Customer)
	}
	if f.Profile != uuid.Nil {
		where.add("d.profile = ?", f.Profile)
	}
	if f.Type != "" {
		where.add("p.name = ?", f.Type)
	}
	var out []Device
	total, err := r.query(ctx).page(deviceColumns, deviceFrom, where, order, p, func(row row) error {
		d, err := scanDevice(row)
		out = append(out, d)
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("reading devices: %w", err)
	}
	return out, total, nil
}

// profileFor finds the profile that a device names, and makes the one of an unknown type as ThingsBoard does.
func (r *Registry) profileFor(tx *tx, d Device) (Profile, error) {
	switch {
	case d.Profile != uuid.Nil:
		p, err := scanProfile(tx.row(`SELECT `+profileColumns+` FROM device_profiles WHERE id = $1 AND tenant = $2`, d.Profile, d.Tenant))
		if err = missing(err, "device profile", d.Profile); errors.Is(err, ErrNotFound) {
			return Profile{}, fmt.Errorf("%w: deviceProfileId %s is no profile of this tenant", ErrInvalid, d.Profile)
		}
		return p, err
	case d.Type != "":
		return r.profileNamed(tx, d.Tenant, d.Type)
	}
	p, err := scanProfile(tx.row(`SELECT `+profileColumns+` FROM device_profiles WHERE tenant = $1 AND preset = $2`, d.Tenant, true))
	return p, missing(err, "default device profile of tenant", d.Tenant)
}

func (r *Registry) profileNamed(tx *tx, tenant uuid.UUID, name string) (Profile, error) {
	if err := checkName("type", name); err != nil {
		return Profile{}, err
	}
	made := Profile{
		ID: newID(), Tenant: tenant, Name: name, Transport: "DEFAULT",
		Data: json.RawMessage(`{"configuration":{"type":"DEFAULT"},"transportConfiguration":{"type":"DEFAULT"}}`),
	}
	read := `SELECT ` + profileColumns + ` FROM device_profiles WHERE tenant = $1 AND name = $2`
	p, err := scanProfile(tx.row(read, tenant, name))
	if err = missing(err, "device profile", name); !errors.Is(err, ErrNotFound) {
		return p, err
	}
	if err := insertProfileIfNew(tx, made, r.now()); err != nil {
		return Profile{}, err
	}
	p, err = scanProfile(tx.row(read, tenant, name)) // another transaction may have been faster
	return p, missing(err, "device profile", name)
}
