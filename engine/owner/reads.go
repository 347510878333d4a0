package owner

import (
	"fmt"
	"time"

	"callchain/engine/bus"
	"callchain/engine/deadletter"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/engine/wire"
	"callchain/nodes"

	"github.com/google/uuid"
)

// Read is a read of the store or the registry that the owner needs. It is answered with Answered, once.
type Read struct {
	ID         uint64
	Partition  int32
	Tenant     uuid.UUID
	Device     uuid.UUID
	Registry   bool        // its row in the registry
	State      bool        // its row in the store (projection.Devices)
	Call       uuid.UUID   // the stream of a call that may have ended
	Wire       *int32      // the persistent call of the device that had this wire id last
	Values     []nodes.Key // a key without a name stands for all keys of its scope
	Bodies     []uuid.UUID // of calls
	Chains     []step.Version
	DeadLetter uuid.UUID
}

// OnlyRegistry reports whether the row of a device in the registry is all that is asked for.
func (r *Read) OnlyRegistry() bool {
	return r.Registry && !r.State && r.Call == uuid.Nil && r.Wire == nil && r.Values == nil && r.Bodies == nil && r.Chains == nil && r.DeadLetter == uuid.Nil
}

// read is a Read under way, or one that waits to be tried again.
type read struct {
	Read
	line    *line
	device  *device // whose row is read, if it is in memory
	tries   int
	retryAt rpc.Instant // 0: it is under way
}

// The waits before a failed read is retried.
const (
	readAgain  = 20 * time.Millisecond // it doubles up to
	readLatest = 500 * time.Millisecond
)

// waitFor lets the first message of a line wait for a read.
func (q *queue) waitFor(one *line, want Read) {
	q.last++
	want.ID = q.last
	r := &read{Read: want, line: one, device: q.tables.devices[want.Device]}
	one.read = r
	if r.device != nil {
		r.device.reads++
		q.tables.use(r.device)
	}
	q.reads[want.ID] = r
	q.wanted = append(q.wanted, want)
}

// forget drops a read; its answer will be ignored.
func (q *queue) forget(one *read) {
	delete(q.reads, one.ID)
	if one.device != nil {
		one.device.reads--
	}
	one.line.read = nil
}

// scheduleRetry schedules another try of a read.
func (q *queue) scheduleRetry(r *read) {
	r.retryAt = q.now.Add(min(readAgain<<min(r.tries, 10), readLatest))
	r.tries++
	q.failed = append(q.failed, r)
}

// retryReads issues the reads whose time has come.
func (q *queue) retryReads() {
	rest := q.failed[:0]
	for _, r := range q.failed {
		switch {
		case q.reads[r.ID] != r: // forgotten
		case r.retryAt > q.now:
			rest = append(rest, r)
		default:
			r.retryAt = 0
			q.wanted = append(q.wanted, r.Read)
		}
	}
	clear(q.failed[len(rest):])
	q.failed = rest
}

// Answer is the result of a Read: the parts that it asked for.
type Answer struct {
	ID         uint64
	Err        error // the read failed and may be retried
	Registry   *Device
	Generation uint64       // of the registry, from before it was asked
	State      *DeviceState // nil: the store has no row
	Call       *EndedCall   // nil: the call does not exist, or is open
	Values     nodes.Values // those that exist
	Bodies     map[uuid.UUID]rpc.Body
	Chains     map[step.Version]*Program
	DeadLetter *deadletter.DeadLetter
}

// Answered takes the result of a read.
func (o *Owner) Answered(now rpc.Instant, a *Answer) {
	o.setNow(now)
	r := o.queue.reads[a.ID]
	if r == nil {
		return // its partition was dropped since
	}
	if a.Err != nil {
		o.readFailed(r, a.Err)
		return
	}
	one, p := r.line, r.line.queue[0]
	o.queue.forget(r)
	o.mem.applyAnswer(&r.Read, a, &p.read)
	o.queue.wake(one)
}

// readFailed retries a read, unless the sender of its message can send it again: that sender gets ErrBusy.
func (o *Owner) readFailed(r *read, err error) {
	one, p := r.line, r.line.queue[0]
	if !durable(&p.Message) && !p.Priority && !p.suspect && hasSender(&p.Message) {
		o.queue.forget(r)
		o.out.Completed = append(o.out.Completed, completionOf(&p.Message, fmt.Errorf("%w: %w", wire.ErrBusy, err)))
		o.queue.pop(one)
		if !one.dropped {
			o.queue.wake(one)
		} else {
			o.queue.resumeTimers(one)
		}
		return
	}
	if r.tries == 0 {
		o.mem.notice(Notice{Kind: NoticeWaits, Partition: p.Partition, Device: p.Key, Command: nameOf(p.Value), Err: err})
	}
	o.queue.scheduleRetry(r)
}

// hasSender reports whether a sender waits for the result of a message.
func hasSender(m *bus.Message) bool {
	return m.Done != nil || waiterOf(m.Value).ID != uuid.Nil
}
