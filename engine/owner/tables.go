package owner

import (
	"bytes"
	"slices"

	"callchain/engine/bus"
	"callchain/engine/projection"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/eventstore"

	"github.com/google/uuid"
	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// device is the owner's record of a device.
type device struct {
	id        uuid.UUID
	tenant    uuid.UUID
	partition int32

	info       step.Info // row of the registry
	generation uint64    // of the registry when the row was read
	deleted    bool      // from the registry

	state          rpc.Device
	home           string          // process that holds the live session; "" if there is none
	stream         string          // the open stream of the device
	head           projection.Head // of that stream
	lastConnect    rpc.Instant
	lastDisconnect rpc.Instant

	lingering []bus.Message
	replies   budget
	changed   bool   // its row is to be written
	written   uint64 // the last batch with events or a row of it
	reads     int    // that are under way
}

// row is the row of projection.Devices.
func (d *device) row() eventstore.Row {
	return eventstore.Row{Table: projection.Devices, Values: []any{
		d.id, int64(d.partition), int64(d.state.NextWire), d.stream, d.head.Began, d.head.Version, bytes.Clone(d.head.Hash[:]),
		instantOrNil(d.lastConnect), instantOrNil(d.lastDisconnect),
	}}
}

func instantOrNil(i rpc.Instant) any {
	if i == 0 {
		return nil
	}
	return int64(i)
}

// openCall is the owner's record of an open call. The call's state is in its device's.
type openCall struct {
	timer
	head        projection.Head
	accepted    rpc.Instant // when its sender accepted it
	trace       step.TraceContext
	awaitedHere bool     // this process has a caller
	callers     []string // other processes with a caller
	home        string   // of a device's call on a secondary session: the process that holds that
}

// awaited reports whether the call has a caller.
func (c *openCall) awaited() bool { return c.awaitedHere || len(c.callers) > 0 }

// addCaller notes another process with a caller.
func (c *openCall) addCaller(process string) {
	if !slices.Contains(c.callers, process) {
		c.callers = append(c.callers, process)
	}
}

// parkedRun is the owner's record of a parked run.
type parkedRun struct {
	run    step.Run
	device *device
	head   projection.Head
	timers []*timer
}

// idleMost bounds the cached devices that are not connected and have nothing open.
const idleMost = 10_000

// tables hold the devices, open calls and parked runs of the owned partitions.
type tables struct {
	devices map[uuid.UUID]*device
	calls   map[uuid.UUID]*openCall
	runs    map[uuid.UUID]*parkedRun
	idle    *simplelru.LRU[uuid.UUID, *device]
	timers  timers
}

func newTables() tables {
	idle, err := simplelru.NewLRU[uuid.UUID, *device](idleMost+1, nil)
	if err != nil {
		panic("owner: " + err.Error()) // the size is positive
	}
	return tables{devices: map[uuid.UUID]*device{}, calls: map[uuid.UUID]*openCall{}, runs: map[uuid.UUID]*parkedRun{}, idle: idle}
}

// open adds a call of a device.
func (t *tables) open(call uuid.UUID, d *device) *openCall {
	c := &openCall{timer: timer{device: d, id: call}}
	t.calls[call] = c
	return c
}

// close removes a call.
func (t *tables) close(c *openCall) {
	t.timers.stop(&c.timer)
	delete(t.calls, c.id)
}

// setDeadline sets the timer of an open call to its next deadline.
func (t *tables) setDeadline(c *openCall) {
	if call := c.device.state.Find(c.id); call != nil {
		t.timers.set(&c.timer, c.device.state.NextDeadline(call))
	}
}

// setDeadlines does so for all calls of a device whose session has changed.
func (t *tables) setDeadlines(d *device) {
	for c := range d.state.Open.All() {
		if open := t.calls[c.ID]; open != nil {
			t.timers.set(&open.timer, d.state.NextDeadline(c))
		}
	}
}

// rearm sets a command's timer again if it is not due any more: the clock was set back while the command waited for a read.
func (t *tables) rearm(cmd *step.Command) {
	switch do := cmd.Do.(type) {
	case step.RPC:
		tick, _ := do.Do.(rpc.Tick)
		if c := t.calls[tick.Call]; c != nil && c.slot == 0 && c.at > cmd.Now {
			t.timers.set(&c.timer, c.at)
		}
	case step.Wake:
		if r := t.runs[do.Run]; r != nil {
			for _, one := range r.timers {
				if one.token == do.Token && one.slot == 0 && one.at > cmd.Now {
					t.timers.set(one, one.at)
				}
			}
		}
	}
}

// park adds or replaces a run; a run without tokens is removed.
func (t *tables) park(r *parkedRun) {
	for _, one := range r.timers {
		t.timers.stop(one)
	}
	r.timers = nil
	if len(r.run.Tokens) == 0 {
		delete(t.runs, r.run.ID)
		return
	}
	t.runs[r.run.ID] = r
	for _, token := range r.run.Tokens {
		if token.Due != 0 {
			one := &timer{device: r.device, id: r.run.ID, token: token.Number}
			r.timers = append(r.timers, one)
			t.timers.set(one, token.Due)
		}
	}
}

// retire lets a device be evicted, if all of it is stored. stored is the last stored batch.
func (t *tables) retire(d *device, stored uint64) {
	if !d.state.Idle() || len(d.lingering) > 0 || d.changed || d.written > stored || d.reads > 0 || t.devices[d.id] != d {
		return
	}
	t.idle.Add(d.id, d)
	for t.idle.Len() > idleMost {
		id, _, _ := t.idle.RemoveOldest()
		delete(t.devices, id)
	}
}

// use keeps a device from being evicted.
func (t *tables) use(d *device) { t.idle.Remove(d.id) }

// drop removes partitions.
func (t *tables) drop(partitions []int32) {
	for _, r := range t.runs {
		if slices.Contains(partitions, r.device.partition) {
			r.run.Tokens = nil
			t.park(r)
		}
	}
	for _, c := range t.calls {
		if slices.Contains(partitions, c.device.partition) {
			t.close(c)
		}
	}
	for id, d := range t.devices {
		if slices.Contains(partitions, d.partition) {
			t.idle.Remove(id)
			delete(t.devices, id)
		}
	}
}

// inPartition are the devices of a partition, by id.
func (t *tables) inPartition(partition int32) []*device {
	var out []*device
	for _, d := range t.devices {
		if d.partition == partition {
			out = append(out, d)
		}
	}
	slices.SortFunc(out, func(a, b *device) int { return bytes.Compare(a.id[:], b.id[:]) })
	return out
}

// budget is a limit per second.
type budget struct {
	second int64
	used   int
}

// allow uses one unit of the budget, and reports whether it was left.
func (b *budget) allow(now rpc.Instant, most int) bool {
	if second := int64(now) / 1_000_000; second != b.second {
		b.second, b.used = second, 0
	}
	b.used++
	return b.used <= most
}
