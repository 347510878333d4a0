package registry_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"callchain/registry"

	"github.com/google/uuid"
)

func TestDeviceIsReadAsItWasSaved(t *testing.T) {
	onBoth(t, func(t *testing.T, f fixture) {
		given := registry.Device{
			Tenant: f.tenant, Name: "Größe 1", Label: "first", Type: "thermostat", Customer: uuid.New(),
			Additional: json.RawMessage(`{"gateway":true,"x":"ü"}`), Data: json.RawMessage(`{"a":1}`),
		}
		made, c, err := f.CreateDevice(t.Context(), given, registry.Credentials{})
		must(t, err)
		if len(c.ID) != 20 || c.Kind != registry.AccessToken || c.Device != made.ID {
			t.Errorf("credentials made at random are %+v", c)
		}
		read, err := f.Device(t.Context(), f.tenant, made.ID)
		must(t, err)
		if fmt.Sprintf("%+v", read) != fmt.Sprintf("%+v", made) {
			t.Errorf("read  %+v\nsaved %+v", read, made)
		}
		if read.Partition < 0 || read.Partition > 63 || read.Version != 1 || read.Type != "thermostat" || read.Created.IsZero() {
			t.Errorf("read %+v", read)
		}
		facts, ok := f.Cached(made.ID)
		if !ok || !facts.Gateway || facts.Profile.Name != "thermostat" || facts.Profile.ID != made.Profile {
			t.Errorf("facts are %+v", facts)
		}
	})
}

func TestDevicesOfOtherTenantsAreNotFound(t *testing.T) {
	onBoth(t, func(t *testing.T, f fixture) {
		d, stranger := f.device(t, "d1"), uuid.New()
		_, err := f.Device(t.Context(), stranger, d.ID)
		wantErr(t, err, registry.ErrNotFound, d.ID.String())
		_, err = f.DeviceByName(t.Context(), stranger, "d1")
		wantErr(t, err, registry.ErrNotFound, "d1")
		_, err = f.Credentials(t.Context(), stranger, d.ID)
		wantErr(t, err, registry.ErrNotFound, d.ID.String())
		_, err = f.SaveCredentials(t.Context(), stranger, registry.Credentials{Device: d.ID, Kind: registry.AccessToken, ID: "stolen"})
		wantErr(t, err, registry.ErrNotFound, d.ID.String())
		wantErr(t, f.DeleteDevice(t.Context(), stranger, d.ID), registry.ErrNotFound, d.ID.String())
		theirs := d
		theirs.Tenant = stranger
		_, err = f.SaveDevice(t.Context(), theirs)
		wantErr(t, err, registry.ErrNotFound, d.ID.String())
		list, n, err := f.Devices(t.Context(), stranger, registry.DeviceFilter{}, registry.Page{Size: 10})
		must(t, err)
		if n != 0 || len(list) != 0 {
			t.Errorf("a stranger sees %d devices", n)
		}
	})
}

func TestNamesAndTokensAreUnique(t *testing.T) {
	onBoth(t, func(t *testing.T, f fixture) {
		make := func(name, token string) error {
			_, _, err := f.CreateDevice(t.Context(), registry.Device{Tenant: f.tenant, Name: name},
				registry.Credentials{Kind: registry.AccessToken, ID: token})
			return err
		}
		must(t, make("d1", "token-1"))
		wantErr(t, make("d1", "token-2"), registry.ErrExists, `"d1"`)
		wantErr(t, make("d2", "token-1"), registry.ErrExists, "credentials")
		must(t, make("d2", "token-2"))
		d, err := f.DeviceByName(t.Context(), f.tenant, "d2")
		must(t, err)
		d.Name = "d1"
		_, err = f.SaveDevice(t.Context(), d)
		wantErr(t, err, registry.ErrExists, `"d1"`)
	})
}

func TestSavingAnOutdatedDeviceIsRefused(t *testing.T) {
	onBoth(t, func(t *testing.T, f fixture) {
		d := f.device(t, "d1")
		mine, theirs := d, d
		mine.Label, theirs.Label = "mine", "theirs"
		saved, err := f.SaveDevice(t.Context(), mine)
		must(t, err)
		if saved.Version != 2 || saved.Partition != d.Partition {
			t.Errorf("saved %+v", saved)
		}
		_, err = f.SaveDevice(t.Context(), theirs)
		wantErr(t, err, registry.ErrStale, "version 2")
		theirs.Version = 0 // whoever gives no version wins, as in ThingsBoard
		_, err = f.SaveDevice(t.Context(), theirs)
		must(t, err)
	})
}

