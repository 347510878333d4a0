package owner

import (
	"errors"
	"fmt"
	"slices"

	"callchain/chains"
	"callchain/engine/bus"
	"callchain/engine/deadletter"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/engine/wire"
	"callchain/eventstore"

	"github.com/google/uuid"
)

// ErrNoDevice: the device does not exist (any more).
var ErrNoDevice = errors.New("the device does not exist")

var errNoPartition = errors.New("the installation has no such partition")

// process decides a message whose partition is owned. It answers false if something must be read first; nothing has happened then, and current.want
// says what.
func (o *Owner) process(p *pending) bool {
	if o.processed(&p.Message) {
		return true
	}
	o.current = current{pending: p}
	if p.poison != nil {
		return o.processPoison(p)
	}
	switch v := p.Value.(type) {
	case step.Command:
		if o.lingers(p, &v) {
			return true
		}
		if !o.command(p, v) {
			return false
		}
	case deadletter.Request:
		if !o.request(p, &v) {
			return false
		}
	case wire.Confirm:
		o.confirm(&v, &o.parts[p.Partition])
	case callerWaiting:
		if !o.callerWaits(p, &v) {
			return false
		}
		o.parts[p.Partition].callers--
	case bus.Malformed:
		o.rejectMalformed(&p.Message, v)
	default:
		panic(fmt.Sprintf("owner: the inbox holds a %T", p.Value))
	}
	o.done(p)
	return true
}

// done notes that a message is in the batch.
func (o *Owner) done(p *pending) {
	o.gathering.messages = append(o.gathering.messages, *p)
	o.gathering.noteOldest(&p.Message)
	o.gathering.closed = o.gathering.closed || p.suspect
	o.passed(&p.Message)
}

// processed tells whether a message was processed before, by this owner or by another that had its partition meanwhile: the position says so.
func (o *Owner) processed(m *bus.Message) bool {
	at := o.parts[m.Partition].cp.Positions[m.Lane]
	return kept(m) && at.Topic == m.Place.Topic && m.Place.Offset < at.Offset
}

// passed moves the position of a partition behind a message.
func (o *Owner) passed(m *bus.Message) {
	if !kept(m) {
		return
	}
	part := &o.parts[m.Partition]
	if o.config.Shared {
		o.gathering.part(&part.cp) // what a sender is told, it is told by an owner that was none only if this append fails
	}
	part.cp.Positions[m.Lane] = eventstore.Position{Topic: m.Place.Topic, Offset: m.Place.Offset + 1}
	part.moved = true
}

// lingers lets a command wait for the next one of its device, if it only reports that a command left, which will be acknowledged or answered soon.
func (o *Owner) lingers(p *pending, cmd *step.Command) bool {
	r, ok := cmd.Do.(step.RPC)
	if !ok || p.lingered || kept(&p.Message) {
		return false
	}
	if _, ok = r.Do.(rpc.Written); !ok {
		return false
	}
	d := o.tables.devices[cmd.Device]
	if d == nil || d.partition != p.Partition {
		return false
	}
	o.tables.use(d)
	o.lingering.add(d, p.Message, o.now.Add(o.config.Linger))
	return true
}

// resumeLingering lets a device's facts wait no longer.
func (o *Owner) resumeLingering(d *device) {
	messages := d.lingering
	d.lingering = nil
	for i := range messages {
		o.lines.wake(o.lines.add(&pending{Message: messages[i], lingered: true}, false))
	}
	o.advanceLines()
}

// flushLingering processes a device's facts that must come before a message; false: something must be read first.
func (o *Owner) flushLingering(d *device, before *pending) bool {
	messages, was := d.lingering, o.current
	d.lingering = nil
	for i := range messages {
		p := pending{Message: messages[i], lingered: true, read: before.read}
		o.current = current{pending: &p}
		if !o.command(&p, p.Value.(step.Command)) {
			before.read, d.lingering = p.read, messages[i:]
			was.want, was.missing = o.current.want, true
			o.current = was
			return false
		}
		o.gathering.messages = append(o.gathering.messages, p)
	}
	o.current = was
	return true
}

// command decides a command; false: something must be read first.
func (o *Owner) command(p *pending, cmd step.Command) bool {
	d, err := o.deviceOf(p, &cmd)
	switch {
	case o.current.missing:
		return false
	case err != nil:
		o.refuse(&p.Message, err)
		return true
	}
	ok := p.Lane != bus.RPC || len(d.lingering) == 0 || o.flushLingering(d, p)
	ok = ok && o.commandOf(p, cmd, d)
	o.tables.rest(d, o.stored)
	return ok
}

// commandOf decides a command of a device that is in memory.
func (o *Owner) commandOf(p *pending, cmd step.Command, d *device) bool {
	part := &o.parts[d.partition]
	if part.state != owned || d.partition != p.Partition {
		o.refuse(&p.Message, wire.ErrUnready) // the device is in another partition now
		return true
	}
	cmd.Tenant = d.tenant
	if !o.lookUp(p, &cmd, d) {
		return false
	}
	o.stamp(part)
	cmd.Now, cmd.At = o.now, part.lastAt
	if cmd.Occurred == 0 {
		cmd.Occurred = cmd.Now
	}
	o.enterTrace(&cmd, d)
	if done, ok := o.repeated(p, &cmd, d); done || !ok {
		return ok
	}
	if o.undecided(&p.Message, &cmd, d, part) {
		return true
	}
	o.beginSpan(&cmd, d)
	return o.run(p, &cmd, d)
}

