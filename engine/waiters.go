package engine

import (
	"bytes"
	"sync"
	"time"

	"callchain/engine/rpc"

	"github.com/google/uuid"
)

// waiters are the callers that wait for the outcome of a call.
type waiters struct {
	mu     sync.Mutex
	byCall map[uuid.UUID][]*waiter
}

// waiter is one caller.
type waiter struct {
	outcome   chan outcome // holds one
	oneway    bool         // it is content when the command left for the device
	accepted  bool         // its wish is that call: until then another caller's call may have the id
	partition int32
	wish      waiting
}

type outcome struct {
	result CallResult
	err    error
	from   *lineage  // what led to it, nil if that is not traced
	at     time.Time // when it was committed, if from is set
}

func newWaiters() *waiters { return &waiters{byCall: map[uuid.UUID][]*waiter{}} }

func (w *waiters) add(partition int32, wish waiting, oneway bool) *waiter {
	one := &waiter{outcome: make(chan outcome, 1), oneway: oneway, partition: partition, wish: wish}
	w.mu.Lock()
	w.byCall[wish.Call] = append(w.byCall[wish.Call], one)
	w.mu.Unlock()
	return one
}

// has tells whether somebody waits for a call.
func (w *waiters) has(call uuid.UUID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.byCall[call]) > 0
}

// in are the wishes of those who wait for calls in a partition.
func (w *waiters) in(partition int32) (out []waiting) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, list := range w.byCall {
		for _, one := range list {
			if one.partition == partition {
				out = append(out, one.wish)
			}
		}
	}
	return out
}

// accept lets a caller be answered with the outcome of the call.
func (w *waiters) accept(one *waiter) {
	w.mu.Lock()
	one.accepted = true
	w.mu.Unlock()
}

// settle answers all whose wish is the call: those who were told so, and those who asked for this content.
func (w *waiters) settle(call uuid.UUID, out outcome, content []byte) {
	for _, one := range w.leave(call, func(one *waiter) bool { return one.accepted || bytes.Equal(one.wish.Content, content) }) {
		one.outcome <- out
	}
}

// taken answers the callers of a one-way call: the transport took the command.
func (w *waiters) taken(call uuid.UUID) {
	for _, one := range w.leave(call, func(one *waiter) bool { return one.accepted && one.oneway }) {
		one.outcome <- outcome{result: CallResult{ID: call, Phase: rpc.PhaseQueued}}
	}
}

// refuse answers one caller, if nobody has.
func (w *waiters) refuse(call uuid.UUID, refused *waiter, err error) {
	for _, one := range w.leave(call, func(one *waiter) bool { return one == refused }) {
		one.outcome <- outcome{result: CallResult{ID: call}, err: err}
	}
}

// leave takes those callers of a call out that are to be answered now.
func (w *waiters) leave(call uuid.UUID, now func(*waiter) bool) []*waiter {
	w.mu.Lock()
	defer w.mu.Unlock()
	var left, stay []*waiter
	for _, one := range w.byCall[call] {
		if now(one) {
			left = append(left, one)
		} else {
			stay = append(stay, one)
		}
	}
	if len(stay) == 0 {
		delete(w.byCall, call)
	} else {
		w.byCall[call] = stay
	}
	return left
}

// remove forgets a caller that went away.
func (w *waiters) remove(call uuid.UUID, gone *waiter) {
	w.leave(call, func(one *waiter) bool { return one == gone })
}

func (w *waiters) failAll(err error) {
	w.mu.Lock()
	all := w.byCall
	w.byCall = map[uuid.UUID][]*waiter{}
	w.mu.Unlock()
	for call, list := range all {
		for _, one := range list {
			one.outcome <- outcome{result: CallResult{ID: call}, err: err}
		}
	}
}

func (w *waiters) len() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.byCall)
}