func TestOneOfManyWithTheSameVersionIsSaved(t *testing.T) {
	onBoth(t, func(t *testing.T, f fixture) {
		d := f.device(t, "d")
		var wg sync.WaitGroup
		var saved atomic.Int32
		for i := range 8 {
			wg.Go(func() {
				mine := d
				mine.Label = fmt.Sprint(i)
				_, err := f.SaveDevice(t.Context(), mine)
				if err == nil {
					saved.Add(1)
				} else if !errors.Is(err, registry.ErrStale) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if saved.Load() != 1 {
			t.Errorf("%d of 8 changes to one version were saved", saved.Load())
		}
	})
}

func TestUnfitFieldsAreNamed(t *testing.T) {
	long := string(make([]byte, 300))
	for _, c := range []struct {
		d    registry.Device
		c    registry.Credentials
		name string
	}{
		{registry.Device{Name: ""}, registry.Credentials{}, "name"},
		{registry.Device{Name: "a\x00b"}, registry.Credentials{}, "name"},
		{registry.Device{Name: "a\nb"}, registry.Credentials{}, "line break"},
		{registry.Device{Name: long}, registry.Credentials{}, "name"},
		{registry.Device{Name: "a\xff"}, registry.Credentials{}, "name is not UTF-8"},
		{registry.Device{Name: "a", Additional: json.RawMessage(`{`)}, registry.Credentials{}, "additionalInfo"},
		{registry.Device{Name: "a", Type: " "}, registry.Credentials{}, "type"},
		{registry.Device{Name: "a", Profile: uuid.New()}, registry.Credentials{}, "deviceProfileId"},
		{registry.Device{Name: "a"}, registry.Credentials{Kind: registry.AccessToken, ID: long}, "credentialsId"},
		{registry.Device{Name: "a"}, registry.Credentials{Kind: "X509_CERTIFICATE", ID: "x"}, "X509_CERTIFICATE"},
		{registry.Device{Name: "a"}, registry.Credentials{Kind: registry.MQTTBasic, Value: `{}`}, "credentialsValue"},
		{registry.Device{Name: "a"}, registry.Credentials{Kind: registry.MQTTBasic, Value: `{"clientId":"c","password":"p"}`}, "userName"},
	} {
		onBoth(t, func(t *testing.T, f fixture) {
			c.d.Tenant = f.tenant
			_, _, err := f.CreateDevice(t.Context(), c.d, c.c)
			wantErr(t, err, registry.ErrInvalid, c.name)
			if _, n, err := f.Devices(t.Context(), f.tenant, registry.DeviceFilter{}, registry.Page{Size: 1}); err != nil || n != 0 {
				t.Errorf("%d devices were left behind (%v)", n, err)
			}
		})
	}
}

func TestUnknownTypesMakeOneProfile(t *testing.T) {
	onBoth(t, func(t *testing.T, f fixture) {
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				_, _, err := f.CreateDevice(t.Context(), registry.Device{Tenant: f.tenant, Name: fmt.Sprint("d", i), Type: "pump"}, registry.Credentials{})
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		_, n, err := f.Profiles(t.Context(), f.tenant, registry.Page{Size: 10, Search: "PUMP"})
		must(t, err)
		if n != 1 {
			t.Errorf("%d profiles are named pump, want 1", n)
		}
	})
}

func TestDevicesArePagedSortedAndSearched(t *testing.T) {
	onBoth(t, func(t *testing.T, f fixture) {
		for _, name := range []string{"b", "A", "c_1", "cx1", "Öl"} {
			f.device(t, name)
		}
		names := func(p registry.Page) []string {
			t.Helper()
			list, _, err := f.Devices(t.Context(), f.tenant, registry.DeviceFilter{}, p)
			must(t, err)
			var out []string
			for _, d := range list {
				out = append(out, d.Name)
			}
			return out
		}
		for _, c := range []struct {
			page registry.Page
			want []string
		}{
			{registry.Page{Size: 10}, []string{"b", "A", "c_1", "cx1", "Öl"}},
			{registry.Page{Size: 2, Number: 1}, []string{"c_1", "cx1"}},
			{registry.Page{Size: 2, Number: 3}, nil},
			{registry.Page{Size: 2, Number: 1 << 40}, nil},
			{registry.Page{Size: 10, Sort: "name"}, []string{"A", "b", "c_1", "cx1", "Öl"}},
			{registry.Page{Size: 1, Sort: "name", Desc: true}, []string{"Öl"}},
			{registry.Page{Size: 10, Search: "ÖL"}, []string{"Öl"}},
			{registry.Page{Size: 10, Search: "c_"}, []string{"c_1"}},
			{registry.Page{Size: 10, Search: "%"}, nil},
		} {
			if got := names(c.page); !slices.Equal(got, c.want) {
				t.Errorf("%+v gives %q, want %q", c.page, got, c.want)
			}
		}
		_, _, err := f.Devices(t.Context(), f.tenant, registry.DeviceFilter{}, registry.Page{Size: 0})
		wantErr(t, err, registry.ErrInvalid, "pageSize")
		_, _, err = f.Devices(t.Context(), f.tenant, registry.DeviceFilter{}, registry.Page{Size: 1, Sort: "name; DROP TABLE devices"})
		wantErr(t, err, registry.ErrInvalid, "sortProperty")
	})
}

func TestPartitionsAreSpreadEvenly(t *testing.T) {
	onBoth(t, func(t *testing.T, f fixture) {
		counts := map[int32]int{}
		for i := range 320 {
			counts[f.device(t, fmt.Sprint("d", i)).Partition]++
		}
		for p, n := range counts {
			if n > 20 { // 5 on average; 20 has a chance below one in a million
				t.Errorf("partition %d has %d of 320 devices", p, n)
			}
		}
		if len(counts) < 50 {
			t.Errorf("320 devices are in %d of 64 partitions", len(counts))
		}
	})
}
