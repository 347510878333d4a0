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
	own     bool  // the owner's own: it is dropped with the memory
	suspect bool  // the store refused a batch with it: it gets a batch of its own
	poison  error // the store refuses its events: it is rejected
	skip    bool  // the store refuses its dead letter, too
	read    answers
}

// answers are results of reads that only one message uses.
type answers struct {
	registry     bool      // the row of the device was read
	noDevice     bool      // there is none
	elsewhere    bool      // it is in another partition now
	call         uuid.UUID // that was looked up; uuid.Nil: none was
	wire         bool      // the late call with the answer's wire id was looked up
	late         uuid.UUID // that call; uuid.Nil: it does not exist
	deadLetter   *deadletter.DeadLetter
	unknown      bool                      // the dead letter does not exist
	remoteValues map[nodes.Key]nodes.Value // of devices of other owners
	rounds       int
}

// lineKey names a line. The durable messages of a partition and lane form one line, because they share one position; other messages wait only for those
// of their device.
type lineKey struct {
	lane      bus.Lane
	partition int32
	device    uuid.UUID // uuid.Nil: the durable messages
}

func keyOf(m *bus.Message) lineKey {
	key := lineKey{lane: m.Lane, partition: m.Partition}
	if !durable(m) {
		key.device = m.Key
	}
	return key
}

// durable reports whether the inbox stores a message: the next owner of the partition gets it again.
func durable(m *bus.Message) bool { return m.Place.Topic != uuid.Nil }

// line holds messages that wait for a read, in order.
type line struct {
	key     lineKey
	queue   []*pending
	read    *read    // that the first one waits for
	ready   bool     // it is in queue.ready
	held    []*timer // of calls whose answer may wait here
	dropped bool
}

// queue holds the messages that wait: for a read, behind others, or for a time.
type queue struct {
	*memory
	byKey     map[lineKey]*line
	ready     []*line // that can be processed, in order
	count     int     // of messages
	lingering lingering

	reads  map[uint64]*read // under way
	failed []*read          // those to be retried
	last   uint64           // of their ids
	wanted []Read           // to be issued
}

// waitingMost bounds the waiting messages: beyond it, none is taken from the inbox.
const waitingMost = 4_096

// lineOf is the line with waiting messages of a key, nil without any.
func (q *queue) lineOf(key lineKey) *line {
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

// wake makes a line ready, unless it waits for a read.
func (q *queue) wake(one *line) {
	if one.read == nil && !one.ready {
		one.ready = true
		q.ready = append(q.ready, one)
	}
}

// wakeFirst makes a line ready before all others.
func (q *queue) wakeFirst(one *line) {
	one.ready = true
	q.ready = append([]*line{one}, q.ready...)
}

// next takes the first ready line, nil without one.
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

// removePartitions removes all messages of partitions. Their reads are dropped: the next claim may find something else.
func (q *queue) removePartitions(mine func(int32) bool) (out []*pending) {
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

// putBack queues messages until their partition is loaded, before those that wait there already. The owner's own messages are dropped, because it makes them again; only
// a suspect timer stays, so that it gets a batch of its own.
func (q *queue) putBack(messages []*pending) {
	for _, p := range slices.Backward(messages) {
		if p.read = (answers{}); !p.own || p.suspect && isTimer(p.Value) {
			q.add(p, true)
		}
	}
}

// enqueue adds a message of the owner itself, which is processed before the next ones of the inbox.
func (q *queue) enqueue(m bus.Message, front bool) {
	q.wake(q.add(&pending{Message: m, own: true}, front))
}

// enqueueCaller adds the message that a caller waits in a process.
func (q *queue) enqueueCaller(part *partition, process string, c wire.Caller) {
	part.callers++
	q.enqueue(bus.Message{Partition: part.number, Lane: bus.RPC, Key: c.Device, Value: callerWaiting{process, c}}, false)
}

// lingers lets a command wait for the next one of its device, if it only reports that a command left: an acknowledgement or answer follows soon.
func (q *queue) lingers(p *pending) bool {
	cmd, _ := p.Value.(step.Command)
	r, _ := cmd.Do.(step.RPC)
	if _, ok := r.Do.(rpc.Written); !ok || durable(&p.Message) {
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

// resumeLingering ends the wait of a device's lingering facts.
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
