// Package httpdevice is the HTTP transport: ThingsBoard's device API under /api/v1/{token}/, with long polling for calls and for
// changes of attributes. A device that polls has one session across its polls; what a device posts travels in a secondary session, so that
// it never disturbs a connection that the device has elsewhere (docs/decisions/0014).
//
// It knows requests, paths and the contract in package transports; no database, no rule chain. Tokens stand in the paths, so paths are
// never logged.
package httpdevice

import (
	"fmt"
	"time"
)

// Config limits the transport. Everything that waits or gathers has its bound here.
type Config struct {
	// CallBody is the largest body below …/rpc in bytes, Body that of telemetry and attributes (ThingsBoard's
	// transport.http.max_payload_size: 64 KiB and 50 MiB). Bodies is what all bodies being read may take up together.
	CallBody int64
	Body     int64
	Bodies   int64
	// PollDefault is how long a poll waits that names no timeout or 0 (transport.http.request_timeout), PollMost how long it waits at most
	// (transport.http.max_request_timeout).
	PollDefault time.Duration
	PollMost    time.Duration
	// Polls is how many polls wait at once, Requests how many other requests are served at once; one more is answered 503.
	Polls    int
	Requests int
	// DevicePolls is how many polls of one kind wait at once for one device; one more ends the oldest.
	DevicePolls int
	// Linger is how long a device counts as reachable after a poll that brought nothing: the time to come back with the next one.
	Linger time.Duration
	// Renewal is how long a subscription is trusted. A poll that comes later asks for it anew, should it have been lost.
	Renewal time.Duration
	// Retry is the pause before a waiting poll asks again for the next call, when the one meant for it could not be sent any more.
	Retry time.Duration
	// ReadTimeout is how long a body may take to arrive, WriteTimeout how long a device may take to fetch its answer, AuthTimeout how
	// long checking a token may take, SettleTimeout how long the engine may take to keep a message.
	ReadTimeout   time.Duration
	WriteTimeout  time.Duration
	AuthTimeout   time.Duration
	SettleTimeout time.Duration
	// AnswerTimeout is how long a device waits for the answer to a call of its own. The engine ends such calls before; this is the bound
	// should it not.
	AnswerTimeout time.Duration
}

// Default returns ThingsBoard's limits where it has them and memory allows.
func Default() Config {
	return Config{
		CallBody: 64 << 10, Body: 16 << 20, Bodies: 256 << 20,
		PollDefault: 60 * time.Second, PollMost: 300 * time.Second,
		Polls: 10_000, Requests: 10_000, DevicePolls: 4,
		Linger: 5 * time.Second, Renewal: 10 * time.Minute, Retry: 100 * time.Millisecond,
		ReadTimeout: 60 * time.Second, WriteTimeout: 10 * time.Second, AuthTimeout: 10 * time.Second, SettleTimeout: 30 * time.Second,
		AnswerTimeout: 70 * time.Second,
	}
}

// Validate returns the first bad field as "field: reason".
func (c Config) Validate() error {
	for _, f := range []struct {
		name            string
		value, min, max int64
	}{
		{"CallBody", c.CallBody, 1, 1 << 30},
		{"Body", c.Body, 1, 1 << 30},
		{"Bodies", c.Bodies, max(c.CallBody, c.Body) + 1, 1 << 40},
		{"PollDefault", int64(c.PollDefault), int64(time.Millisecond), int64(c.PollMost)},
		{"PollMost", int64(c.PollMost), int64(time.Millisecond), int64(time.Hour)},
		{"Polls", int64(c.Polls), 1, 10_000_000},
		{"Requests", int64(c.Requests), 1, 10_000_000},
		{"DevicePolls", int64(c.DevicePolls), 1, 1000},
		{"Linger", int64(c.Linger), 0, int64(time.Hour)},
		{"Renewal", int64(c.Renewal), int64(time.Second), int64(24 * time.Hour)},
		{"Retry", int64(c.Retry), int64(time.Millisecond), int64(time.Minute)},
		{"ReadTimeout", int64(c.ReadTimeout), int64(time.Millisecond), int64(time.Hour)},
		{"WriteTimeout", int64(c.WriteTimeout), int64(time.Millisecond), int64(time.Hour)},
		{"AuthTimeout", int64(c.AuthTimeout), int64(time.Millisecond), int64(time.Hour)},
		{"SettleTimeout", int64(c.SettleTimeout), int64(time.Millisecond), int64(time.Hour)},
		{"AnswerTimeout", int64(c.AnswerTimeout), int64(time.Millisecond), int64(2 * time.Hour)},
	} {
		if f.value < f.min || f.value > f.max {
			return fmt.Errorf("%s: must be from %d to %d, is %d", f.name, f.min, f.max, f.value)
		}
	}
	return nil
}
