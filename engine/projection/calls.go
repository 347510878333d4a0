package projection

import (
	"bytes"
	"encoding/json"
	"fmt"

	"callchain/engine/rpc"
	"callchain/eventstore"

	"github.com/google/uuid"
)

// Head is the head of a stream.
type Head struct {
	Began   int64 // At of the stream's first event
	Version int64 // of its last event; 0: it has none
	Hash    eventstore.Hash
}

// HeadAfter is the head of an event's stream after the event.
func HeadAfter(e *eventstore.Event) Head {
	return Head{Began: e.Began, Version: e.Version, Hash: e.Hash}
}

// Call is a typed row of Calls, with the head of the call's stream; a row has only its version.
type Call struct {
	Head
	Tenant    uuid.UUID
	Device    uuid.UUID
	Partition int32
	State     rpc.Call
	Body      rpc.Body
	Ended     rpc.Instant // 0 while open
}

// Row is the row of a call.
func (c *Call) Row() (eventstore.Row, error) {
	request, err := json.Marshal(c.Body)
	if err != nil {
		return eventstore.Row{}, fmt.Errorf("encoding the row of call %s: %w", c.State.ID, err)
	}
	var wire, ended, response any
	if c.State.Phase >= rpc.PhaseQueued && (c.State.QueuedAt != 0 || c.State.Direction == rpc.FromDevice) {
		wire = int64(c.State.Wire)
	}
	if c.Ended != 0 {
		ended = int64(c.Ended)
	}
	if shown := c.Body.Shown(&c.State); shown != nil && c.State.Persistent { // for sorting by it; the body has it, too
		response = compact(shown)
	}
	return eventstore.Row{Table: Calls, Values: []any{
		c.Tenant, c.State.ID, c.Device, int64(c.Partition), c.State.Persistent, int64(c.State.Direction), c.State.Oneway, wire,
		Storable(c.Body.Method), c.State.Phase.String(), c.State.Status.String(), string(c.State.Reason), c.State.Removed,
		int64(c.State.Created), int64(c.State.Expires), ended, c.State.Content[:], request, response, c.Version,
	}}, nil
}

// compact removes white space, as the stored event does: the row must be the same before and after storing.
func compact(shown json.RawMessage) []byte {
	if !bytes.ContainsAny(shown, " \t\r\n") {
		return shown
	}
	var buf bytes.Buffer
	if err := json.Compact(&buf, shown); err != nil {
		return shown // not JSON: the store will refuse it
	}
	return buf.Bytes()
}

// CallsByWire is the query for the ended persistent call of a device that had a wire id last.
func CallsByWire(tenant, device uuid.UUID, wire int32) eventstore.Query {
	return eventstore.Query{Table: Calls, Limit: 1, Order: []eventstore.Order{{Column: "created", Desc: true}}, Where: []eventstore.Cond{
		{Column: "tenant", Op: eventstore.Eq, Value: tenant},
		{Column: "device", Op: eventstore.Eq, Value: device},
		{Column: "wire", Op: eventstore.Eq, Value: int64(wire)},
		{Column: "persistent", Op: eventstore.Eq, Value: true},
		{Column: "ended", Op: eventstore.Ne, Value: nil},
	}}
}

// ReadCall reads a row that Row made. It lacks what matters only while a call is open.
func ReadCall(v []any) (Call, error) {
	c := Call{Head: Head{Version: number(v[19])}, Partition: int32(number(v[3])), Ended: rpc.Instant(number(v[15]))}
	c.Tenant, _ = v[0].(uuid.UUID)
	c.State.ID, _ = v[1].(uuid.UUID)
	c.Device, _ = v[2].(uuid.UUID)
	c.State.Persistent, _ = v[4].(bool)
	c.State.Direction = rpc.Direction(number(v[5]))
	c.State.Oneway, _ = v[6].(bool)
	c.State.Wire = int32(number(v[7]))
	phase, _ := v[9].(string)
	c.State.Phase = rpc.ParsePhase(phase)
	status, _ := v[10].(string)
	c.State.Status, _ = rpc.ParseStatus(status)
	reason, _ := v[11].(string)
	c.State.Reason = rpc.Code(reason)
	c.State.Removed, _ = v[12].(bool)
	c.State.Created, c.State.Expires = rpc.Instant(number(v[13])), rpc.Instant(number(v[14]))
	content, _ := v[16].([]byte)
	copy(c.State.Content[:], content)
	request, _ := v[17].([]byte)
	if err := json.Unmarshal(request, &c.Body); err != nil {
		return c, fmt.Errorf("reading the row of call %s: %w", c.State.ID, err)
	}
	return c, nil
}

func number(v any) int64 {
	n, _ := v.(int64)
	return n
}
