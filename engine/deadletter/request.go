package deadletter

import (
	"errors"

	"callchain/engine/rpc"
	"callchain/engine/step"

	"github.com/google/uuid"
)

// ErrUnknown: the tenant has no dead letter with this id (any more).
var ErrUnknown = errors.New("there is no such dead letter")

// The codes of RerunError, in addition to those of rpc.Refusal.
const (
	CodeUnreadable  = "command_unreadable" // the bytes cannot be decoded
	CodeProcessed   = "already_processed"  // the events of the command are stored
	CodeNoCommand   = "not_a_command"      // a stream, or a command of the owner itself
	CodeSessionOver = "session_over"       // it was about a connection
	CodeNoDevice    = "device_not_found"
)

// RerunError: the command of a dead letter was not run, or it failed again. The dead letter stays.
type RerunError struct{ Code, Detail string }

func (e *RerunError) Error() string { return e.Code + ": " + e.Detail }

// FailureOf is the error of a rerun for the user.
func FailureOf(err error) *RerunError {
	var failed *RerunError
	var refused *rpc.Refusal
	switch {
	case errors.As(err, &failed):
		return failed
	case errors.As(err, &refused):
		return &RerunError{Code: string(refused.Code), Detail: refused.Detail}
	}
	return &RerunError{Code: Refused, Detail: err.Error()}
}

// Request is a rerun or a drop of a dead letter. It goes to the owner of its partition, the only writer of its row.
type Request struct {
	DeadLetter uuid.UUID   `json:"letter"`
	Tenant     uuid.UUID   `json:"tenant"`
	Actor      string      `json:"actor"`
	At         rpc.Instant `json:"at"`
	Rerun      bool        `json:"rerun,omitempty"` // false: drop
	Waiter     step.Waiter `json:"waiter,omitzero"`
}

// CommandRejected is the fact in the stream system/<partition>/<seq> of a command that could not be processed.
type CommandRejected struct {
	Kind       string `json:"kind"`
	Detail     string `json:"detail"`
	DeadLetter string `json:"letter"` // its id, also without a row
}

// DeadLetterRerun is the fact in the stream system/<partition>/<seq> that the command of a dead letter was rerun.
type DeadLetterRerun struct {
	DeadLetter string `json:"letter"`
	Reason     string `json:"reason"`           // of the dead letter before
	Outcome    string `json:"outcome"`          // "accepted": the dead letter is gone; else the code of what went wrong
	Detail     string `json:"detail,omitempty"` // of what went wrong
}

// DeadLetterDropped is the fact in the stream system/<partition>/<seq> that a dead letter was dropped.
type DeadLetterDropped struct {
	DeadLetter string `json:"letter"`
	Reason     string `json:"reason"` // of the dead letter
}
