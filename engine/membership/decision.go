package membership

import (
	"errors"
	"fmt"

	"callchain/engine/cluster"
	"callchain/engine/deadletter"
	"callchain/engine/rpc"
	"callchain/engine/wire"

	"github.com/google/uuid"
)

// namedErrors are the errors with names on the wire.
var namedErrors = map[string]error{
	"busy": wire.ErrBusy, "unready": wire.ErrUnready, "stopping": wire.ErrStopping, "uncertain": wire.ErrUncertain, "too_large": wire.ErrTooLarge,
	"no_letter": deadletter.ErrUnknown,
}

// decisionOf encodes a decision.
func decisionOf(waiter uuid.UUID, err error) *cluster.Decided {
	out := &cluster.Decided{Waiter: waiter}
	var refused *rpc.Refusal
	var failed *deadletter.RerunError
	switch {
	case err == nil:
	case errors.As(err, &refused):
		out.Code, out.Detail = string(refused.Code), refused.Detail
	case errors.As(err, &failed):
		out.Rerun, out.Code, out.Detail = true, failed.Code, failed.Detail
	default:
		out.Error = err.Error()
		for name, one := range namedErrors {
			if errors.Is(err, one) {
				out.Name = name
			}
		}
	}
	return out
}

// errorOf decodes the error of a decision.
func errorOf(d *cluster.Decided) error {
	switch {
	case d.Rerun:
		return &deadletter.RerunError{Code: d.Code, Detail: d.Detail}
	case d.Code != "":
		return &rpc.Refusal{Code: rpc.Code(d.Code), Detail: d.Detail}
	case d.Error == "":
		return nil
	}
	if one := namedErrors[d.Name]; one != nil {
		return fmt.Errorf("%w (the owner of the partition: %s)", one, d.Error)
	}
	return errors.New(d.Error)
}
