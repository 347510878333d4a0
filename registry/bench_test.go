package registry_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"callchain/registry"
	"callchain/transports"

	"github.com/google/uuid"
)

func benchmarked(b *testing.B) (*registry.Registry, uuid.UUID) {
	b.Helper()
	r, db, err := registry.OpenSQLite(b.Context(), filepath.Join(b.TempDir(), "registry.db"), options())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	s, err := r.FirstStart(b.Context(), registry.First{AdminEmail: "a@b", AdminPassword: "secret-1"})
	if err != nil {
		b.Fatal(err)
	}
	return r, s.Tenant.ID
}

func BenchmarkCreateDevice(b *testing.B) {
	r, tenant := benchmarked(b)
	i := 0
	for b.Loop() {
		i++
		if _, _, err := r.CreateDevice(b.Context(), registry.Device{Tenant: tenant, Name: fmt.Sprint(i)}, registry.Credentials{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	r, tenant := benchmarked(b)
	_, c, err := r.CreateDevice(b.Context(), registry.Device{Tenant: tenant, Name: "d"}, registry.Credentials{})
	if err != nil {
		b.Fatal(err)
	}
	shown := transports.Credentials{Token: c.ID}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Authenticate(b.Context(), shown); err != nil {
			b.Fatal(err)
		}
	}
}
