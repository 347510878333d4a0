// Package rpc is the life cycle of remote procedure calls as a pure state machine: commands in, events out.
//
// The state is a Device: its session, its open calls in the order in which they were queued, and the calls that it made
// itself. Decide decides a command, Evolve applies an event, Outstanding lists the pending deliveries, NextDeadline is the next
// tick. There is no clock, no I/O and no randomness here: time and ids come in with the command.
//
// It must not know rule chains, transports, databases or HTTP. The ThingsBoard names of its facts are in view.go.
package rpc

import (
	"time"

	"github.com/google/uuid"
)

// Instant is a point in time in microseconds since 1970-01-01T00:00:00Z. The zero Instant means never.
type Instant int64

// At makes an Instant of a time.
func At(t time.Time) Instant { return Instant(t.UnixMicro()) }

// Time is the instant in UTC.
func (i Instant) Time() time.Time { return time.UnixMicro(int64(i)).UTC() }

// Add is the instant d later.
func (i Instant) Add(d time.Duration) Instant { return i + Instant(d.Microseconds()) }

// Millis is the instant in ThingsBoard's unit.
func (i Instant) Millis() int64 { return int64(i) / 1000 }

// Direction is the direction of a call.
type Direction uint8

// The directions of a call.
const (
	ToDevice   Direction = iota // server-side RPC: an application calls a device
	FromDevice                  // client-side RPC: a device calls the server
)

// Phase is how far a call is. The order of the constants is the order of the life cycle.
type Phase uint8

// The phases of a call; from PhaseSucceeded on they are terminal.
const (
	PhaseNone Phase = iota
	PhaseRequested
	PhaseQueued
	PhaseSent
	PhaseDelivered
	PhaseSucceeded
	PhaseFailed
	PhaseExpired
	PhaseCancelled
	PhaseRejected
)

var phaseNames = [...]string{"none", "requested", "queued", "sent", "delivered", "succeeded", "failed", "expired", "cancelled", "rejected"}

func (p Phase) String() string { return phaseNames[p] }

// Terminal reports whether the call has ended.
func (p Phase) Terminal() bool { return p >= PhaseSucceeded }

// ParsePhase is the inverse of String; PhaseNone for a text that names no phase.
func ParsePhase(name string) Phase {
	for p, n := range phaseNames {
		if n == name {
			return Phase(p)
		}
	}
	return PhaseNone
}

// Order is what a call waits for before it is sent (ThingsBoard's RpcSubmitStrategy).
type Order uint8

// The submit orders. OrderDefault takes that of the device's settings.
const (
	OrderDefault    Order = iota
	OrderBurst            // sent at once
	OrderOnAck            // sent when nothing ahead of it is undelivered
	OrderOnResponse       // sent when nothing ahead of it is open
)

// Settings are the rules that the device's profile gives, or the server.
type Settings struct {
	Order           Order         // OrderDefault counts as OrderBurst
	MaxRetries      int           // upper cap and default of a call's retries
	AckTimeout      time.Duration // wait for the acknowledgement of a delivery
	ResponseTimeout time.Duration // OrderOnResponse: wait for the answer after the delivery
	CloseOnTimeout  bool          // a delivery without acknowledgement and retries left ends the session, not the call
	Backoff         time.Duration // 0 = ThingsBoard's rule: sent again at the next subscription; else wait, doubled by attempt
	MaxOpen         int           // open calls a device
}

// DefaultSettings are ThingsBoard's (thingsboard.yml, actors.rpc and transport.mqtt.timeout) and our bounds.
func DefaultSettings() Settings {
	return Settings{
		Order: OrderBurst, MaxRetries: 5, AckTimeout: 10 * time.Second, ResponseTimeout: 30 * time.Second, MaxOpen: 10_000,
	}
}

// Call is the state of one call: the fold of its stream. Bodies are not in it; they stay in the stream.
type Call struct {
	ID          uuid.UUID
	Session     uuid.UUID // FromDevice: where it came from; ToDevice: where it was issued last
	Run         uuid.UUID // the parked run that waits for the end, uuid.Nil if none
	Content     [32]byte  // digest of what was asked
	Created     Instant
	QueuedAt    Instant // first dispatch; open calls are sent in this order
	Expires     Instant
	AckDue      Instant // the acknowledgement of the last attempt is due, while Session lives
	AnswerDue   Instant // OrderOnResponse: the answer is due
	RetryAt     Instant // backoff: queue again
	Place       int64   // in the queue of its device; no part of the stream
	Wire        int32   // ToDevice: id on the wire; FromDevice: the device's own request id
	Retries     int16   // -1 = the settings' maximum
	Failures    int16   // deliveries that failed since the last start of counting
	Attempt     int16   // deliveries begun
	Written     int16   // the last attempt that left for the device
	Lost        int16   // the last attempt that failed
	Late        int16   // answers that came after the end
	Phase       Phase
	Status      Status // what the ThingsBoard API shows
	Direction   Direction
	Order       Order
	Oneway      bool
	Persistent  bool
	Waiting     bool // this light call has a caller
	Removed     bool
	CancelAsked bool
	Reason      Code // why it ended, empty if it succeeded or is open
}

// Session is the device's live connection.
type Session struct {
	ID         uuid.UUID // uuid.Nil: none
	Since      Instant   // when it was opened
	Subscribed bool      // it takes calls
	Once       bool      // one call for each subscription (ThingsBoard's SYNC sessions)
	Spent      bool      // Once: that call was issued
}

// takesCalls reports whether a call that is queued now would leave.
func (s Session) takesCalls() bool { return s.Subscribed && !s.Spent }

// Device is the state of one device: what Decide needs to know.
type Device struct {
	ID       uuid.UUID
	Settings Settings
	Session  Session
	NextWire int32
	Open     Queue // open calls to the device
	Asked    Queue // open calls of the device, oldest first
	place    int64 // the last that was given to a call
}

// Find is an open call of either direction, or nil. What it points to never changes.
func (d *Device) Find(id uuid.UUID) *Call {
	if c := d.Open.find(id); c != nil {
		return c
	}
	return d.Asked.find(id)
}

// ByWire is the open call to the device with this wire id, or nil.
func (d *Device) ByWire(wire int32) *Call {
	for c := range d.Open.withWire(wire) {
		if c.Phase >= PhaseQueued {
			return c
		}
	}
	return nil
}

// Idle reports whether nothing is open and nobody is connected, so that the device need not be kept in memory.
func (d *Device) Idle() bool {
	return d.Open.Len() == 0 && d.Asked.Len() == 0 && d.Session.ID == uuid.Nil
}

// order is the submit order that counts for a call with its own.
func (s *Settings) order(own Order) Order {
	switch {
	case own != OrderDefault:
		return own
	case s.Order != OrderDefault:
		return s.Order
	}
	return OrderBurst
}
