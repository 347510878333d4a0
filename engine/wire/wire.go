// Package wire encodes the messages in the inbox of a partition: commands, and messages for the owner itself.
package wire

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"callchain/engine/bus"
	"callchain/engine/deadletter"
	"callchain/engine/step"

	"github.com/google/uuid"
)

// The headers of a command in the inbox, for readers that do not decode it.
const (
	HeaderKind   = "callchain-command"
	HeaderDevice = "callchain-device"
	HeaderTrace  = "callchain-trace" // 32 hex digits
	HeaderParent = "traceparent"     // W3C trace context of the sender's span
)

// Confirm says that all connections of a process in a partition stand before it in the inbox. The owner waits for
// the Confirm of each process before it treats a device as offline.
type Confirm struct {
	Process   string   `json:"process"`
	Partition int32    `json:"partition"`
	Epoch     int64    `json:"epoch"` // of the claim that it answers
	Callers   []Caller `json:"callers,omitempty"`
}

// Caller is a call whose caller waits in a process.
type Caller struct {
	Tenant  uuid.UUID `json:"tenant"`
	Device  uuid.UUID `json:"device"`
	Call    uuid.UUID `json:"call"`
	Content []byte    `json:"content"` // digest of what the caller asked for
}

// The kinds of messages for the owner itself.
const (
	kindConfirm    = "node_confirms"
	kindDeadLetter = "dead_letter"
)

// Codec is the form of messages in an inbox outside the process.
type Codec struct{}

var _ bus.Codec = Codec{}

// Encode implements bus.Codec.
func (Codec) Encode(value any) ([]byte, map[string]string, error) {
	switch value.(type) {
	case Confirm:
		return encode(kindConfirm, value)
	case deadletter.Request:
		return encode(kindDeadLetter, value)
	}
	cmd, ok := value.(step.Command)
	if !ok {
		return nil, nil, fmt.Errorf("%T has no encoding for the inbox", value)
	}
	b, err := step.AppendCommand(make([]byte, 0, 512), cmd)
	if err != nil {
		return nil, nil, err
	}
	headers := map[string]string{HeaderKind: step.KindOf(cmd.Do)}
	if cmd.Device != uuid.Nil {
		headers[HeaderDevice] = cmd.Device.String()
	}
	if cmd.Trace != [16]byte{} {
		headers[HeaderTrace] = hex.EncodeToString(cmd.Trace[:])
	}
	if parent := step.Traceparent(cmd.Trace, cmd.Span); parent != "" {
		headers[HeaderParent] = parent
	}
	return b, headers, nil
}

// Decode implements bus.Codec.
func (Codec) Decode(b []byte) (any, error) {
	switch {
	case bytes.HasPrefix(b, begin(kindConfirm)):
		return decode[Confirm](b)
	case bytes.HasPrefix(b, begin(kindDeadLetter)):
		return decode[deadletter.Request](b)
	}
	cmd, err := step.ReadCommand(b)
	if err != nil {
		return nil, err
	}
	return cmd, nil
}

// form is the encoding of a message for the owner itself.
type form[M any] struct {
	Version int    `json:"v"`
	Kind    string `json:"kind"`
	Note    M      `json:"note"`
}

func begin(kind string) []byte {
	return fmt.Appendf(nil, `{"v":%d,"kind":%q,"note":`, step.WireVersion, kind)
}

func encode(kind string, value any) ([]byte, map[string]string, error) {
	b, err := json.Marshal(form[any]{step.WireVersion, kind, value})
	if err != nil {
		return nil, nil, fmt.Errorf("encoding a %s: %w", kind, err)
	}
	return b, map[string]string{HeaderKind: kind}, nil
}

func decode[M any](b []byte) (any, error) {
	var f form[M]
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("reading a message to the owner: %w", err)
	}
	return f.Note, nil
}
