// Package replies holds the callers in this process that wait for the end of their call, and the senders that wait for the decision on their command.
//
// It sends nothing and decides nothing.
package replies

import (
	"bytes"
	"sync"
	"time"

	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/engine/wire"

	"github.com/google/uuid"
)

// Result is what a caller gets: a persistent call is Queued (or has ended already), a light one-way call is Queued and taken by the transport, a light two-way
// call has ended.
type Result struct {
	ID       uuid.UUID
	Phase    rpc.Phase
	Code     rpc.Code // why it did not succeed
	Detail   string
	Response rpc.Payload
}

// ResultOf is the result of a call that has ended, or that is stored and goes on without its callers.
func ResultOf(n *step.NotifyCallers) Result {
	return Result{ID: n.Call, Phase: n.Phase, Code: n.Code, Detail: n.Detail, Response: n.Response}
}

// Reply is what a caller waits for.
type Reply struct {
	Result Result
	Err    error
	From   *step.TraceContext // the parent, nil without a trace
	At     time.Time          // when it was committed, if From is set
}

// Caller is one that waits for a call.
type Caller struct {
	Reply chan Reply // holds one

	oneway    bool // it waits only until the command has left for the device
	accepted  bool // the call is its own: until then the id may be another caller's
	partition int32
	request   wire.Caller
}

// Callers holds the waiting callers. It is safe for concurrent use.
type Callers struct {
	mu     sync.Mutex
	byCall map[uuid.UUID][]*Caller
}

// NewCallers makes an empty Callers.
func NewCallers() *Callers { return &Callers{byCall: map[uuid.UUID][]*Caller{}} }

// Add adds a caller. oneway: it waits until the command has left for the device.
func (c *Callers) Add(partition int32, request wire.Caller, oneway bool) *Caller {
	one := &Caller{Reply: make(chan Reply, 1), oneway: oneway, partition: partition, request: request}
	c.mu.Lock()
	c.byCall[request.Call] = append(c.byCall[request.Call], one)
	c.mu.Unlock()
	return one
}

// Has reports whether a call has a caller.
func (c *Callers) Has(call uuid.UUID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.byCall[call]) > 0
}

// Waiting is a caller that waits, and the partition of its call.
type Waiting struct {
	Partition int32
	wire.Caller
}

// In are the callers with calls in partitions.
func (c *Callers) In(mine func(partition int32) bool) (out []Waiting) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, list := range c.byCall {
		for _, one := range list {
			if mine(one.partition) {
				out = append(out, Waiting{one.partition, one.request})
			}
		}
	}
	return out
}

// Accept confirms that the call is the caller's own.
func (c *Callers) Accept(one *Caller) {
	c.mu.Lock()
	one.accepted = true
	c.mu.Unlock()
}

// Complete answers the accepted callers of a call, and those whose request has this content.
func (c *Callers) Complete(call uuid.UUID, reply Reply, content []byte) {
	for _, one := range c.remove(call, func(one *Caller) bool { return one.accepted || bytes.Equal(one.request.Content, content) }) {
		one.Reply <- reply
	}
}

// Sent answers the one-way callers of a call: the transport took the command.
func (c *Callers) Sent(call uuid.UUID) {
	for _, one := range c.remove(call, func(one *Caller) bool { return one.accepted && one.oneway }) {
		one.Reply <- Reply{Result: Result{ID: call, Phase: rpc.PhaseQueued}}
	}
}

// Refuse answers one caller with an error, unless it has an answer.
func (c *Callers) Refuse(refused *Caller, err error) {
	call := refused.request.Call
	for _, one := range c.remove(call, func(one *Caller) bool { return one == refused }) {
		one.Reply <- Reply{Result: Result{ID: call}, Err: err}
	}
}

// Remove forgets a caller that went away.
func (c *Callers) Remove(gone *Caller) {
	c.remove(gone.request.Call, func(one *Caller) bool { return one == gone })
}

// remove removes and returns the callers of a call that answer selects.
func (c *Callers) remove(call uuid.UUID, now func(*Caller) bool) (removed []*Caller) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var rest []*Caller
	for _, one := range c.byCall[call] {
		if now(one) {
			removed = append(removed, one)
		} else {
			rest = append(rest, one)
		}
	}
	if len(rest) == 0 {
		delete(c.byCall, call)
	} else {
		c.byCall[call] = rest
	}
	return removed
}

// RefuseAll answers all callers with an error.
func (c *Callers) RefuseAll(err error) {
	c.mu.Lock()
	all := c.byCall
	c.byCall = map[uuid.UUID][]*Caller{}
	c.mu.Unlock()
	for call, list := range all {
		for _, one := range list {
			one.Reply <- Reply{Result: Result{ID: call}, Err: err}
		}
	}
}

// Len is the number of calls with callers.
func (c *Callers) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.byCall)
}