// stamp moves the time of a partition on to now. It never goes back.
func (o *Owner) stamp(part *partition) { part.lastAt = max(part.lastAt, o.now) }

// deviceOf is the device of a command. What is open of a device that was deleted still ends: its life cycle goes on, without a chain.
func (o *Owner) deviceOf(p *pending, cmd *step.Command) (*device, error) {
	d := o.tables.devices[cmd.Device]
	switch {
	case d == nil && p.read.noDevice:
		return nil, ErrNoDevice
	case d == nil && p.read.elsewhere:
		return nil, wire.ErrUnready
	}
	if d == nil {
		o.need(p, func(want *Read) { want.Device, want.Registry, want.State = cmd.Device, true, true })
		return nil, nil
	}
	o.tables.use(d)
	if cmd.Info != nil && cmd.Generation >= o.registry {
		d.info, d.generation, d.deleted = *cmd.Info, cmd.Generation, false
	}
	if d.generation < o.registry && !p.read.registry {
		o.need(p, func(want *Read) { want.Device, want.Registry = cmd.Device, true })
		return nil, nil
	}
	if _, life := cmd.Do.(step.RPC); d.deleted && !life {
		return nil, ErrNoDevice
	}
	return d, nil
}

// need adds to what must be read before the current message can be processed.
func (o *Owner) need(p *pending, add func(*Read)) {
	o.current.missing, o.current.want.Partition = true, p.Partition
	add(&o.current.want)
}

// run runs the step, and takes what comes of it into the batch.
func (o *Owner) run(p *pending, cmd *step.Command, d *device) bool {
	o.env.Info = d.info
	res, err := o.step(p, cmd, d)
	if _, life := cmd.Do.(step.RPC); life && err != nil {
		failed := err // a node of its chain: a call ends, even if its chain cannot hear of it
		o.env.Info.Chain, o.env.Pinned = nil, noChain
		if res, err = o.step(p, cmd, d); err == nil && res.Needs.None() {
			o.rejectCommand(cmd, d, failed, true)
			res.Effects = slices.DeleteFunc(res.Effects, func(e step.Effect) bool { // that a chain is missing, the dead letter says already
				_, letter := e.(step.DeadLetter)
				return letter
			})
		}
		o.env.Pinned = o.pinned
	}
	switch {
	case err != nil:
		o.reject(&p.Message, cmd, d, err)
	case !res.Needs.None():
		o.need(p, func(want *Read) {
			want.Tenant, want.Device, want.Values, want.Bodies, want.Chains = d.tenant, d.id, res.Needs.Values, res.Needs.Bodies, res.Needs.Chains
		})
		return false
	case len(o.bodiesNeeded(&res)) > 0:
		o.need(p, func(want *Read) { want.Tenant, want.Device, want.Bodies = d.tenant, d.id, o.bodiesNeeded(&res) })
		return false
	default:
		o.gathering.commands = append(o.gathering.commands, step.NameOf(cmd.Do))
		o.apply(&p.Message, cmd, d, &res)
	}
	return true
}

func noChain(step.Version) (*Program, bool) { return nil, true }

// step runs the pure step. A panic in it is an error of the command.
func (o *Owner) step(p *pending, cmd *step.Command, d *device) (res step.Result, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("the step panicked: %v", v)
			o.notice(Notice{Kind: NoticePanicked, Partition: d.partition, Device: d.id, Command: step.NameOf(cmd.Do), Err: err, Stack: o.config.Stack()})
		}
	}()
	o.nodes.Reset()
	res = step.Step(d.state, o.env, *cmd)
	if !res.Needs.None() {
		if p.read.rounds++; p.read.rounds > roundsMost {
			return res, errReadLoop
		}
	}
	return res, nil
}

// parked implements step.Env: a run that waits.
func (o *Owner) parked(run uuid.UUID) (step.Run, bool) {
	r := o.tables.runs[run]
	if r == nil {
		return step.Run{}, false
	}
	return r.run, true
}

// pinned implements step.Env: a version of a chain.
func (o *Owner) pinned(v step.Version) (*chains.Program, bool) {
	if p := o.config.Chain(v.Chain); p != nil && p.Version == v.Number {
		return p, true
	}
	return o.recent.chains.get(v)
}

// refuse answers a command that changes nothing. The answer leaves behind what was decided before.
func (o *Owner) refuse(m *bus.Message, err error) {
	var refusal *rpc.Refusal
	switch {
	case errors.Is(err, ErrNoDevice):
		err = &rpc.Refusal{Code: rpc.CodeUnknown, Detail: fmt.Sprintf("there is no device %s", m.Key)}
	case errors.As(err, &refusal):
		o.gathering.refusals = append(o.gathering.refusals, refusal.Code)
	}
	o.complete(m, err)
}

// complete tells the sender of a message what became of it, when the batch is stored.
func (o *Owner) complete(m *bus.Message, err error) {
	if o.current.rerun != nil {
		o.current.rerun.outcome = err
		return
	}
	if c := completionOf(m, err); c.Done != nil || c.Waiter.ID != uuid.Nil {
		o.gathering.completions = append(o.gathering.completions, c)
	}
}

func completionOf(m *bus.Message, err error) Completion {
	return Completion{Partition: m.Partition, Done: m.Done, Waiter: waiterOf(m.Value), Err: err}
}
