package wire

import "errors"

// The errors for senders of commands, in addition to *rpc.Refusal.
var (
	// ErrBusy: the engine takes no more now; nothing happened. Try again in a second.
	ErrBusy = errors.New("the server is busy")
	// ErrStopping: the server is shutting down. An accepted call goes on and can be looked up by its id.
	ErrStopping = errors.New("the server is shutting down")
	// ErrUnready: the partition has no owner here (yet).
	ErrUnready = errors.New("the partition is not ready")
	// ErrUncertain: the store did not answer, and it is unknown whether the call was accepted. It can be looked up by its id.
	ErrUncertain = errors.New("the outcome is not known")
	// ErrTooLarge: the inbox takes no message of that size, so that a retry cannot succeed. Nothing happened.
	ErrTooLarge = errors.New("the command is too large")
)
