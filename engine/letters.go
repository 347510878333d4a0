package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"callchain/engine/bus"
	"callchain/engine/projection"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/eventstore"

	"github.com/google/uuid"
)

// The reasons of dead letters.
const (
	letterRejected    = "command_rejected"   // the step panicked, or the store refuses its events
	letterUnreadable  = "command_unreadable" // bytes in the inbox that nobody can read
	letterRefused     = "command_refused"    // it was run again and refused
	letterQuarantined = "quarantined"        // a stored stream that cannot be folded
)

// letter is a dead letter: its row, and what others read from its topic.
type letter struct {
	ID        uuid.UUID       `json:"id"`
	Tenant    uuid.UUID       `json:"tenantId,omitzero"`
	Device    uuid.UUID       `json:"deviceId,omitzero"`
	Partition int32           `json:"partition"`
	At        projection.Time `json:"at"`
	Reason    string          `json:"reason"`
	Detail    string          `json:"detail"`
	Data      json.RawMessage `json:"data"` // kept
}

// kept is the command of a dead letter, for people to read and to be run again.
type kept struct {
	Kind      string          `json:"kind"` // as in the inbox; "unreadable", "stream"
	Actor     string          `json:"actor,omitempty"`
	Cause     string          `json:"cause,omitempty"`
	Processed bool            `json:"processed,omitempty"` // its events are stored; what is missing is a part of its chain's work
	Stored    json.RawMessage `json:"stored,omitempty"`    // as the inbox has it: from it the command is run again
	Base64    []byte          `json:"base64,omitempty"`    // instead, if the bytes are no JSON in UTF-8
	Content   any             `json:"content,omitempty"`   // of a command that the owner made itself; it cannot be run again
	Stream    string          `json:"stream,omitempty"`    // that cannot be folded
	Cut       *cut            `json:"cut,omitempty"`       // base64 holds the beginning only: the whole cannot be stored
}

// cut says what of a letter was too large, and how large it was.
type cut struct {
	What  string `json:"what"` // "stored", "base64" or "content"
	Bytes int    `json:"bytes"`
}

// cutTo is how many bytes are left of what is too large.
const cutTo = 1 << 20

// briefMost bounds a text beside the command, in bytes. Errors quote what they are about, and that may be a whole message.
const briefMost = 8 << 10

// brief is a text from anywhere as a fact and a row can hold it.
func brief(text string) string {
	if len(text) > briefMost {
		text = text[:briefMost] + "…"
	}
	return projection.Storable(strings.ToValidUTF8(text, "\uFFFD"))
}

// keep is a command as a letter has it. Who waited for it is left out: nobody does any more.
func keep(cmd step.Command, processed bool) kept {
	cmd.Waiter = step.Waiter{}
	k := kept{Kind: step.KindOf(cmd.Do), Actor: brief(cmd.Actor), Cause: brief(cmd.Cause), Processed: processed}
	stored, err := step.AppendCommand(nil, cmd)
	switch {
	case err == nil && utf8.Valid(stored):
		k.Stored = stored
	case err == nil:
		k.Base64 = stored
	case k.Kind == "": // it does not travel
		k.Kind, k.Content = kindOf(cmd.Do), content(cmd.Do)
	default: // bytes of a device are no JSON
		if d, ok := cmd.Do.(step.Data); ok {
			k.Base64 = d.Payload
		} else {
			k.Content = fmt.Sprintf("%+q", fmt.Sprint(cmd.Do))
		}
	}
	return k
}

func content(do step.Action) any {
	if r, ok := do.(step.RPC); ok {
		return r.Do
	}
	return do
}

// json is the stored form; what somebody said is kept as it was said, without the escapes for HTML. It is never larger than what can be stored.
func (k kept) json() json.RawMessage {
	b := plainJSON(k)
	if len(b) > eventstore.MaxData {
		b = plainJSON(k.shortened())
	}
	return b
}

// shortened is the letter with the first bytes of its command: enough to see what it was, too few to run it again.
func (k kept) shortened() kept {
	what, whole := "stored", []byte(k.Stored)
	switch {
	case whole == nil && k.Base64 != nil:
		what, whole = "base64", k.Base64
	case whole == nil:
		what, whole = "content", plainJSON(k.Content)
	}
	k.Stored, k.Content, k.Base64 = nil, nil, whole[:min(cutTo, len(whole))]
	k.Cut = &cut{What: what, Bytes: len(whole)}
	return k
}

func plainJSON(v any) json.RawMessage {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return []byte("null") // the letter stays without it
	}
	return bytes.TrimSpace(buf.Bytes())
}

