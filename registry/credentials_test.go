package registry_test

import (
	"errors"
	"fmt"
	"maps"
	"testing"

	"callchain/registry"
	"callchain/transports"

	"github.com/google/uuid"
)

func basicOf(t *testing.T, f fixture, name, value string) registry.Device {
	t.Helper()
	d, _, err := f.CreateDevice(t.Context(), registry.Device{Tenant: f.tenant, Name: name},
		registry.Credentials{Kind: registry.MQTTBasic, Value: value})
	must(t, err)
	return d
}

// ThingsBoard's CONNECT (5a of its RPC facts): MQTT_BASIC by client id and user name, by user name, by client id; else the token.
func TestWhoConnects(t *testing.T) {
	onBoth(t, func(t *testing.T, f fixture) {
		_, _, err := f.CreateDevice(t.Context(), registry.Device{Tenant: f.tenant, Name: "token"},
			registry.Credentials{Kind: registry.AccessToken, ID: "A1_TOKEN"})
		must(t, err)
		basicOf(t, f, "both", `{"clientId":"c1","userName":"u1","password":"p1"}`)
		basicOf(t, f, "user", `{"userName":"u2","password":"p2"}`)
		basicOf(t, f, "open", `{"userName":"u3"}`)
		basicOf(t, f, "client", `{"clientId":"c4"}`)
		for _, c := range []struct {
			shown transports.Credentials
			want  string // device, empty: refused
		}{
			{transports.Credentials{Token: "A1_TOKEN"}, "token"},
			{transports.Credentials{UserName: "A1_TOKEN"}, "token"},
			{transports.Credentials{UserName: "A1_TOKEN", Password: "ignored", ClientID: "any"}, "token"},
			{transports.Credentials{Token: "a1_token"}, ""},
			{transports.Credentials{Token: "A1_TOKEN "}, ""},
			{transports.Credentials{}, ""},
			{transports.Credentials{UserName: "u1", Password: "p1", ClientID: "c1"}, "both"},
			{transports.Credentials{Token: "u1", UserName: "u1", Password: "p1", ClientID: "c1"}, "both"},
			{transports.Credentials{UserName: "u1", Password: "wrong", ClientID: "c1"}, ""},
			{transports.Credentials{UserName: "u1", ClientID: "c1"}, ""},
			{transports.Credentials{UserName: "u1", Password: "p1", ClientID: "c2"}, ""},
			{transports.Credentials{UserName: "u1", Password: "p1"}, ""},
			{transports.Credentials{UserName: "u2", Password: "p2", ClientID: "any"}, "user"},
			{transports.Credentials{UserName: "u2", Password: "p2"}, "user"},
			{transports.Credentials{UserName: "u2"}, ""},
			{transports.Credentials{UserName: "u3", Password: "any"}, "open"},
			{transports.Credentials{ClientID: "c4"}, "client"},
			{transports.Credentials{ClientID: "c1|u1"}, ""}, // the joined form is no client id
			{transports.Credentials{Token: string(make([]byte, 10_000))}, ""},
		} {
			id, err := f.Authenticate(t.Context(), c.shown)
			if c.want == "" {
				if !errors.Is(err, transports.ErrUnauthorized) {
					t.Errorf("%+v: %v, want it refused", c.shown, err)
				}
				continue
			}
			if err != nil || id.Name != c.want || id.Type != "default" || id.Tenant != f.tenant {
				t.Errorf("%+v: %+v (%v), want %s", c.shown, id, err, c.want)
			}
		}
	})
}

// The joined id of "a|b" as a client id alone equals that of client "a" and user "b"; the fields decide then.
func TestJoinedIdsDoNotProveTheWrongFields(t *testing.T) {
	onBoth(t, func(t *testing.T, f fixture) {
		basicOf(t, f, "both", `{"clientId":"a","userName":"b"}`)
		for _, shown := range []transports.Credentials{{ClientID: "a|b"}, {UserName: "a|b"}} {
			if _, err := f.Authenticate(t.Context(), shown); !errors.Is(err, transports.ErrUnauthorized) {
				t.Errorf("%+v: %v, want it refused", shown, err)
			}
		}
	})
}

