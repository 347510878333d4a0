package replies

import (
	"sync"
	"time"

	"github.com/google/uuid"
)

// Decisions holds the senders of this process that wait for the decision on a command in a durable inbox: a durable command is not yet an accepted one.
// It is safe for concurrent use.
type Decisions struct {
	mu   sync.Mutex
	byID map[uuid.UUID]pending
}

// pending is a waiting sender.
type pending struct {
	done  func(error)
	since time.Time
}

// NewDecisions makes an empty Decisions.
func NewDecisions() *Decisions { return &Decisions{byID: map[uuid.UUID]pending{}} }

// Await adds a sender under the id that its command carries.
func (d *Decisions) Await(id uuid.UUID, done func(error), now time.Time) {
	d.mu.Lock()
	d.byID[id] = pending{done, now}
	d.mu.Unlock()
}

// Complete gives a sender the decision, once. An unknown id is ignored.
func (d *Decisions) Complete(id uuid.UUID, err error) {
	if done := d.remove(id); done != nil {
		done(err)
	}
}

// Forget ends the wait of a sender.
func (d *Decisions) Forget(id uuid.UUID) { d.remove(id) }

func (d *Decisions) remove(id uuid.UUID) func(error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	one := d.byID[id]
	delete(d.byID, id)
	return one.done
}

// Expire gives an error to the senders that have waited since before a time.
func (d *Decisions) Expire(before time.Time, err error) {
	d.mu.Lock()
	var late []func(error)
	for id, one := range d.byID {
		if one.since.Before(before) {
			delete(d.byID, id)
			late = append(late, one.done)
		}
	}
	d.mu.Unlock()
	for _, done := range late {
		done(err)
	}
}
