package engine

import (
	"encoding/json"
	"fmt"
	"reflect"

	"callchain/engine/bus"
	"callchain/engine/projection"
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
	Letter string `json:"letter"` // id of the dead letter
}

// reject sets a command aside that panicked or whose events the store refuses: a fact in the system's stream, a dead letter, and
// the position moves on.
func (o *owner) reject(m bus.Message, cmd step.Command, d Device, cause error) {
	o.e.metrics.rejected.Inc()
	part := &o.parts[d.Partition]
	at := max(rpc.At(o.e.now()), part.lastAt)
	part.lastAt = at
	cmd.At = at
	letter := o.deadLetter(part, d, cmd.Device, step.DeadLetter{Reason: "command_rejected", Detail: cause.Error(), Data: describe(cmd)})
	o.appendSystem(part, d, cmd, CommandRejected{Kind: kindOf(cmd.Do), Detail: cause.Error(), Letter: letter.String()})
	if m.Done == nil {
		return
	}
	err := fmt.Errorf("%w: the command could not be processed: %w", transports.ErrRefused, cause)
	if _, ok := cmd.Do.(step.Call); ok {
		err = &rpc.Refusal{Code: "command_rejected", Detail: cause.Error()}
	}
	o.batch.done = append(o.batch.done, finished{m.Done, err})
}

// spoilt sets a message aside whose bytes nobody can read. They are kept in base64.
func (o *owner) spoilt(m bus.Message) {
	bad, ok := m.Value.(bus.Spoiled)
	if !ok {
		panic(fmt.Sprintf("engine: the inbox holds a %T", m.Value))
	}
	o.e.metrics.rejected.Inc()
	part := &o.parts[m.Partition]
	part.lastAt = max(rpc.At(o.e.now()), part.lastAt)
	cmd := step.Command{Meta: rpc.Meta{At: part.lastAt, Actor: "unknown", Cause: "inbox"}}
	d := Device{Partition: m.Partition}
	data, err := json.Marshal(map[string][]byte{"base64": bad.Bytes})
	if err != nil {
		panic(fmt.Sprintf("engine: %v", err)) // bytes always have a base64 form
	}
	letter := o.deadLetter(part, d, uuid.Nil, step.DeadLetter{Reason: "command_unreadable", Detail: bad.Err.Error(), Data: data})
	o.appendSystem(part, d, cmd, CommandRejected{Kind: "unreadable", Detail: bad.Err.Error(), Letter: letter.String()})
	o.batch.messages = append(o.batch.messages, m)
	o.passed(m)
}

// appendSystem adds a fact to the stream of the partition itself. Each is a stream of its own end: system/<partition>/<seq>.
func (o *owner) appendSystem(part *partition, d Device, cmd step.Command, f CommandRejected) {
	data, err := json.Marshal(f)
	if err != nil {
		panic(fmt.Sprintf("engine: %v", err)) // texts only
	}
	o.place(part, head{began: int64(cmd.At)}, eventstore.Event{
		Stream: fmt.Sprintf("system/%d/%d", part.cp.Partition, part.cp.Seq+1), Type: "CommandRejected", TypeVersion: 1, At: int64(cmd.At),
		Tenant: d.Tenant, Device: cmd.Device, Actor: cmd.Actor, Cause: cmd.Cause, Trace: cmd.Trace, Data: data,
	})
}

// deadLetter stores what could not be processed.
func (o *owner) deadLetter(part *partition, d Device, device uuid.UUID, dl step.DeadLetter) uuid.UUID {
	o.e.metrics.deadLetter.WithLabelValues(dl.Reason).Inc()
	id := newID()
	data := dl.Data
	if !json.Valid(data) {
		data = []byte("null")
	}
	pb := o.batch.part(part.cp)
	pb.Rows = append(pb.Rows, eventstore.Row{Table: projection.DeadLetters, Values: []any{
		id, d.Tenant, device, int64(part.cp.Partition), int64(part.lastAt), dl.Reason, projection.Storable(dl.Detail), data,
	}})
	if o.e.relay != nil {
		o.batch.letters = append(o.batch.letters, letterRecord(letter{
			ID: id, Tenant: d.Tenant, Device: device, Partition: part.cp.Partition, At: projection.Time(part.lastAt), Reason: dl.Reason, Detail: dl.Detail, Data: data,
		}))
	}
	return id
}

// letter is a dead letter as others read it from its topic.
type letter struct {
	ID        uuid.UUID       `json:"id"`
	Tenant    uuid.UUID       `json:"tenantId,omitzero"`
	Device    uuid.UUID       `json:"deviceId,omitzero"`
	Partition int32           `json:"partition"`
	At        projection.Time `json:"at"`
	Reason    string          `json:"reason"`
	Detail    string          `json:"detail"`
	Data      json.RawMessage `json:"data"`
}

func letterRecord(l letter) bus.Record {
	value, err := json.Marshal(l)
	if err != nil {
		panic(fmt.Sprintf("engine: %v", err)) // its data was checked to be JSON
	}
	return bus.Record{Key: l.ID.String(), Headers: map[string]string{"reason": l.Reason}, Value: value}
}

// describe is a command as a dead letter keeps it. Bytes that are not JSON show in base64, as encoding/json has it.
func describe(cmd step.Command) []byte {
	b, err := json.Marshal(map[string]any{"kind": kindOf(cmd.Do), "actor": cmd.Actor, "cause": cmd.Cause, "command": fmt.Sprintf("%+q", fmt.Sprintf("%+v", cmd.Do))})
	if err != nil {
		return nil
	}
	return b
}

// kindOf names a command for metrics and logs.
func kindOf(do step.Action) string {
	if r, ok := do.(step.RPC); ok {
		return reflect.TypeOf(r.Do).Name()
	}
	return reflect.TypeOf(do).Name()
}
