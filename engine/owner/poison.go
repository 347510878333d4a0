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

// deadLetterRows counts the dead letters with a row. Those of quarantined streams are counted only when partitions are loaded.
type deadLetterRows struct {
	rows    int64
	warned  rpc.Instant           // of the last warning that there is no room
	removed map[uuid.UUID]removal // while it is not stored
}

// removal is the batch that removes a dead letter of a partition.
type removal struct {
	partition int32
	batch     uint64
}

// forget drops removals.
func (l *deadLetterRows) forget(gone func(removal) bool) {
	for id, r := range l.removed {
		if gone(r) {
			delete(l.removed, id)
		}
	}
}

// reject rejects a command that panicked or whose events the store refuses: a fact in the system's stream, a dead letter, and the position moves on.
// The command of a rerun stays in its dead letter.
func (dec *decision) reject(m *bus.Message, cmd *step.Command, d *device, cause error) {
	if dec.rerun != nil {
		dec.complete(m, &deadletter.RerunError{Code: deadletter.Rejected, Detail: cause.Error()})
		return
	}
	dec.rejectCommand(cmd, d, cause, false)
	dec.complete(m, rejectionError(m.Value, cause))
}

// rejectionError is the error for the sender of a rejected message.
func rejectionError(value any, cause error) error {
	if _, ok := value.(deadletter.Request); ok {
		return &deadletter.RerunError{Code: deadletter.Rejected, Detail: cause.Error()}
	}
	cmd, _ := value.(step.Command)
	if _, ok := cmd.Do.(step.Call); ok {
		return &rpc.Refusal{Code: deadletter.Rejected, Detail: cause.Error()}
	}
	return fmt.Errorf("%w: the command could not be processed: %w", transports.ErrRefused, cause)
}

// rejectCommand writes the fact and the dead letter of a rejected command. processed: the command itself was applied, without its chain.
func (dec *decision) rejectCommand(cmd *step.Command, d *device, cause error, processed bool) {
	name := step.NameOf(cmd.Do)
	dec.notice(Notice{Kind: NoticeRejected, Command: name})
	part := &dec.parts[d.partition]
	dec.stamp(part)
	cmd.At = part.lastAt
	id := dec.deadLetter(part, deadletter.DeadLetter{
		Tenant: d.tenant, Device: cmd.Device, Reason: deadletter.Rejected, Detail: cause.Error(), Data: deadletter.PayloadOf(*cmd, processed).JSON(),
	})
	dec.placeSystem(part, eventstore.Event{
		Type: "CommandRejected", Tenant: d.tenant, Device: cmd.Device, Actor: cmd.Actor, Cause: cmd.Cause, Trace: cmd.Trace,
	}, deadletter.CommandRejected{Kind: name, Detail: deadletter.Brief(cause.Error()), DeadLetter: id.String()})
}

// rejectMalformed rejects a message that cannot be decoded.
func (dec *decision) rejectMalformed(m *bus.Message, bad bus.Malformed) {
	dec.notice(Notice{Kind: NoticeRejected, Command: nameOf(bad)})
	part := &dec.parts[m.Partition]
	dec.stamp(part)
	id := dec.deadLetter(part, deadletter.DeadLetter{
		Reason: deadletter.Unreadable, Detail: bad.Err.Error(), Data: deadletter.Payload{Kind: nameOf(bad), Base64: bad.Bytes}.JSON(),
	})
	dec.placeSystem(part, eventstore.Event{
		Type: "CommandRejected", Tenant: dec.config.Tenant, Actor: "unknown", Cause: "inbox",
	}, deadletter.CommandRejected{Kind: nameOf(bad), Detail: deadletter.Brief(bad.Err.Error()), DeadLetter: id.String()})
}

// recordCutOff stores the dead letter of chain work that was cut off.
func (rec *recorder) recordCutOff(part *partition, d *device, cmd *step.Command, dl *step.DeadLetter) {
	rec.deadLetter(part, deadletter.DeadLetter{
		Tenant: d.tenant, Device: cmd.Device, Reason: dl.Reason, Detail: dl.Detail, Data: deadletter.PayloadOf(*cmd, true).JSON(),
	})
}

