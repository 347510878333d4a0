package owner

import (
	"errors"
	"fmt"
	"slices"

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

// process decides a message whose partition is owned. It returns false, without a change, if what dec.want names must be read first.
func (o *Owner) process(p *pending) bool {
	if !o.mem.processed(&p.Message) {
		if v, ok := p.Value.(wire.Confirm); ok {
			o.confirm(&v, &o.mem.parts[p.Partition])
		} else if !o.dec.decide(p) {
			return false
		}
		o.rec.recordProcessed(p)
	}
	return true
}

// decision is the state of deciding one message.
type decision struct {
	*recorder
	presence  *presence
	env       step.Env // of every step, but for the device
	pending   *pending
	lingering pending // of the device whose facts are processed first
	want      Read    // what is missing
	missing   bool
	rerun     *rerunOutcome // set while a dead letter's command is decided
}

func newDecision(rec *recorder, pre *presence) *decision {
	dec := &decision{recorder: rec, presence: pre}
	dec.env = step.Env{
		Run: rec.parked, Chain: rec.config.Chain, Pinned: rec.pinned, Values: dec.cachedValues, Body: rec.cachedBody, Ended: rec.endedState, NewID: rec.config.NewID,
		Trace: rec.nodes.Note,
	}
	return dec
}

// begin resets the decision for another message.
func (dec *decision) begin(p *pending) {
	dec.pending, dec.want, dec.missing, dec.rerun, dec.trace = p, Read{}, false, nil, step.TraceContext{}
}

// decide decides a message; false: something must be read first.
func (dec *decision) decide(p *pending) bool {
	dec.begin(p)
	if p.poison != nil {
		return dec.decidePoison(p)
	}
	switch v := p.Value.(type) {
	case step.Command:
		return dec.command(p, v)
	case deadletter.Request:
		return dec.decideRequest(p, &v)
	case callerWaiting:
		if !dec.callerWaits(p, &v) {
			return false
		}
		dec.parts[p.Partition].callers--
	case bus.Malformed:
		dec.rejectMalformed(&p.Message, v)
	default:
		panic(fmt.Sprintf("owner: the inbox holds a %T", p.Value))
	}
	return true
}

// recordProcessed adds a decided message to the batch.
func (rec *recorder) recordProcessed(p *pending) {
	rec.batch.messages = append(rec.batch.messages, *p)
	rec.batch.noteOldest(&p.Message)
	rec.batch.closed = rec.batch.closed || p.suspect
	rec.advancePosition(&p.Message)
}

// advancePosition moves the position of a partition past a message.
func (rec *recorder) advancePosition(m *bus.Message) {
	if !durable(m) {
		return
	}
	part := &rec.parts[m.Partition]
	if rec.config.Shared {
		rec.batch.part(&part.cp) // even an answer without events needs an append: it fails if this process has lost the partition
	}
	part.cp.Positions[m.Lane] = eventstore.Position{Topic: m.Place.Topic, Offset: m.Place.Offset + 1}
	part.moved = true
}

// flushLingering processes a device's lingering facts before a message; false: something must be read first.
func (dec *decision) flushLingering(d *device, before *pending) bool {
	messages := d.lingering
	d.lingering = nil
	for i := range messages {
		p := &dec.lingering
		*p = pending{Message: messages[i], read: before.read}
		dec.begin(p)
		if !dec.command(p, p.Value.(step.Command)) {
			before.read, d.lingering = p.read, messages[i:]
			return false // both wait for the same read
		}
		dec.batch.messages = append(dec.batch.messages, *p)
	}
	dec.begin(before)
	return true
}

// command decides a command; false: something must be read first.
func (dec *decision) command(p *pending, cmd step.Command) bool {
	d, err := dec.deviceOf(p, &cmd)
	switch {
	case dec.missing:
		return false
	case err != nil:
		dec.refuse(&p.Message, err)
		return true
	}
	ok := p.Lane != bus.RPC || len(d.lingering) == 0 || dec.flushLingering(d, p)
	ok = ok && dec.commandOf(p, cmd, d)
	dec.tables.retire(d, dec.stored)
	return ok
}

// commandOf decides a command of a device that is in memory.
func (dec *decision) commandOf(p *pending, cmd step.Command, d *device) bool {
	part := &dec.parts[d.partition]
	if part.state != owned || d.partition != p.Partition {
		dec.refuse(&p.Message, wire.ErrUnready) // the device is in another partition now
		return true
	}
	cmd.Tenant = d.tenant
	if !dec.lookUp(p, &cmd, d) {
		return false
	}
	dec.stamp(part)
	cmd.Now, cmd.At = dec.now, part.lastAt
	if cmd.Occurred == 0 {
		cmd.Occurred = cmd.Now
	}
	dec.enterTrace(&cmd, d)
	if done, ok := dec.answerRepeated(p, &cmd, d); done || !ok {
		return ok
	}
	if dec.refuseUnready(&p.Message, &cmd, d, part) {
		return true
	}
	dec.beginSpan(&cmd, d)
	return dec.run(p, &cmd, d)
}

// deviceOf is the device of a command. The open calls of a deleted device still end, without a chain.
func (dec *decision) deviceOf(p *pending, cmd *step.Command) (*device, error) {
	d := dec.tables.devices[cmd.Device]
	switch {
	case d == nil && p.read.noDevice:
		return nil, ErrNoDevice
	case d == nil && p.read.elsewhere:
		return nil, wire.ErrUnready
	}
	if d == nil {
		dec.need(p, func(want *Read) { want.Device, want.Registry, want.State = cmd.Device, true, true })
		return nil, nil
	}
	dec.tables.use(d)
	if cmd.Info != nil && cmd.Generation >= dec.registry {
		d.info, d.generation, d.deleted = *cmd.Info, cmd.Generation, false
	}
	if d.generation < dec.registry && !p.read.registry {
		dec.need(p, func(want *Read) { want.Device, want.Registry = cmd.Device, true })
		return nil, nil
	}
	if _, life := cmd.Do.(step.RPC); d.deleted && !life {
		return nil, ErrNoDevice
	}
	return d, nil
}

// need adds to what must be read before the current message can be decided.
func (dec *decision) need(p *pending, add func(*Read)) {
	dec.missing, dec.want.Partition = true, p.Partition
	add(&dec.want)
}

// run runs the step, and applies its result.
func (dec *decision) run(p *pending, cmd *step.Command, d *device) bool {
	dec.env.Info = d.info
	res, err := dec.step(p, cmd, d)
	if _, life := cmd.Do.(step.RPC); life && err != nil {
		failed := err // in a node of its chain: a call ends, even if its chain fails
		dec.env.Info.Chain, dec.env.Pinned = nil, noChain
		if res, err = dec.step(p, cmd, d); err == nil && res.Needs.None() {
			dec.rejectCommand(cmd, d, failed, true)
			res.Effects = slices.DeleteFunc(res.Effects, func(e step.Effect) bool { // the rejection's dead letter covers the missing chain
				_, isDeadLetter := e.(step.DeadLetter)
				return isDeadLetter
			})
		}
		dec.env.Pinned = dec.pinned
	}
	switch {
	case err != nil:
		dec.reject(&p.Message, cmd, d, err)
	case !res.Needs.None():
		dec.need(p, func(want *Read) {
			want.Tenant, want.Device, want.Values, want.Bodies, want.Chains = d.tenant, d.id, res.Needs.Values, res.Needs.Bodies, res.Needs.Chains
		})
		return false
	case len(dec.bodiesNeeded(&res)) > 0:
		dec.need(p, func(want *Read) { want.Tenant, want.Device, want.Bodies = d.tenant, d.id, dec.bodiesNeeded(&res) })
		return false
	default:
		dec.batch.commands = append(dec.batch.commands, step.NameOf(cmd.Do))
		dec.apply(&p.Message, cmd, d, &res)
	}
	return true
}

func noChain(step.Version) (*Program, bool) { return nil, true }

// step runs the pure step. A panic in it is an error of the command.
func (dec *decision) step(p *pending, cmd *step.Command, d *device) (res step.Result, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("the step panicked: %v", v)
			dec.notice(Notice{Kind: NoticePanicked, Partition: d.partition, Device: d.id, Command: step.NameOf(cmd.Do), Err: err, Stack: dec.config.Stack()})
		}
	}()
	dec.nodes.Reset()
	res = step.Step(d.state, dec.env, *cmd)
	if !res.Needs.None() {
		if p.read.rounds++; p.read.rounds > roundsMost {
			return res, errReadLoop
		}
	}
	return res, nil
}

// refuse answers a command that changes nothing. The answer is released after everything decided before.
func (dec *decision) refuse(m *bus.Message, err error) {
	var refusal *rpc.Refusal
	switch {
	case errors.Is(err, ErrNoDevice):
		err = &rpc.Refusal{Code: rpc.CodeUnknown, Detail: fmt.Sprintf("there is no device %s", m.Key)}
	case errors.As(err, &refusal):
		dec.batch.refusals = append(dec.batch.refusals, refusal.Code)
	}
	dec.complete(m, err)
}

// complete sends the result of a message to its sender, when the batch is stored.
func (dec *decision) complete(m *bus.Message, err error) {
	if dec.rerun != nil {
		dec.rerun.err = err
		return
	}
	if c := completionOf(m, err); c.Done != nil || c.Waiter.ID != uuid.Nil {
		dec.batch.completions = append(dec.batch.completions, c)
	}
}

func completionOf(m *bus.Message, err error) Completion {
	return Completion{Partition: m.Partition, Done: m.Done, Waiter: waiterOf(m.Value), Err: err}
}
