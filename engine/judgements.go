package engine

import (
	"sync"

	"github.com/google/uuid"
)

// judgements are those of this process who wait to hear how the owner judged a command that went through an inbox which remembers:
// there, that a command is kept does not say that it is accepted.
type judgements struct {
	mu   sync.Mutex
	byID map[uuid.UUID]func(error)
}

func newJudgements() *judgements { return &judgements{byID: map[uuid.UUID]func(error){}} }

// await notes who waits; the id goes with the command.
func (j *judgements) await(tell func(error)) uuid.UUID {
	id := newID()
	j.mu.Lock()
	j.byID[id] = tell
	j.mu.Unlock()
	return id
}

// take is who waits for a command, once; nil if nobody does (any more).
func (j *judgements) take(id uuid.UUID) func(error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	tell := j.byID[id]
	delete(j.byID, id)
	return tell
}