// quarantine reports a stored stream that cannot be folded. Each start finds it again, so its dead letter has a fixed id.
func (rec *recorder) quarantine(part *partition, q *Quarantined) {
	rec.notice(Notice{Kind: NoticeQuarantined, Partition: part.number, Stream: q.Stream, Err: q.Err})
	rec.stamp(part)
	rec.deadLetter(part, deadletter.DeadLetter{
		ID: uuid.NewSHA1(uuid.NameSpaceOID, []byte("callchain/quarantined/"+q.Stream)), Tenant: q.Tenant, Device: q.Device,
		Reason: deadletter.Quarantined, Detail: fmt.Sprintf("stream %s: %v", q.Stream, q.Err), Data: deadletter.Payload{Kind: "stream", Stream: q.Stream}.JSON(),
	})
}

// placeSystem adds a fact about the partition itself. Each is a stream of its own.
func (rec *recorder) placeSystem(part *partition, e eventstore.Event, fact any) {
	data, err := json.Marshal(fact)
	if err != nil {
		panic(fmt.Sprintf("owner: %v", err)) // texts only
	}
	e.Actor, e.Cause = deadletter.Brief(e.Actor), deadletter.Brief(e.Cause) // an unknown sender may write any length
	e.Stream, e.TypeVersion, e.At, e.Data = projection.SystemStream(part.number, part.cp.Seq+1), 1, int64(part.lastAt), data
	rec.place(part, &projection.Head{Began: e.At}, e)
}

// deadLetter counts and stores a dead letter. One without an id gets one.
func (rec *recorder) deadLetter(part *partition, d deadletter.DeadLetter) uuid.UUID {
	rec.notice(Notice{Kind: NoticeDeadLetter, Reason: d.Reason})
	if d.ID == uuid.Nil {
		d.ID = rec.config.NewID()
	}
	rec.writeDeadLetter(part, d, rec.roomFor(d.Reason))
	return d.ID
}

// writeDeadLetter publishes a dead letter, and stores it if row is set. One without a tenant belongs to the tenant of the installation, so that somebody sees it.
func (rec *recorder) writeDeadLetter(part *partition, d deadletter.DeadLetter, row bool) {
	if d.Tenant == uuid.Nil {
		d.Tenant = rec.config.Tenant
	}
	d.Partition, d.At = part.number, projection.Time(part.lastAt)
	d.Detail = deadletter.Brief(d.Detail)
	rec.batch.bytes += len(d.Data)
	if row {
		pb := rec.batch.part(&part.cp)
		pb.Rows = append(pb.Rows, d.Row())
	}
	rec.batch.deadLetters = append(rec.batch.deadLetters, deadLetterRecord{part.number, d.Record()})
}

// roomFor reserves a row for a dead letter, or reports false if all are used. A quarantined stream always gets one: its id is fixed, so there are no more of them
// than streams.
func (rec *recorder) roomFor(reason string) bool {
	const warning = time.Minute
	most := int64(rec.config.DeadLetters)
	switch {
	case reason == deadletter.Quarantined:
		return true
	case rec.deadLetterRows.rows < most:
		rec.deadLetterRows.rows++
		return true
	case rec.deadLetterRows.warned == 0 || rec.now >= rec.deadLetterRows.warned.Add(warning):
		rec.deadLetterRows.warned = rec.now
		rec.notice(Notice{Kind: NoticeFull, Count: rec.deadLetterRows.rows, Most: most, Reason: reason})
	}
	rec.notice(Notice{Kind: NoticeNoRow, Reason: "no_room"})
	return false
}

// writeNodeTraces adds the node traces of a step to the batch.
func (rec *recorder) writeNodeTraces(part *partition, d *device, cmd *step.Command) {
	n := rec.nodes.Entries()
	if n == 0 {
		return
	}
	rows, dropped := rec.nodes.Rows(nodetrace.Most-rec.batch.nodeTraces, d.tenant, part.number, int64(cmd.At), rec.config.NewID)
	pb := rec.batch.part(&part.cp)
	pb.Rows = append(pb.Rows, rows...)
	rec.batch.nodeTraces += len(rows)
	rec.batch.Events += n // rows cost, too
	rec.nodes.Reset()
	if dropped > 0 {
		rec.notice(Notice{Kind: NoticeTracesDropped, Count: int64(dropped)})
	}
}

