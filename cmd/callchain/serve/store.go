package serve

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"callchain/cmd/callchain/settings"
	"callchain/eventstore"
	"callchain/eventstore/postgres"
	"callchain/eventstore/sqlite"
	"callchain/registry"

	"github.com/google/uuid"
)

// EventsFile and RegistryFile are the embedded database in data.dir, beside the other files there.
const (
	EventsFile   = "events.db"
	RegistryFile = "registry.db"
	keyFile      = "auth.key"
	passwordFile = "admin-password"
	nodeFile     = "node-id"
)

// OpenStore opens the event store that the settings name, beside a server that may use it.
func OpenStore(ctx context.Context, s settings.Settings) (eventstore.Store, error) {
	if s.Store.URL == "" {
		return sqlite.Open(ctx, sqlite.Options{Path: filepath.Join(s.Data.Dir, EventsFile)})
	}
	return postgres.Open(ctx, postgres.Options{URL: s.Store.URL.Reveal()})
}

// setUp opens the databases and makes what the first start makes: tables, tenant, administrator, keys, root chain. Of nodes that start
// together on one PostgreSQL each does so in its turn, and finds what the first has made.
func (s *Server) setUp(ctx context.Context) error {
	release, err := s.turn(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", s.place(), err)
	}
	for _, step := range []func(context.Context) error{s.openStore, s.openRegistry, s.openScripts, s.openChains, s.openAccess} {
		if err := step(ctx); err != nil {
			return errors.Join(err, release())
		}
	}
	if err := release(); err != nil {
		return fmt.Errorf("%s: %w", s.place(), err)
	}
	return nil
}

// turn waits for the nodes that set the database up; a file has one process.
func (s *Server) turn(ctx context.Context) (release func() error, err error) {
	url := s.settings.Store.URL
	if url == "" {
		return func() error { return nil }, nil
	}
	return postgres.Turn(ctx, url.Reveal(), func() { s.log.Info("waiting for another node that sets the database up") })
}

// openStore makes this process one of those that may own partitions: the only one, unless nodes share PostgreSQL and find one another on
// Kafka.
func (s *Server) openStore(ctx context.Context) error {
	if err := os.MkdirAll(s.settings.Data.Dir, 0o700); err != nil {
		return fmt.Errorf("data.dir: %w", err)
	}
	store, err := OpenStore(ctx, s.settings)
	if err != nil {
		return fmt.Errorf("%s: %w", s.place(), err)
	}
	s.store = store
	hold, mend := store.Exclusive, "stop it, or name another data.dir or store.url"
	if s.settings.Store.URL != "" {
		mend = "stop it, name another store.url, or give all nodes of a cluster the same bus.kafka.brokers"
		if s.settings.Bus.Kafka.Brokers != "" {
			hold, mend = store.Shared, "it runs without Kafka, or knows no other nodes, so it keeps the database for itself: stop it, or name another store.url"
		}
	}
	err = hold(ctx)
	if errors.Is(err, eventstore.ErrInUse) {
		return fmt.Errorf("%s is in use by another callchain: %s", s.place(), mend)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", s.place(), err)
	}
	return nil
}

// place names the database in messages.
func (s *Server) place() string {
	if s.settings.Store.URL == "" {
		return "data.dir " + s.settings.Data.Dir
	}
	return "store.url " + s.settings.Store.URL.String()
}

// openRegistry opens the registry beside the events and makes the first tenant at the first start.
func (s *Server) openRegistry(ctx context.Context) error {
	key, err := s.authKey()
	if err != nil {
		return err
	}
	opt := registry.Options{Partitions: s.settings.Partitions, Key: key, RevokedFor: s.settings.Auth.Token.Refresh, Shared: s.settings.Bus.Kafka.Brokers != ""}
	if url := s.settings.Store.URL; url == "" {
		s.registry, s.database, err = registry.OpenSQLite(ctx, filepath.Join(s.settings.Data.Dir, RegistryFile), opt)
	} else {
		s.registry, s.database, err = registry.OpenPostgres(ctx, url.Reveal(), opt)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", s.place(), err)
	}
	return s.firstStart(ctx)
}

func (s *Server) authKey() ([32]byte, error) {
	if key := s.settings.Auth.Key.Reveal(); key != "" {
		return registry.ParseKey(key)
	}
	key, err := registry.KeyFile(filepath.Join(s.settings.Data.Dir, keyFile))
	if err != nil {
		return key, fmt.Errorf("auth.key: %w", err)
	}
	return key, nil
}

func (s *Server) firstStart(ctx context.Context) error {
	path := filepath.Join(s.settings.Data.Dir, passwordFile)
	var err error
	s.first, err = s.registry.FirstStart(ctx, registry.First{
		AdminEmail: s.settings.Admin.Email, AdminPassword: s.settings.Admin.Password.Reveal(),
		SysEmail: s.settings.SysAdmin.Email, SysPassword: s.settings.SysAdmin.Password.Reveal(),
		Keep: func(password string) error { return os.WriteFile(path, []byte(password+"\n"), 0o600) },
	})
	if err != nil {
		return fmt.Errorf("admin: %w", err)
	}
	if s.first.Password != "" {
		s.password = path
	}
	return nil
}

// nodeID is the setting, or a name that was made at random at the first start.
func (s *Server) nodeID() (string, error) {
	if s.settings.Node.ID != "" {
		return s.settings.Node.ID, nil
	}
	path := filepath.Join(s.settings.Data.Dir, nodeFile)
	text, err := os.ReadFile(path)
	if err == nil && strings.TrimSpace(string(text)) != "" {
		return strings.TrimSpace(string(text)), nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("node.id: %w", err)
	}
	id := "node-" + uuid.NewString()[:8]
	if err := os.WriteFile(path, []byte(id+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("node.id: %w", err)
	}
	return id, nil
}
