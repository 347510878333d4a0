package owner

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"callchain/engine/bus"
	"callchain/engine/deadletter"
	"callchain/engine/nodetrace"
	"callchain/engine/projection"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/eventstore"
	"callchain/transports"

	"github.com/google/uuid"
)

// letters is how many dead letters have a row. Those of quarantined streams are counted when partitions are loaded only.
type letters struct {
	rows    int64
	warned  rpc.Instant           // that there is no room
	removed map[uuid.UUID]removal // while it is not stored
}

// removal is the batch that removes a dead letter of a partition.
type removal struct {
	partition int32
	batch     uint64
}

// forget drops removals.
func (l *letters) forget(gone func(removal) bool) {
	for id, r := range l.removed {
		if gone(r) {
			delete(l.removed, id)
		}
	}
}

// reject sets a command aside that panicked or whose events the store refuses: a fact in the system's stream, a dead letter, and the position moves on.
// A command of a dead letter stays in it.
func (o *Owner) reject(m *bus.Message, cmd *step.Command, d *device, cause error) {
	if o.current.rerun != nil {
		o.complete(m, &deadletter.RerunError{Code: deadletter.Rejected, Detail: cause.Error()})
		return
	}
	o.rejectCommand(cmd, d, cause, false)
	o.complete(m, rejection(m.Value, cause))
}

// rejection is what the sender of a rejected message is told.
func rejection(value any, cause error) error {
	if _, ok := value.(deadletter.Request); ok {
		return &deadletter.RerunError{Code: deadletter.Rejected, Detail: cause.Error()}
	}
	cmd, _ := value.(step.Command)
	if _, ok := cmd.Do.(step.Call); ok {
		return &rpc.Refusal{Code: deadletter.Rejected, Detail: cause.Error()}
	}
	return fmt.Errorf("%w: the command could not be processed: %w", transports.ErrRefused, cause)
}

// rejectCommand writes the fact and the dead letter of a command that is rejected. processed: the command itself goes on, without its chain.
func (o *Owner) rejectCommand(cmd *step.Command, d *device, cause error, processed bool) {
	name := step.NameOf(cmd.Do)
	o.notice(Notice{Kind: NoticeRejected, Command: name})
	part := &o.parts[d.partition]
	o.stamp(part)
	cmd.At = part.lastAt
	id := o.deadLetter(part, deadletter.DeadLetter{
		Tenant: d.tenant, Device: cmd.Device, Reason: deadletter.Rejected, Detail: cause.Error(), Data: deadletter.PayloadOf(*cmd, processed).JSON(),
	})
	o.placeSystem(part, eventstore.Event{
		Type: "CommandRejected", Tenant: d.tenant, Device: cmd.Device, Actor: cmd.Actor, Cause: cmd.Cause, Trace: cmd.Trace,
	}, deadletter.CommandRejected{Kind: name, Detail: deadletter.Brief(cause.Error()), DeadLetter: id.String()})
}

// rejectMalformed sets a message aside that cannot be decoded.
func (o *Owner) rejectMalformed(m *bus.Message, bad bus.Malformed) {
	o.notice(Notice{Kind: NoticeRejected, Command: nameOf(bad)})
	part := &o.parts[m.Partition]
	o.stamp(part)
	id := o.deadLetter(part, deadletter.DeadLetter{
		Reason: deadletter.Unreadable, Detail: bad.Err.Error(), Data: deadletter.Payload{Kind: nameOf(bad), Base64: bad.Bytes}.JSON(),
	})
	o.placeSystem(part, eventstore.Event{
		Type: "CommandRejected", Tenant: o.config.Tenant, Actor: "unknown", Cause: "inbox",
	}, deadletter.CommandRejected{Kind: nameOf(bad), Detail: deadletter.Brief(bad.Err.Error()), DeadLetter: id.String()})
}

// cutOff stores the dead letter of a part of a chain's work that was cut off.
func (o *Owner) cutOff(part *partition, d *device, cmd *step.Command, dl *step.DeadLetter) {
	o.deadLetter(part, deadletter.DeadLetter{
		Tenant: d.tenant, Device: cmd.Device, Reason: dl.Reason, Detail: dl.Detail, Data: deadletter.PayloadOf(*cmd, true).JSON(),
	})
}

