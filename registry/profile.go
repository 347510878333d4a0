package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
)

const profileColumns = `id, tenant, name, description, transport, chain, preset, data, created, version`

func scanProfile(row row) (Profile, error) {
	var p Profile
	var created int64
	err := row.Scan(&p.ID, &p.Tenant, &p.Name, &p.Description, &p.Transport, &p.Chain, &p.Default, raw{&p.Data}, &created, &p.Version)
	if err != nil {
		return Profile{}, err
	}
	p.Created = fromMicros(created)
	p.RPC, err = rpcSettings(p.Data)
	return p, err
}

// SaveProfile creates a profile (nil ID) or replaces it. Its settings for calls are those under "callchain" in Data. A version other
// than 0 must be the stored one, else ErrStale. Default only ever grows: the flag moves with MakeDefault or with a profile saved
// as the default. It fails with ErrExists (name) and ErrInvalid (field, unknown chain).
func (r *Registry) SaveProfile(ctx context.Context, p Profile) (Profile, error) {
	settings, err := rpcSettings(p.Data)
	if err := errors.Join(checkProfile(p), err); err != nil {
		return Profile{}, err
	}
	p.RPC = settings
	err = r.write(ctx, func(tx *tx) error {
		if err := checkChain(tx, p); err != nil {
			return err
		}
		if p.ID != uuid.Nil {
			tx.tell(Change{Kind: ProfileChanged, Tenant: p.Tenant, Profile: p.ID})
			return replaceProfile(tx, &p)
		}
		p.ID, p.Version, p.Created = newID(), 1, fromMicros(r.now())
		tx.tell(Change{Kind: ProfileChanged, Tenant: p.Tenant, Profile: p.ID})
		if err := clearDefault(tx, p); err != nil {
			return err
		}
		return insertProfile(tx, p, p.Created.UnixMicro())
	})
	if isTaken(err) {
		return Profile{}, fmt.Errorf("%w: a device profile with the name %q", ErrExists, p.Name)
	}
	if err != nil {
		return Profile{}, fmt.Errorf("saving device profile %s: %w", p.Name, err)
	}
	return p, nil
}

func checkProfile(p Profile) error {
	if p.Tenant == uuid.Nil {
		return fmt.Errorf("%w: a device profile needs a tenant", ErrInvalid)
	}
	return errors.Join(checkName("name", p.Name), checkText("description", p.Description), checkName("transportType", p.Transport),
		checkJSON("profileData", p.Data))
}

// checkChain holds the chain's row, so that the chain is not deleted while the profile comes to refer to it.
func checkChain(tx *tx, p Profile) error {
	if p.Chain == uuid.Nil {
		return nil
	}
	found, err := tx.exists(`SELECT 1 FROM rule_chains WHERE id = $1 AND tenant = $2 AND NOT deleted`+tx.locking(), p.Chain, p.Tenant)
	if err != nil {
		return fmt.Errorf("reading rule chain %s: %w", p.Chain, err)
	}
	if !found {
		return fmt.Errorf("%w: defaultRuleChainId %s is no rule chain of this tenant", ErrInvalid, p.Chain)
	}
	return nil
}

func clearDefault(tx *tx, p Profile) error {
	if !p.Default {
		return nil
	}
	_, err := tx.exec(`UPDATE device_profiles SET preset = $2 WHERE tenant = $1 AND preset = $3`, p.Tenant, false, true)
	return err
}

const profileInsert = `INSERT INTO device_profiles (id, tenant, name, folded, description, transport, chain, preset, data, created, version)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 1)`

func insertProfile(tx *tx, p Profile, created int64) error {
	_, err := tx.exec(profileInsert, p.ID, p.Tenant, p.Name, strings.ToLower(p.Name), p.Description, p.Transport, p.Chain, p.Default, p.Data, created)
	return err
}

func insertProfileIfNew(tx *tx, p Profile, created int64) error {
	_, err := tx.exec(profileInsert+` ON CONFLICT (tenant, name) DO NOTHING`,
		p.ID, p.Tenant, p.Name, strings.ToLower(p.Name), p.Description, p.Transport, p.Chain, p.Default, p.Data, created)
	return err
}

