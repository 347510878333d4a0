package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// CallRequest is a call to a device. Zero fields are left out, so the server's defaults hold.
type CallRequest struct {
	Method     string          `json:"method"`
	Params     json.RawMessage `json:"params,omitempty"`
	Timeout    int64           `json:"timeout,omitempty"`        // milliseconds
	Expires    int64           `json:"expirationTime,omitempty"` // milliseconds since 1970
	Persistent bool            `json:"persistent,omitempty"`
	Retries    *int            `json:"retries,omitempty"`
	ID         string          `json:"requestUUID,omitempty"`
	Info       json.RawMessage `json:"additionalInfo,omitempty"`
	Key        string          `json:"-"` // Idempotency-Key
}

// Answer is what a call's caller is told.
type Answer struct {
	ID   string // of the call
	Body []byte // the device's answer; empty for one-way calls
}

// Send calls a device. A persistent call is answered with its id as soon as it is queued; an *Error names the call where there is
// one.
func (c *Client) Send(ctx context.Context, device string, oneway bool, r CallRequest) (Answer, error) {
	way := "twoway"
	if oneway {
		way = "oneway"
	}
	body, err := json.Marshal(r)
	if err != nil {
		return Answer{}, fmt.Errorf("encoding the call: %w", err)
	}
	var more http.Header
	if r.Key != "" {
		more = http.Header{"Idempotency-Key": {r.Key}}
	}
	answer, header, err := c.raw(ctx, http.MethodPost, "/api/rpc/"+way+"/"+url.PathEscape(device), "application/json", body, more)
	if err != nil {
		return Answer{}, fmt.Errorf("calling %s on device %s: %w", r.Method, device, err)
	}
	return Answer{ID: header.Get(HeaderCall), Body: answer}, nil
}

// Payload is an answer in the form in which events keep it: one of the fields is set, or none if it was empty.
type Payload struct {
	JSON   json.RawMessage `json:"json,omitempty"`
	Text   *string         `json:"text,omitempty"`
	Base64 *string         `json:"base64,omitempty"`
}

// String is the payload as people read it.
func (p *Payload) String() string {
	switch {
	case p == nil:
		return ""
	case p.JSON != nil:
		return string(p.JSON)
	case p.Text != nil:
		return *p.Text
	case p.Base64 != nil:
		return "base64:" + *p.Base64
	}
	return ""
}

// Call is a call's state, as /api/rpc/calls shows it. Times are RFC 3339; a zero time has not come.
type Call struct {
	ID         string          `json:"id"`
	Device     string          `json:"deviceId"`
	Direction  string          `json:"direction"` // to_device, from_device
	Method     string          `json:"method"`
	Params     json.RawMessage `json:"params,omitempty"`
	Oneway     bool            `json:"oneway"`
	Persistent bool            `json:"persistent"`
	Phase      string          `json:"phase"`
	Status     string          `json:"status"`
	Code       string          `json:"code,omitempty"`
	Detail     string          `json:"detail,omitempty"`
	Response   *Payload        `json:"response,omitempty"`
	Created    time.Time       `json:"created"`
	Queued     time.Time       `json:"queued,omitzero"`
	Expires    time.Time       `json:"expires"`
	Ended      time.Time       `json:"ended,omitzero"`
	Wire       *int32          `json:"wireId,omitempty"`
	Attempts   int             `json:"attempts,omitempty"`
	Failures   int             `json:"failures,omitempty"`
	Retries    *int            `json:"retries,omitempty"`
	Info       json.RawMessage `json:"additionalInfo,omitempty"`
	Removed    bool            `json:"removed,omitempty"`
	Version    int64           `json:"version"`
}

// Terminal tells whether the call has ended.
func (c *Call) Terminal() bool { return !c.Ended.IsZero() }

// Event is a stored fact.
type Event struct {
	Stream    string          `json:"stream"`
	Version   int64           `json:"version"`
	Partition int32           `json:"partition"`
	Seq       int64           `json:"seq"`
	Type      string          `json:"type"`
	At        time.Time       `json:"at"`
	Occurred  time.Time       `json:"occurred"`
	Device    string          `json:"deviceId,omitempty"`
	Actor     string          `json:"actor"`
	Cause     string          `json:"cause"`
	Hops      int             `json:"hops,omitempty"`
	Trace     string          `json:"trace,omitempty"`
	Chain     string          `json:"chain,omitempty"`
	Data      json.RawMessage `json:"data"`
	Hash      string          `json:"hash"`
}

// Call reads a call's state, now.
func (c *Client) Call(ctx context.Context, id string) (Call, error) {
	var out Call
	err := c.Do(ctx, http.MethodGet, "/api/rpc/calls/"+url.PathEscape(id), nil, &out)
	return out, err
}

// Events reads the facts of a call in their order.
func (c *Client) Events(ctx context.Context, id string) ([]Event, error) {
	var out []Event
	err := c.Do(ctx, http.MethodGet, "/api/rpc/calls/"+url.PathEscape(id)+"/events", nil, &out)
	return out, err
}

// Cancel ends an open call and gives its state after that.
func (c *Client) Cancel(ctx context.Context, id string) (Call, error) {
	var out Call
	err := c.Do(ctx, http.MethodPost, "/api/rpc/calls/"+url.PathEscape(id)+"/cancel", struct{}{}, &out)
	return out, err
}

// CallFilter selects calls of a list; zero fields select all.
type CallFilter struct {
	Device     string
	Status     string // SUCCESSFUL or succeeded
	Method     string
	From, To   time.Time
	Persistent *bool
	Size       int
	Before     string // the Next of the page before
}

// CallPage is a part of a list of calls, the newest first. Next is empty at the end.
type CallPage struct {
	Data []Call `json:"data"`
	Next string `json:"next,omitempty"`
}

// Calls lists calls, the newest first.
func (c *Client) Calls(ctx context.Context, f CallFilter) (CallPage, error) {
	q := url.Values{}
	set := func(name, value string) {
		if value != "" {
			q.Set(name, value)
		}
	}
	set("deviceId", f.Device)
	set("status", f.Status)
	set("method", f.Method)
	set("before", f.Before)
	if !f.From.IsZero() {
		set("from", f.From.Format(time.RFC3339Nano))
	}
	if !f.To.IsZero() {
		set("to", f.To.Format(time.RFC3339Nano))
	}
	if f.Persistent != nil {
		set("persistent", strconv.FormatBool(*f.Persistent))
	}
	if f.Size > 0 {
		set("pageSize", strconv.Itoa(f.Size))
	}
	var out CallPage
	err := c.Do(ctx, http.MethodGet, "/api/rpc/calls?"+q.Encode(), nil, &out)
	return out, err
}
