package delivery

import (
	"math"
	"time"

	"callchain/engine/rpc"
	"callchain/engine/submit"
	"callchain/transports"

	"github.com/google/uuid"
)

// revocation is the newest version of a device's credentials after a change.
type revocation struct {
	newest int64 // older ones are revoked
	until  time.Time
}

// revocationTTL is how long a revocation is remembered: as long as opening a session may take, and no longer, because a change that was rolled back must not lock a
// device out.
const revocationTTL = time.Minute

// Revoke ends the sessions of a device that this process holds on credentials older than their new version. Sessions being opened with them are refused.
func (d *Delivery) Revoke(device uuid.UUID, version int64) {
	d.closeOlder(device, version, transports.ReasonCredentials)
}

// Deleted ends all sessions of a deleted device that this process holds.
func (d *Delivery) Deleted(device uuid.UUID) {
	d.closeOlder(device, math.MaxInt64, transports.ReasonDeviceDeleted)
}

func (d *Delivery) closeOlder(device uuid.UUID, version int64, reason transports.Reason) {
	d.noteRevoked(device, version, time.Now()) // first: a session is added before its credentials are checked
	for _, s := range d.sessions.olderThan(device, version) {
		if d.sessions.remove(s.ID) == nil {
			continue // it has ended meanwhile
		}
		s.Link.Close(reason)
		if s.Secondary {
			continue
		}
		err := d.put(s.Identity.Partition, device, submit.Ephemeral, submit.Meta("system", "registry"), rpc.Disconnect{Session: s.ID, Why: string(reason)})
		if err != nil { // its owner learns it with its next delivery
			d.Log.Warn("could not record that a session ended", "device", device, "tenant", s.Identity.Tenant, "error", err)
		}
	}
}

// CloseDevice lets the owner of a device end its session at any node, after a change of credentials or a deletion. It is for nodes of LevelFirst, without
// Revoke.
func (d *Delivery) CloseDevice(device uuid.UUID, partition int32, reason transports.Reason) error {
	return d.put(partition, device, submit.Ephemeral, submit.Meta("system", "registry"), rpc.Disconnect{Why: string(reason)})
}

// noteRevoked notes a version; they may come in any order.
func (d *Delivery) noteRevoked(device uuid.UUID, version int64, now time.Time) {
	d.revoking.Lock()
	defer d.revoking.Unlock()
	if known, ok := d.revoked.Get(device); ok && now.Before(known.until) {
		version = max(version, known.newest)
	}
	d.revoked.Add(device, revocation{version, now.Add(revocationTTL)})
}

// isRevoked reports whether a device has shown credentials that are revoked.
func (d *Delivery) isRevoked(id *transports.Identity) bool {
	known, ok := d.revoked.Get(id.Device)
	return ok && id.Credentials < known.newest && time.Now().Before(known.until)
}