func TestCredentialVersions(t *testing.T) {
	onBoth(t, func(t *testing.T, f fixture) {
		first, second, gone := f.device(t, "first"), f.device(t, "second"), uuid.New()
		c, err := f.Credentials(t.Context(), f.tenant, second.ID)
		must(t, err)
		c.ID = "changed"
		_, err = f.SaveCredentials(t.Context(), f.tenant, c)
		must(t, err)
		got, err := f.CredentialVersions(t.Context(), []uuid.UUID{gone, second.ID, first.ID})
		must(t, err)
		if want := map[uuid.UUID]int64{first.ID: 1, second.ID: 2}; !maps.Equal(got, want) {
			t.Errorf("the versions are %v, want %v", got, want)
		}
		if got, err = f.CredentialVersions(t.Context(), nil); err != nil || len(got) > 0 {
			t.Errorf("of no device: %v, %v", got, err)
		}
	})
}

func TestRevokedCredentialsAreRefusedAtOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, f fixture) {
		var told []registry.Change
		f.OnChange(func(c registry.Change) { told = append(told, c) })
		d, c, err := f.CreateDevice(t.Context(), registry.Device{Tenant: f.tenant, Name: "d"}, registry.Credentials{})
		must(t, err)
		old := c.ID
		shown, err := f.Authenticate(t.Context(), transports.Credentials{Token: old})
		if must(t, err); shown.Credentials != 1 {
			t.Errorf("the first credentials have version %d", shown.Credentials)
		}
		c.ID = "fresh"
		c, err = f.SaveCredentials(t.Context(), f.tenant, c)
		must(t, err)
		if _, err = f.Authenticate(t.Context(), transports.Credentials{Token: old}); !errors.Is(err, transports.ErrUnauthorized) {
			t.Errorf("the old token gives %v", err)
		}
		shown, err = f.Authenticate(t.Context(), transports.Credentials{Token: "fresh"})
		if must(t, err); shown.Credentials != 2 {
			t.Errorf("the credentials that have replaced them have version %d", shown.Credentials)
		}
		must(t, f.DeleteDevice(t.Context(), f.tenant, d.ID))
		if _, err = f.Authenticate(t.Context(), transports.Credentials{Token: "fresh"}); !errors.Is(err, transports.ErrUnauthorized) {
			t.Errorf("the token of a deleted device gives %v", err)
		}
		want := []registry.Change{
			{Kind: registry.DeviceCreated, Tenant: f.tenant, Device: d.ID, Profile: d.Profile},
			{Kind: registry.CredentialsChanged, Tenant: f.tenant, Device: d.ID, Version: 2},
			{Kind: registry.DeviceDeleted, Tenant: f.tenant, Device: d.ID},
		}
		if fmt.Sprint(told) != fmt.Sprint(want) {
			t.Errorf("told  %v\nwant %v", told, want)
		}
	})
}

func TestCredentialsAreSavedOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, f fixture) {
		a, b := f.device(t, "a"), f.device(t, "b")
		ca, err := f.Credentials(t.Context(), f.tenant, a.ID)
		must(t, err)
		cb, err := f.Credentials(t.Context(), f.tenant, b.ID)
		must(t, err)
		cb.ID = ca.ID
		_, err = f.SaveCredentials(t.Context(), f.tenant, cb)
		wantErr(t, err, registry.ErrExists, "another device")
		ca.Kind, ca.ID, ca.Value = registry.MQTTBasic, "", `{"clientId":"c","userName":"u","password":"p"}`
		saved, err := f.SaveCredentials(t.Context(), f.tenant, ca)
		must(t, err)
		// printf 'c|u' | openssl dgst -sha3-256
		if saved.Version != 2 || saved.RowID != ca.RowID || saved.ID != "29cd886b96af386fd43e35097f8228b97209711642b8b65ebf118b288accb0ea" {
			t.Errorf("saved %+v", saved)
		}
		_, err = f.SaveCredentials(t.Context(), f.tenant, ca)
		wantErr(t, err, registry.ErrStale, "version 2")
	})
}