// rerunOutcome is the result of a dead letter's command.
type rerunOutcome struct {
	err error // for its sender
}

// decideRequest reruns or drops a dead letter; false: something must be read first.
func (dec *decision) decideRequest(p *pending, r *deadletter.Request) bool {
	if p.read.deadLetter == nil && !p.read.unknown {
		dec.need(p, func(want *Read) { want.Tenant, want.DeadLetter = r.Tenant, r.DeadLetter })
		return false
	}
	d := p.read.deadLetter
	if _, gone := dec.deadLetterRows.removed[r.DeadLetter]; gone || p.read.unknown {
		dec.complete(&p.Message, fmt.Errorf("%w: %s", deadletter.ErrUnknown, r.DeadLetter))
		return true
	}
	if r.Rerun {
		err, ok := dec.rerunCommand(p, r, d)
		if ok {
			dec.complete(&p.Message, err)
		}
		return ok
	}
	part := &dec.parts[p.Partition]
	dec.stamp(part)
	dec.placeSystem(part, eventstore.Event{
		Type: "DeadLetterDropped", Occurred: int64(r.At), Tenant: d.Tenant, Device: d.Device, Actor: r.Actor, Cause: "rest",
	}, deadletter.DeadLetterDropped{DeadLetter: d.ID.String(), Reason: d.Reason})
	dec.removeDeadLetter(part, d.ID)
	dec.complete(&p.Message, nil)
	return true
}

func (rec *recorder) removeDeadLetter(part *partition, id uuid.UUID) {
	pb := rec.batch.part(&part.cp)
	pb.Rows = append(pb.Rows, deadletter.Removal(id))
	if rec.deadLetterRows.removed == nil {
		rec.deadLetterRows.removed = map[uuid.UUID]removal{}
	}
	rec.deadLetterRows.removed[id] = removal{part.number, rec.number}
	rec.deadLetterRows.rows--
}

// rerunCommand runs the command of a dead letter. Its events, the removal of the dead letter and the fact of the rerun are in one partition, so in one append:
// the command is never run twice, and never lost. ok is false if something must be read first.
func (dec *decision) rerunCommand(p *pending, r *deadletter.Request, d *deadletter.DeadLetter) (err error, ok bool) {
	cmd, err := d.Command()
	if err != nil {
		return err, true
	}
	part := &dec.parts[p.Partition]
	dev, err := dec.deviceOf(p, &cmd)
	switch {
	case dec.missing:
		return nil, false
	case err != nil || dev.tenant != d.Tenant || dev.partition != p.Partition:
		return dec.failedAgain(part, r, d, &deadletter.RerunError{Code: deadletter.CodeNoDevice, Detail: fmt.Sprintf("there is no device %s", cmd.Device)}), true
	}
	if !dec.flushLingering(dev, p) {
		return nil, false
	}
	dec.rerun = &rerunOutcome{}
	seq := part.cp.Seq
	inner := pending{Message: p.Message, suspect: p.suspect, read: p.read}
	inner.Key, inner.Value, inner.Done = cmd.Device, cmd, nil
	if dec.pending = &inner; !dec.commandOf(&inner, cmd, dev) {
		p.read = inner.read
		return nil, false
	}
	err = dec.rerun.err
	dec.begin(p)
	if err != nil && part.cp.Seq == seq {
		return dec.failedAgain(part, r, d, deadletter.FailureOf(err)), true
	}
	dec.recordRerun(part, r, d, "accepted", "") // also for a refusal with events: these are the command's result
	dec.removeDeadLetter(part, d.ID)
	return nil, true
}

// failedAgain updates a dead letter with the new error.
func (dec *decision) failedAgain(part *partition, r *deadletter.Request, d *deadletter.DeadLetter, failed *deadletter.RerunError) error {
	updated := *d
	if updated.Reason = deadletter.Refused; failed.Code == deadletter.Rejected {
		updated.Reason = deadletter.Rejected
	}
	dec.stamp(part)
	updated.Detail = failed.Detail
	dec.writeDeadLetter(part, updated, true)
	dec.recordRerun(part, r, d, failed.Code, failed.Detail)
	return failed
}

