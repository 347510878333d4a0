package step

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"

	"callchain/engine/rpc"

	"github.com/google/uuid"
)

// WireVersion is the version of the encoding of commands in an inbox outside the process. A reader takes older ones, too.
const WireVersion = 1

// kind is how an action is called in an inbox.
type kind struct {
	name string
	typ  reflect.Type
	read func(json.RawMessage) (Action, error)
}

// The actions that travel. Others are made by the owner itself and never leave it.
var kinds = []kind{
	plain[Call]("call"),
	plain[DeviceCall]("device_call"),
	plain[Data]("data"),
	plain[AskAttributes]("ask_attributes"),
	plain[ChangeAttributes]("change_attributes"),
	plain[ChangeSeries]("change_series"),
	life[rpc.Reply]("reply"),
	life[rpc.Written]("written"),
	life[rpc.Acknowledged]("acknowledged"),
	life[rpc.SendFailed]("send_failed"),
	life[rpc.Cancel]("cancel"),
	life[rpc.Remove]("remove"),
	life[rpc.Connect]("connect"),
	life[rpc.Subscribe]("subscribe"),
	life[rpc.Unsubscribe]("unsubscribe"),
	life[rpc.Disconnect]("disconnect"),
}

func plain[A Action](name string) kind {
	return kind{name, reflect.TypeFor[A](), func(b json.RawMessage) (Action, error) {
		var a A
		err := json.Unmarshal(b, &a)
		return a, err
	}}
}

func life[A rpc.Action](name string) kind {
	return kind{name, reflect.TypeFor[A](), func(b json.RawMessage) (Action, error) {
		var a A
		err := json.Unmarshal(b, &a)
		return RPC{a}, err
	}}
}

// envelope is a command as it is stored in the inbox. Times are microseconds since 1970; the owner stamps its own time when it takes it.
type envelope struct {
	Version  int             `json:"v"`
	Kind     string          `json:"kind"`
	Tenant   uuid.UUID       `json:"tenant,omitzero"`
	Device   uuid.UUID       `json:"device"`
	Occurred rpc.Instant     `json:"occurred"`
	Actor    string          `json:"actor"`
	Cause    string          `json:"cause"`
	Hops     int16           `json:"hops,omitempty"`
	Trace    string          `json:"trace,omitempty"` // 32 hex digits
	Span     Span            `json:"span,omitzero"`   // "<16 hex digits>-01", sampled, or -00
	Waiter   Waiter          `json:"waiter,omitzero"`
	Do       json.RawMessage `json:"do"`
}

// NameOf names an action for metrics and logs, also one without an encoding for the inbox.
func NameOf(do Action) string {
	if r, ok := do.(RPC); ok {
		return reflect.TypeOf(r.Do).Name()
	}
	return reflect.TypeOf(do).Name()
}

// KindOf names an action as the inbox does; empty if it does not travel.
func KindOf(do Action) string {
	if k := kindOf(do); k != nil {
		return k.name
	}
	return ""
}

func kindOf(do Action) *kind {
	t := reflect.TypeOf(do)
	if r, ok := do.(RPC); ok {
		t = reflect.TypeOf(r.Do)
	}
	for i := range kinds {
		if kinds[i].typ == t {
			return &kinds[i]
		}
	}
	return nil
}

// AppendCommand appends the encoding of a command for the inbox: JSON without line breaks. At, Chain and what the owner looks up
// are left out: they are the owner's to say.
func AppendCommand(dst []byte, c Command) ([]byte, error) {
	k := kindOf(c.Do)
	if k == nil {
		return dst, fmt.Errorf("%T has no encoding for the inbox", c.Do)
	}
	var content any = c.Do
	if r, ok := c.Do.(RPC); ok {
		content = r.Do
	}
	do, err := appendJSON(nil, content)
	if err != nil {
		return dst, fmt.Errorf("encoding a %s: %w", k.name, err)
	}
	e := envelope{
		Version: WireVersion, Kind: k.name, Tenant: c.Tenant, Device: c.Device, Occurred: c.Occurred, Actor: c.Actor, Cause: c.Cause, Hops: c.Hops,
		Span: c.Span, Waiter: c.Waiter, Do: do,
	}
	if c.Trace != [16]byte{} {
		e.Trace = hex.EncodeToString(c.Trace[:])
	}
	if dst, err = appendJSON(dst, e); err != nil {
		return dst, fmt.Errorf("encoding a %s: %w", k.name, err)
	}
	return dst, nil
}

// appendJSON is encoding/json without the escapes for HTML: a device's data is stored unchanged.
func appendJSON(dst []byte, v any) ([]byte, error) {
	buf := bytes.NewBuffer(dst)
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return dst, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte{'\n'}), nil
}

// ReadCommand reads what AppendCommand wrote.
func ReadCommand(b []byte) (Command, error) {
	var e envelope
	if err := json.Unmarshal(b, &e); err != nil {
		return Command{}, fmt.Errorf("reading a command: %w", err)
	}
	if e.Version < 1 || e.Version > WireVersion {
		return Command{}, fmt.Errorf("reading a command: its form has version %d, this program reads 1 to %d", e.Version, WireVersion)
	}
	c := Command{
		Meta:   rpc.Meta{Occurred: e.Occurred, Actor: e.Actor, Cause: e.Cause, Hops: e.Hops},
		Tenant: e.Tenant, Device: e.Device, Span: e.Span, Waiter: e.Waiter,
	}
	if e.Trace != "" {
		if len(e.Trace) != hex.EncodedLen(len(c.Trace)) {
			return Command{}, fmt.Errorf("reading a command: the trace id %q has not 32 digits", e.Trace)
		}
		if _, err := hex.Decode(c.Trace[:], []byte(e.Trace)); err != nil {
			return Command{}, fmt.Errorf("reading a command: the trace id: %w", err)
		}
	}
	var err error
	c.Do, err = readAction(e.Kind, e.Do)
	return c, err
}

func readAction(name string, do json.RawMessage) (Action, error) {
	for i := range kinds {
		if kinds[i].name != name {
			continue
		}
		a, err := kinds[i].read(do)
		if err != nil {
			return nil, fmt.Errorf("reading a %s: %w", name, err)
		}
		return a, nil
	}
	return nil, fmt.Errorf("reading a command: unknown kind %q", name)
}
