package serve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"callchain/chains"
	"callchain/registry"

	"github.com/google/uuid"
)

// chains.dir is looked at so often, and so many files of it are taken.
const (
	folderPeriod = time.Second
	folderFiles  = 1000
)

// stamp tells one state of a file from another.
type stamp struct {
	modified time.Time
	size     int64
}

// folder is chains.dir as it was seen last.
type folder struct {
	seen   map[string]stamp
	failed map[string]stamp // without being wrong: the store was away, for example
}

// watchChains loads files of chains.dir when they change.
func (s *Server) watchChains(ctx context.Context) error {
	if s.settings.Chains.Dir == "" {
		return nil
	}
	look := time.NewTicker(folderPeriod)
	defer look.Stop()
	for {
		select {
		case <-look.C:
			s.loadChains(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

// loadChains stores and activates each file that is new or changed. A file with mistakes is logged with all of them and changes
// nothing; a file that is gone leaves its chain.
func (s *Server) loadChains(ctx context.Context) {
	dir := s.settings.Chains.Dir
	if dir == "" {
		return
	}
	found, err := chainFiles(dir)
	if err != nil {
		if s.folder.seen == nil || len(s.folder.seen) > 0 { // it is told once
			s.log.Error("chains.dir cannot be read", "dir", dir, "error", err)
		}
		s.folder.seen = map[string]stamp{}
		return
	}
	failed := map[string]stamp{}
	for name, is := range found {
		if was, known := s.folder.seen[name]; known && was == is {
			continue
		}
		err := s.loadChain(ctx, name)
		if ctx.Err() != nil {
			return
		}
		told := err == nil
		if mistakes := chains.Problems(nil); err != nil && !errors.As(err, &mistakes) { // it is loaded again with the next look
			told = s.folder.failed[name] == is
			failed[name] = is
			delete(found, name)
		}
		if !told {
			s.log.Error("a chain file was not loaded, what ran before goes on", "file", filepath.Join(dir, name), "error", err)
		}
	}
	s.folder.seen, s.folder.failed = found, failed
}

func chainFiles(dir string) (map[string]stamp, error) {
	out := map[string]stamp{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !isChain(path) {
			return nil
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
			return nil // removed meanwhile, or no file
		}
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if len(out) == folderFiles {
			return fmt.Errorf("it holds more than %d chain files", folderFiles)
		}
		out[filepath.ToSlash(name)] = stamp{info.ModTime(), info.Size()}
		return nil
	})
	return out, err
}

// isChain tells chain files from the tests beside them and from all else.
func isChain(path string) bool {
	switch filepath.Ext(path) {
	case ".yaml", ".yml", ".json":
		_, tests := chains.SuiteOf(path)
		return !tests
	}
	return false
}

func (s *Server) loadChain(ctx context.Context, name string) error {
	path := filepath.Join(s.settings.Chains.Dir, filepath.FromSlash(name))
	text, err := readBounded(path, chains.BytesMax)
	if err != nil {
		return err
	}
	if problems := chains.Lint(name, text, s.kinds); len(problems) > 0 {
		return problems
	}
	d, err := chains.Parse(name, text)
	if err != nil {
		return err
	}
	tenant := s.first.Tenant.ID
	known, err := s.registry.ChainByFile(ctx, tenant, name)
	if err != nil && !errors.Is(err, registry.ErrNotFound) {
		return err
	}
	c := registry.Chain{ID: known.ID, Tenant: tenant, Name: d.Name, Definition: text, Format: formatOf(text), Author: "system", File: name}
	saved, err := s.registry.SaveChain(ctx, c)
	if err != nil {
		return err
	}
	if saved.Active && d.Root == saved.Root {
		return nil
	}
	return s.activate(ctx, tenant, saved, d.Root)
}

func (s *Server) activate(ctx context.Context, tenant uuid.UUID, c registry.Chain, root bool) error {
	if _, err := s.registry.ActivateChain(ctx, tenant, c.ID, c.Version); err != nil {
		return err
	}
	s.log.Info("rule chain loaded", "file", c.File, "chain", c.ID, "name", c.Name, "version", c.Version)
	if !root {
		return nil
	}
	return s.registry.SetRoot(ctx, tenant, c.ID)
}

func readBounded(path string, most int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > most {
		return nil, fmt.Errorf("it has %d bytes, more than %d", info.Size(), most)
	}
	return os.ReadFile(path)
}

// formatOf tells JSON from YAML as chains.Parse does.
func formatOf(text []byte) string {
	if strings.HasPrefix(strings.TrimSpace(string(text)), "{") {
		return "json"
	}
	return "yaml"
}
