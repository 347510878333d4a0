package wire

import "errors"

// What the sender of a command is told if it was not carried out, beside *rpc.Refusal. Nodes tell each other by these names.
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
