package sim

import (
	"errors"
	"slices"
	"time"

	"callchain/engine/bus"
	"callchain/engine/owner"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/engine/wire"
	"callchain/transports"

	"github.com/google/uuid"
)

type wireCaller = wire.Caller

// put gives a command to the owner of a device. done is called with the decision, and may be nil.
func (p *process) put(device uuid.UUID, partition int32, priority bool, do step.Action, done func(error)) {
	cmd := p.command(device, do)
	if p.w.bus != nil && p.owner.Epoch(partition) > 0 && ephemeral(do) {
		done = p.expect(step.NameOf(do), done)
		if err := p.inbox.Put(bus.Message{Partition: partition, Lane: bus.RPC, Key: device, Value: cmd, Priority: priority, Ephemeral: true, Done: done}); err != nil {
			done(err)
		}
		return
	}
	p.putCommand(partition, priority, cmd, done)
}

// undecided is a command without a result for its sender.
type undecided struct {
	name  string
	since rpc.Instant
}

// expect notes a command whose sender must get one result.
func (p *process) expect(name string, done func(error)) func(error) {
	one := &undecided{name, p.w.now}
	p.undecided = append(p.undecided, one)
	return func(err error) {
		i := slices.Index(p.undecided, one)
		if i < 0 {
			p.w.fail("the sender of %s at %s hears of it twice", name, p.name)
			return
		}
		p.undecided = slices.Delete(p.undecided, i, i+1)
		if done != nil {
			done(err)
		}
	}
}

func (p *process) command(device uuid.UUID, do step.Action) step.Command {
	return step.Command{Meta: rpc.Meta{Occurred: p.now(), Actor: "sim", Cause: transports.MQTT}, Device: device, Do: do}
}

// ephemeral reports whether a command concerns a session of its process, and is lost with it.
func ephemeral(do step.Action) bool {
	r, ok := do.(step.RPC)
	if !ok {
		return false
	}
	switch r.Do.(type) {
	case rpc.Connect, rpc.Subscribe, rpc.Unsubscribe, rpc.Disconnect, rpc.Written, rpc.Acknowledged, rpc.SendFailed:
		return true
	}
	return false
}

// putCommand puts a command into the inbox. Its sender gets the decision, or after a timeout ErrUncertain.
func (p *process) putCommand(partition int32, priority bool, cmd step.Command, done func(error)) {
	const timeout = 30 * time.Second
	m := bus.Message{Partition: partition, Lane: bus.RPC, Key: cmd.Device, Priority: priority}
	if p.w.bus == nil {
		m.Done = done
	} else {
		cmd.Waiter = step.Waiter{Node: p.name}
		if done != nil {
			cmd.Waiter.ID = p.w.id()
			p.decisions[cmd.Waiter.ID] = done
			p.after(timeout, func() { p.decided(cmd.Waiter.ID, wire.ErrUncertain) })
		}
	}
	m.Value = cmd
	if err := p.inbox.Put(m); err != nil && done != nil {
		delete(p.decisions, cmd.Waiter.ID)
		done(err)
	}
}

// putValue puts a message for the owner itself, with retries until the inbox takes it.
func (p *process) putValue(partition int32, value any) {
	if err := p.inbox.Put(bus.Message{Partition: partition, Lane: bus.RPC, Priority: true, Value: value}); err != nil && !errors.Is(err, bus.ErrClosed) {
		p.after(100*time.Millisecond, func() { p.putValue(partition, value) })
	}
}

// dispatch dispatches one effect, here and to other processes.
func (p *process) dispatch(fx *owner.Effect) {
	if len(fx.To) == 0 {
		p.receive(fx)
		return
	}
	one := *fx
	for _, to := range fx.To {
		if to == p.name {
			p.receive(&one)
		} else {
			p.send(to, func(q *process) { q.receive(&one) })
		}
	}
}

// receive takes an effect for the sessions and callers here.
func (p *process) receive(fx *owner.Effect) {
	switch do := fx.Do.(type) {
	case step.Deliver:
		p.deliver(&do, fx)
	case step.NotifyCallers:
		p.w.promises.notified(p, &do)
		for _, c := range slices.Clone(p.callers) {
			if c.call.id == do.Call && (c.accepted || slices.Equal(c.call.content(), fx.Content)) {
				c.answer(do.Phase)
			}
		}
	case step.CloseSession:
		if s := p.sessions[do.Session]; s != nil {
			s.device.lose("closed by the server: " + do.Why)
		}
	}
}

// deliver hands a command to a device; some are lost on the way.
func (p *process) deliver(do *step.Deliver, fx *owner.Effect) {
	s := p.sessions[do.Session.ID]
	switch {
	case fx.Epoch < p.epochs[fx.Partition]:
		return // its successor sends it again, if it is still due
	case s == nil:
		p.put(do.Device, fx.Partition, true, step.RPC{Do: rpc.Disconnect{Session: do.Session.ID, Why: string(transports.ReasonNodeLost)}}, nil)
		return
	}
	this := attempt{do.Call.ID, do.Call.Attempt}
	if s.given[this] {
		return
	}
	s.given[this] = true
	if do.Call.Expires <= p.now() || !p.w.calm() && p.w.chance(5) {
		return
	}
	one := do.Delivery
	p.w.after(p.w.within(20*time.Millisecond), func() { s.device.receive(s, one) })
}

// sessionsIn are the sessions of a partition's devices, in order.
func (p *process) sessionsIn(partition int32) (out []*session) {
	for _, d := range p.w.devices {
		if s := d.session; s != nil && s.process == p && d.partition == partition {
			out = append(out, s)
		}
	}
	return out
}

// callersIn are those who wait here for calls in a partition.
func (p *process) callersIn(partition int32) (out []wireCaller) {
	for _, c := range p.callers {
		if c.call.device.partition == partition {
			out = append(out, wireCaller{Tenant: tenant, Device: c.call.device.id, Call: c.call.id, Content: c.call.content()})
		}
	}
	return out
}
