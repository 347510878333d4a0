package owner

import (
	"bytes"
	"cmp"
	"errors"
	"slices"

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
	read    answers
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
	ready   bool     // it is in queue.ready
	held    []*timer // of calls whose answer may wait here
	dropped bool
}

// queue are the messages that wait: for a read, behind others, or for a time.
type queue struct {
	*memory
	byKey     map[lineKey]*line
	ready     []*line // may go on, in order
	count     int     // of messages
	lingering lingering

	reads  map[uint64]*read // that are not answered
	failed []*read          // of those, that could not be read, to be tried again
	last   uint64           // of their ids
	wanted []Read           // to be handed out
}

// waitingMost bounds the messages that wait: beyond it, none is taken from the inbox.
const waitingMost = 4_096

// of is the line in which a message waits if others wait before it, nil if none do.
func (q *queue) of(key lineKey) *line {
	if len(q.byKey) == 0 {
		return nil
	}
	return q.byKey[key]
}

// add puts a message behind the others of its line, or in front of them.
func (q *queue) add(p *pending, front bool) *line {
	key := keyOf(&p.Message)
	one := q.byKey[key]
	if one == nil {
		one = &line{key: key}
		q.byKey[key] = one
	}
	q.count++
	if front {
		one.queue = append([]*pending{p}, one.queue...)
	} else {
		one.queue = append(one.queue, p)
	}
	return one
}

// wake lets a line go on, unless it waits for a read.
func (q *queue) wake(one *line) {
	if one.read == nil && !one.ready {
		one.ready = true
		q.ready = append(q.ready, one)
	}
}

// wakeFirst lets a line go on before all others.
func (q *queue) wakeFirst(one *line) {
	one.ready = true
	q.ready = append([]*line{one}, q.ready...)
}

// next takes the line that is to go on, nil if there is none.
func (q *queue) next() *line {
	for len(q.ready) > 0 {
		one := q.ready[0]
		q.ready[0] = nil
		if q.ready = q.ready[1:]; len(q.ready) == 0 {
			q.ready = nil
		}
		if one.ready = false; !one.dropped {
			return one
		}
	}
	return nil
}

// pop removes the first message of a line, and the line with the last one.
func (q *queue) pop(one *line) {
	one.queue[0] = nil
	one.queue = one.queue[1:]
	q.count--
	if len(one.queue) == 0 {
		q.remove(one)
	}
}

func (q *queue) remove(one *line) {
	q.count -= len(one.queue)
	one.dropped = true
	delete(q.byKey, one.key)
}

// linesOf are the lines of partitions, in order.
func (q *queue) linesOf(mine func(int32) bool) (out []*line) {
	for key, one := range q.byKey {
		if mine(key.partition) {
			out = append(out, one)
		}
	}
	slices.SortFunc(out, func(a, b *line) int {
		return cmp.Or(cmp.Compare(a.key.partition, b.key.partition), cmp.Compare(a.key.lane, b.key.lane), bytes.Compare(a.key.device[:], b.key.device[:]))
	})
	return out
}

// take removes all messages of partitions. What is read for them does not count any more: the next claim may find it otherwise.
func (q *queue) take(mine func(int32) bool) (out []*pending) {
	for _, one := range q.linesOf(mine) {
		if one.read != nil {
			q.forget(one.read)
		}
		out = append(out, one.queue...)
		q.remove(one)
	}
	for _, p := range out {
		p.read = answers{}
	}
	return out
}

// putBack lets messages wait until their partition is loaded, before those that wait there already. What the owner made for itself it makes again, but for a command
// that the store may have refused: that must not come into a batch with others.
func (q *queue) putBack(messages []*pending) {
	for _, p := range slices.Backward(messages) {
		if p.read = (answers{}); !p.own || p.suspect && isTimer(p.Value) {
			q.add(p, true)
		}
	}
}

// give puts a message into its line: the owner made it, and it is processed before what the inbox gives next.
func (q *queue) give(m bus.Message, front bool) {
	q.wake(q.add(&pending{Message: m, own: true}, front))
}

// giveCaller gives word of a caller in a process.
func (q *queue) giveCaller(part *partition, process string, c wire.Caller) {
	part.callers++
	q.give(bus.Message{Partition: part.number, Lane: bus.RPC, Key: c.Device, Value: callerWaiting{process, c}}, false)
}

// lingers lets a command wait for the next one of its device, if it only reports that a command left, which will be acknowledged or answered soon.
func (q *queue) lingers(p *pending) bool {
	cmd, _ := p.Value.(step.Command)
	r, _ := cmd.Do.(step.RPC)
	if _, ok := r.Do.(rpc.Written); !ok || kept(&p.Message) {
		return false
	}
	d := q.tables.devices[cmd.Device]
	if d == nil || d.partition != p.Partition {
		return false
	}
	q.tables.use(d)
	q.lingering.add(d, p.Message, q.now.Add(q.config.Linger))
	return true
}

// resumeLingering lets a device's facts wait no longer.
func (q *queue) resumeLingering(d *device) {
	messages := d.lingering
	d.lingering = nil
	for i := range messages {
		q.wake(q.add(&pending{Message: messages[i]}, false))
	}
}

// oldest is when the oldest command of a lane was sent that waits, 0 if none does.
func (q *queue) oldest(lane bus.Lane) (oldest rpc.Instant) {
	for key, one := range q.byKey {
		cmd, ok := one.queue[0].Value.(step.Command)
		if ok && key.lane == lane && cmd.Occurred != 0 && (oldest == 0 || cmd.Occurred < oldest) {
			oldest = cmd.Occurred
		}
	}
	return oldest
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
