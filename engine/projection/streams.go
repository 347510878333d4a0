package projection

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// StreamKind is the first part of a stream's name (docs/decisions/0002).
type StreamKind string

// The kinds of streams that an owner writes.
const (
	CallStreams   StreamKind = "rpc"    // rpc/<tenant>/<call>
	DeviceStreams StreamKind = "device" // device/<id>, then device/<id>/<n>
	RunStreams    StreamKind = "run"    // run/<id>
	SystemStreams StreamKind = "system" // system/<partition>/<seq>
)

// KindOf is the kind of a stream; any other first part is a kind of its own.
func KindOf(stream string) StreamKind {
	kind, _, _ := strings.Cut(stream, "/")
	return StreamKind(kind)
}

// IsCall reports whether a stream is that of a call.
func IsCall(stream string) bool { return KindOf(stream) == CallStreams }

// The lengths of a call's stream name in bytes.
const (
	idLength = 36
	callAt   = len(CallStreams) + 1 + idLength + 1
)

// CallStream is the name of a call's stream.
func CallStream(tenant, call uuid.UUID) string {
	name := make([]byte, 0, callAt+idLength)
	name = append(append(append(name, CallStreams...), '/'), tenant.String()...)
	return string(append(append(name, '/'), call.String()...))
}

// callOf is the call that a stream is about; uuid.Nil if it is about none.
func callOf(stream string) (uuid.UUID, error) {
	if !IsCall(stream) || len(stream) != callAt+idLength {
		return uuid.Nil, nil
	}
	call, err := uuid.Parse(stream[callAt:])
	if err != nil {
		return uuid.Nil, fmt.Errorf("stream name %q: %w", stream, err)
	}
	return call, nil
}

// DeviceStream is the name of a device's first stream.
func DeviceStream(device uuid.UUID) string { return string(DeviceStreams) + "/" + device.String() }

// Successor is the name of the stream that continues a device's stream: device/<id>/2 after device/<id>, and so on.
func Successor(device uuid.UUID, stream string) string {
	first := DeviceStream(device)
	n, err := strconv.Atoi(strings.TrimPrefix(strings.TrimPrefix(stream, first), "/"))
	if err != nil {
		n = 1 // the first one has no number
	}
	return fmt.Sprintf("%s/%d", first, n+1)
}

// RunStream is the name of a run's stream.
func RunStream(run uuid.UUID) string { return string(RunStreams) + "/" + run.String() }

// RunOf is the run that a stream is about.
func RunOf(stream string) (uuid.UUID, error) {
	run, err := uuid.Parse(strings.TrimPrefix(stream, string(RunStreams)+"/"))
	if err != nil {
		return uuid.Nil, fmt.Errorf("stream name %q: %w", stream, err)
	}
	return run, nil
}

// SystemStream is the name of the stream of one fact about a partition.
func SystemStream(partition int32, seq int64) string {
	return fmt.Sprintf("%s/%d/%d", SystemStreams, partition, seq)
}
