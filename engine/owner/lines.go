package owner

import (
	"errors"
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

// pending is a message that is not processed yet, and what was read for it.
type pending struct {
	bus.Message
	own     bool  // the owner made it for itself: it dies with the memory
	suspect bool  // the store refused a batch that it was in: it gets a batch of its own
	poison  error // the store refuses its events: it is rejected
	skip    bool  // the store refuses its dead letter, too

	lingered bool // it has waited for the next command of its device
	read     answers
}

// answers are what the reads for one message have found that is of no use to others.
type answers struct {
	registry   bool      // the row of the device was read
	noDevice   bool      // there is none
	elsewhere  bool      // it is in another partition now
	call       uuid.UUID // that was asked for; uuid.Nil: none was
	wire       bool      // the late call with the wire id of the answer was asked for
	late       uuid.UUID // it; uuid.Nil: there is none
	deadLetter *deadletter.DeadLetter
	unknown    bool                      // there is no such dead letter
	foreign    map[nodes.Key]nodes.Value // of devices that others own
	rounds     int
}

// lineKey names a line: the messages of a partition that the inbox keeps, in a lane, wait for each other, because the position behind them is one
// number; others wait for those of their device.
type lineKey struct {
	lane      bus.Lane
	partition int32
	device    uuid.UUID // uuid.Nil: those that the inbox keeps
}

func keyOf(m *bus.Message) lineKey {
	key := lineKey{lane: m.Lane, partition: m.Partition}
	if !kept(m) {
		key.device = m.Key
	}
	return key
}

// kept tells whether the inbox keeps a message: it comes again to whoever owns the partition next.
func kept(m *bus.Message) bool { return m.Place.Topic != uuid.Nil }

// line is messages that wait behind a read, in order.
type line struct {
	key     lineKey
	queue   []*pending
	read    *read    // that the first one waits for
	ready   bool     // it is in lines.ready
	held    []*timer // of calls whose answer may wait here
	dropped bool
}

// lines are the messages that wait.
type lines struct {
	byKey map[lineKey]*line
	ready []*line // may go on, in order
	count int     // of messages
}

// waitingMost bounds the messages that wait: beyond it, none is taken from the inbox.
const waitingMost = 4_096

// of is the line in which a message waits if others wait before it, nil if none do.
func (l *lines) of(key lineKey) *line {
	if len(l.byKey) == 0 {
		return nil
	}
	return l.byKey[key]
}

// add puts a message behind the others of its line, or in front of them.
func (l *lines) add(p *pending, front bool) *line {
	key := keyOf(&p.Message)
	one := l.byKey[key]
	if one == nil {
		one = &line{key: key}
		l.byKey[key] = one
	}
	l.count++
	if front {
		one.queue = append([]*pending{p}, one.queue...)
	} else {
		one.queue = append(one.queue, p)
	}
	return one
}

// wake lets a line go on, unless it waits for a read.
func (l *lines) wake(one *line) {
	if one.read == nil && !one.ready {
		one.ready = true
		l.ready = append(l.ready, one)
	}
}

// wakeFirst lets a line go on before all others.
func (l *lines) wakeFirst(one *line) {
	one.ready = true
	l.ready = append([]*line{one}, l.ready...)
}

// next takes the line that is to go on, nil if there is none.
func (l *lines) next() *line {
	for len(l.ready) > 0 {
		one := l.ready[0]
		l.ready[0] = nil
		if l.ready = l.ready[1:]; len(l.ready) == 0 {
			l.ready = nil
		}
		if one.ready = false; !one.dropped {
			return one
		}
	}
	return nil
}

// pop removes the first message of a line, and the line with the last one.
func (l *lines) pop(one *line) {
	one.queue[0] = nil
	one.queue = one.queue[1:]
	l.count--
	if len(one.queue) == 0 {
		l.remove(one)
	}
}

func (l *lines) remove(one *line) {
	l.count -= len(one.queue)
	one.dropped = true
	delete(l.byKey, one.key)
}

// take removes all messages of partitions.
func (l *lines) take(mine func(int32) bool) (out []*pending, reads []*read, held []*timer) {
	for key, one := range l.byKey {
		if !mine(key.partition) {
			continue
		}
		out, held = append(out, one.queue...), append(held, one.held...)
		if one.read != nil {
			reads = append(reads, one.read)
		}
		l.remove(one)
	}
	return out, reads, held
}

// Read is something that the owner must know of the store or the registry. It is answered with Answered, once.
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

// OnlyRegistry tells whether the row of a device in the registry is all that is asked for.
func (r *Read) OnlyRegistry() bool {
	return r.Registry && !r.State && r.Call == uuid.Nil && r.Wire == nil && r.Values == nil && r.Bodies == nil && r.Chains == nil && r.DeadLetter == uuid.Nil
}

// read is a Read under way, or one that waits to be tried again.
type read struct {
	Read
	line   *line
	device *device // whose row is read, if it is in memory
	tries  int
	again  rpc.Instant // 0: it is under way
}

// The waits before something that could not be read is read again.
const (
	readAgain  = 20 * time.Millisecond // it doubles up to
	readLatest = 500 * time.Millisecond
)

// wait lets the first message of a line wait until something is read.
func (o *Owner) wait(one *line, want Read) {
	o.reads.last++
	want.ID = o.reads.last
	r := &read{Read: want, line: one, device: o.tables.devices[want.Device]}
	one.read = r
	if r.device != nil {
		r.device.reads++
		o.tables.use(r.device)
	}
	o.reads.byID[want.ID] = r
	o.out.Reads = append(o.out.Reads, want)
}

// reads are the reads that are not answered.
type reads struct {
	byID    map[uint64]*read
	waiting []*read // that could not be read, to be tried again
	last    uint64
}

// forget drops a read; its answer does not count any more.
func (r *reads) forget(one *read) {
	delete(r.byID, one.ID)
	if one.device != nil {
		one.device.reads--
	}
	one.line.read = nil
}

// Answer is what became of a Read: the parts that it asked for.
type Answer struct {
	ID         uint64
	Err        error // nothing is known; the read may be tried again
	Registry   *Device
	Generation uint64       // of the registry, from before it was asked
	State      *DeviceState // nil: the store has no row
	Call       *EndedCall   // nil: there is none, or it is open
	Values     nodes.Values // those that exist
	Bodies     map[uuid.UUID]rpc.Body
	Chains     map[step.Version]*Program
	DeadLetter *deadletter.DeadLetter
}

// Answered takes what became of a read.
func (o *Owner) Answered(now rpc.Instant, a *Answer) {
	o.setNow(now)
	r := o.reads.byID[a.ID]
	if r == nil {
		return // it was for a partition that is gone since
	}
	if a.Err != nil {
		o.notRead(r, a.Err)
		return
	}
	one, p := r.line, r.line.queue[0]
	o.reads.forget(r)
	o.accept(&r.Read, a, &p.read)
	o.lines.wake(one)
}

// notRead tries a read again, later. Whoever waits for the message and can send it again is told that nothing has happened.
func (o *Owner) notRead(r *read, err error) {
	one, p := r.line, r.line.queue[0]
	if !kept(&p.Message) && !p.Priority && !p.suspect && o.hasSender(&p.Message) {
		o.reads.forget(r)
		o.out.Completed = append(o.out.Completed, completionOf(&p.Message, fmt.Errorf("%w: %w", wire.ErrBusy, err)))
		o.lines.pop(one)
		if !one.dropped {
			o.lines.wake(one)
		} else {
			o.resumeTimers(one)
		}
		return
	}
	if r.tries == 0 {
		o.notice(Notice{Kind: NoticeWaits, Partition: p.Partition, Device: p.Key, Command: nameOf(p.Value), Err: err})
	}
	r.again = o.now.Add(min(readAgain<<min(r.tries, 10), readLatest))
	r.tries++
	o.reads.waiting = append(o.reads.waiting, r)
}

// readAgain issues the reads whose time has come.
func (o *Owner) retryReads() {
	rest := o.reads.waiting[:0]
	for _, r := range o.reads.waiting {
		switch {
		case o.reads.byID[r.ID] != r: // forgotten
		case r.again > o.now:
			rest = append(rest, r)
		default:
			r.again = 0
			o.out.Reads = append(o.out.Reads, r.Read)
		}
	}
	clear(o.reads.waiting[len(rest):])
	o.reads.waiting = rest
}

// hasSender tells whether somebody waits to hear what becomes of a message.
func (o *Owner) hasSender(m *bus.Message) bool {
	if m.Done != nil {
		return true
	}
	waiter := waiterOf(m.Value)
	return waiter.ID != uuid.Nil
}

// waiterOf is who waits for the decision on a message.
func waiterOf(value any) step.Waiter {
	switch v := value.(type) {
	case step.Command:
		return v.Waiter
	case deadletter.Request:
		return v.Waiter
	}
	return step.Waiter{}
}

// nameOf names a message for metrics and logs.
func nameOf(value any) string {
	switch v := value.(type) {
	case step.Command:
		return step.NameOf(v.Do)
	case deadletter.Request:
		return "DeadLetter"
	case wire.Confirm:
		return "Confirm"
	}
	return "unreadable"
}

var errReadLoop = errors.New("the rule chain reads ever more values; is it reading in a loop?")

// roundsMost bounds how often a message may ask for more.
const roundsMost = 8