// quarantine notes a stored stream that cannot be folded. It is found again at each start, and always under the same id.
func (o *Owner) quarantine(part *partition, q *Quarantined) {
	o.notice(Notice{Kind: NoticeQuarantined, Partition: part.number, Stream: q.Stream, Err: q.Err})
	o.stamp(part)
	o.deadLetter(part, deadletter.DeadLetter{
		ID: uuid.NewSHA1(uuid.NameSpaceOID, []byte("callchain/quarantined/"+q.Stream)), Tenant: q.Tenant, Device: q.Device,
		Reason: deadletter.Quarantined, Detail: fmt.Sprintf("stream %s: %v", q.Stream, q.Err), Data: deadletter.Payload{Kind: "stream", Stream: q.Stream}.JSON(),
	})
}

// placeSystem adds a fact about the partition itself. Each is a stream of its own.
func (o *Owner) placeSystem(part *partition, e eventstore.Event, fact any) {
	data, err := json.Marshal(fact)
	if err != nil {
		panic(fmt.Sprintf("owner: %v", err)) // texts only
	}
	e.Actor, e.Cause = deadletter.Brief(e.Actor), deadletter.Brief(e.Cause) // a stranger's command has what it likes in them
	e.Stream, e.TypeVersion, e.At, e.Data = projection.SystemStream(part.number, part.cp.Seq+1), 1, int64(part.lastAt), data
	o.place(part, &projection.Head{Began: e.At}, e)
}

// deadLetter counts and stores what could not be processed. One without an id gets one.
func (o *Owner) deadLetter(part *partition, d deadletter.DeadLetter) uuid.UUID {
	o.notice(Notice{Kind: NoticeDeadLetter, Reason: d.Reason})
	if d.ID == uuid.Nil {
		d.ID = o.config.NewID()
	}
	o.writeDeadLetter(part, d, o.roomFor(d.Reason))
	return d.ID
}

// writeDeadLetter publishes a dead letter, and stores it if it has a row. One without a tenant belongs to the tenant of the installation, so that somebody sees it.
func (o *Owner) writeDeadLetter(part *partition, d deadletter.DeadLetter, row bool) {
	if d.Tenant == uuid.Nil {
		d.Tenant = o.config.Tenant
	}
	d.Partition, d.At = part.number, projection.Time(part.lastAt)
	d.Detail = deadletter.Brief(d.Detail)
	o.gathering.bytes += len(d.Data)
	if row {
		pb := o.gathering.part(&part.cp)
		pb.Rows = append(pb.Rows, d.Row())
	}
	o.gathering.deadLetters = append(o.gathering.deadLetters, published{part.number, d.Record()})
}

// roomFor tells whether another dead letter gets a row, and takes the room. A quarantined stream's always does: it is found at each start under the same id, so that
// there are no more of them than streams.
func (o *Owner) roomFor(reason string) bool {
	const warning = time.Minute
	most := int64(o.config.DeadLetters)
	switch {
	case reason == deadletter.Quarantined:
		return true
	case o.letters.rows < most:
		o.letters.rows++
		return true
	case o.letters.warned == 0 || o.now >= o.letters.warned.Add(warning):
		o.letters.warned = o.now
		o.notice(Notice{Kind: NoticeFull, Count: o.letters.rows, Most: most, Reason: reason})
	}
	o.notice(Notice{Kind: NoticeNoRow, Reason: "no_room"})
	return false
}

// writeNodeTraces brings what the nodes of a step did into the batch.
func (o *Owner) writeNodeTraces(part *partition, d *device, cmd *step.Command) {
	n := o.nodes.Entries()
	if n == 0 {
		return
	}
	rows, dropped := o.nodes.Rows(nodetrace.Most-o.gathering.nodeTraces, d.tenant, part.number, int64(cmd.At), o.config.NewID)
	pb := o.gathering.part(&part.cp)
	pb.Rows = append(pb.Rows, rows...)
	o.gathering.nodeTraces += len(rows)
	o.gathering.Events += n // rows cost, too
	o.nodes.Reset()
	if dropped > 0 {
		o.notice(Notice{Kind: NoticeTracesDropped, Count: int64(dropped)})
	}
}

