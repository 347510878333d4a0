package registry

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
)

// TestHungUpCallersChangeNothing: who ends the context of a change before it is committed has certainly not made it, and nobody is told of it.
func TestHungUpCallersChangeNothing(t *testing.T) {
	r, db, err := OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "registry.db"), Options{Partitions: 1, Key: [32]byte{1}})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	told := 0
	r.OnChange(func(Change) { told++ })
	for range 50 {
		ctx, hangUp := context.WithCancel(t.Context())
		err := r.write(ctx, func(tx *tx) error {
			_, err := tx.exec(`INSERT INTO tenants (id, title, created) VALUES ($1, 'x', 0)`, newID())
			tx.tell(Change{Kind: UserChanged})
			hangUp()
			return err
		})
		if err == nil || errors.Is(err, errUncertain) || told > 0 {
			t.Fatalf("a change that was given up: %v, told %d times", err, told)
		}
	}
	if tenants, err := r.Tenants(t.Context()); err != nil || len(tenants) > 0 {
		t.Errorf("stored are %v, %v", tenants, err)
	}
}
