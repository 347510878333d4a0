// Package coap is the CoAP transport: ThingsBoard's device API over UDP (RFC 7252) with observe (RFC 7641) and block-wise transfer
// (RFC 7959). go-coap keeps the socket, decodes packets, answers pings and keeps one virtual connection for each peer; what decides
// about evidence is here: each message sent to a device has an exchange of its own, so that an ACK, a RST and silence are told
// apart, and what a device repeats is answered again without being done again.
//
// It knows datagrams, paths and the contract in package transports; no database, no rule chain.
package coap

import (
	"fmt"
	"time"
)

// Config limits the transport. Every queue, table and wait has its bound here.
type Config struct {
	// MaxPayload is the largest payload taken from a device, in bytes, also when it comes in blocks (ThingsBoard: 65536).
	MaxPayload int
	// MaxEndpoints is how many peers (address and port) are remembered at once, MaxSessions how many devices have a session.
	MaxEndpoints int
	MaxSessions  int
	// EndpointIdle is how long a peer is remembered after its last message: EXCHANGE_LIFETIME of RFC 7252, section 4.8.2. One that
	// never proved who it is is forgotten after StrangerIdle.
	EndpointIdle time.Duration
	StrangerIdle time.Duration
	// Requests is how many requests of one peer are worked on at once; what comes beyond that is dropped, and sent again by a peer
	// that asked for confirmation.
	Requests int
	// Duplicates is how many message ids of a peer are remembered, so that what it repeats is not done twice.
	Duplicates int
	// TransferBytes bounds the memory of all block-wise transfers; TransferIdle is how long one may pause.
	TransferBytes int
	TransferIdle  time.Duration
	// Piggyback is how long an answer may take to travel with its ACK; then the ACK goes alone (transport.coap.piggyback_timeout).
	Piggyback time.Duration
	// AckTimeout and MaxRetransmit are ACK_TIMEOUT and MAX_RETRANSMIT of RFC 7252, section 4.8.
	AckTimeout    time.Duration
	MaxRetransmit int
	// AuthTimeout is how long checking a token may take.
	AuthTimeout time.Duration
	// ProbeAfter is how long a device that observes may be silent before it is asked for a sign of life (RFC 7641, section 4.5: 24 h).
	ProbeAfter time.Duration
	// SessionIdle is how long the session of a device that only sends is kept.
	SessionIdle time.Duration
	// QueueMessages and QueueBytes bound what waits for a device. A message larger than QueueBytes is taken when nothing else waits.
	QueueMessages int
	QueueBytes    int
	// DataOutstanding is how many telemetry and attribute messages of a device the engine may be working on; one more is answered 5.03.
	DataOutstanding int
}

// Default returns the limits of ThingsBoard and of the RFCs where they have them.
func Default() Config {
	return Config{
		MaxPayload:      65536,
		MaxEndpoints:    100_000,
		MaxSessions:     100_000,
		EndpointIdle:    247 * time.Second,
		StrangerIdle:    5 * time.Second,
		Requests:        16,
		Duplicates:      32,
		TransferBytes:   64 << 20,
		TransferIdle:    20 * time.Second,
		Piggyback:       500 * time.Millisecond,
		AckTimeout:      2 * time.Second,
		MaxRetransmit:   4,
		AuthTimeout:     10 * time.Second,
		ProbeAfter:      24 * time.Hour,
		SessionIdle:     10 * time.Minute,
		QueueMessages:   1000,
		QueueBytes:      1 << 20,
		DataOutstanding: 100,
	}
}

// Validate returns the first bad field as "field: reason".
func (c Config) Validate() error {
	for _, f := range []struct {
		name            string
		value, min, max int64
	}{
		{"MaxPayload", int64(c.MaxPayload), 128, 1 << 24},
		{"MaxEndpoints", int64(c.MaxEndpoints), 1, 10_000_000},
		{"MaxSessions", int64(c.MaxSessions), 1, 10_000_000},
		{"EndpointIdle", int64(c.EndpointIdle), int64(time.Second), int64(24 * time.Hour)},
		{"StrangerIdle", int64(c.StrangerIdle), int64(time.Second), int64(time.Hour)},
		{"Requests", int64(c.Requests), 1, 1024},
		{"Duplicates", int64(c.Duplicates), 1, 65535},
		{"TransferBytes", int64(c.TransferBytes), int64(c.MaxPayload), 1 << 40},
		{"TransferIdle", int64(c.TransferIdle), int64(time.Millisecond), int64(time.Hour)},
		{"Piggyback", int64(c.Piggyback), 0, int64(time.Minute)},
		{"AckTimeout", int64(c.AckTimeout), int64(time.Millisecond), int64(time.Minute)},
		{"MaxRetransmit", int64(c.MaxRetransmit), 0, 16},
		{"AuthTimeout", int64(c.AuthTimeout), int64(time.Millisecond), int64(time.Hour)},
		{"ProbeAfter", int64(c.ProbeAfter), int64(time.Second), int64(24 * 365 * time.Hour)},
		{"SessionIdle", int64(c.SessionIdle), int64(time.Second), int64(24 * time.Hour)},
		{"QueueMessages", int64(c.QueueMessages), 1, 1_000_000},
		{"QueueBytes", int64(c.QueueBytes), 1024, 1 << 30},
		{"DataOutstanding", int64(c.DataOutstanding), 1, 65535},
	} {
		if f.value < f.min || f.value > f.max {
			return fmt.Errorf("%s: must be from %d to %d, is %d", f.name, f.min, f.max, f.value)
		}
	}
	return nil
}