// rerun is the dead letter whose command is processed.
type rerun struct {
	outcome error // what its sender would be told
}

// request does what a user asks of a dead letter; false: something must be read first.
func (o *Owner) request(p *pending, r *deadletter.Request) bool {
	if p.read.deadLetter == nil && !p.read.unknown {
		o.need(p, func(want *Read) { want.Tenant, want.DeadLetter = r.Tenant, r.DeadLetter })
		return false
	}
	d := p.read.deadLetter
	if _, gone := o.letters.removed[r.DeadLetter]; gone || p.read.unknown {
		o.complete(&p.Message, fmt.Errorf("%w: %s", deadletter.ErrUnknown, r.DeadLetter))
		return true
	}
	if r.Rerun {
		err, ok := o.rerunCommand(p, r, d)
		if ok {
			o.complete(&p.Message, err)
		}
		return ok
	}
	part := &o.parts[p.Partition]
	o.stamp(part)
	o.placeSystem(part, eventstore.Event{
		Type: "DeadLetterDropped", Occurred: int64(r.At), Tenant: d.Tenant, Device: d.Device, Actor: r.Actor, Cause: "rest",
	}, deadletter.DeadLetterDropped{DeadLetter: d.ID.String(), Reason: d.Reason})
	o.removeDeadLetter(part, d.ID)
	o.complete(&p.Message, nil)
	return true
}

func (o *Owner) removeDeadLetter(part *partition, id uuid.UUID) {
	pb := o.gathering.part(&part.cp)
	pb.Rows = append(pb.Rows, deadletter.Removal(id))
	if o.letters.removed == nil {
		o.letters.removed = map[uuid.UUID]removal{}
	}
	o.letters.removed[id] = removal{part.number, o.number}
	o.letters.rows--
}

// rerunCommand runs the command of a dead letter. What comes of it, the end of the dead letter and the fact that somebody asked for it are in one partition, and
// so in one append: the command is never run twice, and never lost. ok is false if something must be read first.
func (o *Owner) rerunCommand(p *pending, r *deadletter.Request, d *deadletter.DeadLetter) (err error, ok bool) {
	cmd, err := d.Command()
	if err != nil {
		return err, true
	}
	part := &o.parts[p.Partition]
	dev, err := o.deviceOf(p, &cmd)
	switch {
	case o.current.missing:
		return nil, false
	case err != nil || dev.tenant != d.Tenant || dev.partition != p.Partition:
		return o.failedAgain(part, r, d, &deadletter.RerunError{Code: deadletter.CodeNoDevice, Detail: fmt.Sprintf("there is no device %s", cmd.Device)}), true
	}
	if !o.flushLingering(dev, p) {
		return nil, false
	}
	was := o.current
	o.current.rerun = &rerun{}
	seq := part.cp.Seq
	inner := pending{Message: p.Message, suspect: p.suspect, read: p.read}
	inner.Key, inner.Value, inner.Done = cmd.Device, cmd, nil
	if o.current.pending = &inner; !o.commandOf(&inner, cmd, dev) {
		p.read = inner.read
		return nil, false
	}
	err = o.current.rerun.outcome
	o.current = was
	if err != nil && part.cp.Seq == seq {
		return o.failedAgain(part, r, d, deadletter.FailureOf(err)), true
	}
	o.noteRerun(part, r, d, "accepted", "") // also a refusal that left facts: they are what became of the command
	o.removeDeadLetter(part, d.ID)
	return nil, true
}

// failedAgain keeps a dead letter with what is wrong now.
func (o *Owner) failedAgain(part *partition, r *deadletter.Request, d *deadletter.DeadLetter, failed *deadletter.RerunError) error {
	kept := *d
	if kept.Reason = deadletter.Refused; failed.Code == deadletter.Rejected {
		kept.Reason = deadletter.Rejected
	}
	o.stamp(part)
	kept.Detail = failed.Detail
	o.writeDeadLetter(part, kept, true)
	o.noteRerun(part, r, d, failed.Code, failed.Detail)
	return failed
}

