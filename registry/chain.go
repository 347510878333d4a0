package registry

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
)

const (
	chainColumns = `c.id, c.tenant, v.version, v.name, c.root, c.active, v.definition, v.format, v.created, v.author, c.file, c.created`
	chainFrom    = ` FROM rule_chains c JOIN rule_chain_versions v ON v.chain = c.id`
)

func scanChain(row row) (Chain, error) {
	var c Chain
	var active int
	var created, begun int64
	err := row.Scan(&c.ID, &c.Tenant, &c.Version, &c.Name, &c.Root, &active, &c.Definition, &c.Format, &created, &c.Author, &c.File, &begun)
	if err != nil {
		return Chain{}, err
	}
	c.Active, c.Created, c.Begun = active == c.Version, fromMicros(created), fromMicros(begun)
	return c, nil
}

// SaveChain stores a new version, which does not run before ActivateChain. A nil ID makes a new chain; an unknown ID makes one with
// this id. A Version other than 0 is the version that was edited and must be the latest, else ErrStale. If the latest version
// has the same name, format and definition, it is returned and nothing is stored. Whether the definition compiles is the caller's
// business.
func (r *Registry) SaveChain(ctx context.Context, c Chain) (Chain, error) {
	if err := checkDefinition(c); err != nil {
		return Chain{}, err
	}
	if c.ID == uuid.Nil {
		c.ID = newID()
	}
	var out Chain
	err := r.write(ctx, func(tx *tx) error {
		latest, err := latestVersion(tx, c)
		if err != nil {
			return err
		}
		if latest.Version == 0 {
			err = insertChain(tx, c, r.now())
		} else if sameDefinition(latest, c) {
			out = latest
			return nil
		}
		if err == nil {
			err = insertVersion(tx, c, latest.Version+1, r.now())
		}
		if err != nil {
			return err
		}
		out, err = chainAt(tx, c.Tenant, c.ID, latest.Version+1)
		return err
	})
	if isTaken(err) {
		return Chain{}, fmt.Errorf("%w: a rule chain with the id %s or the file %q", ErrExists, c.ID, c.File)
	}
	if err != nil {
		return Chain{}, fmt.Errorf("saving rule chain %s: %w", c.Name, err)
	}
	return out, nil
}

func checkDefinition(c Chain) error {
	switch {
	case c.Tenant == uuid.Nil:
		return fmt.Errorf("%w: a rule chain needs a tenant", ErrInvalid)
	case c.Format != "yaml" && c.Format != "json" && c.Format != "thingsboard":
		return fmt.Errorf("%w: format %q: use yaml, json or thingsboard", ErrInvalid, c.Format)
	case len(c.Definition) == 0 || len(c.Definition) > chainBytesMax:
		return fmt.Errorf("%w: the definition must have 1 to %d bytes, has %d", ErrInvalid, chainBytesMax, len(c.Definition))
	}
	return errors.Join(checkName("name", c.Name), checkText("author", c.Author), checkText("file", c.File))
}

// latestVersion holds the chain's row until the transaction ends; version 0 means that there is no such chain.
func latestVersion(tx *tx, c Chain) (Chain, error) {
	var tenant uuid.UUID
	var latest int
	var deleted bool
	err := tx.row(`SELECT tenant, latest, deleted FROM rule_chains WHERE id = $1`+tx.locking(), c.ID).Scan(&tenant, &latest, &deleted)
	if errors.Is(err, sql.ErrNoRows) {
		if c.Version != 0 {
			return Chain{}, fmt.Errorf("%w: rule chain %s", ErrNotFound, c.ID)
		}
		return Chain{}, nil
	}
	if err != nil {
		return Chain{}, fmt.Errorf("reading rule chain %s: %w", c.ID, err)
	}
	if tenant != c.Tenant || deleted {
		return Chain{}, fmt.Errorf("%w: rule chain %s", ErrNotFound, c.ID)
	}
	if c.Version != 0 && c.Version != latest {
		return Chain{}, fmt.Errorf("%w: rule chain %s is at version %d, not %d: read it again", ErrStale, c.Name, latest, c.Version)
	}
	return chainAt(tx, tenant, c.ID, latest)
}

func sameDefinition(a, b Chain) bool {
	return a.Name == b.Name && a.Format == b.Format && bytes.Equal(a.Definition, b.Definition)
}

func insertChain(tx *tx, c Chain, now int64) error {
	_, err := tx.exec(`INSERT INTO rule_chains (id, tenant, name, folded, root, active, latest, file, deleted, created)
		VALUES ($1, $2, $3, $4, $5, 0, 0, $6, $7, $8)`, c.ID, c.Tenant, c.Name, strings.ToLower(c.Name), false, c.File, false, now)
	return err
}

