package api

import (
	"context"

	"callchain/engine"
	"callchain/eventstore"
	"callchain/registry"
	"callchain/registry/auth"

	"github.com/google/uuid"
)

// Engine runs calls. *engine.Engine is one.
type Engine interface {
	// Device is the row of a device for Call; *rpc.Refusal with CodeUnknown if the tenant has none.
	Device(ctx context.Context, tenant, id uuid.UUID) (*engine.Device, error)
	// Call waits as the acknowledgement points say (decision 0005). The end of ctx ends the wait, not the call. Where the call
	// may have been accepted, the result carries its ID also beside an error.
	Call(ctx context.Context, r engine.CallRequest) (engine.CallResult, error)
	// Cancel ends an open call; *rpc.Refusal with CodeUnknown or CodeEnded if there is none.
	Cancel(ctx context.Context, tenant, call uuid.UUID, actor string) error
	// Remove ends a call if it is open and hides it from the compatible paths.
	Remove(ctx context.Context, tenant, call uuid.UUID, actor string) error
	// ChangeAttributes returns when the change is committed.
	ChangeAttributes(ctx context.Context, c engine.AttributeChange) error
	// ChangeSeries returns when the change is committed.
	ChangeSeries(ctx context.Context, c engine.SeriesChange) error
	// Follow calls each with every event that is committed after a cursor ("" = from now), in order within a partition, until ctx
	// ends or each fails. The cursor given to each resumes behind that event.
	Follow(ctx context.Context, after string, each func(cursor string, ev *eventstore.Event) error) error
	// RerunDeadLetter runs the command of a dead letter again and returns when that is committed; deadletter.ErrUnknown, *deadletter.RerunError.
	RerunDeadLetter(ctx context.Context, tenant, id uuid.UUID, actor string) (engine.Rerun, error)
	// DropDeadLetter returns when the letter is gone; deadletter.ErrUnknown.
	DropDeadLetter(ctx context.Context, tenant, id uuid.UUID, actor string) error
	// Ready lists reasons why the engine is not ready; empty: it is.
	Ready() []string
	// Overloaded tells whether Call would refuse every call now, with engine.ErrBusy. It is asked before anything is done for a call.
	Overloaded() bool
}

// Directory keeps devices, profiles and chains. *registry.Registry is one; the errors are its sentinels.
type Directory interface {
	FactsOf(ctx context.Context, tenant, id uuid.UUID) (*registry.Facts, error)
	CreateDevice(ctx context.Context, d registry.Device, c registry.Credentials) (registry.Device, registry.Credentials, error)
	SaveDevice(ctx context.Context, d registry.Device) (registry.Device, error)
	DeleteDevice(ctx context.Context, tenant, id uuid.UUID) error
	DeviceByName(ctx context.Context, tenant uuid.UUID, name string) (registry.Device, error)
	Devices(ctx context.Context, tenant uuid.UUID, f registry.DeviceFilter, p registry.Page) ([]registry.Device, int, error)

	SaveProfile(ctx context.Context, p registry.Profile) (registry.Profile, error)
	MakeDefault(ctx context.Context, tenant, id uuid.UUID) (registry.Profile, error)
	DeleteProfile(ctx context.Context, tenant, id uuid.UUID) error
	Profile(ctx context.Context, tenant, id uuid.UUID) (registry.Profile, error)
	DefaultProfile(ctx context.Context, tenant uuid.UUID) (registry.Profile, error)
	Profiles(ctx context.Context, tenant uuid.UUID, p registry.Page) ([]registry.Profile, int, error)

	Credentials(ctx context.Context, tenant, device uuid.UUID) (registry.Credentials, error)
	SaveCredentials(ctx context.Context, tenant uuid.UUID, c registry.Credentials) (registry.Credentials, error)

	SaveChain(ctx context.Context, c registry.Chain) (registry.Chain, error)
	ActivateChain(ctx context.Context, tenant, id uuid.UUID, version int) (registry.Chain, error)
	SetRoot(ctx context.Context, tenant, id uuid.UUID) error
	DeleteChain(ctx context.Context, tenant, id uuid.UUID) error
	Chain(ctx context.Context, tenant, id uuid.UUID) (registry.Chain, error)
	ChainVersion(ctx context.Context, tenant, id uuid.UUID, version int) (registry.Chain, error)
	ChainVersions(ctx context.Context, tenant, id uuid.UUID) ([]registry.Chain, error)
	Chains(ctx context.Context, tenant uuid.UUID, p registry.Page) ([]registry.Chain, int, error)

	UserByID(ctx context.Context, id uuid.UUID) (registry.User, error)
	Tenant(ctx context.Context, id uuid.UUID) (registry.Tenant, error)
}

// Access tells who a caller is, and lets users in and out. *auth.Access is one.
type Access interface {
	// Verify checks an access token; auth.ErrMalformed, auth.ErrExpired, auth.ErrNotAccess. It is asked with every request and
	// must not wait.
	Verify(token string) (auth.Principal, error)
	// Login fails with registry.ErrBadPassword, registry.ErrDisabled, auth.ErrTooMany, password.ErrBusy. address is the caller's.
	Login(ctx context.Context, email, password, address string) (auth.Pair, error)
	// Refresh gives new tokens for a refresh token; it fails as Verify does, and with registry.ErrDisabled.
	Refresh(ctx context.Context, token string) (auth.Pair, error)
	// ChangePassword gives new tokens; all others of the user are void. It fails as Login does, and with registry.ErrInvalid for a new
	// password that may not be.
	ChangePassword(ctx context.Context, p auth.Principal, current, next, address string) (auth.Pair, error)
	// Logout ends the session: its tokens are void.
	Logout(ctx context.Context, p auth.Principal) error
}
