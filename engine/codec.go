package engine

import (
	"encoding/hex"
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
	cmd, err := step.ReadCommand(b)
	if err != nil {
		return nil, err
	}
	return cmd, nil
}
