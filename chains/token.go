package chains

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"callchain/nodes"

	"github.com/google/uuid"
)

// tokenJSON is the stored form of a Token. It is kept for years: fields are only added.
type tokenJSON struct {
	Chain   uuid.UUID `json:"chain"`
	Version int       `json:"version"`
	Node    string    `json:"node"`
	Stack   []Frame   `json:"stack,omitempty"`
	Steps   int       `json:"steps,omitempty"`
	Msg     msgJSON   `json:"msg"`
	Ask     askJSON   `json:"ask"`
}

type msgJSON struct {
	ID         uuid.UUID      `json:"id"`
	TS         int64          `json:"ts"`
	Now        int64          `json:"now"`
	Type       string         `json:"type"`
	Entity     string         `json:"entityType"`
	Originator uuid.UUID      `json:"originator"`
	Customer   uuid.UUID      `json:"customer,omitzero"`
	Metadata   nodes.Metadata `json:"metadata,omitempty"`
	Data       *string        `json:"data,omitempty"`   // text, byte by byte as it came
	Base64     *string        `json:"base64,omitempty"` // instead of data, if it is no UTF-8
}

// askJSON has one of its fields.
type askJSON struct {
	Call  *callJSON  `json:"call,omitempty"`
	Reply *replyJSON `json:"reply,omitempty"`
	Wait  *waitJSON  `json:"wait,omitempty"`
}

type callJSON struct {
	ID         uuid.UUID `json:"id,omitzero"`
	Method     string    `json:"method"`
	Params     string    `json:"params,omitempty"`
	Oneway     bool      `json:"oneway,omitempty"`
	Persistent bool      `json:"persistent,omitempty"`
	FromREST   bool      `json:"fromREST,omitempty"`
	Expires    int64     `json:"expires,omitempty"` // µs since 1970
	Timeout    int64     `json:"timeout,omitempty"` // µs
	Retries    *int      `json:"retries,omitempty"`
	Info       string    `json:"info,omitempty"`
}

type replyJSON struct {
	Service string    `json:"service"`
	Session uuid.UUID `json:"session"`
	Request int32     `json:"request"`
	Body    []byte    `json:"body"`
}

type waitJSON struct {
	For int64 `json:"for"` // µs
}

// MarshalJSON is the stored form.
func (t Token) MarshalJSON() ([]byte, error) {
	m, err := encodeMsg(t.Msg)
	if err != nil {
		return nil, fmt.Errorf("encoding the message at node %q: %w", t.Node, err)
	}
	out := tokenJSON{Chain: t.Chain, Version: t.Version, Node: t.Node, Stack: t.Stack, Steps: t.Steps, Msg: m}
	switch a := t.Ask.(type) {
	case nodes.CallDevice:
		out.Ask.Call = &callJSON{
			ID: a.ID, Method: a.Method, Params: string(a.Params), Oneway: a.Oneway, Persistent: a.Persistent, FromREST: a.FromREST,
			Expires: a.Expires, Timeout: a.Timeout.Microseconds(), Retries: a.Retries, Info: string(a.Info),
		}
	case nodes.ReplyCall:
		out.Ask.Reply = &replyJSON{Service: a.Service, Session: a.Session, Request: a.Request, Body: a.Body}
	case nodes.Wait:
		out.Ask.Wait = &waitJSON{For: a.For.Microseconds()}
	default:
		return nil, fmt.Errorf("encoding the token at node %q: there is no stored form for a question of type %T", t.Node, t.Ask)
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads the stored form.
func (t *Token) UnmarshalJSON(b []byte) error {
	var in tokenJSON
	if err := json.Unmarshal(b, &in); err != nil {
		return fmt.Errorf("reading a token: %w", err)
	}
	m, err := decodeMsg(in.Msg)
	if err != nil {
		return fmt.Errorf("reading a token: %w", err)
	}
	*t = Token{Chain: in.Chain, Version: in.Version, Node: in.Node, Stack: in.Stack, Steps: in.Steps, Msg: m}
	switch {
	case in.Ask.Call != nil:
		a := in.Ask.Call
		t.Ask = nodes.CallDevice{
			ID: a.ID, Method: a.Method, Params: bytesOrNil(a.Params), Oneway: a.Oneway, Persistent: a.Persistent, FromREST: a.FromREST,
			Expires: a.Expires, Timeout: time.Duration(a.Timeout) * time.Microsecond, Retries: a.Retries, Info: bytesOrNil(a.Info),
		}
	case in.Ask.Reply != nil:
		a := in.Ask.Reply
		t.Ask = nodes.ReplyCall{Service: a.Service, Session: a.Session, Request: a.Request, Body: a.Body}
	case in.Ask.Wait != nil:
		t.Ask = nodes.Wait{For: time.Duration(in.Ask.Wait.For) * time.Microsecond}
	default:
		return errors.New("reading a token: it holds no question")
	}
	return nil
}

func bytesOrNil(s string) []byte {
	if s == "" {
		return nil
	}
	return []byte(s)
}

func encodeMsg(m nodes.Msg) (msgJSON, error) {
	out := msgJSON{
		ID: m.ID, TS: m.TS, Now: m.Now, Type: m.Type, Entity: m.Originator.Type, Originator: m.Originator.ID,
		Customer: m.Customer, Metadata: m.Metadata,
	}
	if m.Data == nil {
		return out, nil
	}
	raw, err := m.Data.Bytes()
	if err != nil {
		return out, err
	}
	text := string(raw)
	if utf8.Valid(raw) {
		out.Data = &text
	} else {
		text = base64.StdEncoding.EncodeToString(raw)
		out.Base64 = &text
	}
	return out, nil
}

func decodeMsg(in msgJSON) (nodes.Msg, error) {
	out := nodes.Msg{
		ID: in.ID, TS: in.TS, Now: in.Now, Type: in.Type, Originator: nodes.Entity{Type: in.Entity, ID: in.Originator},
		Customer: in.Customer, Metadata: in.Metadata,
	}
	switch {
	case in.Data != nil:
		out.Data = nodes.Raw([]byte(*in.Data))
	case in.Base64 != nil:
		raw, err := base64.StdEncoding.DecodeString(*in.Base64)
		if err != nil {
			return out, fmt.Errorf("the message's data is no base64: %w", err)
		}
		out.Data = nodes.Raw(raw)
	}
	return out, nil
}
