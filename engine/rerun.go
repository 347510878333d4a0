package engine

import (
	"context"
	"errors"
	"fmt"

	"callchain/engine/bus"
	"callchain/engine/projection"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/eventstore"

	"github.com/google/uuid"
)

// ErrNoLetter: the tenant has no dead letter with this id (any more).
var ErrNoLetter = errors.New("there is no such dead letter")

// The codes of RerunError beside those of rpc.Refusal.
const (
	RerunUnreadable  = "command_unreadable" // nobody can read the letter's bytes
	RerunProcessed   = "already_processed"  // the events of the command are stored
	RerunNoCommand   = "not_a_command"      // a stream, or something that the owner had to do for itself
	RerunSessionOver = "session_over"       // it concerned a connection
	RerunNoDevice    = "device_not_found"
)

// RerunError: the command of a dead letter was not run, or it failed again. The letter is still there.
type RerunError struct{ Code, Detail string }

func (e *RerunError) Error() string { return e.Code + ": " + e.Detail }

// Rerun is a dead letter's command that was accepted.
type Rerun struct {
	Letter uuid.UUID
	Device uuid.UUID
	Kind   string    // of the command, as in the inbox
	Call   uuid.UUID // that the command asked for; uuid.Nil if it is none
}

// DeadLetterRerun is the fact in the stream system/<partition> that somebody ran the command of a dead letter again.
type DeadLetterRerun struct {
	Letter  string `json:"letter"`
	Reason  string `json:"reason"`           // of the letter before
	Outcome string `json:"outcome"`          // "accepted": the letter is gone; else the code of what went wrong
	Detail  string `json:"detail,omitempty"` // of what went wrong
}

// DeadLetterDropped is the fact in the stream system/<partition> that somebody dropped a dead letter.
type DeadLetterDropped struct {
	Letter string `json:"letter"`
	Reason string `json:"reason"` // of the letter
}

// wish is what a user wants of a dead letter. It goes to the owner, who alone changes rows.
type wish struct {
	Letter uuid.UUID   `json:"letter"`
	Tenant uuid.UUID   `json:"tenant"`
	Actor  string      `json:"actor"`
	At     rpc.Instant `json:"at"`
	Rerun  bool        `json:"rerun,omitempty"` // else it is to be dropped
	Waiter step.Waiter `json:"waiter,omitzero"`
}

// RerunDeadLetter steps the command of a dead letter once more, as it came: with its ids, its sender and its deadline. It returns when that is
// committed; the letter goes with it. Errors: ErrNoLetter, *RerunError (the letter stays), ErrBusy, ErrUnready, ErrStopping, ErrUncertain, or
// ctx's.
func (e *Engine) RerunDeadLetter(ctx context.Context, tenant, id uuid.UUID, actor string) (Rerun, error) {
	l, err := e.letter(ctx, tenant, id)
	if err != nil {
		return Rerun{}, err
	}
	cmd, err := l.again()
	if err != nil {
		return Rerun{}, err
	}
	out := Rerun{Letter: id, Device: cmd.Device, Kind: step.KindOf(cmd.Do)}
	switch do := cmd.Do.(type) {
	case step.Call:
		out.Call = do.ID
	case step.DeviceCall:
		out.Call = do.ID
	}
	return out, e.want(ctx, &l, cmd.Device, actor, true)
}

// DropDeadLetter removes a dead letter and returns when that is committed. Errors as of RerunDeadLetter.
func (e *Engine) DropDeadLetter(ctx context.Context, tenant, id uuid.UUID, actor string) error {
	l, err := e.letter(ctx, tenant, id)
	if err != nil {
		return err
	}
	return e.want(ctx, &l, l.Device, actor, false)
}

// letter reads a dead letter of a tenant. That a read fails is ErrBusy: nothing has happened.
func (e *Engine) letter(ctx context.Context, tenant, id uuid.UUID) (letter, error) {
	rows, err := e.store.Rows(ctx, eventstore.Query{Table: projection.DeadLetters, Limit: 1, Where: []eventstore.Cond{
		{Column: "id", Op: eventstore.Eq, Value: id}, {Column: "tenant", Op: eventstore.Eq, Value: tenant},
	}})
	if err != nil {
		return letter{}, fmt.Errorf("%w: reading dead letter %s: %w", ErrBusy, id, err)
	}
	if len(rows) == 0 {
		return letter{}, fmt.Errorf("%w: %s", ErrNoLetter, id)
	}
	l := readLetter(rows[0])
	if l.Partition < 0 || l.Partition >= e.config.Partitions {
		return letter{}, fmt.Errorf("dead letter %s: partition %d is not one of the %d of this installation", id, l.Partition, e.config.Partitions)
	}
	return l, nil
}

