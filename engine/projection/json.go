package projection

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"callchain/engine/rpc"
	"callchain/eventstore"

	"github.com/google/uuid"
)

// Event is a stored event as REST, the event streams and the topic callchain.events show it. It has every hashed field, so that
// readers can verify a stream.
type Event struct {
	Stream       string          `json:"stream"`
	Began        Time            `json:"began"`
	Version      int64           `json:"version"`
	Partition    int32           `json:"partition"`
	Seq          int64           `json:"seq"`
	Type         string          `json:"type"`
	TypeVersion  int16           `json:"typeVersion"`
	At           Time            `json:"at"`
	Occurred     Time            `json:"occurred"`
	Tenant       uuid.UUID       `json:"tenantId,omitzero"`
	Device       uuid.UUID       `json:"deviceId,omitzero"`
	Actor        string          `json:"actor"`
	Cause        string          `json:"cause"`
	Hops         int16           `json:"hops,omitempty"`
	Trace        string          `json:"trace,omitempty"` // W3C trace id, 32 hex digits
	ChainVersion string          `json:"chain,omitempty"` // "<chain>@<version>"
	KeyID        string          `json:"keyId,omitempty"`
	Data         json.RawMessage `json:"data"`
	Hash         string          `json:"hash"` // 64 hex digits
}

// EventOf is the public view of an event.
func EventOf(e *eventstore.Event) Event {
	v := Event{
		Stream: e.Stream, Began: Time(e.Began), Version: e.Version, Partition: e.Partition, Seq: e.Seq, Type: e.Type, TypeVersion: e.TypeVersion,
		At: Time(e.At), Occurred: Time(e.Occurred), Tenant: e.Tenant, Device: e.Device, Actor: e.Actor, Cause: e.Cause, Hops: e.Hops,
		ChainVersion: e.ChainVersion, KeyID: e.KeyID, Data: e.Data, Hash: hex.EncodeToString(e.Hash[:]),
	}
	if e.Trace != [16]byte{} {
		v.Trace = hex.EncodeToString(e.Trace[:])
	}
	return v
}

// AppendEvent appends the JSON of EventOf on one line: it is written by hand because every committed event is encoded.
func AppendEvent(dst []byte, e *eventstore.Event) ([]byte, error) {
	if !json.Valid(e.Data) {
		return dst, fmt.Errorf("encoding event %d of partition %d: its data is not JSON", e.Seq, e.Partition)
	}
	dst = rpc.AppendString(append(dst, `{"stream":`...), e.Stream)
	dst = Time(e.Began).append(append(dst, `,"began":`...))
	dst = strconv.AppendInt(append(dst, `,"version":`...), e.Version, 10)
	dst = strconv.AppendInt(append(dst, `,"partition":`...), int64(e.Partition), 10)
	dst = strconv.AppendInt(append(dst, `,"seq":`...), e.Seq, 10)
	dst = rpc.AppendString(append(dst, `,"type":`...), e.Type)
	dst = strconv.AppendInt(append(dst, `,"typeVersion":`...), int64(e.TypeVersion), 10)
	dst = Time(e.At).append(append(dst, `,"at":`...))
	dst = Time(e.Occurred).append(append(dst, `,"occurred":`...))
	dst = appendID(dst, "tenantId", e.Tenant)
	dst = appendID(dst, "deviceId", e.Device)
	dst = rpc.AppendString(append(dst, `,"actor":`...), e.Actor)
	dst = rpc.AppendString(append(dst, `,"cause":`...), e.Cause)
	if e.Hops != 0 {
		dst = strconv.AppendInt(append(dst, `,"hops":`...), int64(e.Hops), 10)
	}
	if e.Trace != [16]byte{} {
		dst = append(hex.AppendEncode(append(dst, `,"trace":"`...), e.Trace[:]), '"')
	}
	if e.ChainVersion != "" {
		dst = rpc.AppendString(append(dst, `,"chain":`...), e.ChainVersion)
	}
	if e.KeyID != "" {
		dst = rpc.AppendString(append(dst, `,"keyId":`...), e.KeyID)
	}
	dst = append(append(dst, `,"data":`...), e.Data...) // as it was hashed: the store has it without white space
	dst = hex.AppendEncode(append(dst, `,"hash":"`...), e.Hash[:])
	return append(dst, `"}`...), nil
}

func appendID(dst []byte, name string, id uuid.UUID) []byte {
	if id == uuid.Nil {
		return dst
	}
	dst = append(append(append(dst, `,"`...), name...), `":"`...)
	text, _ := id.MarshalText() // it never fails
	return append(append(dst, text...), '"')
}

// Time is a point in time in microseconds since 1970, written as RFC 3339 with six decimals, in UTC.
type Time int64

// MarshalText implements encoding.TextMarshaler.
func (t Time) MarshalText() ([]byte, error) {
	return time.UnixMicro(int64(t)).UTC().AppendFormat(nil, "2006-01-02T15:04:05.000000Z"), nil
}

func (t Time) append(dst []byte) []byte {
	return time.UnixMicro(int64(t)).UTC().AppendFormat(dst, `"2006-01-02T15:04:05.000000Z"`)
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *Time) UnmarshalText(b []byte) error {
	at, err := time.Parse(time.RFC3339Nano, string(b))
	if err != nil {
		return err
	}
	*t = Time(at.UnixMicro())
	return nil
}

// IsZero lets omitzero leave out the zero Time.
func (t Time) IsZero() bool { return t == 0 }