func replaceProfile(tx *tx, p *Profile) error {
	old, err := scanProfile(tx.row(`SELECT `+profileColumns+` FROM device_profiles WHERE id = $1 AND tenant = $2`+tx.locking(), p.ID, p.Tenant))
	if err != nil {
		return missing(err, "device profile", p.ID)
	}
	if p.Version != 0 && p.Version != old.Version {
		return fmt.Errorf("%w: device profile %s has version %d, not %d: read it again", ErrStale, p.Name, old.Version, p.Version)
	}
	if !old.Default {
		if err := clearDefault(tx, *p); err != nil {
			return err
		}
	}
	p.Version, p.Created, p.Default = old.Version+1, old.Created, p.Default || old.Default
	_, err = tx.exec(`UPDATE device_profiles SET name = $2, folded = $3, description = $4, transport = $5, chain = $6, preset = $7, data = $8,
		version = $9 WHERE id = $1`, p.ID, p.Name, strings.ToLower(p.Name), p.Description, p.Transport, p.Chain, p.Default, p.Data, p.Version)
	return err
}

// MakeDefault makes a profile the one of devices that name none.
func (r *Registry) MakeDefault(ctx context.Context, tenant, id uuid.UUID) (Profile, error) {
	p, err := r.Profile(ctx, tenant, id)
	if err != nil || p.Default {
		return p, err
	}
	p.Default = true
	return r.SaveProfile(ctx, p)
}

// DeleteProfile removes a profile; ErrInUse for the default one and for one that devices have.
func (r *Registry) DeleteProfile(ctx context.Context, tenant, id uuid.UUID) error {
	err := r.write(ctx, func(tx *tx) error {
		p, err := scanProfile(tx.row(`SELECT `+profileColumns+` FROM device_profiles WHERE id = $1 AND tenant = $2`+tx.locking(), id, tenant))
		if err != nil {
			return missing(err, "device profile", id)
		}
		if p.Default {
			return fmt.Errorf("%w: it is the default: make another profile the default first", ErrInUse)
		}
		tx.tell(Change{Kind: ProfileChanged, Tenant: tenant, Profile: id})
		if _, err = tx.exec(`DELETE FROM device_profiles WHERE id = $1`, id); errors.Is(err, ErrInUse) {
			return fmt.Errorf("%w: devices have it: give them another profile first", ErrInUse)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("deleting device profile %s: %w", id, err)
	}
	return nil
}

// Profile is a device profile of the tenant; ErrNotFound if there is none.
func (r *Registry) Profile(ctx context.Context, tenant, id uuid.UUID) (Profile, error) {
	p, err := scanProfile(r.query(ctx).row(`SELECT `+profileColumns+` FROM device_profiles WHERE id = $1 AND tenant = $2`, id, tenant))
	if err != nil {
		return Profile{}, missing(err, "device profile", id)
	}
	return p, nil
}

// DefaultProfile is the profile of devices that name none.
func (r *Registry) DefaultProfile(ctx context.Context, tenant uuid.UUID) (Profile, error) {
	p, err := scanProfile(r.query(ctx).row(`SELECT `+profileColumns+` FROM device_profiles WHERE tenant = $1 AND preset = $2`, tenant, true))
	if err != nil {
		return Profile{}, missing(err, "default device profile of tenant", tenant)
	}
	return p, nil
}

// Profiles is a page of the tenant's profiles, and how many match in all. Page.Sort takes createdTime, name and transportType.
func (r *Registry) Profiles(ctx context.Context, tenant uuid.UUID, p Page) ([]Profile, int, error) {
	order, err := p.order(map[string]string{"": "created", "createdTime": "created", "name": "name", "transportType": "transport"}, "id")
	if err != nil {
		return nil, 0, err
	}
	var where conditions
	where.add("tenant = ?", tenant)
	where.search("folded", p.Search)
	var out []Profile
	total, err := r.query(ctx).page(profileColumns, ` FROM device_profiles`, where, order, p, func(row row) error {
		profile, err := scanProfile(row)
		out = append(out, profile)
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("reading device profiles: %w", err)
	}
	return out, total, nil
}
