package registry_test

import (
	"crypto/rand"
	"database/sql"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"callchain/registry"
	"callchain/registry/password"

	"github.com/google/uuid"
)

// fixture is a registry after its first start, on a database of its own.
type fixture struct {
	*registry.Registry
	tenant uuid.UUID
	db     *sql.DB
	reopen func(registry.Options) (*registry.Registry, error)
}

var cheap = password.New(password.Params{MemoryKiB: 64, Passes: 1, Lanes: 1})

func options() registry.Options {
	return registry.Options{Partitions: 64, Key: [32]byte{1, 2, 3}, Hasher: cheap}
}

// onBoth runs a test on SQLite and, if CALLCHAIN_TEST_POSTGRES names a server, on PostgreSQL.
func onBoth(t *testing.T, test func(*testing.T, fixture)) {
	t.Helper()
	for name, open := range openers() {
		t.Run(name, func(t *testing.T) { test(t, start(t, open)) })
	}
}

// opener opens the registry of a test's own database, made at its first call in the test.
type opener func(*testing.T, registry.Options) (*registry.Registry, *sql.DB, error)

func openers() map[string]opener {
	path, server := "", ""
	return map[string]opener{
		"sqlite": func(t *testing.T, o registry.Options) (*registry.Registry, *sql.DB, error) {
			if path == "" {
				path = filepath.Join(t.TempDir(), "registry.db")
			}
			return registry.OpenSQLite(t.Context(), path, o)
		},
		"postgres": func(t *testing.T, o registry.Options) (*registry.Registry, *sql.DB, error) {
			if server == "" {
				server = schema(t)
			}
			return registry.OpenPostgres(t.Context(), server, o)
		},
	}
}

func start(t *testing.T, open opener) fixture {
	t.Helper()
	r, db, err := open(t, options())
	must(t, err)
	t.Cleanup(func() { db.Close() })
	s, err := r.FirstStart(t.Context(), registry.First{AdminEmail: "admin@localhost", AdminPassword: "secret-1"})
	must(t, err)
	return fixture{r, s.Tenant.ID, db, func(o registry.Options) (*registry.Registry, error) {
		r, db, err := open(t, o)
		if err == nil {
			t.Cleanup(func() { db.Close() })
		}
		return r, err
	}}
}

// schema makes an empty schema for the test and names it in a URL.
func schema(t *testing.T) string {
	t.Helper()
	server := os.Getenv("CALLCHAIN_TEST_POSTGRES")
	if server == "" {
		t.Skip("CALLCHAIN_TEST_POSTGRES is not set: no PostgreSQL to test with (scripts/pg-up.sh starts one)")
	}
	db, err := sql.Open("pgx", server)
	must(t, err)
	t.Cleanup(func() { db.Close() })
	name := "registry_" + strings.ToLower(rand.Text())
	_, err = db.ExecContext(t.Context(), `CREATE SCHEMA `+name)
	must(t, err)
	t.Cleanup(func() {
		if _, err := db.Exec(`DROP SCHEMA ` + name + ` CASCADE`); err != nil {
			t.Errorf("dropping schema %s: %v", name, err)
		}
	})
	u, err := url.Parse(server)
	must(t, err)
	q := u.Query()
	q.Set("search_path", name)
	u.RawQuery = q.Encode()
	return u.String()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantErr checks the sentinel and that the text names what it is about.
func wantErr(t *testing.T, err, sentinel error, names string) {
	t.Helper()
	if !errors.Is(err, sentinel) {
		t.Fatalf("error is %v, want one that is %q", err, sentinel)
	}
	if !strings.Contains(err.Error(), names) {
		t.Fatalf("error %q does not name %q", err, names)
	}
}

func (f fixture) device(t *testing.T, name string) registry.Device {
	t.Helper()
	d, _, err := f.CreateDevice(t.Context(), registry.Device{Tenant: f.tenant, Name: name}, registry.Credentials{})
	must(t, err)
	return d
}

func (f fixture) chain(t *testing.T, name, text string) registry.Chain {
	t.Helper()
	c, err := f.SaveChain(t.Context(), registry.Chain{Tenant: f.tenant, Name: name, Format: "yaml", Definition: []byte(text)})
	must(t, err)
	return c
}

// clock is a time that tests move.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }
