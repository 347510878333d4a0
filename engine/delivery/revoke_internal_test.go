package delivery

import (
	"testing"
	"testing/synctest"
	"time"

	"callchain/transports"

	"github.com/google/uuid"
)

// TestRevocations: the newest version counts, in whatever order they come, and only for revocationTTL.
func TestRevocations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, device, other := New(Config{}), uuid.New(), uuid.New()
		defer d.Close()
		revoked := func(device uuid.UUID, credentials int64) bool {
			return d.isRevoked(&transports.Identity{Device: device, Credentials: credentials})
		}
		if revoked(device, 0) {
			t.Error("unknown credentials are revoked")
		}
		for _, version := range []int64{3, 2, 0} {
			d.noteRevoked(device, version, time.Now())
		}
		for credentials, want := range map[int64]bool{1: true, 2: true, 3: false, 4: false} {
			if got := revoked(device, credentials); got != want {
				t.Errorf("version %d is revoked: %v, want %v", credentials, got, want)
			}
		}
		if revoked(other, 1) {
			t.Error("the credentials of another device are revoked")
		}
		<-time.After(revocationTTL)
		if revoked(device, 1) {
			t.Error("credentials are revoked for ever, also by a change that was rolled back")
		}
		if d.noteRevoked(device, 2, time.Now()); revoked(device, 2) || !revoked(device, 1) {
			t.Error("an old revocation counts")
		}
	})
}