// noteRerun writes down who asked for a rerun and what came of it.
func (o *Owner) noteRerun(part *partition, r *deadletter.Request, d *deadletter.DeadLetter, outcome, detail string) {
	o.stamp(part)
	o.placeSystem(part, eventstore.Event{
		Type: "DeadLetterRerun", Occurred: int64(r.At), Tenant: d.Tenant, Device: d.Device, Actor: r.Actor, Cause: "rest",
	}, deadletter.DeadLetterRerun{DeadLetter: d.ID.String(), Reason: d.Reason, Outcome: outcome, Detail: deadletter.Brief(detail)})
}

// processPoison deals with the one message whose events the store refuses. What becomes of it is stored in a batch of its own: if that is refused, too, nobody else is
// blamed, and if it fails, the message is processed again. It answers false if something must be read first.
func (o *Owner) processPoison(p *pending) bool {
	o.gathering.rejects = rejected
	if p.skip {
		o.gathering.rejects = skipped
		o.skip(p)
	} else if !o.rejectPoison(p) {
		return false
	}
	o.done(p)
	return true
}

func (o *Owner) rejectPoison(p *pending) bool {
	var conflict *eventstore.ConflictError
	switch v := p.Value.(type) {
	case deadletter.Request:
		return o.rejectRequest(p, &v)
	case step.Command:
		d, err := o.deviceOf(p, &v)
		call, calls := v.Do.(step.Call)
		switch {
		case o.current.missing:
			return false
		case err != nil:
			o.refuse(&p.Message, err)
		case calls && errors.As(p.poison, &conflict):
			return o.known(p, &v, d, &call)
		default:
			v.Tenant = d.tenant
			o.reject(&p.Message, &v, d, p.poison)
		}
	default: // what cannot be decoded: its dead letter was refused
		o.gathering.rejects = skipped
		o.skip(p)
	}
	return true
}

// known answers a call whose id belongs to a stored call that this owner did not know of: what asks for the same gets the same answer.
func (o *Owner) known(p *pending, cmd *step.Command, d *device, call *step.Call) bool {
	past, ended, ok := o.past(p, d, call.ID)
	switch {
	case !ok:
		return false
	case ended && past.Call.Content == call.Content:
		_, ok = o.answerAgain(p, cmd, d, &past.Call)
		return ok
	}
	o.refuse(&p.Message, &rpc.Refusal{Code: rpc.CodeKnown, Detail: fmt.Sprintf("the id %s belongs to another call", call.ID)})
	return true
}

// rejectRequest deals with a request about a dead letter whose events the store refuses.
func (o *Owner) rejectRequest(p *pending, r *deadletter.Request) bool {
	switch d := p.read.deadLetter; {
	case d == nil && !p.read.unknown:
		o.need(p, func(want *Read) { want.Tenant, want.DeadLetter = r.Tenant, r.DeadLetter })
		return false
	case d == nil:
		o.complete(&p.Message, fmt.Errorf("%w: %s", deadletter.ErrUnknown, r.DeadLetter))
	case !r.Rerun:
		o.complete(&p.Message, p.poison)
	default:
		failed := &deadletter.RerunError{Code: deadletter.Rejected, Detail: p.poison.Error()}
		var conflict *eventstore.ConflictError
		if errors.As(p.poison, &conflict) {
			failed = &deadletter.RerunError{Code: string(rpc.CodeKnown), Detail: "the id belongs to another call"}
		}
		o.complete(&p.Message, o.failedAgain(&o.parts[p.Partition], r, d, failed))
	}
	return true
}

// skip gives up a message of which the store refuses the dead letter, too: anything else would be refused for ever.
func (o *Owner) skip(p *pending) {
	o.notice(Notice{Kind: NoticeNoRow, Reason: "refused"})
	o.notice(Notice{Kind: NoticeSkipped, Command: nameOf(p.Value), Device: p.Key, Partition: p.Partition, Err: p.poison})
	o.complete(&p.Message, rejection(p.Value, p.poison))
}
