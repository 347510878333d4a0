package owner

import (
	"container/heap"
	"time"

	"callchain/engine/bus"
	"callchain/engine/rpc"

	"github.com/google/uuid"
)

// timer is the time at which an open call is to be ticked, or a token of a parked run to be woken (token > 0).
type timer struct {
	at     rpc.Instant
	device *device
	id     uuid.UUID // of the call or the run
	token  int
	slot   int // in the heap, from 1 on; 0: it is not set
}

// timers is a heap of timers. A timer is in it once, and leaves it with what it is for.
type timers []*timer

// set lets a timer fire at a time, whether or not it was set before. The zero Instant is never.
func (t *timers) set(one *timer, at rpc.Instant) {
	switch one.at = at; {
	case at == 0:
		t.stop(one)
	case one.slot == 0:
		heap.Push(t, one)
	default:
		heap.Fix(t, one.slot-1)
	}
}

func (t *timers) stop(one *timer) {
	if one.slot > 0 {
		heap.Remove(t, one.slot-1)
	}
}

// due takes the next timer whose time has come; nil if there is none.
func (t *timers) due(now rpc.Instant) *timer {
	if len(*t) == 0 || (*t)[0].at > now {
		return nil
	}
	return heap.Pop(t).(*timer)
}

// next is when the next timer fires, 0 if there is none.
func (t *timers) next() rpc.Instant {
	if len(*t) == 0 {
		return 0
	}
	return (*t)[0].at
}

// Len implements heap.Interface, as do the methods below.
func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].at < t[j].at }
func (t timers) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].slot, t[j].slot = i+1, j+1
}

// Push implements heap.Interface.
func (t *timers) Push(x any) {
	one := x.(*timer)
	*t = append(*t, one)
	one.slot = len(*t)
}

// Pop implements heap.Interface.
func (t *timers) Pop() any {
	old := *t
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*t = old[:len(old)-1]
	last.slot = 0
	return last
}

// lingering are the devices with facts that need no commit of their own (a command left for the device): they wait for the next command of
// their device, or for Config.Linger (decision 0010).
type lingering []lingerer

type lingerer struct {
	device *device
	until  rpc.Instant
}

func (l *lingering) add(d *device, m bus.Message, until rpc.Instant) {
	if len(d.lingering) == 0 {
		*l = append(*l, lingerer{d, until})
	}
	d.lingering = append(d.lingering, m)
}

// due takes a device whose facts have waited long enough; nil if there is none.
func (l *lingering) due(now rpc.Instant) *device {
	for len(*l) > 0 {
		first := (*l)[0]
		waits := len(first.device.lingering) > 0
		if waits && first.until > now {
			return nil
		}
		(*l)[0] = lingerer{}
		if *l = (*l)[1:]; len(*l) == 0 {
			*l = nil
		}
		if waits {
			return first.device
		}
	}
	return nil
}

// next is when the first device's facts have waited long enough, 0 if none wait.
func (l *lingering) next() rpc.Instant {
	if len(*l) == 0 {
		return 0
	}
	return (*l)[0].until
}

// reorderTolerance bounds how far commands of several senders may be out of the order in which they were sent.
const reorderTolerance = time.Second
