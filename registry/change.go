package registry

import (
	"errors"
	"slices"

	"github.com/google/uuid"
)

// ChangeKind says what became different.
type ChangeKind string

// The kinds of changes.
const (
	DeviceCreated      ChangeKind = "device_created"
	DeviceUpdated      ChangeKind = "device_updated"
	DeviceDeleted      ChangeKind = "device_deleted"
	CredentialsChanged ChangeKind = "credentials_changed" // sessions of the device are to be closed
	ProfileChanged     ChangeKind = "profile_changed"     // saved, deleted, or made the default
	ChainActivated     ChangeKind = "chain_activated"     // this version runs from now on
	ChainDeleted       ChangeKind = "chain_deleted"
	RootChanged        ChangeKind = "root_changed" // Chain is the tenant's new root chain
	UserChanged        ChangeKind = "user_changed" // Revocations are to be read again
)

// Change tells what was committed. It names the thing; a listener reads the newest state itself, since two changes made at
// once may be told in either order. Its JSON form is what nodes tell each other.
type Change struct {
	Kind    ChangeKind `json:"kind"`
	Tenant  uuid.UUID  `json:"tenant"`
	Device  uuid.UUID  `json:"device,omitzero"`
	Profile uuid.UUID  `json:"profile,omitzero"`
	Chain   uuid.UUID  `json:"chain,omitzero"`
	Version int        `json:"version,omitempty"` // of the chain, or of the credentials
	Foreign bool       `json:"-"`                 // another node made it
	id      uuid.UUID  // in the outbox
}

// OnChange registers a listener for the life of the registry. It is called after the commit, when this registry no longer
// answers from outdated memory, on the goroutine that wrote; it must not block.
func (r *Registry) OnChange(fn func(Change)) {
	r.listenersMu.Lock()
	defer r.listenersMu.Unlock()
	var all []func(Change)
	if p := r.listeners.Load(); p != nil {
		all = slices.Clone(*p)
	}
	all = append(all, fn)
	r.listeners.Store(&all)
}

// tell applies a change of this node if it happened, or may have: a listener reads the newest state itself, so that it does no harm
// to tell too much, while an untold change would keep outdated values and sessions alive.
func (r *Registry) tell(err error, c Change) {
	if err == nil || errors.Is(err, errUncertain) {
		r.apply(c)
	}
}

// Apply takes a change that another node made: it forgets what the change outdated and tells the listeners.
func (r *Registry) Apply(c Change) {
	c.Foreign = true
	r.apply(c)
}

// Forget drops all devices from memory: changes of them may have been missed.
func (r *Registry) Forget() {
	r.devices.dropIf(func(*Facts) bool { return true })
	r.generation.Add(1)
}

// Generation grows when devices or profiles may have changed, after the outdated ones are dropped from memory.
func (r *Registry) Generation() uint64 { return r.generation.Load() }

func (r *Registry) apply(c Change) {
	r.forget(c)
	r.generation.Add(1)
	if p := r.listeners.Load(); p != nil {
		for _, fn := range *p {
			fn(c)
		}
	}
}

func (r *Registry) forget(c Change) {
	switch c.Kind {
	case DeviceCreated, DeviceUpdated, DeviceDeleted:
		r.devices.drop(c.Device)
	case ProfileChanged:
		r.devices.dropIf(func(f *Facts) bool { return f.Profile.ID == c.Profile })
	case UserChanged:
		r.revoked.outdate()
	case CredentialsChanged, ChainActivated, ChainDeleted, RootChanged:
		// Neither credentials nor chains are held in memory here.
	}
}