// recordRerun records who asked for a rerun, and its outcome.
func (rec *recorder) recordRerun(part *partition, r *deadletter.Request, d *deadletter.DeadLetter, outcome, detail string) {
	rec.stamp(part)
	rec.placeSystem(part, eventstore.Event{
		Type: "DeadLetterRerun", Occurred: int64(r.At), Tenant: d.Tenant, Device: d.Device, Actor: r.Actor, Cause: "rest",
	}, deadletter.DeadLetterRerun{DeadLetter: d.ID.String(), Reason: d.Reason, Outcome: outcome, Detail: deadletter.Brief(detail)})
}

// decidePoison rejects a message whose events the store refuses, in a batch of its own: a second refusal can then only concern this message. It returns false if
// something must be read first.
func (dec *decision) decidePoison(p *pending) bool {
	dec.batch.rejection = rejectsCommand
	if p.skip {
		dec.batch.rejection = rejectsDeadLetter
		dec.skipPoison(p)
	} else if !dec.rejectPoison(p) {
		return false
	}
	return true
}

func (dec *decision) rejectPoison(p *pending) bool {
	var conflict *eventstore.ConflictError
	switch v := p.Value.(type) {
	case deadletter.Request:
		return dec.rejectRequest(p, &v)
	case step.Command:
		d, err := dec.deviceOf(p, &v)
		call, calls := v.Do.(step.Call)
		switch {
		case dec.missing:
			return false
		case err != nil:
			dec.refuse(&p.Message, err)
		case calls && errors.As(p.poison, &conflict):
			return dec.answerKnownCall(p, &v, d, &call)
		default:
			v.Tenant = d.tenant
			dec.reject(&p.Message, &v, d, p.poison)
		}
	default: // a malformed message whose dead letter was refused
		dec.batch.rejection = rejectsDeadLetter
		dec.skipPoison(p)
	}
	return true
}

// answerKnownCall answers a call whose id belongs to a stored call that is not in memory: the same content gets the same answer.
func (dec *decision) answerKnownCall(p *pending, cmd *step.Command, d *device, call *step.Call) bool {
	past, ended, ok := dec.lookUpEnded(p, d, call.ID)
	switch {
	case !ok:
		return false
	case ended && past.Call.Content == call.Content:
		_, ok = dec.answerAgain(p, cmd, d, &past.Call)
		return ok
	}
	dec.refuse(&p.Message, &rpc.Refusal{Code: rpc.CodeKnown, Detail: fmt.Sprintf("the id %s belongs to another call", call.ID)})
	return true
}

// rejectRequest rejects a dead-letter request whose events the store refuses.
func (dec *decision) rejectRequest(p *pending, r *deadletter.Request) bool {
	switch d := p.read.deadLetter; {
	case d == nil && !p.read.unknown:
		dec.need(p, func(want *Read) { want.Tenant, want.DeadLetter = r.Tenant, r.DeadLetter })
		return false
	case d == nil:
		dec.complete(&p.Message, fmt.Errorf("%w: %s", deadletter.ErrUnknown, r.DeadLetter))
	case !r.Rerun:
		dec.complete(&p.Message, p.poison)
	default:
		failed := &deadletter.RerunError{Code: deadletter.Rejected, Detail: p.poison.Error()}
		var conflict *eventstore.ConflictError
		if errors.As(p.poison, &conflict) {
			failed = &deadletter.RerunError{Code: string(rpc.CodeKnown), Detail: "the id belongs to another call"}
		}
		dec.complete(&p.Message, dec.failedAgain(&dec.parts[p.Partition], r, d, failed))
	}
	return true
}

// skipPoison drops a message whose dead letter the store refuses, too: the store would refuse it again and again.
func (dec *decision) skipPoison(p *pending) {
	dec.notice(Notice{Kind: NoticeNoRow, Reason: "refused"})
	dec.notice(Notice{Kind: NoticeSkipped, Command: nameOf(p.Value), Device: p.Key, Partition: p.Partition, Err: p.poison})
	dec.complete(&p.Message, rejectionError(p.Value, p.poison))
}
