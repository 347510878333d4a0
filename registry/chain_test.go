package registry_test

import (
	"fmt"
	"sync"
	"testing"

	"callchain/registry"
)

func TestVersionsOfAChain(t *testing.T) {
	onBoth(t, func(t *testing.T, f fixture) {
		ctx := t.Context()
		one := f.chain(t, "c", "v1")
		again, err := f.SaveChain(ctx, registry.Chain{ID: one.ID, Tenant: f.tenant, Name: "c", Format: "yaml", Definition: []byte("v1")})
		must(t, err)
		if one.Version != 1 || one.Active || again.Version != 1 {
			t.Errorf("saved %+v, then %+v", one, again)
		}
		two, err := f.SaveChain(ctx, registry.Chain{ID: one.ID, Version: 1, Tenant: f.tenant, Name: "c2", Format: "yaml", Definition: []byte("v2"), Author: "me"})
		must(t, err)
		_, err = f.SaveChain(ctx, registry.Chain{ID: one.ID, Version: 1, Tenant: f.tenant, Name: "c", Format: "yaml", Definition: []byte("v3")})
		wantErr(t, err, registry.ErrStale, "version 2")
		_, err = f.ActivateChain(ctx, f.tenant, one.ID, 3)
		wantErr(t, err, registry.ErrNotFound, "version 3")
		active, err := f.ActivateChain(ctx, f.tenant, one.ID, 1)
		must(t, err)
		if two.Version != 2 || two.Author != "me" || !active.Active || active.Version != 1 || string(active.Definition) != "v1" {
			t.Errorf("two is %+v, active %+v", two, active)
		}
		all, err := f.ChainVersions(ctx, f.tenant, one.ID)
		must(t, err)
		if len(all) != 2 || all[0].Version != 2 || all[0].Active || !all[1].Active || all[0].Begun != all[1].Begun || all[0].Begun.IsZero() {
			t.Errorf("versions are %+v", all)
		}
		if now, err := f.Chain(ctx, f.tenant, one.ID); err != nil || now.Version != 1 {
			t.Errorf("the chain is %+v (%v)", now, err)
		}
	})
}

func TestConcurrentSavesGetEachAVersion(t *testing.T) {
	onBoth(t, func(t *testing.T, f fixture) {
		c := f.chain(t, "c", "v")
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				_, err := f.SaveChain(t.Context(), registry.Chain{ID: c.ID, Tenant: f.tenant, Name: "c", Format: "json", Definition: fmt.Append(nil, i)})
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		all, err := f.ChainVersions(t.Context(), f.tenant, c.ID)
		must(t, err)
		if len(all) != 9 || all[0].Version != 9 {
			t.Errorf("there are %d versions, the last is %d", len(all), all[0].Version)
		}
	})
}

func TestRootChain(t *testing.T) {
	onBoth(t, func(t *testing.T, f fixture) {
		ctx := t.Context()
		a, b := f.chain(t, "a", "a"), f.chain(t, "b", "b")
		wantErr(t, f.SetRoot(ctx, f.tenant, a.ID), registry.ErrInvalid, "activate one first")
		for _, c := range []registry.Chain{a, b} {
			_, err := f.ActivateChain(ctx, f.tenant, c.ID, 1)
			must(t, err)
			must(t, f.SetRoot(ctx, f.tenant, c.ID))
		}
		active, err := f.ActiveChains(ctx)
		must(t, err)
		if len(active) != 2 || active[0].Root || !active[1].Root {
			t.Errorf("active chains are %+v", active)
		}
		wantErr(t, f.DeleteChain(ctx, f.tenant, b.ID), registry.ErrInUse, "root")
	})
}

// Parked runs are pinned to their version, also after the chain is gone.
func TestVersionsOutliveTheirChain(t *testing.T) {
	onBoth(t, func(t *testing.T, f fixture) {
		ctx := t.Context()
		c := f.chain(t, "c", "text")
		p := f.profile(t, registry.Profile{Name: "p", Chain: c.ID})
		wantErr(t, f.DeleteChain(ctx, f.tenant, c.ID), registry.ErrInUse, "device profile")
		must(t, f.DeleteProfile(ctx, f.tenant, p.ID))
		must(t, f.DeleteChain(ctx, f.tenant, c.ID))
		_, err := f.Chain(ctx, f.tenant, c.ID)
		wantErr(t, err, registry.ErrNotFound, c.ID.String())
		_, err = f.SaveChain(ctx, registry.Chain{ID: c.ID, Tenant: f.tenant, Name: "c", Format: "yaml", Definition: []byte("new")})
		wantErr(t, err, registry.ErrNotFound, c.ID.String())
		old, err := f.AnyChainVersion(ctx, c.ID, 1)
		must(t, err)
		if string(old.Definition) != "text" || old.Active {
			t.Errorf("the old version is %+v", old)
		}
		if _, n, err := f.Chains(ctx, f.tenant, registry.Page{Size: 5}); err != nil || n != 0 {
			t.Errorf("%d chains are listed (%v)", n, err)
		}
	})
}

func TestChainsOfFiles(t *testing.T) {
	onBoth(t, func(t *testing.T, f fixture) {
		ctx := t.Context()
		save := func(text string) (registry.Chain, error) {
			return f.SaveChain(ctx, registry.Chain{Tenant: f.tenant, Name: "c", Format: "yaml", Definition: []byte(text), File: "a/c.yaml"})
		}
		c, err := save("v1")
		must(t, err)
		found, err := f.ChainByFile(ctx, f.tenant, "a/c.yaml")
		must(t, err)
		if found.ID != c.ID {
			t.Errorf("found %+v", found)
		}
		_, err = save("v2") // without the id it would be a second chain of one file
		wantErr(t, err, registry.ErrExists, "a/c.yaml")
		must(t, f.DeleteChain(ctx, f.tenant, c.ID))
		_, err = save("v1")
		must(t, err)
	})
}
