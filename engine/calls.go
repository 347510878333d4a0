package engine

import (
	"errors"
	"time"

	"callchain/engine/rpc"
	"callchain/engine/step"

	"github.com/google/uuid"
)

var (
	// ErrBusy: the engine takes no more now; nothing happened. Try again in a second.
	ErrBusy = errors.New("the server is busy")
	// ErrStopping: the server is shutting down. A call that was accepted goes on and can be asked for by its id.
	ErrStopping = errors.New("the server is shutting down")
	// ErrUnready: the partition has no owner here (yet).
	ErrUnready = errors.New("the partition is not ready")
	// ErrUncertain: the store did not answer; whether the call was accepted is not known. It can be asked for by its id.
	ErrUncertain = errors.New("the outcome is not known")
	// ErrTooLarge: the inbox takes nothing of that size, also the next time. Nothing happened.
	ErrTooLarge = errors.New("the command is too large")
)

// CallRequest is an application's wish to call a device.
type CallRequest struct {
	ID          uuid.UUID // the caller's choice if Chosen, else uuid.Nil
	Chosen      bool      // ID came from the caller (requestUUID, Idempotency-Key): it may be known already
	Tenant      uuid.UUID
	Customer    uuid.UUID // of the calling user, uuid.Nil if none
	Device      uuid.UUID
	Method      string
	Params      []byte // JSON as it goes to the device; nil: the caller gave none
	Oneway      bool
	Persistent  bool
	Expires     time.Time
	Retries     *int
	Order       rpc.Order
	Info        []byte // additionalInfo, JSON
	FailOffline bool
	Actor       string    // "user:<id>"
	Trace       [16]byte  // W3C trace id that the caller gave, zero if none
	Span        step.Span // likewise the parent-id
}

// CallResult is what a caller is told: a persistent call is Queued (or has ended already), a light one-way call is Queued
// and taken by the transport, a light two-way call has ended.
type CallResult struct {
	ID       uuid.UUID
	Phase    rpc.Phase
	Code     rpc.Code // why it did not succeed
	Detail   string
	Response rpc.Payload
}

// AttributeChange sets or deletes attributes of a device from outside.
type AttributeChange struct {
	Tenant uuid.UUID
	Device uuid.UUID
	Scope  string            // CLIENT_SCOPE, SHARED_SCOPE, SERVER_SCOPE
	Set    map[string][]byte // JSON by key
	Delete []string
	Actor  string
}
