// Package deadletter defines dead letters, of commands that could not be processed and streams that cannot be folded: the row, the record
// on the topic, the payload, and the requests of users.
//
// It has no I/O. The owner decides when a dead letter is made.
package deadletter

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"callchain/engine/bus"
	"callchain/engine/projection"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/eventstore"

	"github.com/google/uuid"
)

// The reasons of dead letters, in addition to those of step.DeadLetter.
const (
	Rejected    = "command_rejected"   // the step panicked, or the store refuses its events
	Unreadable  = "command_unreadable" // bytes in the inbox that cannot be decoded
	Refused     = "command_refused"    // it was run again and refused
	Quarantined = "quarantined"        // a stored stream that cannot be folded
)

// Reasons are the reasons of new dead letters. A refused rerun makes no new one.
func Reasons() []string {
	return []string{Rejected, Unreadable, step.ReasonCausationLoop, step.ReasonChainGone, Quarantined}
}

// DeadLetter is a row of projection.DeadLetters; its JSON is the record on the topic.
type DeadLetter struct {
	ID        uuid.UUID       `json:"id"`
	Tenant    uuid.UUID       `json:"tenantId,omitzero"`
	Device    uuid.UUID       `json:"deviceId,omitzero"`
	Partition int32           `json:"partition"`
	At        projection.Time `json:"at"`
	Reason    string          `json:"reason"`
	Detail    string          `json:"detail"`
	Data      json.RawMessage `json:"data"` // Payload
}

// Row is the row of a dead letter.
func (d *DeadLetter) Row() eventstore.Row {
	return eventstore.Row{Table: projection.DeadLetters, Values: []any{
		d.ID, d.Tenant, d.Device, int64(d.Partition), int64(d.At), d.Reason, d.Detail, []byte(d.Data),
	}}
}

// Removal removes the row of a dead letter.
func Removal(id uuid.UUID) eventstore.Row {
	return eventstore.Row{Table: projection.DeadLetters, Delete: true, Values: []any{id}}
}

// Read reads a row that Row made.
func Read(row []any) DeadLetter {
	var d DeadLetter
	d.ID, _ = row[0].(uuid.UUID)
	d.Tenant, _ = row[1].(uuid.UUID)
	d.Device, _ = row[2].(uuid.UUID)
	partition, _ := row[3].(int64)
	at, _ := row[4].(int64)
	d.Partition, d.At = int32(partition), projection.Time(at)
	d.Reason, _ = row[5].(string)
	d.Detail, _ = row[6].(string)
	d.Data, _ = row[7].([]byte)
	return d
}

// Record is the record on the topic of dead letters.
func (d *DeadLetter) Record() bus.Record {
	value, err := json.Marshal(d)
	if err != nil {
		panic(fmt.Sprintf("deadletter: %v", err)) // its data was made by encoding/json
	}
	return bus.Record{Key: d.ID.String(), Headers: map[string]string{"reason": d.Reason}, Value: value}
}

// Payload is the command of a dead letter, readable and for a rerun.
type Payload struct {
	Kind      string          `json:"kind"` // as in the inbox; "unreadable", "stream"
	Actor     string          `json:"actor,omitempty"`
	Cause     string          `json:"cause,omitempty"`
	Processed bool            `json:"processed,omitempty"` // its events are stored; only a part of its chain's work is missing
	Stored    json.RawMessage `json:"stored,omitempty"`    // the command's encoding in the inbox, for a rerun
	Base64    []byte          `json:"base64,omitempty"`    // instead, if the bytes are not JSON in UTF-8
	Content   any             `json:"content,omitempty"`   // of a command of the owner itself; it cannot be rerun
	Stream    string          `json:"stream,omitempty"`    // that cannot be folded
	Truncated *Truncated      `json:"cut,omitempty"`       // Base64 holds the beginning only: the whole cannot be stored
}

// Truncated is the field of a payload that was too large, and its size.
type Truncated struct {
	What  string `json:"what"` // "stored", "base64" or "content"
	Bytes int    `json:"bytes"`
}

