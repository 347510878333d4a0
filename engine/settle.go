package engine

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"

	"callchain/chains"
	"callchain/engine/bus"
	"callchain/engine/rpc"
	"callchain/engine/step"

	"github.com/google/uuid"
)

// settle steps a command that is whole, and takes what comes of it into the batch.
func (o *owner) settle(ctx context.Context, m bus.Message, cmd step.Command, device Device) error {
	res, err := o.stepWith(ctx, cmd, o.env(device))
	if _, life := cmd.Do.(step.RPC); life && err != nil && !errors.Is(err, errFetch) {
		broken := err // the chain's part of it
		if res, err = o.stepWith(ctx, cmd, withoutChains(o.env(device))); err == nil {
			o.setAside(cmd, device, broken, true)
			res.Effects = slices.DeleteFunc(res.Effects, func(e step.Effect) bool { // that a chain is missing, the letter says already
				_, letter := e.(step.DeadLetter)
				return letter
			})
		}
	}
	switch {
	case errors.Is(err, errFetch):
		return err
	case err != nil:
		o.reject(m, cmd, device, err)
		return nil
	}
	o.e.metrics.commands.inc(kindOf(cmd.Do))
	o.take(ctx, m, cmd, device, res)
	return nil
}

// stepWith runs the pure step; what it needs is fetched and the step is run again.
func (o *owner) stepWith(ctx context.Context, cmd step.Command, env step.Env) (res step.Result, err error) {
	defer func() {
		if p := recover(); p != nil {
			o.e.log.Error("a command panicked and is rejected", "command", kindOf(cmd.Do), "device", cmd.Device, "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("the step panicked: %v", p)
		}
	}()
	const attempts = 8
	for range attempts {
		o.tracer.begin()
		res = step.Step(o.state.Devices[cmd.Device], env, cmd)
		if res.Needs.None() {
			return res, nil
		}
		if err := o.fetch(ctx, cmd.Tenant, res.Needs.Values, res.Needs.Bodies); err != nil {
			return res, fmt.Errorf("%w: fetching what the chain reads: %w", errFetch, err)
		}
	}
	return res, errors.New("the chain reads ever more values; is it reading in a loop?")
}

func (o *owner) env(d Device) step.Env {
	return step.Env{
		Info: d.Info, Run: o.state.run, Chain: o.e.directory.Chain, NewID: newID, Trace: o.tracer.note,
		Pinned: func(v step.Version) (*chains.Program, bool) { return o.e.directory.Pinned(v.Chain, v.Number), true },
		Values: o.valuesAtHand,
		Body:   o.e.bodies.get,
		Ended: func(call uuid.UUID) rpc.Call {
			past, ended := o.pastOf(call)
			if _, open := o.calls[call]; open && !ended { // of another device: a chain must not take its id
				return rpc.Call{ID: call, Phase: rpc.PhaseRequested}
			}
			return past.call
		},
	}
}

// withoutChains keeps the life cycle going when a node has panicked on its way: a call ends, even if its chain cannot hear of it.
func withoutChains(env step.Env) step.Env {
	env.Info.Chain = nil
	env.Pinned = func(step.Version) (*chains.Program, bool) { return nil, true }
	return env
}
