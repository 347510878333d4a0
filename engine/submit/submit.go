// Package submit puts commands into the inbox of their owners, and completes their senders.
//
// It does not know what a command means.
package submit

import (
	"errors"
	"fmt"
	"time"

	"callchain/engine/bus"
	"callchain/engine/deadletter"
	"callchain/engine/observe"
	"callchain/engine/owner"
	"callchain/engine/replies"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/engine/wire"

	"github.com/google/uuid"
)

// Sender puts commands into the inbox. It is safe for concurrent use; its fields do not change.
type Sender struct {
	Inbox     bus.Inbox
	Process   string // this process among all
	Shared    bool   // other processes may own partitions
	Owned     *Owned
	Decisions *replies.Decisions
	Tracer    *observe.Tracer // nil: no spans are made
	Metrics   *observe.Metrics
	NewID     func() uuid.UUID
	// Notify gives the sender of a command at another process the decision.
	Notify func(waiter step.Waiter, err error)
}

// Class is when the sender of a command gets the result, and so how the command travels.
type Class uint8

// The classes.
const (
	Durable   Class = iota // when the command is durable
	Decided                // when its owner has decided it
	Ephemeral              // likewise; the command concerns a session of this process and is lost with it
)

// Message is a command for the owner of a partition.
type Message struct {
	Lane      bus.Lane
	Partition int32
	Priority  bool // see bus.Message
	Class     Class
	Command   step.Command
	Done      func(error) // is called once with the result, and must not block; may be nil
}

// Meta is the sender's metadata of a command.
func Meta(actor, cause string) rpc.Meta {
	return rpc.Meta{Occurred: rpc.At(time.Now()), Actor: actor, Cause: cause}
}

func forgetNothing() {}

// Put sends a command to its owner. The returned function ends the wait for the result. After an error, done is not called: wire.ErrBusy, wire.ErrUncertain,
// wire.ErrStopping, wire.ErrTooLarge.
func (s *Sender) Put(m Message) (forget func(), err error) {
	out := bus.Message{Partition: m.Partition, Lane: m.Lane, Key: m.Command.Device, Priority: m.Priority, Ephemeral: m.Class == Ephemeral, Done: m.Done}
	cmd := m.Command
	if m.Class == Ephemeral && s.Shared && !s.Owned.Has(m.Partition) { // its owner is at another node
		out.Ephemeral = false
		if m.Class = Durable; m.Done != nil {
			m.Class = Decided
		}
	}
	if s.Shared {
		cmd.Waiter.Node = s.Process
	}
	forget = forgetNothing
	if m.Class == Decided && s.Inbox.Durable() {
		forget = s.await(&cmd.Waiter, &out, m.Done)
	}
	put := s.Tracer.InboxWrite(&cmd, &out, s.Inbox.Durable() && !out.Ephemeral)
	out.Value = cmd
	err = s.Inbox.Put(out)
	put(err)
	if err != nil {
		forget()
		return forgetNothing, s.failure(err)
	}
	return forget, nil
}

// await lets the owner of a message complete it. Its durability alone is not reported.
func (s *Sender) await(w *step.Waiter, m *bus.Message, done func(error)) (forget func()) {
	id := s.NewID()
	s.Decisions.Await(id, done, time.Now())
	*w = step.Waiter{Node: s.Process, ID: id}
	m.Done = func(err error) {
		if err != nil {
			s.Decisions.Complete(id, s.failure(err))
		}
	}
	return func() { s.Decisions.Forget(id) }
}

// PutEphemeral sends an ephemeral message to its owner at any process. Errors as of Put.
func (s *Sender) PutEphemeral(m bus.Message) error {
	m.Ephemeral = !s.Shared || s.Owned.Has(m.Partition)
	forget := forgetNothing
	if !m.Ephemeral && m.Done != nil {
		switch v := m.Value.(type) {
		case step.Command:
			forget = s.await(&v.Waiter, &m, m.Done)
			m.Value = v
		case deadletter.Request:
			forget = s.await(&v.Waiter, &m, m.Done)
			m.Value = v
		}
	}
	if err := s.Inbox.Put(m); err != nil {
		forget()
		return s.failure(err)
	}
	return nil
}

// Redirect sends a message that reached a process which does not own its partition to the one that does.
func (s *Sender) Redirect(m bus.Message) {
	if err := s.PutEphemeral(m); err != nil && m.Done != nil {
		m.Done(err)
	}
}

// Complete gives the sender of a message the decision.
func (s *Sender) Complete(c *owner.Completion) {
	switch {
	case c.Done != nil:
		c.Done(c.Err)
	case c.Waiter.Node == s.Process:
		s.Decisions.Complete(c.Waiter.ID, c.Err)
	case s.Shared: // a single process: it was for a previous one
		s.Notify(c.Waiter, c.Err)
	}
}

// failure is the sender's error when the inbox did not take a command.
func (s *Sender) failure(err error) error {
	switch {
	case errors.Is(err, bus.ErrFull):
		s.Metrics.InboxFull.Inc()
		return wire.ErrBusy
	case errors.Is(err, bus.ErrAway):
		return fmt.Errorf("%w: %w", wire.ErrUncertain, err)
	case errors.Is(err, bus.ErrClosed):
		return wire.ErrStopping
	case errors.Is(err, bus.ErrTooLarge):
		return fmt.Errorf("%w: %w", wire.ErrTooLarge, err)
	}
	return err
}

// OldestMost is how old the oldest waiting command of a partition's owner may be before new calls are refused, and data is shed. Answers and acknowledgements are
// always taken: they end open calls.
const OldestMost = time.Second
