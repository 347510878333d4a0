package engine

import (
	"container/heap"
	"time"

	"callchain/engine/bus"
	"callchain/engine/rpc"
	"callchain/engine/step"

	"github.com/google/uuid"
)

// timer is a time at which a call may have to be ticked, or a parked run woken (token > 0). It is derived from the state:
// an entry that no longer matters is dropped when its time comes.
type timer struct {
	at     rpc.Instant
	device uuid.UUID
	id     uuid.UUID
	token  int
}

// timers is a heap of timers with at most one live entry a call.
type timers struct {
	heap     timerHeap
	earliest map[uuid.UUID]rpc.Instant // the earliest entry of a call
}

func newTimers() timers { return timers{earliest: map[uuid.UUID]rpc.Instant{}} }

// set adds a timer unless an earlier one of the same call will look after it.
func (t *timers) set(one timer) {
	if one.token == 0 {
		if at, ok := t.earliest[one.id]; ok && at <= one.at {
			return
		}
		t.earliest[one.id] = one.at
	}
	heap.Push(&t.heap, one)
}

// forget lets a call's entries pass without effect.
func (t *timers) forget(call uuid.UUID) { delete(t.earliest, call) }

// due takes the next timer whose time has come.
func (t *timers) due(now rpc.Instant) (timer, bool) {
	for len(t.heap) > 0 && t.heap[0].at <= now {
		one := heap.Pop(&t.heap).(timer)
		if one.token > 0 {
			return one, true
		}
		if at, ok := t.earliest[one.id]; ok && at == one.at {
			delete(t.earliest, one.id)
			return one, true
		}
	}
	return timer{}, false
}

func (t *timers) next() (rpc.Instant, bool) {
	if len(t.heap) == 0 {
		return 0, false
	}
	return t.heap[0].at, true
}

type timerHeap []timer

func (h timerHeap) Len() int           { return len(h) }
func (h timerHeap) Less(i, j int) bool { return h[i].at < h[j].at }
func (h timerHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *timerHeap) Push(x any)        { *h = append(*h, x.(timer)) }
func (h *timerHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}

// linger keeps facts that need no commit of their own (a command left for the device) until the next command of their
// device, or for a short while.
type linger struct {
	byDevice map[uuid.UUID][]bus.Message
	order    []lingerEntry
}

type lingerEntry struct {
	device uuid.UUID
	until  time.Time
}

func newLinger() linger { return linger{byDevice: map[uuid.UUID][]bus.Message{}} }

// lingering tells whether a command may wait: it reports a writing that will be acknowledged or answered soon.
func lingering(cmd step.Command) bool {
	r, ok := cmd.Do.(step.RPC)
	if !ok {
		return false
	}
	_, ok = r.Do.(rpc.Written)
	return ok
}

func (l *linger) add(device uuid.UUID, m bus.Message, until time.Time) {
	if len(l.byDevice[device]) == 0 {
		l.order = append(l.order, lingerEntry{device, until})
	}
	l.byDevice[device] = append(l.byDevice[device], m)
}

// take removes what waits for a device.
func (l *linger) take(device uuid.UUID) []bus.Message {
	list := l.byDevice[device]
	if list != nil {
		delete(l.byDevice, device)
	}
	return list
}

// due is a device whose facts have waited long enough.
func (l *linger) due(now time.Time) (uuid.UUID, bool) {
	for len(l.order) > 0 {
		first := l.order[0]
		if len(l.byDevice[first.device]) > 0 && first.until.After(now) {
			return uuid.Nil, false
		}
		l.order = l.order[1:]
		if len(l.byDevice[first.device]) > 0 {
			return first.device, true
		}
	}
	return uuid.Nil, false
}

func (l *linger) any() (uuid.UUID, bool) {
	for device := range l.byDevice {
		return device, true
	}
	return uuid.Nil, false
}

func (l *linger) next() (time.Time, bool) {
	if len(l.order) == 0 {
		return time.Time{}, false
	}
	return l.order[0].until, true
}

// all empties the linger.
func (l *linger) all() []bus.Message {
	var out []bus.Message
	for _, e := range l.order {
		out = append(out, l.take(e.device)...)
	}
	return out
}

// looseOrder is by how much commands of several senders may be out of the order in which they were sent.
const looseOrder = time.Second

// sent is a time before which nothing was sent that waits behind the first commands that wait. One that does not tell was sent long ago.
func (o *owner) sent(messages []bus.Message) time.Time {
	first := o.e.now()
	for i := range messages {
		if cmd, ok := messages[i].Value.(step.Command); ok && cmd.Occurred.Time().Before(first) {
			first = cmd.Occurred.Time()
		}
	}
	return first.Add(-looseOrder)
}

// tick steps what was due at a time, now or shortly before: lingering facts and the deadlines of calls and runs.
func (o *owner) tick(now time.Time) {
	o.beSure(now)
	for !o.blocked() {
		device, ok := o.linger.due(now)
		if !ok {
			break
		}
		o.release(device)
	}
	for !o.blocked() {
		t, ok := o.timers.due(rpc.At(now))
		if !ok {
			return
		}
		if cmd, due := o.ticking(t, rpc.At(now)); due {
			o.release(cmd.Device)
			o.step(bus.Message{Partition: o.partitionOf(cmd.Device), Key: cmd.Device, Value: cmd}, cmd)
		}
	}
}

// ticking is the command of a timer, if its time has really come.
func (o *owner) ticking(t timer, now rpc.Instant) (step.Command, bool) {
	cmd := step.Command{Meta: rpc.Meta{Actor: "system", Cause: "timer"}, Device: t.device}
	if t.token > 0 {
		cmd.Do = step.Wake{Run: t.id, Token: t.token}
		_, parked := o.state.Runs[t.id]
		return cmd, parked
	}
	d := o.state.Devices[t.device]
	c := d.Find(t.id)
	if c == nil {
		return cmd, false
	}
	next := d.NextDeadline(c)
	if next <= now && c.Expires > now { // a command steps all that is due by the clock: not the end, before the answers that wait were looked at
		if clock := rpc.At(o.e.now()); c.Expires <= clock {
			next = c.Expires
		}
	}
	if next > now {
		o.timers.set(timer{at: next, device: t.device, id: t.id})
		return cmd, false
	}
	cmd.Do = step.RPC{Do: rpc.Tick{Call: t.id}}
	return cmd, true
}
