package engine

import (
	"context"
	"fmt"

	"callchain/engine/bus"
	"callchain/engine/deadletter"
	"callchain/engine/step"

	"github.com/google/uuid"
)

// Rerun is a dead letter's command that was accepted.
type Rerun struct {
	DeadLetter uuid.UUID
	Device     uuid.UUID
	Kind       string    // of the command, as in the inbox
	Call       uuid.UUID // that the command asked for; uuid.Nil if it is none
}

// RerunDeadLetter runs the command of a dead letter unchanged, with its ids, its sender and its deadline. It returns when the result is stored and the dead letter
// removed. Errors: deadletter.ErrUnknown, *deadletter.RerunError (the dead letter stays), ErrBusy, ErrUnready, ErrStopping, ErrUncertain, or ctx's.
func (e *Engine) RerunDeadLetter(ctx context.Context, tenant, id uuid.UUID, actor string) (Rerun, error) {
	d, err := e.deadLetter(ctx, tenant, id)
	if err != nil {
		return Rerun{}, err
	}
	cmd, err := d.Command()
	if err != nil {
		return Rerun{}, err
	}
	out := Rerun{DeadLetter: id, Device: cmd.Device, Kind: step.KindOf(cmd.Do)}
	switch do := cmd.Do.(type) {
	case step.Call:
		out.Call = do.ID
	case step.DeviceCall:
		out.Call = do.ID
	}
	return out, e.request(ctx, d, cmd.Device, actor, true)
}

// DropDeadLetter removes a dead letter and returns when that is stored. Errors as of RerunDeadLetter.
func (e *Engine) DropDeadLetter(ctx context.Context, tenant, id uuid.UUID, actor string) error {
	d, err := e.deadLetter(ctx, tenant, id)
	if err != nil {
		return err
	}
	return e.request(ctx, d, d.Device, actor, false)
}

// deadLetter reads a dead letter of a tenant. A failed read is ErrBusy: nothing has happened.
func (e *Engine) deadLetter(ctx context.Context, tenant, id uuid.UUID) (*deadletter.DeadLetter, error) {
	d, err := e.reader.DeadLetter(ctx, tenant, id)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrBusy, err)
	case d == nil:
		return nil, fmt.Errorf("%w: %s", deadletter.ErrUnknown, id)
	case d.Partition < 0 || d.Partition >= e.config.Partitions:
		return nil, fmt.Errorf("dead letter %s: partition %d is not one of the %d of this installation", id, d.Partition, e.config.Partitions)
	}
	return d, nil
}

// request sends a request about a dead letter to the owner, and waits until the result is stored. It is ephemeral if the owner is in this process: the user waits, and
// a crash leaves the dead letter unchanged.
func (e *Engine) request(ctx context.Context, d *deadletter.DeadLetter, device uuid.UUID, actor string, rerun bool) error {
	if err := e.serving(); err != nil {
		return err
	}
	done := make(chan error, 1)
	err := e.sender.PutEphemeral(bus.Message{
		Partition: d.Partition, Lane: bus.RPC, Key: device, Done: func(err error) { done <- err },
		Value: deadletter.Request{DeadLetter: d.ID, Tenant: d.Tenant, Actor: actor, At: instant(), Rerun: rerun},
	})
	if err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
