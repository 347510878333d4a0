package engine

import (
	"sync"
	"time"

	"github.com/google/uuid"
)

// judgements are those of this process who wait to hear how the owner judged a command that went through an inbox which remembers:
// there, that a command is kept does not say that it is accepted.
type judgements struct {
	mu   sync.Mutex
	byID map[uuid.UUID]awaited
}

// awaited is who waits, and since when.
type awaited struct {
	tell  func(error)
	since time.Time
}

func newJudgements() *judgements { return &judgements{byID: map[uuid.UUID]awaited{}} }

// await notes who waits; the id goes with the command.
func (j *judgements) await(tell func(error), now time.Time) uuid.UUID {
	id := newID()
	j.mu.Lock()
	j.byID[id] = awaited{tell, now}
	j.mu.Unlock()
	return id
}

// late takes those who have waited since before a time.
func (j *judgements) late(before time.Time) (out []func(error)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for id, one := range j.byID {
		if one.since.Before(before) {
			delete(j.byID, id)
			out = append(out, one.tell)
		}
	}
	return out
}

// take is who waits for a command, once; nil if nobody does (any more).
func (j *judgements) take(id uuid.UUID) func(error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	one := j.byID[id]
	delete(j.byID, id)
	return one.tell
}
