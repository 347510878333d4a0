package recovery

import (
	"context"
	"errors"
	"fmt"

	"callchain/engine/deadletter"
	"callchain/engine/owner"
	"callchain/engine/projection"
	"callchain/engine/replay"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/eventstore"
	"callchain/nodes"

	"github.com/google/uuid"
)

// Answer executes a read of an owner. A failure is in its Err.
func (r *Reader) Answer(ctx context.Context, read *owner.Read) *owner.Answer {
	a := &owner.Answer{ID: read.ID, Generation: r.Registry.Generation()}
	for _, part := range []func(context.Context, *owner.Read, *owner.Answer) error{r.device, r.call, r.values, r.bodies, r.chains, r.deadLetter} {
		if a.Err = part(ctx, read, a); a.Err != nil {
			break
		}
	}
	return a
}

func (r *Reader) device(ctx context.Context, read *owner.Read, a *owner.Answer) error {
	if read.Registry {
		row, err := r.Registry.Device(ctx, read.Device)
		if err != nil {
			return fmt.Errorf("reading device %s: %w", read.Device, err)
		}
		a.Registry = &row
	}
	if !read.State {
		return nil
	}
	var err error
	a.State, err = r.state(ctx, read.Device)
	return err
}

// call reads a call that has ended, or the one that had a wire id last.
func (r *Reader) call(ctx context.Context, read *owner.Read, a *owner.Answer) error {
	call := read.Call
	if read.Wire != nil {
		var err error
		if call, err = r.callByWire(ctx, read); err != nil || call == uuid.Nil {
			return err
		}
	}
	if call == uuid.Nil {
		return nil
	}
	c, err := replay.Call(ctx, r.Store, projection.CallStream(read.Tenant, call), rpc.DefaultSettings())
	switch {
	case errors.Is(err, replay.ErrFold):
		return nil // it is damaged, so the answer is unknown
	case err != nil:
		return fmt.Errorf("reading call %s: %w", call, err)
	case c.State.Phase.Terminal():
		a.Call = &owner.EndedCall{Device: c.Device, Head: c.Head, Call: c.State, Body: c.Body, At: c.Ended}
	}
	return nil
}

// callByWire is the persistent call of a device that had a wire id last, uuid.Nil if there is none.
func (r *Reader) callByWire(ctx context.Context, read *owner.Read) (uuid.UUID, error) {
	rows, err := r.Store.Rows(ctx, projection.CallsByWire(read.Tenant, read.Device, *read.Wire))
	if err != nil {
		return uuid.Nil, fmt.Errorf("reading the calls of device %s with wire id %d: %w", read.Device, *read.Wire, err)
	}
	if len(rows) == 0 {
		return uuid.Nil, nil
	}
	call, _ := rows[0][1].(uuid.UUID)
	return call, nil
}

// values reads attributes and latest values. A key without a name stands for all of its scope.
func (r *Reader) values(ctx context.Context, read *owner.Read, a *owner.Answer) error {
	if read.Values != nil {
		a.Values = make(nodes.Values, len(read.Values))
	}
	for _, k := range read.Values {
		q := eventstore.Query{Table: projection.Latest, Where: []eventstore.Cond{{Column: "entity", Op: eventstore.Eq, Value: k.Entity.ID}}}
		if k.Scope != "" {
			q.Table = projection.Attributes
			q.Where = append(q.Where, eventstore.Cond{Column: "scope", Op: eventstore.Eq, Value: k.Scope})
		}
		if k.Name != "" {
			q.Where = append(q.Where, eventstore.Cond{Column: "key", Op: eventstore.Eq, Value: projection.Storable(k.Name)})
		}
		rows, err := r.Store.Rows(ctx, q)
		if err != nil {
			return fmt.Errorf("reading values of %s: %w", k.Entity.ID, err)
		}
		name, value, ts := q.Table.Index("key"), q.Table.Index("value"), q.Table.Index("ts")
		for _, row := range rows {
			one := k
			if k.Name == "" {
				one.Name, _ = row[name].(string)
			}
			json, _ := row[value].([]byte)
			a.Values[one] = nodes.Value{JSON: json, TS: number(row[ts])}
		}
	}
	return nil
}

// bodies reads bodies of calls. A damaged body is empty: the stream still has it.
func (r *Reader) bodies(ctx context.Context, read *owner.Read, a *owner.Answer) error {
	for _, call := range read.Bodies {
		body, err := r.Body(ctx, read.Tenant, call)
		if err != nil && !errors.Is(err, replay.ErrFold) {
			return err
		}
		if a.Bodies == nil {
			a.Bodies = map[uuid.UUID]rpc.Body{}
		}
		a.Bodies[call] = body
	}
	return nil
}

// Body reads the body of a call.
func (r *Reader) Body(ctx context.Context, tenant, call uuid.UUID) (rpc.Body, error) {
	c, err := replay.Call(ctx, r.Store, projection.CallStream(tenant, call), rpc.Settings{})
	if err != nil {
		return rpc.Body{}, fmt.Errorf("reading the body of call %s: %w", call, err)
	}
	return c.Body, nil
}

// DeliveryBody reads the body of a call for a delivery; damaged: its stream cannot be folded.
func (r *Reader) DeliveryBody(ctx context.Context, tenant, call uuid.UUID) (body rpc.Body, damaged bool, err error) {
	body, err = r.Body(ctx, tenant, call)
	if errors.Is(err, replay.ErrFold) {
		return body, true, nil
	}
	return body, false, err
}

func (r *Reader) chains(ctx context.Context, read *owner.Read, a *owner.Answer) error {
	for _, v := range read.Chains {
		program, err := r.Registry.Version(ctx, v)
		if err != nil {
			return fmt.Errorf("reading version %d of chain %s: %w", v.Number, v.Chain, err)
		}
		if a.Chains == nil {
			a.Chains = map[step.Version]*owner.Program{}
		}
		a.Chains[v] = program
	}
	return nil
}

func (r *Reader) deadLetter(ctx context.Context, read *owner.Read, a *owner.Answer) (err error) {
	if read.DeadLetter != uuid.Nil {
		a.DeadLetter, err = r.DeadLetter(ctx, read.Tenant, read.DeadLetter)
	}
	return err
}

// DeadLetter reads a dead letter of a tenant, nil if it does not exist.
func (r *Reader) DeadLetter(ctx context.Context, tenant, id uuid.UUID) (*deadletter.DeadLetter, error) {
	rows, err := r.Store.Rows(ctx, eventstore.Query{Table: projection.DeadLetters, Limit: 1, Where: []eventstore.Cond{
		{Column: "id", Op: eventstore.Eq, Value: id}, {Column: "tenant", Op: eventstore.Eq, Value: tenant},
	}})
	if err != nil {
		return nil, fmt.Errorf("reading dead letter %s: %w", id, err)
	}
	if len(rows) == 0 {
		return nil, nil
	}
	d := deadletter.Read(rows[0])
	return &d, nil
}
