package engine

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"callchain/engine/step"
	"callchain/eventstore"

	"github.com/google/uuid"
)

// carriedAfter is how long the stream of a device may get before it goes on in a successor.
const carriedAfter = 10_000

// Carried closes a long-lived stream: its state goes on in the stream To, so that retention can work on whole streams.
type Carried struct {
	To       string `json:"to"`
	NextWire int32  `json:"nextWire"`
	LastHash string `json:"lastHash"` // of the event before this one
}

// carry closes the stream of a device before its first event of a new month, or when it has become long.
func (o *owner) carry(part *partition, d Device, ev *step.Event) {
	if ev.Stream.Kind != step.DeviceStream {
		return
	}
	dh := o.devices[ev.Stream.ID]
	at := int64(ev.Event.At)
	if dh.version == 0 || dh.version < carriedAfter && month(dh.began) == month(at) {
		return
	}
	next := successor(ev.Stream.ID, dh.stream)
	data, err := json.Marshal(Carried{To: next, NextWire: o.state.Devices[ev.Stream.ID].NextWire, LastHash: hex.EncodeToString(dh.hash[:])})
	if err != nil {
		panic(fmt.Sprintf("engine: %v", err)) // texts and numbers only
	}
	o.place(part, dh.head, eventstore.Event{
		Stream: dh.stream, Type: "Carried", TypeVersion: 1, At: at, Tenant: d.Tenant, Device: ev.Stream.ID, Actor: "system", Cause: "carry", Data: data,
	})
	dh.stream, dh.head = next, head{}
}

// month counts the months of the calendar, in UTC.
func month(at int64) int {
	t := time.UnixMicro(at).UTC()
	return t.Year()*12 + int(t.Month())
}

// successor is device/<id>/2 after device/<id>, and so on.
func successor(id uuid.UUID, stream string) string {
	base := streamOfDevice(id)
	n, err := strconv.Atoi(strings.TrimPrefix(strings.TrimPrefix(stream, base), "/"))
	if err != nil {
		n = 1 // the first one has no number
	}
	return fmt.Sprintf("%s/%d", base, n+1)
}