// deadLetter counts and stores what could not be processed. A letter without an id gets one; one without a tenant belongs to the tenant of the
// installation, so that somebody sees it.
func (o *owner) deadLetter(part *partition, l letter) uuid.UUID {
	o.e.metrics.deadLetter.WithLabelValues(l.Reason).Inc()
	if l.ID == uuid.Nil {
		l.ID = newID()
	}
	o.writeLetter(part, l, o.roomFor(l.Reason))
	return l.ID
}

// writeLetter lets others read a letter, and stores it if it has a row.
func (o *owner) writeLetter(part *partition, l letter, row bool) {
	if l.Tenant == uuid.Nil {
		l.Tenant = o.e.config.Tenant
	}
	l.Partition, l.At = part.cp.Partition, projection.Time(part.lastAt)
	l.Detail = brief(l.Detail)
	o.batch.bytes += len(l.Data)
	if row {
		pb := o.batch.part(part.cp)
		pb.Rows = append(pb.Rows, eventstore.Row{Table: projection.DeadLetters, Values: []any{
			l.ID, l.Tenant, l.Device, int64(l.Partition), int64(l.At), l.Reason, l.Detail, []byte(l.Data),
		}})
	}
	if o.e.relay != nil {
		o.batch.letters = append(o.batch.letters, letterRecord(l))
	}
}

// letterRoom is how many dead letters have a row. Those of quarantined streams are counted when the partitions are claimed only.
type letterRoom struct {
	rows   int64
	warned time.Time // that there is no room
}

// countLetters counts the rows of dead letters.
func (o *owner) countLetters(ctx context.Context) (err error) {
	if o.letters.rows, err = o.e.store.Count(ctx, eventstore.Query{Table: projection.DeadLetters}); err != nil {
		return fmt.Errorf("counting the dead letters: %w", err)
	}
	return nil
}

// roomFor tells whether another dead letter gets a row, and takes the room. A quarantined stream's always does: it is found at each start under
// the same id, so that there are no more of them than streams.
func (o *owner) roomFor(reason string) bool {
	const warning = time.Minute
	most := int64(o.e.config.DeadLetters)
	switch now := o.e.now(); {
	case reason == letterQuarantined:
		return true
	case o.letters.rows < most:
		o.letters.rows++
		return true
	case now.Sub(o.letters.warned) >= warning:
		o.letters.warned = now
		o.e.log.Warn("there is no room for dead letters: look at them, and run them again or drop them", "waiting", o.letters.rows, "wanted", most, "reason", reason)
	}
	o.e.metrics.unstored.WithLabelValues(reasonNoRoom).Inc()
	return false
}

func letterRecord(l letter) bus.Record {
	value, err := json.Marshal(l)
	if err != nil {
		panic(fmt.Sprintf("engine: %v", err)) // its data was made by encoding/json
	}
	return bus.Record{Key: l.ID.String(), Headers: map[string]string{"reason": l.Reason}, Value: value}
}

// readLetter reads a row of projection.DeadLetters.
func readLetter(row []any) letter {
	var l letter
	l.ID, _ = row[0].(uuid.UUID)
	l.Tenant, _ = row[1].(uuid.UUID)
	l.Device, _ = row[2].(uuid.UUID)
	l.Partition, l.At = int32(asInt(row[3])), projection.Time(asInt(row[4]))
	l.Reason, _ = row[5].(string)
	l.Detail, _ = row[6].(string)
	l.Data, _ = row[7].([]byte)
	return l
}

// again is the command of a letter, to be stepped once more; *RerunError if it cannot be.
func (l *letter) again() (step.Command, error) {
	var k kept
	if err := json.Unmarshal(l.Data, &k); err != nil {
		return step.Command{}, &RerunError{Code: RerunUnreadable, Detail: err.Error()}
	}
	stored := []byte(k.Stored)
	if stored == nil {
		stored = k.Base64
	}
	switch {
	case k.Processed:
		return step.Command{}, &RerunError{Code: RerunProcessed, Detail: "the command was processed, only a part of its chain's work was cut off; mend the chain and drop the letter"}
	case k.Cut != nil:
		return step.Command{}, &RerunError{Code: RerunUnreadable, Detail: fmt.Sprintf("the letter holds the first %d of %d bytes", len(stored), k.Cut.Bytes)}
	case len(stored) == 0:
		return step.Command{}, &RerunError{Code: RerunNoCommand, Detail: "the letter holds no command that can be run again"}
	}
	v, err := Codec{}.Decode(stored)
	if err != nil {
		return step.Command{}, &RerunError{Code: RerunUnreadable, Detail: err.Error()}
	}
	cmd, _ := v.(step.Command)
	if r, ok := cmd.Do.(step.RPC); ok {
		switch r.Do.(type) {
		case rpc.Connect, rpc.Subscribe, rpc.Unsubscribe, rpc.Disconnect:
			return cmd, &RerunError{Code: RerunSessionOver, Detail: "the command concerns a connection that is over"}
		}
	}
	return cmd, nil
}
