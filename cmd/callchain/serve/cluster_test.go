package serve

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"callchain/cmd/callchain/settings"
	"callchain/eventstore/pgtest"
	"callchain/migrations"
	"callchain/registry"

	"github.com/jackc/pgx/v5"
)

// TestTenNodesStartAtOnce on an empty database: one makes what belongs to all, the others find it.
func TestTenNodesStartAtOnce(t *testing.T) {
	of, _ := nodesOnKafka(t)
	var (
		wg      sync.WaitGroup
		all     [10]settings.Settings
		servers [10]*Server
		errs    [10]error
		logs    [10]bytes.Buffer
	)
	for i := range all {
		all[i] = of(fmt.Sprint("node-", i))
		all[i].Admin.Password = ""
		wg.Go(func() { servers[i], errs[i] = New(t.Context(), all[i], slog.New(slog.NewTextHandler(&logs[i], nil))) })
	}
	wg.Wait()
	for _, s := range servers {
		if s != nil {
			t.Cleanup(func() {
				if err := s.Stop(); err != nil {
					t.Error(err)
				}
			})
		}
	}
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	var made, waited []int
	for i, s := range servers {
		if _, file := s.First(); file != "" {
			made = append(made, i)
		}
		_, err := os.Stat(filepath.Join(all[i].Data.Dir, passwordFile))
		if kept := err == nil; kept != slices.Contains(made, i) || err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("node %d, made by %v: the file of the password: %v", i, made, err)
		}
		if strings.Contains(logs[i].String(), "waiting for another node") {
			waited = append(waited, i)
		}
	}
	if len(made) != 1 || len(waited) == 0 || slices.Contains(waited, made[0]) {
		t.Errorf("the password was made by the nodes %v, and %v waited; want one that did not wait", made, waited)
	}
	wantOneOfAll(t, servers[:], all[0].Store.URL.Reveal())
}

// wantOneOfAll looks into the database and into each node.
func wantOneOfAll(t *testing.T, servers []*Server, database string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for what, query := range map[string]string{
		"tenant": "SELECT count(*) FROM tenants", "administrator": "SELECT count(*) FROM users", "default profile": "SELECT count(*) FROM device_profiles",
		"signing key": "SELECT count(*) FROM sealed_keys", "chain": "SELECT count(*) FROM rule_chains", "version of a chain": "SELECT count(*) FROM rule_chain_versions",
		"run of each migration": "SELECT max(n) FROM (SELECT count(*) AS n FROM " + migrations.EventsTable + " GROUP BY version_id) v",
	} {
		var n int
		if err := conn.QueryRow(t.Context(), query).Scan(&n); err != nil || n != 1 {
			t.Errorf("%s: %d, %v, want one", what, n, err)
		}
	}
	first := servers[0]
	key, err := first.registry.Key(t.Context(), registry.SigningKey)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range servers {
		own, err := s.registry.Key(t.Context(), registry.SigningKey)
		if err != nil || !bytes.Equal(own, key) || s.first.Tenant.ID != first.first.Tenant.ID {
			t.Errorf("node %d has another key or tenant: %v", i, err)
		}
		if s.programs.of(t.Context(), s.first.Tenant.ID, first.first.Tenant.ID) == nil {
			t.Errorf("node %d has no root chain", i)
		}
	}
}

// refusedStart is the one line with which New refuses.
func refusedStart(t *testing.T, s settings.Settings) string {
	t.Helper()
	server, err := New(t.Context(), s, slog.New(slog.DiscardHandler))
	if err == nil {
		t.Error(server.close())
		t.Fatal("the server starts")
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("the refusal has more than a line: %v", err)
	}
	return err.Error()
}

// alone starts a server on a PostgreSQL without Kafka.
func alone(t *testing.T) (s settings.Settings, server *Server) {
	t.Helper()
	s = load(t, t.TempDir(), map[string]string{"store.url": pgtest.Database(t), "auth.key": strings.Repeat("1a", 32)})
	server, err := New(t.Context(), s, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s, server
}

func TestWhoDoesNotShareIsRefused(t *testing.T) {
	s, _ := alone(t)
	if line := refusedStart(t, s); !strings.Contains(line, "is in use by another callchain") || !strings.Contains(line, "bus.kafka.brokers") {
		t.Errorf("a second server without Kafka is refused with: %s", line)
	}
	s.Bus.Kafka.Brokers = "127.0.0.1:1"
	if line := refusedStart(t, s); !strings.Contains(line, "is in use by another callchain") || !strings.Contains(line, "runs without Kafka") {
		t.Errorf("a node of a cluster is refused with: %s", line)
	}
}

func TestAnotherAuthKeyIsRefused(t *testing.T) {
	s, server := alone(t)
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]settings.Secret{"another": settings.Secret(strings.Repeat("2b", 32)), "made at random": ""} {
		other := s
		other.Data.Dir, other.Auth.Key = t.TempDir(), key
		if line := refusedStart(t, other); !strings.Contains(line, "auth.key does not open the keys of this database: restore the auth.key") {
			t.Errorf("a node with an auth.key that is %s is refused with: %s", name, line)
		}
	}
}

func TestANewerDatabaseIsRefused(t *testing.T) {
	for _, table := range []string{migrations.EventsTable, migrations.RegistryTable, migrations.OutboxTable} {
		s, server := alone(t)
		if err := server.Stop(); err != nil {
			t.Fatal(err)
		}
		pgtest.Exec(t, s.Store.URL.Reveal(), "INSERT INTO "+table+" (version_id, is_applied) VALUES (99, true)")
		if line := refusedStart(t, s); !strings.Contains(line, table+" is at version 99") || !strings.Contains(line, "newer version") {
			t.Errorf("a newer database is refused with: %s", line)
		}
	}
}
