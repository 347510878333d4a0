package registry_test

import (
	"encoding/json"
	"testing"
	"time"

	"callchain/registry"

	"github.com/google/uuid"
)

func (f fixture) profile(t *testing.T, p registry.Profile) registry.Profile {
	t.Helper()
	p.Tenant, p.Transport = f.tenant, "DEFAULT"
	p, err := f.SaveProfile(t.Context(), p)
	must(t, err)
	return p
}

func TestOneProfileIsTheDefault(t *testing.T) {
	onBoth(t, func(t *testing.T, f fixture) {
		first, err := f.DefaultProfile(t.Context(), f.tenant)
		must(t, err)
		second := f.profile(t, registry.Profile{Name: "second"})
		wantErr(t, f.DeleteProfile(t.Context(), f.tenant, first.ID), registry.ErrInUse, "default")
		second, err = f.MakeDefault(t.Context(), f.tenant, second.ID)
		must(t, err)
		now, err := f.DefaultProfile(t.Context(), f.tenant)
		must(t, err)
		if now.ID != second.ID || !second.Default {
			t.Errorf("the default is %s", now.Name)
		}
		if d := f.device(t, "d"); d.Profile != second.ID {
			t.Errorf("a device without a profile got %s", d.Type)
		}
		must(t, f.DeleteProfile(t.Context(), f.tenant, first.ID))
		wantErr(t, f.DeleteProfile(t.Context(), f.tenant, first.ID), registry.ErrNotFound, first.ID.String())
		third := f.profile(t, registry.Profile{Name: "third", Default: true})
		if now, err = f.DefaultProfile(t.Context(), f.tenant); err != nil || now.ID != third.ID {
			t.Errorf("the default is %s (%v), want third", now.Name, err)
		}
	})
}

func TestProfileInUseIsKept(t *testing.T) {
	onBoth(t, func(t *testing.T, f fixture) {
		d, _, err := f.CreateDevice(t.Context(), registry.Device{Tenant: f.tenant, Name: "d", Type: "pump"}, registry.Credentials{})
		must(t, err)
		wantErr(t, f.DeleteProfile(t.Context(), f.tenant, d.Profile), registry.ErrInUse, "devices have it")
		must(t, f.DeleteDevice(t.Context(), f.tenant, d.ID))
		must(t, f.DeleteProfile(t.Context(), f.tenant, d.Profile))
	})
}

func TestChangedProfileReachesItsDevices(t *testing.T) {
	onBoth(t, func(t *testing.T, f fixture) {
		p := f.profile(t, registry.Profile{Name: "pump"})
		d, _, err := f.CreateDevice(t.Context(), registry.Device{Tenant: f.tenant, Name: "d", Profile: p.ID}, registry.Credentials{})
		must(t, err)
		_, err = f.Facts(t.Context(), d.ID) // now in memory
		must(t, err)
		p.Name = "valve"
		p.Data = json.RawMessage(`{"callchain":{"submitOrder":"on_ack","maxRetries":0,"ackTimeout":1500,"lightFacts":true}}`)
		saved, err := f.SaveProfile(t.Context(), p)
		must(t, err)
		facts, err := f.Facts(t.Context(), d.ID)
		must(t, err)
		rpc := facts.Profile.RPC
		if facts.Device.Type != "valve" || rpc.SubmitOrder != "on_ack" || *rpc.MaxRetries != 0 || rpc.AckTimeout != 1500*time.Millisecond || !rpc.LightFacts {
			t.Errorf("facts are %+v", facts)
		}
		if saved.Version != 2 {
			t.Errorf("version is %d", saved.Version)
		}
		_, err = f.SaveProfile(t.Context(), p)
		wantErr(t, err, registry.ErrStale, "version 2")
	})
}

func TestUnfitProfilesAreRefused(t *testing.T) {
	for _, c := range []struct {
		p     registry.Profile
		names string
	}{
		{registry.Profile{Name: ""}, "name"},
		{registry.Profile{Name: "p", Chain: uuid.New()}, "defaultRuleChainId"},
		{registry.Profile{Name: "p", Data: json.RawMessage(`{"callchain":{"submitOrder":"fifo"}}`)}, "submitOrder"},
		{registry.Profile{Name: "p", Data: json.RawMessage(`{"callchain":{"maxRetries":101}}`)}, "between 0 and 100, is 101"},
		{registry.Profile{Name: "p", Data: json.RawMessage(`{"callchain":{"ackTimeout":-1}}`)}, "ackTimeout"},
		{registry.Profile{Name: "p", Data: json.RawMessage(`{"callchain":{"maxRetrys":1}}`)}, "maxRetrys"},
		{registry.Profile{Name: "p", Data: json.RawMessage(`{"callchain":5}`)}, "profileData.callchain"},
		{registry.Profile{Name: "p", Data: json.RawMessage(`[1]`)}, "profileData"},
	} {
		onBoth(t, func(t *testing.T, f fixture) {
			c.p.Tenant, c.p.Transport = f.tenant, "DEFAULT"
			_, err := f.SaveProfile(t.Context(), c.p)
			wantErr(t, err, registry.ErrInvalid, c.names)
		})
	}
}
