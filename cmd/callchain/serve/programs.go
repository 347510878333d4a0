package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"callchain/chains"
	"callchain/chains/standard"
	"callchain/chains/stored"
	"callchain/nodes"
	"callchain/registry"

	"github.com/google/uuid"
)

// programs are the compiled chains. Readers take a snapshot without a lock; changes replace it.
type programs struct {
	registry *registry.Registry
	kinds    nodes.Registry
	log      *slog.Logger
	mu       sync.Mutex // one change at a time
	now      atomic.Pointer[snapshot]

	generation atomic.Uint64 // grows when the snapshot was replaced
	oldMu      sync.Mutex
	old        map[pin]*chains.Program // versions that are not active, for parked runs
	asked      map[uuid.UUID]time.Time // when chains that were not here were looked for
}

// snapshot never changes.
type snapshot struct {
	active map[uuid.UUID]*chains.Program
	roots  map[uuid.UUID]uuid.UUID // by tenant
}

type pin struct {
	chain   uuid.UUID
	version int
}

// oldMax bounds the versions that are kept compiled for parked runs; beyond it they are compiled anew.
const oldMax = 1000

// lookUp bounds how long a change may wait for the database.
const lookUp = 5 * time.Second

func newPrograms(r *registry.Registry, kinds nodes.Registry, log *slog.Logger) *programs {
	p := &programs{registry: r, kinds: kinds, log: log, old: map[pin]*chains.Program{}, asked: map[uuid.UUID]time.Time{}}
	p.now.Store(&snapshot{})
	return p
}

// openChains gives a tenant without a root chain the standard one, and compiles all active chains.
func (s *Server) openChains(ctx context.Context) error {
	s.programs = newPrograms(s.registry, s.kinds, s.log)
	if err := s.programs.reload(ctx); err != nil {
		return err
	}
	tenant := s.first.Tenant.ID
	if _, has := s.programs.now.Load().roots[tenant]; !has {
		if err := s.makeRoot(ctx, tenant); err != nil {
			return fmt.Errorf("making the default root chain: %w", err)
		}
		if err := s.programs.reload(ctx); err != nil {
			return err
		}
	}
	s.loadChains(ctx)
	return s.programs.reload(ctx)
}

func (s *Server) makeRoot(ctx context.Context, tenant uuid.UUID) error {
	d, err := chains.Parse("root.yaml", standard.Root)
	if err != nil {
		return err
	}
	c, err := s.registry.SaveChain(ctx, registry.Chain{Tenant: tenant, Name: d.Name, Definition: standard.Root, Format: "yaml", Author: "system"})
	if err != nil {
		return err
	}
	if _, err := s.registry.ActivateChain(ctx, tenant, c.ID, c.Version); err != nil {
		return err
	}
	return s.registry.SetRoot(ctx, tenant, c.ID)
}

// reload reads and compiles what is active. A chain that this program cannot compile is logged and missing; one that did not change
// is kept as it is.
func (p *programs) reload(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	list, err := p.registry.ActiveChains(ctx)
	if err != nil {
		return err
	}
	before := p.now.Load()
	next := &snapshot{active: make(map[uuid.UUID]*chains.Program, len(list)), roots: map[uuid.UUID]uuid.UUID{}}
	for i := range list {
		c := &list[i]
		program := before.active[c.ID]
		if program == nil || program.Version != c.Version {
			if program, err = p.compile(c); err != nil {
				p.log.Error("a stored rule chain cannot be used", "chain", c.ID, "name", c.Name, "version", c.Version, "error", err)
				continue
			}
		}
		next.active[c.ID] = program
		if c.Root {
			next.roots[c.Tenant] = c.ID
		}
	}
	p.now.Store(next)
	p.generation.Add(1)
	return nil
}

// changed follows the registry. It reads and compiles at once, so that who activated a chain finds it running.
func (p *programs) changed(c registry.Change) {
	switch c.Kind {
	case registry.ChainActivated, registry.ChainDeleted, registry.RootChanged:
	default:
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookUp)
	defer cancel()
	if err := p.reload(ctx); err != nil {
		p.log.Error("a change of a rule chain is not in effect yet", "chain", c.Chain, "error", err)
	}
}

func (p *programs) compile(c *registry.Chain) (*chains.Program, error) {
	return stored.Text{File: c.Name, Format: c.Format, Body: c.Definition}.Compile(p.kinds, c.ID, c.Version)
}

// of is the chain of a device profile, or the tenant's root chain. It reads the chains again if the profile names one that is not here.
func (p *programs) of(ctx context.Context, tenant, chain uuid.UUID) *chains.Program {
	program, ok := p.cached(tenant, chain)
	if !ok && p.look(ctx, chain) {
		program, _ = p.cached(tenant, chain)
	}
	return program
}

// cached is the chain of a device profile, or the tenant's root chain, from memory; false: the profile names a chain that is not here.
func (p *programs) cached(tenant, chain uuid.UUID) (*chains.Program, bool) {
	now := p.now.Load()
	if program := now.active[chain]; program != nil {
		return program, true
	}
	return now.active[now.roots[tenant]], chain == uuid.Nil
}

// look reads the chains again because a profile names one that is not here: another node may have made it a moment ago. Of one that is not there
// it asks once a second.
func (p *programs) look(ctx context.Context, chain uuid.UUID) bool {
	now := time.Now()
	p.oldMu.Lock()
	asked, before := p.asked[chain]
	again := !before || now.Sub(asked) >= time.Second
	if again {
		if len(p.asked) >= oldMax {
			clear(p.asked)
		}
		p.asked[chain] = now
	}
	p.oldMu.Unlock()
	if !again {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, lookUp)
	defer cancel()
	if err := p.reload(ctx); err != nil {
		p.log.Warn("could not look for the rule chain of a profile", "chain", chain, "error", err)
		return false
	}
	return true
}

func (p *programs) active(id uuid.UUID) *chains.Program { return p.now.Load().active[id] }

// version is one version of a chain, for a run that was parked in it; nil if it is gone or cannot be compiled. It fails if the registry does not answer.
func (p *programs) version(ctx context.Context, id uuid.UUID, version int) (*chains.Program, error) {
	if program := p.active(id); program != nil && program.Version == version {
		return program, nil
	}
	key := pin{id, version}
	p.oldMu.Lock()
	program := p.old[key]
	p.oldMu.Unlock()
	if program != nil {
		return program, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookUp)
	defer cancel()
	c, err := p.registry.AnyChainVersion(ctx, id, version)
	if errors.Is(err, registry.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if program, err = p.compile(&c); err != nil {
		p.log.Error("version of a rule chain not usable", "chain", id, "version", version, "error", err)
		return nil, nil
	}
	p.oldMu.Lock()
	defer p.oldMu.Unlock()
	if len(p.old) >= oldMax {
		clear(p.old)
	}
	p.old[key] = program
	return program, nil
}