// want puts a wish to the owner and waits until what comes of it is committed. It is not written down on the way if the owner is in this
// process: who wants it waits for it, and finds the letter as it was if the process dies.
func (e *Engine) want(ctx context.Context, l *letter, device uuid.UUID, actor string, rerun bool) error {
	switch {
	case e.stopping.Load():
		return ErrStopping
	case len(e.troubles()) > 0:
		return ErrUnready
	}
	done := make(chan error, 1)
	w := wish{Letter: l.ID, Tenant: l.Tenant, Actor: actor, At: rpc.At(e.now()), Rerun: rerun}
	m := bus.Message{Partition: l.Partition, Lane: bus.RPC, Key: device, Fleeting: true, Value: w, Done: func(err error) { done <- err }}
	if err := e.putFleeting(m); err != nil {
		return e.refused(err)
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// grant does what a user wants of a dead letter.
func (o *owner) grant(m bus.Message, w wish) {
	defer func() { // behind what it released
		o.batch.messages = append(o.batch.messages, m)
		o.passed(m)
	}()
	if m.Done == nil {
		m.Done = func(error) {} // who wanted it is gone
	}
	l, err := o.letterOf(w)
	if err != nil {
		o.tell(m, err)
		return
	}
	if w.Rerun {
		o.tell(m, o.runAgain(m, w, l))
		return
	}
	part := &o.parts[l.Partition]
	o.stamp(part)
	o.appendSystem(part, eventstore.Event{
		Type: "DeadLetterDropped", Occurred: int64(w.At), Tenant: l.Tenant, Device: l.Device, Actor: w.Actor, Cause: "rest",
	}, DeadLetterDropped{Letter: l.ID.String(), Reason: l.Reason})
	o.removeLetter(part, l.ID)
	o.tell(m, nil)
}

// tell answers a sender, if there is one, when the batch is stored.
func (o *owner) tell(m bus.Message, err error) {
	if m.Done != nil {
		o.batch.done = append(o.batch.done, finished{m.Done, err, m.Partition})
	}
}

// letterOf reads the letter of a wish. One whose removal is not committed yet is gone.
func (o *owner) letterOf(w wish) (letter, error) {
	if _, gone := o.removed.get(w.Letter); gone {
		return letter{}, fmt.Errorf("%w: %s", ErrNoLetter, w.Letter)
	}
	return o.e.letter(context.Background(), w.Tenant, w.Letter)
}

func (o *owner) removeLetter(part *partition, id uuid.UUID) {
	pb := o.batch.part(part.cp)
	pb.Rows = append(pb.Rows, eventstore.Row{Table: projection.DeadLetters, Delete: true, Values: []any{id}})
	o.removed.set(id, struct{}{}, 1)
	o.letters.rows--
}

// runAgain steps a letter's command. What comes of it, the end of the letter and the fact that somebody wanted it are in one partition, and
// so in one append: the command is never run twice, and never lost.
func (o *owner) runAgain(m bus.Message, w wish, l letter) error {
	cmd, err := l.again()
	if err != nil {
		return err
	}
	d, err := o.deviceOf(context.Background(), cmd)
	switch {
	case errors.Is(err, errFetch):
		return fmt.Errorf("%w: %w", ErrBusy, err)
	case err == nil && d.Tenant != l.Tenant:
		err = ErrNoDevice
	}
	if err != nil {
		return o.failedAgain(&o.parts[l.Partition], w, l, &RerunError{Code: RerunNoDevice, Detail: fmt.Sprintf("there is no device %s", cmd.Device)})
	}
	o.release(cmd.Device)
	part := &o.parts[d.Partition]
	seq := part.cp.Seq
	err = o.outcome(m, cmd)
	switch {
	case errors.Is(err, errFetch):
		return fmt.Errorf("%w: %w", ErrBusy, err)
	case err != nil && part.cp.Seq == seq:
		return o.failedAgain(part, w, l, failure(err))
	}
	o.noteRerun(part, w, l, "accepted", "") // also a refusal that left facts: they are what became of the command
	o.removeLetter(part, l.ID)
	return nil
}

// outcome judges a letter's command and answers what its sender would be told.
func (o *owner) outcome(m bus.Message, cmd step.Command) error {
	o.rerunning = true
	defer func() { o.rerunning = false }()
	m.Key = cmd.Device
	told := len(o.batch.done)
	if err := o.judge(m, cmd); err != nil {
		return err
	}
	err := o.batch.done[told].err // each way through judge leaves one
	o.batch.done = o.batch.done[:told]
	return err
}

// failure is what its owner said of a command, as a user is told of it.
func failure(err error) *RerunError {
	var failed *RerunError
	var refused *rpc.Refusal
	switch {
	case errors.As(err, &failed):
		return failed
	case errors.As(err, &refused):
		return &RerunError{Code: string(refused.Code), Detail: refused.Detail}
	}
	return &RerunError{Code: letterRefused, Detail: err.Error()}
}

// failedAgain keeps a letter with what is the matter now.
func (o *owner) failedAgain(part *partition, w wish, l letter, failed *RerunError) error {
	before := l.Reason
	if l.Reason = letterRefused; failed.Code == letterRejected {
		l.Reason = letterRejected
	}
	o.stamp(part)
	l.Detail = failed.Detail
	o.writeLetter(part, l, true)
	l.Reason = before
	o.noteRerun(part, w, l, failed.Code, failed.Detail)
	return failed
}

// noteRerun writes down who wanted a rerun and what came of it.
func (o *owner) noteRerun(part *partition, w wish, l letter, outcome, detail string) {
	o.appendSystem(part, eventstore.Event{
		Type: "DeadLetterRerun", Occurred: int64(w.At), Tenant: l.Tenant, Device: l.Device, Actor: w.Actor, Cause: "rest",
	}, DeadLetterRerun{Letter: l.ID.String(), Reason: l.Reason, Outcome: outcome, Detail: brief(detail)})
}

// refusedByStore deals with a wish whose events the store refuses.
func (o *owner) refusedByStore(m bus.Message, w wish, cause error) {
	l, err := o.letterOf(w)
	if err == nil && !w.Rerun {
		err = cause
	}
	if err != nil {
		o.tell(m, err)
		return
	}
	failed := &RerunError{Code: letterRejected, Detail: cause.Error()}
	var conflict *eventstore.ConflictError
	if errors.As(cause, &conflict) {
		failed = &RerunError{Code: string(rpc.CodeKnown), Detail: "the id belongs to another call"}
	}
	o.tell(m, o.failedAgain(&o.parts[l.Partition], w, l, failed))
}