func insertVersion(tx *tx, c Chain, version int, now int64) error {
	_, err := tx.exec(`INSERT INTO rule_chain_versions (chain, version, name, definition, format, author, created)
		VALUES ($1, $2, $3, $4, $5, $6, $7)`, c.ID, version, c.Name, c.Definition, c.Format, c.Author, now)
	if err != nil {
		return err
	}
	_, err = tx.exec(`UPDATE rule_chains SET latest = $2, name = $3, folded = $4 WHERE id = $1`, c.ID, version, c.Name, strings.ToLower(c.Name))
	return err
}

func chainAt(tx *tx, tenant, id uuid.UUID, version int) (Chain, error) {
	c, err := scanChain(tx.row(`SELECT `+chainColumns+chainFrom+` WHERE c.id = $1 AND v.version = $2 AND c.tenant = $3`, id, version, tenant))
	if err != nil {
		return Chain{}, missing(err, "rule chain", fmt.Sprintf("%s version %d", id, version))
	}
	return c, nil
}

// ActivateChain makes a version the one that runs for new messages; parked runs go on with theirs. A roll-back is the
// activation of an older version.
func (r *Registry) ActivateChain(ctx context.Context, tenant, id uuid.UUID, version int) (Chain, error) {
	var out Chain
	err := r.write(ctx, func(tx *tx) error {
		if err := holdChain(tx, tenant, id); err != nil {
			return err
		}
		if _, err := chainAt(tx, tenant, id, version); err != nil {
			return err
		}
		if _, err := tx.exec(`UPDATE rule_chains SET active = $2 WHERE id = $1`, id, version); err != nil {
			return err
		}
		var err error
		tx.tell(Change{Kind: ChainActivated, Tenant: tenant, Chain: id, Version: version})
		out, err = chainAt(tx, tenant, id, version)
		return err
	})
	if err != nil {
		return Chain{}, fmt.Errorf("activating rule chain %s: %w", id, err)
	}
	return out, nil
}

func holdChain(tx *tx, tenant, id uuid.UUID) error {
	found, err := tx.exists(`SELECT 1 FROM rule_chains WHERE id = $1 AND tenant = $2 AND NOT deleted`+tx.locking(), id, tenant)
	if err != nil {
		return fmt.Errorf("reading rule chain %s: %w", id, err)
	}
	if !found {
		return fmt.Errorf("%w: rule chain %s", ErrNotFound, id)
	}
	return nil
}

// SetRoot makes a chain the tenant's root chain: messages whose device profile names no chain enter it. It must have an active
// version, else ErrInvalid.
func (r *Registry) SetRoot(ctx context.Context, tenant, id uuid.UUID) error {
	err := r.write(ctx, func(tx *tx) error {
		if err := holdChain(tx, tenant, id); err != nil {
			return err
		}
		active, err := tx.exists(`SELECT 1 FROM rule_chains WHERE id = $1 AND active > 0`, id)
		if err != nil {
			return err
		}
		if !active {
			return fmt.Errorf("%w: rule chain %s has no active version: activate one first", ErrInvalid, id)
		}
		if _, err := tx.exec(`UPDATE rule_chains SET root = $2 WHERE tenant = $1 AND root AND id <> $3`, tenant, false, id); err != nil {
			return err
		}
		tx.tell(Change{Kind: RootChanged, Tenant: tenant, Chain: id})
		_, err = tx.exec(`UPDATE rule_chains SET root = $2 WHERE id = $1`, id, true)
		return err
	})
	if err != nil {
		return fmt.Errorf("making rule chain %s the root: %w", id, err)
	}
	return nil
}

// DeleteChain hides a chain; its versions stay for parked runs and old events. The root chain and one that a device profile names are
// ErrInUse.
func (r *Registry) DeleteChain(ctx context.Context, tenant, id uuid.UUID) error {
	err := r.write(ctx, func(tx *tx) error {
		if err := holdChain(tx, tenant, id); err != nil {
			return err
		}
		root, err := tx.exists(`SELECT 1 FROM rule_chains WHERE id = $1 AND root`, id)
		if err != nil {
			return err
		}
		if root {
			return fmt.Errorf("%w: it is the root chain: make another chain the root first", ErrInUse)
		}
		named, err := tx.exists(`SELECT 1 FROM device_profiles WHERE chain = $1 LIMIT 1`, id)
		if err != nil {
			return err
		}
		if named {
			return fmt.Errorf("%w: a device profile names it: give the profile another chain first", ErrInUse)
		}
		tx.tell(Change{Kind: ChainDeleted, Tenant: tenant, Chain: id})
		_, err = tx.exec(`UPDATE rule_chains SET deleted = $2, active = 0 WHERE id = $1`, id, true)
		return err
	})
	if err != nil {
		return fmt.Errorf("deleting rule chain %s: %w", id, err)
	}
	return nil
}
