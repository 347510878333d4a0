package password_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"callchain/registry/password"
)

var cheap = password.Params{MemoryKiB: 64, Passes: 1, Lanes: 1}

func TestPasswordIsCheckedAgainstItsHash(t *testing.T) {
	h := password.New(cheap)
	stored, err := h.Hash(t.Context(), "secret")
	if err != nil || !strings.HasPrefix(stored, "$argon2id$v=19$m=64,t=1,p=1$") || strings.Contains(stored, "secret") {
		t.Fatalf("stored form is %q (%v)", stored, err)
	}
	if other, _ := h.Hash(t.Context(), "secret"); other == stored {
		t.Error("two hashes of one password are equal: no salt")
	}
	for given, want := range map[string]bool{"secret": true, "Secret": false, "": false, "secret\x00": false} {
		if got, err := h.Check(t.Context(), stored, given); err != nil || got != want {
			t.Errorf("%q: %v (%v)", given, got, err)
		}
	}
	if got, err := password.New(password.Params{MemoryKiB: 128, Passes: 2, Lanes: 2}).Check(t.Context(), stored, "secret"); err != nil || !got {
		t.Errorf("after the costs were raised: %v (%v)", got, err)
	}
	if got, err := h.Check(t.Context(), "", ""); err != nil || got {
		t.Errorf("a user that does not exist: %v (%v)", got, err)
	}
}

func TestForeignHashIsRefused(t *testing.T) {
	h := password.New(cheap)
	for _, stored := range []string{
		"x", "$2a$10$abcdefghijklmnopqrstuv", "$argon2id$v=19$m=64,t=1,p=1$c2FsdA$", "$argon2id$v=19$m=64,t=1$c2FsdA$aGFzaA",
		"$argon2id$v=19$m=4294967295,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaGhhc2g", "$argon2id$v=19$m=64,t=1,p=0$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaGhhc2g",
	} {
		if _, err := h.Check(t.Context(), stored, "x"); !errors.Is(err, password.ErrFormat) {
			t.Errorf("%q: %v", stored, err)
		}
	}
}

// Unknown users must cost what known ones do: the fastest of some checks of each differ by less than half.
func TestUnknownUserTakesAsLong(t *testing.T) {
	h := password.New(password.Params{MemoryKiB: 8 << 10, Passes: 1, Lanes: 1})
	stored, err := h.Hash(t.Context(), "secret")
	if err != nil {
		t.Fatal(err)
	}
	fastest := func(stored string) time.Duration {
		best := time.Hour
		for range 10 {
			began := time.Now()
			if _, err := h.Check(t.Context(), stored, "wrong"); err != nil {
				t.Fatal(err)
			}
			best = min(best, time.Since(began))
		}
		return best
	}
	known, unknown := fastest(stored), fastest("")
	if unknown < known/2 || known < unknown/2 {
		t.Errorf("a known user takes %v, an unknown one %v", known, unknown)
	}
}

func TestChecksAreBounded(t *testing.T) {
	h := password.New(password.Params{MemoryKiB: 1 << 10, Passes: 3, Lanes: 1})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var mu sync.Mutex
	busy, done := 0, 0
	for range 500 {
		wg.Go(func() {
			_, err := h.Hash(ctx, "secret")
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				done++
			case errors.Is(err, password.ErrBusy):
				busy++
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if done == 0 || busy == 0 || done+busy != 500 {
		t.Errorf("%d hashed, %d refused", done, busy)
	}
	cancel()
	if _, err := h.Hash(t.Context(), "secret"); err != nil {
		t.Errorf("after the storm: %v", err)
	}
}

func BenchmarkCheck(b *testing.B) {
	h := password.New(password.Default)
	stored, err := h.Hash(b.Context(), "secret")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if ok, err := h.Check(b.Context(), stored, "secret"); err != nil || !ok {
			b.Fatal(ok, err)
		}
	}
}
