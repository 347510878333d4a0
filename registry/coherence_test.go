package registry_test

import (
	"fmt"
	"sync"
	"testing"

	"callchain/registry"
)

// Many read one device through the cache while others write it: who reads after a write has returned sees it.
func TestReadsSeeTheirWrites(t *testing.T) {
	onBoth(t, func(t *testing.T, f fixture) {
		devices := []registry.Device{f.device(t, "a"), f.device(t, "b")}
		stop := make(chan struct{})
		var readers, writers sync.WaitGroup
		for range 2 {
			readers.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
						if _, err := f.Facts(t.Context(), devices[i%2].ID); err != nil {
							t.Error(err)
							return
						}
					}
				}
			})
		}
		for _, d := range devices {
			writers.Go(func() {
				for i := range 50 {
					d.Label, d.Version = fmt.Sprint(i), 0
					if _, err := f.SaveDevice(t.Context(), d); err != nil {
						t.Error(err)
						return
					}
					if facts, err := f.Facts(t.Context(), d.ID); err != nil || facts.Device.Label != d.Label {
						t.Errorf("read label %q (%v), want %q", facts.Device.Label, err, d.Label)
					}
				}
			})
		}
		writers.Wait()
		close(stop)
		readers.Wait()
	})
}

func TestChangesOfOtherNodesEmptyTheCache(t *testing.T) {
	onBoth(t, func(t *testing.T, f fixture) {
		other, err := f.reopen(options())
		must(t, err)
		d := f.device(t, "d")
		_, err = f.Facts(t.Context(), d.ID)
		must(t, err)
		var told []registry.Change
		f.OnChange(func(c registry.Change) { told = append(told, c) })
		other.OnChange(f.Apply) // as the topic of registry changes does
		d.Label = "new"
		_, err = other.SaveDevice(t.Context(), d)
		must(t, err)
		facts, err := f.Facts(t.Context(), d.ID)
		must(t, err)
		if facts.Device.Label != "new" || len(told) != 1 || told[0].Kind != registry.DeviceUpdated {
			t.Errorf("label %q, told %v", facts.Device.Label, told)
		}
	})
}