// truncatedTo is the size after truncation, in bytes.
const truncatedTo = 1 << 20

// briefMost bounds texts other than the command, in bytes: an error may quote a whole message.
const briefMost = 8 << 10

// Brief shortens and cleans a text so that a fact and a row can hold it.
func Brief(text string) string {
	if len(text) > briefMost {
		text = text[:briefMost] + "…"
	}
	return projection.Storable(strings.ToValidUTF8(text, "\uFFFD"))
}

// PayloadOf is the payload of a command. Its waiter is left out. processed: the events of the command are stored.
func PayloadOf(cmd step.Command, processed bool) Payload {
	cmd.Waiter = step.Waiter{}
	p := Payload{Kind: step.KindOf(cmd.Do), Actor: Brief(cmd.Actor), Cause: Brief(cmd.Cause), Processed: processed}
	stored, err := step.AppendCommand(nil, cmd)
	switch {
	case err == nil && utf8.Valid(stored):
		p.Stored = stored
	case err == nil:
		p.Base64 = stored
	case p.Kind == "": // it has no encoding for the inbox
		p.Kind, p.Content = step.NameOf(cmd.Do), content(cmd.Do)
	default: // a device's bytes that are not JSON
		if d, ok := cmd.Do.(step.Data); ok {
			p.Base64 = d.Payload
		} else {
			p.Content = fmt.Sprintf("%+q", fmt.Sprint(cmd.Do))
		}
	}
	return p
}

func content(do step.Action) any {
	if r, ok := do.(step.RPC); ok {
		return r.Do
	}
	return do
}

// JSON is the stored form, without the escapes for HTML. It is never larger than what can be stored.
func (p Payload) JSON() json.RawMessage {
	b := plainJSON(p)
	if len(b) > eventstore.MaxData {
		b = plainJSON(p.truncated())
	}
	return b
}

// truncated is the payload with only the first bytes of its command: enough to identify it, too few for a rerun.
func (p Payload) truncated() Payload {
	what, whole := "stored", []byte(p.Stored)
	switch {
	case whole == nil && p.Base64 != nil:
		what, whole = "base64", p.Base64
	case whole == nil:
		what, whole = "content", plainJSON(p.Content)
	}
	p.Stored, p.Content, p.Base64 = nil, nil, whole[:min(truncatedTo, len(whole))]
	p.Truncated = &Truncated{What: what, Bytes: len(whole)}
	return p
}

func plainJSON(v any) json.RawMessage {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return []byte("null") // the dead letter stays without it
	}
	return bytes.TrimSpace(buf.Bytes())
}

// Command is the command of a dead letter for a rerun, or *RerunError.
func (d *DeadLetter) Command() (step.Command, error) {
	var p Payload
	if err := json.Unmarshal(d.Data, &p); err != nil {
		return step.Command{}, &RerunError{Code: CodeUnreadable, Detail: err.Error()}
	}
	stored := []byte(p.Stored)
	if stored == nil {
		stored = p.Base64
	}
	switch {
	case p.Processed:
		return step.Command{}, &RerunError{Code: CodeProcessed, Detail: "the events of the command are stored, only a part of its chain's work is missing; fix the chain and drop the dead letter"}
	case p.Truncated != nil:
		return step.Command{}, &RerunError{Code: CodeUnreadable, Detail: fmt.Sprintf("the dead letter holds the first %d of %d bytes", len(stored), p.Truncated.Bytes)}
	case len(stored) == 0:
		return step.Command{}, &RerunError{Code: CodeNoCommand, Detail: "the dead letter holds no command that can be run again"}
	}
	cmd, err := step.ReadCommand(stored)
	if err != nil {
		return cmd, &RerunError{Code: CodeUnreadable, Detail: err.Error()}
	}
	if r, ok := cmd.Do.(step.RPC); ok {
		switch r.Do.(type) {
		case rpc.Connect, rpc.Subscribe, rpc.Unsubscribe, rpc.Disconnect:
			return cmd, &RerunError{Code: CodeSessionOver, Detail: "the command is about a connection that has ended"}
		}
	}
	return cmd, nil
}
