package engine

import (
	"sync"

	"callchain/engine/rpc"

	"github.com/google/uuid"
)

// waiters are the callers that wait for the outcome of a call.
type waiters struct {
	mu     sync.Mutex
	byCall map[uuid.UUID][]*waiter
}

// waiter is one caller. oneway: it is content when the command left for the device.
type waiter struct {
	outcome chan outcome // holds one
	oneway  bool
}

type outcome struct {
	result CallResult
	err    error
}

func newWaiters() *waiters { return &waiters{byCall: map[uuid.UUID][]*waiter{}} }

func (w *waiters) add(call uuid.UUID, oneway bool) *waiter {
	one := &waiter{outcome: make(chan outcome, 1), oneway: oneway}
	w.mu.Lock()
	w.byCall[call] = append(w.byCall[call], one)
	w.mu.Unlock()
	return one
}

// settle answers all who wait for the call.
func (w *waiters) settle(call uuid.UUID, r CallResult, err error) {
	w.mu.Lock()
	list := w.byCall[call]
	delete(w.byCall, call)
	w.mu.Unlock()
	for _, one := range list {
		one.outcome <- outcome{r, err}
	}
}

// taken answers the callers of a one-way call: the transport took the command.
func (w *waiters) taken(call uuid.UUID) {
	w.mu.Lock()
	list := w.byCall[call]
	if len(list) == 0 || !list[0].oneway {
		w.mu.Unlock()
		return
	}
	delete(w.byCall, call)
	w.mu.Unlock()
	for _, one := range list {
		one.outcome <- outcome{result: CallResult{ID: call, Phase: rpc.PhaseQueued}}
	}
}

// remove forgets a caller that went away.
func (w *waiters) remove(call uuid.UUID, gone *waiter) {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.byCall[call]
	for i, one := range list {
		if one == gone {
			list = append(list[:i:i], list[i+1:]...)
			break
		}
	}
	if len(list) == 0 {
		delete(w.byCall, call)
		return
	}
	w.byCall[call] = list
}

func (w *waiters) failAll(err error) {
	w.mu.Lock()
	all := w.byCall
	w.byCall = map[uuid.UUID][]*waiter{}
	w.mu.Unlock()
	for call, list := range all {
		for _, one := range list {
			one.outcome <- outcome{CallResult{ID: call}, err}
		}
	}
}

func (w *waiters) len() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.byCall)
}
