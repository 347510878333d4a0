package sim

import (
	"callchain/engine/owner"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/eventstore"

	"github.com/google/uuid"
)

// Fault is something that is broken on purpose. All but Sound break a promise: a simulation that does not notice them proves nothing.
type Fault uint8

// The faults. Those marked hid in the engine once (1e1d5bf).
const (
	Sound Fault = iota

	EffectsFirst        // effects leave before the append
	WireIDsBeginAnew    // the counter of wire ids is forgotten when a partition is loaded
	OpenCallsForgotten  // open calls are not loaded
	AnswersCountTwice   // what a device repeats is a second end
	RunsForgotten       // runs that wait are not loaded
	FencedReleased      // effects of partitions leave that another process owns
	TimeStandsStill     // an owner hears of the time only when a command comes
	InboxSkipped        // the inbox goes on behind what was not processed
	ReleasesLost        // what an append has stored whose success was not reported never leaves
	CallersForgotten    // an owner does not hear of the callers that are here
	MisroutedLost       // what reached the wrong process is dropped
	WatermarkAhead      // the index of open streams is said to be complete when it is not
	RowsMissing         // rows of calls are not written
	SessionsForgotten   // an owner does not hear of the sessions that are here
	ReadsFailSilently   // hid (a): what cannot be read is taken for not there
	AckTimeoutsLost     // hid (b): acknowledgement time-outs are lost when a partition is loaded
	NewerQuarantined    // hid (d): events of a newer program are quarantined, and the partition is served
	DeadlinesByStampsAt // hid (e): deadlines are compared with the newest stored time
	faults
)

// Faults are all faults, with their names.
func Faults() map[string]Fault {
	names := [...]string{
		EffectsFirst: "effects first", WireIDsBeginAnew: "wire ids begin anew", OpenCallsForgotten: "open calls forgotten", AnswersCountTwice: "answers count twice",
		RunsForgotten: "runs forgotten", FencedReleased: "fenced released", TimeStandsStill: "time stands still", InboxSkipped: "inbox skipped",
		ReleasesLost: "releases lost", CallersForgotten: "callers forgotten", MisroutedLost: "misrouted lost", WatermarkAhead: "watermark ahead", RowsMissing: "rows missing",
		SessionsForgotten: "sessions forgotten", ReadsFailSilently: "a: reads fail silently", AckTimeoutsLost: "b: acknowledgement time-outs lost",
		NewerQuarantined: "d: newer events quarantined", DeadlinesByStampsAt: "e: deadlines by stored times",
	}
	out := map[string]Fault{}
	for f := EffectsFirst; f < faults; f++ {
		out[names[f]] = f
	}
	return out
}

// recovered breaks what was loaded.
func (f Fault) recovered(r *owner.Recovered) {
	switch f {
	case RunsForgotten:
		r.Runs = nil
	default:
	}
	for i := range r.Devices {
		d := &r.Devices[i]
		switch f {
		case WireIDsBeginAnew:
			d.State.NextWire = 0
		case OpenCallsForgotten:
			d.Calls = nil
		case AckTimeoutsLost:
			for j := range d.Calls {
				d.Calls[j].Call.AckDue = 0
			}
		default:
		}
	}
}

// appended breaks a batch before it is stored.
func (f Fault) appended(b *eventstore.Batch) {
	for i := range b.Partitions {
		p := &b.Partitions[i]
		switch f {
		case WatermarkAhead:
			p.Next.Indexed = p.Next.Seq
		case RowsMissing:
			p.Rows = nil
		case AnswersCountTwice:
			for j := range p.Events {
				if e := &p.Events[j]; e.Type == (rpc.AnsweredLate{}).Name() {
					e.Type = (rpc.Succeeded{}).Name()
				}
			}
		default:
		}
	}
}

// answered breaks what a failed read has found.
func (f Fault) answered(r *owner.Read, a *owner.Answer) {
	if f != ReadsFailSilently || a.Err == nil {
		return
	}
	*a = owner.Answer{ID: a.ID, Generation: a.Generation, Bodies: map[uuid.UUID]rpc.Body{}, Chains: map[step.Version]*owner.Program{}}
	if r.Registry {
		a.Registry = &owner.Device{ID: r.Device, Deleted: true}
	}
}
