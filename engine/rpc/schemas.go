package rpc

import (
	"encoding/json"
	"errors"
	"fmt"
)

// ErrUnknownEvent: this program does not know the type of an event, or that version of its data. A newer program wrote it.
var ErrUnknownEvent = errors.New("an event is newer than this program")

// DataVersion is the version of the stored form of every fact today.
const DataVersion = 1

// Schemas are the stored forms of facts, by the type of their event. F is the interface of the facts.
type Schemas[F any] map[string]Schema[F]

// Schema is the stored form of the facts of one type.
type Schema[F any] struct {
	// Version is the newest version of the data, the one that is written.
	Version int16
	// Read reads data of the newest version. The fact may refer to the data.
	Read func(data []byte) (F, error)
	// Upcast are the upcasters: each turns data of one version into data of the next, the last one into the newest. Versions before
	// the first cannot be read.
	Upcast []func(data []byte) ([]byte, error)
}

// Decode reads the stored form of a fact. A type or version that this program does not know is ErrUnknownEvent: the stream must
// not be folded then.
func (s Schemas[F]) Decode(name string, version int16, data []byte) (fact F, err error) {
	schema, ok := s[name]
	oldest := schema.Version - int16(len(schema.Upcast))
	switch {
	case !ok:
		return fact, fmt.Errorf("%w: unknown type %q", ErrUnknownEvent, name)
	case version > schema.Version:
		return fact, fmt.Errorf("%w: %s has version %d, this program reads up to version %d", ErrUnknownEvent, name, version, schema.Version)
	case version < oldest:
		return fact, fmt.Errorf("%s has version %d, the oldest is %d", name, version, oldest)
	}
	for ; version < schema.Version; version++ {
		if data, err = schema.Upcast[version-oldest](data); err != nil {
			return fact, fmt.Errorf("upcasting %s from version %d: %w", name, version, err)
		}
	}
	return schema.Read(data)
}

// ReadJSON reads data as encoding/json does.
func ReadJSON[T, F any](name string) func(data []byte) (F, error) {
	return func(data []byte) (fact F, err error) {
		var t T
		if err = json.Unmarshal(data, &t); err != nil {
			return fact, fmt.Errorf("reading %s: %w", name, err)
		}
		return any(t).(F), nil
	}
}

// factSchemas are the schemas of the facts of calls and devices.
var factSchemas = schemasOf(
	factSchema[Requested], factSchema[Queued], factSchema[Sent], factSchema[Delivered], factSchema[Progressed], factSchema[DeliveryFailed],
	factSchema[CancelRequested], factSchema[AnsweredLate], factSchema[Removed], factSchema[Succeeded], factSchema[Failed], factSchema[Expired],
	factSchema[Cancelled], factSchema[Rejected], factSchema[SessionOpened], factSchema[Subscribed], factSchema[Unsubscribed],
	factSchema[SessionClosed],
)

func schemasOf(all ...func() (string, Schema[Fact])) Schemas[Fact] {
	out := make(Schemas[Fact], len(all))
	for _, one := range all {
		name, schema := one()
		out[name] = schema
	}
	return out
}

func factSchema[T Fact]() (string, Schema[Fact]) {
	var t T
	name, read := t.Name(), ReadJSON[T, Fact](t.Name())
	return name, Schema[Fact]{Version: DataVersion, Read: func(data []byte) (Fact, error) {
		if f, ok := decodePlain(name, data); ok {
			return f, nil
		}
		return read(data)
	}}
}

// Version is the version in which a fact is stored.
func Version(f Fact) int16 { return factSchemas[f.Name()].Version }

// DecodeFact reads the stored form of a fact of a call or a device. Errors: see Schemas.Decode.
func DecodeFact(name string, version int16, data []byte) (Fact, error) {
	return factSchemas.Decode(name, version, data)
}
