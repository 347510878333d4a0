package registry

import (
	"context"
	"fmt"

	"github.com/google/uuid"
)

// Chain is the active version of a chain of the tenant, or the latest if none is active. A deleted chain is ErrNotFound.
func (r *Registry) Chain(ctx context.Context, tenant, id uuid.UUID) (Chain, error) {
	c, err := scanChain(r.query(ctx).row(`SELECT `+chainColumns+chainFrom+
		` AND v.version = CASE WHEN c.active > 0 THEN c.active ELSE c.latest END WHERE c.id = $1 AND c.tenant = $2 AND NOT c.deleted`, id, tenant))
	if err != nil {
		return Chain{}, missing(err, "rule chain", id)
	}
	return c, nil
}

// ChainVersion is a version of a chain of the tenant, also of a deleted one: parked runs and old events name it.
func (r *Registry) ChainVersion(ctx context.Context, tenant, id uuid.UUID, version int) (Chain, error) {
	return chainAt(r.query(ctx), tenant, id, version)
}

// AnyChainVersion is ChainVersion for the engine, which serves all tenants.
func (r *Registry) AnyChainVersion(ctx context.Context, id uuid.UUID, version int) (Chain, error) {
	c, err := scanChain(r.query(ctx).row(`SELECT `+chainColumns+chainFrom+` WHERE c.id = $1 AND v.version = $2`, id, version))
	if err != nil {
		return Chain{}, missing(err, "rule chain", fmt.Sprintf("%s version %d", id, version))
	}
	return c, nil
}

// ChainByFile is the latest version of the chain that was loaded from this path below chains.dir; ErrNotFound if there is none.
func (r *Registry) ChainByFile(ctx context.Context, tenant uuid.UUID, file string) (Chain, error) {
	c, err := scanChain(r.query(ctx).row(`SELECT `+chainColumns+chainFrom+
		` AND v.version = c.latest WHERE c.tenant = $1 AND c.file = $2 AND c.file <> '' AND NOT c.deleted`, tenant, file))
	if err != nil {
		return Chain{}, missing(err, "rule chain of file", file)
	}
	return c, nil
}

// ChainVersions are all versions of a chain, the newest first, without their definitions.
func (r *Registry) ChainVersions(ctx context.Context, tenant, id uuid.UUID) ([]Chain, error) {
	var out []Chain
	err := r.query(ctx).each(`SELECT `+chainColumns+chainFrom+` WHERE c.id = $1 AND c.tenant = $2 AND NOT c.deleted ORDER BY v.version DESC`,
		[]any{id, tenant}, func(row row) error {
			c, err := scanChain(row)
			c.Definition = nil
			out = append(out, c)
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("reading the versions of rule chain %s: %w", id, err)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: rule chain %s", ErrNotFound, id)
	}
	return out, nil
}

// Chains is a page of the tenant's chains, each in its active version or else the latest, and how many match in all. Page.Sort takes
// createdTime, name and root.
func (r *Registry) Chains(ctx context.Context, tenant uuid.UUID, p Page) ([]Chain, int, error) {
	order, err := p.order(map[string]string{"": "c.created", "createdTime": "c.created", "name": "c.name", "root": "c.root"}, "c.id")
	if err != nil {
		return nil, 0, err
	}
	var where conditions
	where.add("c.tenant = ? AND NOT c.deleted", tenant)
	where.search("c.folded", p.Search)
	from := chainFrom + ` AND v.version = CASE WHEN c.active > 0 THEN c.active ELSE c.latest END`
	var out []Chain
	total, err := r.query(ctx).page(chainColumns, from, where, order, p, func(row row) error {
		c, err := scanChain(row)
		out = append(out, c)
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("reading rule chains: %w", err)
	}
	return out, total, nil
}

// ActiveChains are the active versions of all tenants: what the engine compiles at start.
func (r *Registry) ActiveChains(ctx context.Context) ([]Chain, error) {
	var out []Chain
	err := r.query(ctx).each(`SELECT `+chainColumns+chainFrom+` AND v.version = c.active WHERE NOT c.deleted ORDER BY c.created, c.id`, nil,
		func(row row) error {
			c, err := scanChain(row)
			out = append(out, c)
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("reading active rule chains: %w", err)
	}
	return out, nil
}
