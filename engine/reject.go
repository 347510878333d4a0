package engine

import (
	"encoding/json"
	"fmt"
	"reflect"

	"callchain/engine/bus"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/eventstore"
	"callchain/transports"

	"github.com/google/uuid"
)

// CommandRejected is the fact in the stream system/<partition> of a command that could not be processed.
type CommandRejected struct {
	Kind   string `json:"kind"`
	Detail string `json:"detail"`
	Letter string `json:"letter"` // id of the dead letter, also of one that found no room
}

// reject sets a command aside that panicked or whose events the store refuses: a fact in the system's stream, a dead letter, and
// the position moves on. A command of a dead letter stays in its letter.
func (o *owner) reject(m bus.Message, cmd step.Command, d Device, cause error) {
	if o.rerunning {
		o.tell(m, &RerunError{Code: letterRejected, Detail: cause.Error()})
		return
	}
	o.setAside(cmd, d, cause, false)
	o.tell(m, rejection(cmd, cause))
}

// rejection is what the sender of a rejected message is told.
func rejection(value any, cause error) error {
	if _, ok := value.(wish); ok {
		return &RerunError{Code: letterRejected, Detail: cause.Error()}
	}
	cmd, _ := value.(step.Command)
	if _, ok := cmd.Do.(step.Call); ok {
		return &rpc.Refusal{Code: letterRejected, Detail: cause.Error()}
	}
	return fmt.Errorf("%w: the command could not be processed: %w", transports.ErrRefused, cause)
}

// setAside writes the fact and the letter of a command that is rejected. processed: the command itself goes on, without its chain.
func (o *owner) setAside(cmd step.Command, d Device, cause error, processed bool) {
	o.e.metrics.rejected.Inc()
	part := &o.parts[d.Partition]
	o.stamp(part)
	cmd.At = part.lastAt
	id := o.deadLetter(part, letter{
		Tenant: d.Tenant, Device: cmd.Device, Reason: letterRejected, Detail: cause.Error(), Data: keep(cmd, processed).json(),
	})
	o.appendSystem(part, eventstore.Event{
		Type: "CommandRejected", Tenant: d.Tenant, Device: cmd.Device, Actor: cmd.Actor, Cause: cmd.Cause, Trace: cmd.Trace,
	}, CommandRejected{Kind: kindOf(cmd.Do), Detail: brief(cause.Error()), Letter: id.String()})
}

// stamp moves the time of a partition on to now.
func (o *owner) stamp(part *partition) { part.lastAt = max(rpc.At(o.e.now()), part.lastAt) }

// spoilt sets a message aside whose bytes nobody can read. They are kept in base64.
func (o *owner) spoilt(m bus.Message) {
	bad, ok := m.Value.(bus.Spoiled)
	if !ok {
		panic(fmt.Sprintf("engine: the inbox holds a %T", m.Value))
	}
	o.e.metrics.rejected.Inc()
	part := &o.parts[m.Partition]
	o.stamp(part)
	id := o.deadLetter(part, letter{Reason: letterUnreadable, Detail: bad.Err.Error(), Data: kept{Kind: "unreadable", Base64: bad.Bytes}.json()})
	o.appendSystem(part, eventstore.Event{
		Type: "CommandRejected", Tenant: o.e.config.Tenant, Actor: "unknown", Cause: "inbox",
	}, CommandRejected{Kind: "unreadable", Detail: brief(bad.Err.Error()), Letter: id.String()})
	o.batch.messages = append(o.batch.messages, m)
	o.passed(m)
}

// quarantine notes a stored stream that cannot be folded. It is found again at each start, and always under the same id.
func (o *owner) quarantine(part *partition, stream string, last eventstore.Event, cause error) {
	o.e.log.Error("a stream cannot be folded and is set aside", "stream", stream, "error", cause)
	o.stamp(part)
	o.deadLetter(part, letter{
		ID: uuid.NewSHA1(uuid.NameSpaceOID, []byte("callchain/quarantined/"+stream)), Tenant: last.Tenant, Device: last.Device,
		Reason: letterQuarantined, Detail: fmt.Sprintf("stream %s: %v", stream, cause), Data: kept{Kind: "stream", Stream: stream}.json(),
	})
}

// appendSystem adds a fact to the stream of the partition itself. Each is a stream of its own end: system/<partition>/<seq>.
func (o *owner) appendSystem(part *partition, e eventstore.Event, fact any) {
	data, err := json.Marshal(fact)
	if err != nil {
		panic(fmt.Sprintf("engine: %v", err)) // texts only
	}
	e.Actor, e.Cause = brief(e.Actor), brief(e.Cause) // a stranger's command has what it likes in them
	e.Stream, e.TypeVersion, e.At, e.Data = fmt.Sprintf("system/%d/%d", part.cp.Partition, part.cp.Seq+1), 1, int64(part.lastAt), data
	o.place(part, head{began: e.At}, e)
}

// kindOf names a command for metrics and logs.
func kindOf(do step.Action) string {
	if r, ok := do.(step.RPC); ok {
		return reflect.TypeOf(r.Do).Name()
	}
	return reflect.TypeOf(do).Name()
}
