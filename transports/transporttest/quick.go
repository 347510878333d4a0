package transporttest

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"

	"callchain/transports"
)

// Quick is an engine for measurements: it settles everything at once and remembers nothing but the links. Every token is the name of a
// device.
type Quick struct {
	Proved  chan uuid.UUID // gets the calls that a device has proved to have, if not nil
	Replies chan int32     // gets the wire ids of replies, if not nil

	mu       sync.Mutex
	sessions map[string]transports.Session
}

var (
	_ transports.Inbound       = (*Quick)(nil)
	_ transports.Authenticator = (*Quick)(nil)
)

// Authenticate knows every token.
func (q *Quick) Authenticate(_ context.Context, c transports.Credentials) (transports.Identity, error) {
	return transports.Identity{Device: DeviceID(c.Token), Name: c.Token}, nil
}

// Connect notes the link of the device.
func (q *Quick) Connect(s transports.Session, done func(error)) {
	q.mu.Lock()
	if q.sessions == nil {
		q.sessions = map[string]transports.Session{}
	}
	q.sessions[s.Identity.Name] = s
	q.mu.Unlock()
	done(nil)
}

// Link is that of the device's newest session, which must have been there.
func (q *Quick) Link(name string) transports.Link {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.sessions[name].Link
}

// Acknowledged tells who waits for the proof.
func (q *Quick) Acknowledged(_, call uuid.UUID, _ string, _ time.Time) {
	if q.Proved != nil {
		q.Proved <- call
	}
}

// Reply tells who waits for the reply.
func (q *Quick) Reply(_ uuid.UUID, wire int32, _ []byte, done func(error)) {
	if q.Replies != nil {
		q.Replies <- wire
	}
	done(nil)
}

// Subscribe takes every subscription.
func (q *Quick) Subscribe(_ uuid.UUID, done func(error)) { done(nil) }

// Unsubscribe does nothing.
func (q *Quick) Unsubscribe(_ uuid.UUID, done func(error)) { done(nil) }

// Disconnect does nothing: the link stays.
func (q *Quick) Disconnect(uuid.UUID, string) {}

// Written does nothing.
func (q *Quick) Written(uuid.UUID, uuid.UUID, int, time.Time, bool) {}

// Failed does nothing.
func (q *Quick) Failed(uuid.UUID, uuid.UUID, string) {}

// Telemetry takes it.
func (q *Quick) Telemetry(_ uuid.UUID, _ []byte, done func(error)) { done(nil) }

// Attributes takes them.
func (q *Quick) Attributes(_ uuid.UUID, _ []byte, done func(error)) { done(nil) }

// Call takes it and does not answer.
func (q *Quick) Call(_ uuid.UUID, _ int32, _ string, _ []byte, done func(error)) { done(nil) }

// RequestAttributes takes it and does not answer.
func (q *Quick) RequestAttributes(_ uuid.UUID, _ int32, _, _ []string, done func(error)) { done(nil) }
