package engine

import (
	"math"
	"sync"
	"time"

	"callchain/engine/bus"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/transports"

	"github.com/google/uuid"
)

// Credentials that have changed lately are remembered for as long as a connection may take to be made with them, and no longer: a change that did not
// come about after all must not lock a device out.
const (
	revokedFor  = time.Minute
	revokedMost = 20_000 // devices
)

// revocations are the newest versions of credentials that have changed lately, by device.
type revocations struct {
	mu  sync.Mutex
	now *generations[uuid.UUID, voided]
}

type voided struct {
	below int64 // the newest version: older ones are void
	until time.Time
}

func newRevocations() *revocations {
	return &revocations{now: newGenerations[uuid.UUID, voided](revokedMost)}
}

// add notes a version; they may come in any order.
func (r *revocations) add(device uuid.UUID, version int64, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if known, ok := r.now.get(device); ok && now.Before(known.until) {
		version = max(version, known.below)
	}
	r.now.set(device, voided{version, now.Add(revokedFor)}, 1)
}

// covers tells whether a device has shown credentials that are void.
func (r *revocations) covers(id *transports.Identity, now time.Time) bool {
	known, ok := r.now.get(id.Device)
	return ok && id.Credentials < known.below && now.Before(known.until)
}

// Revoke ends the connections of a device that this process holds on credentials older than their new version. One that is just being made with them is
// refused.
func (e *Engine) Revoke(device uuid.UUID, version int64) {
	e.end(device, version, transports.ReasonCredentials)
}

// Deleted ends all connections of a deleted device that this process holds.
func (e *Engine) Deleted(device uuid.UUID) {
	e.end(device, math.MaxInt64, transports.ReasonDeviceDeleted)
}

func (e *Engine) end(device uuid.UUID, version int64, why transports.Reason) {
	e.revoked.add(device, version, e.now()) // first: a connection is added before it is looked whether it may be
	for _, s := range e.sessions.older(device, version) {
		if e.sessions.remove(s.ID) == nil {
			continue // it has ended meanwhile
		}
		s.Link.Close(why)
		if s.Aside {
			continue
		}
		cmd := step.Command{Meta: e.meta("system", "registry"), Device: device, Do: step.RPC{Do: rpc.Disconnect{Session: s.ID, Why: string(why)}}}
		if _, err := e.put(bus.RPC, s.Identity.Partition, true, fleeting, cmd, nil); err != nil { // its owner hears of it with its next delivery
			e.log.Warn("the end of a connection could not be noted", "device", device, "tenant", s.Identity.Tenant, "error", err)
		}
	}
}

// Connected are the devices that have a connection here, with the oldest version of credentials that one was made with.
func (e *Engine) Connected() map[uuid.UUID]int64 { return e.sessions.devices() }

// CloseDevice tells the owner of a device to end its session, at whichever node it is: its credentials changed, or it was deleted. It is for nodes that do
// not know Revoke.
func (e *Engine) CloseDevice(device uuid.UUID, partition int32, why transports.Reason) error {
	cmd := step.Command{Meta: e.meta("system", "registry"), Device: device, Do: step.RPC{Do: rpc.Disconnect{Why: string(why)}}}
	_, err := e.put(bus.RPC, partition, true, fleeting, cmd, nil)
	return err
}
