package registry_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"callchain/registry"

	"github.com/google/uuid"
)

// shared are the options of one of several processes.
func shared() registry.Options {
	o := options()
	o.Shared = true
	return o
}

func kinds(some []registry.Change) (out []registry.ChangeKind) {
	for _, c := range some {
		out = append(out, c.Kind)
	}
	return out
}

func wantOutbox(t *testing.T, r *registry.Registry, want ...registry.ChangeKind) []registry.Change {
	t.Helper()
	got, err := r.Outbox(t.Context())
	must(t, err)
	if !slices.Equal(kinds(got), want) {
		t.Fatalf("the outbox has %v, want %v", kinds(got), want)
	}
	return got
}

// TestAnotherProcessTellsWhatOneLeft: a process commits changes and ends before it has told of them. Another one takes them over, as its own.
func TestAnotherProcessTellsWhatOneLeft(t *testing.T) {
	onBoth(t, func(t *testing.T, f fixture) {
		d := f.device(t, "d")
		ended, err := f.reopen(shared())
		must(t, err)
		c, err := ended.Credentials(t.Context(), f.tenant, d.ID)
		must(t, err)
		c.ID = "other"
		_, err = ended.SaveCredentials(t.Context(), f.tenant, c)
		must(t, err)
		must(t, ended.DeleteDevice(t.Context(), f.tenant, d.ID))
		wantOutbox(t, ended, registry.CredentialsChanged, registry.DeviceDeleted)

		heir, err := f.reopen(shared())
		must(t, err)
		var told []registry.Change
		heir.OnChange(func(c registry.Change) { told = append(told, c) })
		wantOutbox(t, heir)
		_, err = f.db.ExecContext(t.Context(), `UPDATE registry_outbox SET at = at - 60000000`)
		must(t, err)
		n, err := heir.Adopt(t.Context(), time.Hour)
		if must(t, err); n != 0 {
			t.Errorf("%d changes are adopted of which their process may still tell", n)
		}
		n, err = heir.Adopt(t.Context(), 10*time.Second)
		if must(t, err); n != 2 || !slices.Equal(kinds(told), []registry.ChangeKind{registry.CredentialsChanged, registry.DeviceDeleted}) || told[0].Foreign || told[0].Device != d.ID {
			t.Errorf("%d changes are adopted, told of %+v", n, told)
		}
		wantOutbox(t, ended)
		some := wantOutbox(t, heir, registry.CredentialsChanged, registry.DeviceDeleted)
		n, err = heir.Adopt(t.Context(), 0)
		if must(t, err); n != 0 {
			t.Errorf("%d of its own changes are adopted", n)
		}
		must(t, heir.Told(t.Context(), some[:1]))
		must(t, heir.Told(t.Context(), wantOutbox(t, heir, registry.DeviceDeleted)))
		wantOutbox(t, heir)
	})
}

// TestTheOutboxHasWhatWasCommitted: what failed is not told of, nor is anything if the database is not shared.
func TestTheOutboxHasWhatWasCommitted(t *testing.T) {
	onBoth(t, func(t *testing.T, f fixture) {
		d := f.device(t, "d")
		wantOutbox(t, f.Registry)
		r, err := f.reopen(shared())
		must(t, err)
		if err := r.DeleteDevice(t.Context(), f.tenant, uuid.New()); !errors.Is(err, registry.ErrNotFound) {
			t.Errorf("deleting what is not there: %v", err)
		}
		if _, _, err := r.CreateDevice(t.Context(), registry.Device{Tenant: f.tenant, Name: "d"}, registry.Credentials{}); !errors.Is(err, registry.ErrExists) {
			t.Errorf("a name that is taken: %v", err)
		}
		ended, end := context.WithCancel(t.Context())
		end()
		if err := r.DeleteDevice(ended, f.tenant, d.ID); err == nil {
			t.Error("a cancelled deletion succeeds")
		}
		wantOutbox(t, r)
		_, _, err = r.CreateDevice(t.Context(), registry.Device{Tenant: f.tenant, Name: "new"}, registry.Credentials{})
		must(t, err)
		wantOutbox(t, r)
		for range 101 {
			d.Version = 0
			_, err = r.SaveDevice(t.Context(), d)
			must(t, err)
		}
		some, err := r.Outbox(t.Context())
		if must(t, err); len(some) != 100 {
			t.Errorf("%d changes are given at once, want 100 of 101", len(some))
		}
		must(t, r.Told(t.Context(), some))
		wantOutbox(t, r, registry.DeviceUpdated)
	})
}
