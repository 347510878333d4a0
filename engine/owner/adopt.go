package owner

import (
	"time"

	"callchain/engine/bus"
	"callchain/engine/projection"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/eventstore"

	"github.com/google/uuid"
)

// Recovered is a partition as it was loaded.
type Recovered struct {
	Checkpoint  eventstore.Checkpoint
	LastAt      rpc.Instant // of its last event
	Generation  uint64      // of the registry when it was read
	Devices     []RecoveredDevice
	Runs        []RecoveredRun
	Indexed     []string // streams that are open in the index
	Opened      []string // streams that were opened since
	Ended       []string // of both: those that have ended
	Quarantined []Quarantined
}

// RecoveredDevice is a device with something open, or one whose row is to be written.
type RecoveredDevice struct {
	Row     Device
	State   DeviceState
	Changed bool // its row in the store is behind
	Calls   []RecoveredCall
}

// RecoveredCall is an open call.
type RecoveredCall struct {
	Call     rpc.Call
	Head     projection.Head
	Accepted rpc.Instant
	Trace    [16]byte
}

// RecoveredRun is a run that waits. Its device is among the devices.
type RecoveredRun struct {
	Run  step.Run
	Head projection.Head
}

// Quarantined is a stored stream that cannot be folded.
type Quarantined struct {
	Stream string
	Tenant uuid.UUID
	Device uuid.UUID
	Err    error
}

// adopt takes over a partition that was loaded.
func (mem *memory) adopt(p *partition, r *Recovered, from []bus.From) {
	*p = partition{number: p.number, wanted: true, state: owned, reading: true, since: mem.now, cp: r.Checkpoint, lastAt: r.LastAt}
	if ahead := time.Second; r.LastAt > mem.now.Add(ahead) {
		mem.notice(Notice{Kind: NoticeAheadOfClock, Partition: p.number, Stored: r.LastAt, Now: mem.now})
	}
	p.resumePositions(from)
	for _, stream := range r.Opened {
		p.writeBehind.open(stream)
	}
	for _, stream := range r.Indexed {
		p.writeBehind.openIndexed(stream)
	}
	for _, stream := range r.Ended {
		p.writeBehind.close(stream)
	}
	for i := range r.Devices {
		mem.adoptDevice(p, &r.Devices[i], r.Generation)
	}
	for i := range r.Runs {
		run := &r.Runs[i]
		if d := mem.tables.devices[run.Run.Device]; d != nil {
			mem.tables.park(&parkedRun{run: run.Run, device: d, head: run.Head})
		}
	}
}

// resumePositions notes where the inbox goes on. A new position that an operator accepted after a loss is stored even without new messages: otherwise the next start would
// ask again.
func (p *partition) resumePositions(from []bus.From) {
	for _, f := range from {
		if f.Partition != p.number {
			continue
		}
		for lane, next := range f.Next {
			if at := (eventstore.Position{Topic: next.Topic, Offset: next.Offset}); at != p.cp.Positions[lane] {
				p.cp.Positions[lane], p.moved = at, true
			}
		}
	}
}

func (mem *memory) adoptDevice(p *partition, r *RecoveredDevice, generation uint64) {
	d := newDevice(&r.Row, &r.State)
	d.partition, d.info, d.generation, d.deleted = p.number, r.Row.Info, generation, r.Row.Deleted
	d.state.Settings = r.Row.Info.Settings
	calls := make([]rpc.Call, len(r.Calls))
	for i := range r.Calls {
		calls[i] = r.Calls[i].Call
	}
	d.state = rpc.Restore(d.state, calls)
	mem.tables.devices[d.id] = d
	for i := range r.Calls {
		one := &r.Calls[i]
		c := mem.tables.open(one.Call.ID, d)
		c.head, c.accepted, c.trace = one.Head, one.Accepted, mem.restoreTrace(one.Call.ID, one.Trace)
		mem.tables.setDeadline(c)
	}
	if r.Changed {
		p.writeBehind.changeDevice(d)
	}
	mem.tables.retire(d, mem.stored)
}
