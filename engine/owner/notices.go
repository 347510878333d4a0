package owner

import (
	"callchain/engine/rpc"
	"callchain/engine/step"

	"github.com/google/uuid"
)

// NoticeKind is the kind of a Notice.
type NoticeKind uint8

// The notices.
const (
	NoticePanicked      NoticeKind = iota // a step panicked: Command, Device, Err, Stack
	NoticeRejected                        // a command could not be processed: Command
	NoticeSkipped                         // the store refuses the dead letter, too: Command, Device, Partition, Err
	NoticeDeadLetter                      // Reason
	NoticeNoRow                           // a dead letter has no row: Reason
	NoticeFull                            // the rows of dead letters are full; once a minute: Count, Most, Reason
	NoticeQuarantined                     // a stream cannot be folded: Stream, Err
	NoticeWaits                           // a message waits for a read that failed: Command, Device, Partition, Err
	NoticeUnknownAnswer                   // a device answered an unknown call: Device, Tenant
	NoticeTracesDropped                   // traces of rule nodes found no room: Count
	NoticeFenced                          // another process has claimed partitions of this one: Partitions
	NoticeAppendFailed                    // partitions are loaded again: Partitions, Count of events, Err
	NoticeNotClaimed                      // partitions could not be claimed or loaded: Partitions, Err, Again
	NoticeInboxLost                       // the inbox has lost messages: Partitions, Err
	NoticeNewerEvents                     // partitions hold events that only a newer program can read: Partitions, Err
	NoticeReassigned                      // partitions went to another process while this one was away: Partitions
	NoticeClaimed                         // partitions are loaded: Partitions, Calls, Runs
	NoticeAheadOfClock                    // stored times are ahead of the clock: Partition, Stored, Now
)

// Notice is for the operator's log or the metrics. Its kind says which fields are set.
type Notice struct {
	Kind       NoticeKind
	Partition  int32
	Partitions []int32
	Tenant     uuid.UUID
	Device     uuid.UUID
	Command    string
	Reason     string
	Stream     string
	Count      int64
	Most       int64
	Calls      int
	Runs       int
	Stored     rpc.Instant
	Now        rpc.Instant
	Again      rpc.Instant
	Err        error
	Stack      []byte
}

// Stage is a point in the life of a call.
type Stage uint8

// The stages; each is measured from the acceptance of the call on.
const (
	StageTaken        Stage = iota // its owner took it from the inbox
	StageQueued                    // its Queued is stored
	StageWritten                   // the command left for the device
	StageAcknowledged              // the device has the command
	StageAnswered                  // the device's answer is here
	StageReplied                   // its end is stored and sent to its callers
	Stages
)

// CallKind is what sort of call it is.
type CallKind uint8

// The kinds of calls.
const (
	LightCall CallKind = iota
	PersistentCall
	ClientCall // of a device
	CallKinds
)

func kindOf(c *rpc.Call) CallKind {
	switch {
	case c.Direction == rpc.FromDevice:
		return ClientCall
	case c.Persistent:
		return PersistentCall
	}
	return LightCall
}

// Passage is a call that reached a stage. At 0 means: when the effects of the batch are released.
type Passage struct {
	Partition int32
	Stage     Stage
	Kind      CallKind
	Cause     string // of the event: the transport, if it was one
	Accepted  rpc.Instant
	At        rpc.Instant
}

// Ending is how a call ended.
type Ending struct {
	Partition int32
	Call      uuid.UUID
	Phase     rpc.Phase
	Reason    rpc.Code
	Kind      CallKind
	Traced    bool // its trace is recorded
}

// Span is the span of a step. It begins when the command is processed, and ends when its batch is stored.
type Span struct {
	Partition int32
	Name      string // of the command
	Parent    step.TraceContext
	ID        [8]byte
	Began     rpc.Instant
	Tenant    uuid.UUID
	Device    uuid.UUID
	Call      uuid.UUID // that the command asks for; uuid.Nil if it is none
	Method    string
}

// SpanOf is the id of the span of the step that began a call. It follows from the call's id, so that a restart can continue the trace.
func SpanOf(call uuid.UUID) (id [8]byte) {
	copy(id[:], call[8:])
	return id
}

// passages notes which stages a call reached with the events of a step, and how it ended.
func (rec *recorder) passages(c *openCall, call *rpc.Call, events []step.Event) {
	one := Passage{Partition: c.device.partition, Kind: kindOf(call), Accepted: c.accepted}
	for i := range events {
		ev := &events[i].Event
		if ev.Call != call.ID || ev.Fact == nil {
			continue
		}
		if stage, ok := stageOf(ev, call.Oneway); ok {
			one.Stage, one.Cause, one.At = stage, ev.Cause, ev.Occurred
			switch stage { //nolint:exhaustive // the other stages have the time of their event
			case StageTaken:
				one.At = rec.now // At may be ahead of the clock
			case StageQueued:
				one.At = 0
			}
			rec.batch.passages = append(rec.batch.passages, one)
		}
	}
	if call.Phase.Terminal() {
		one.Stage, one.Cause, one.At = StageReplied, events[len(events)-1].Event.Cause, 0
		rec.batch.passages = append(rec.batch.passages, one)
		rec.batch.endings = append(rec.batch.endings, Ending{
			Partition: one.Partition, Call: call.ID, Phase: call.Phase, Reason: call.Reason, Kind: one.Kind, Traced: c.trace.Span.Sampled,
		})
	}
}

// stageOf is the stage of an event; false if it is none, or an acknowledgement that only follows from the answer.
func stageOf(ev *rpc.Event, oneway bool) (Stage, bool) {
	switch f := ev.Fact.(type) {
	case rpc.Requested:
		return StageTaken, true
	case rpc.Queued:
		return StageQueued, !f.Again
	case rpc.Sent:
		return StageWritten, f.Attempt == 1
	case rpc.Delivered:
		return StageAcknowledged, f.Evidence != evidenceAnswer && f.Evidence != evidenceWritten
	case rpc.Succeeded:
		return StageAnswered, !oneway
	}
	return 0, false
}
