package engine

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"callchain/engine/bus"
	"callchain/engine/step"

	"github.com/google/uuid"
)

// The headers that a kept command carries for those who look at the topic without decoding it.
const (
	HeaderKind   = "callchain-command"
	HeaderDevice = "callchain-device"
	HeaderTrace  = "callchain-trace" // 32 hex digits
	HeaderParent = "traceparent"     // W3C trace context of the sender's span
)

// Codec is the form of commands in an inbox outside the process.
type Codec struct{}

var _ bus.Codec = Codec{}

// Encode implements bus.Codec.
func (Codec) Encode(value any) ([]byte, map[string]string, error) {
	switch value.(type) {
	case confirm:
		return note(kindConfirm, value)
	case wish:
		return note(kindWish, value)
	}
	cmd, ok := value.(step.Command)
	if !ok {
		return nil, nil, fmt.Errorf("a %T is no command", value)
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
	case bytes.HasPrefix(b, noteBegin(kindConfirm)):
		return readNote[confirm](b)
	case bytes.HasPrefix(b, noteBegin(kindWish)):
		return readNote[wish](b)
	}
	cmd, err := step.ReadCommand(b)
	if err != nil {
		return nil, err
	}
	return cmd, nil
}

// What nodes put into the inbox beside commands: it is for the owner, not for a step.
const (
	kindConfirm = "node_confirms"
	kindWish    = "dead_letter"
)

// noteForm is the form of those in the inbox.
type noteForm[N any] struct {
	Version int    `json:"v"`
	Kind    string `json:"kind"`
	Note    N      `json:"note"`
}

func noteBegin(kind string) []byte {
	return fmt.Appendf(nil, `{"v":%d,"kind":%q,"note":`, step.WireVersion, kind)
}

func note(kind string, value any) ([]byte, map[string]string, error) {
	b, err := json.Marshal(noteForm[any]{step.WireVersion, kind, value})
	if err != nil {
		return nil, nil, fmt.Errorf("encoding a %s: %w", kind, err)
	}
	return b, map[string]string{HeaderKind: kind}, nil
}

func readNote[N any](b []byte) (any, error) {
	var n noteForm[N]
	if err := json.Unmarshal(b, &n); err != nil {
		return nil, fmt.Errorf("reading a note to the owner: %w", err)
	}
	return n.Note, nil
}
