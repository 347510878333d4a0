package eventstore

import (
	"context"
	"fmt"
)

// Fault is a kind of damage that Verify finds.
type Fault string

// The faults.
const (
	FaultChanged Fault = "changed" // the event's fields and its hash do not agree
	FaultMissing Fault = "missing" // seqs before the checkpoint without events: an event, a stream or the tail was removed
	FaultVersion Fault = "version" // the event does not follow the stream's last one
	FaultPlace   Fault = "place"   // the event says that it belongs to another partition
	FaultHead    Fault = "head"    // the hashes are not those that were chained: events and their hashes were made anew
	FaultSurplus Fault = "surplus" // an event after the checkpoint
)

// Problem is one finding.
type Problem struct {
	Partition int32
	Seq       int64 // first seq concerned
	Last      int64 // last seq concerned
	Stream    string
	Version   int64
	Fault     Fault
	Detail    string
}

func (p Problem) String() string {
	where := fmt.Sprintf("partition %d, seq %d", p.Partition, p.Seq)
	if p.Last > p.Seq {
		where += fmt.Sprintf(" to %d", p.Last)
	}
	if p.Stream != "" {
		where += fmt.Sprintf(", %s version %d", p.Stream, p.Version)
	}
	return fmt.Sprintf("%s: %s: %s", where, p.Fault, p.Detail)
}

// Summary counts what Verify read.
type Summary struct {
	Partitions int
	Events     int64
	Streams    int64 // that began in what was read
	Problems   int64
}

const (
	verifyPage  = 1000      // events read at once
	verifyHeads = 1_000_000 // stream heads kept, about 150 bytes each
)

// Verify reads every event of every partition up to its checkpoint as of the call, and reports what does not agree with the hashes: a
// changed byte, a missing stream, a cut tail, an event made up. Appends may go on meanwhile. Its memory is bounded: beyond a million open
// stream heads it forgets them all and reads the event before from the store when it needs one.
//
// Whoever can write to the database can make all hashes of a partition anew, with its checkpoint; only a head that was published or
// signed elsewhere shows that.
func Verify(ctx context.Context, s Store, report func(Problem)) (Summary, error) {
	var sum Summary
	checkpoints, err := s.Checkpoints(ctx)
	if err != nil {
		return sum, err
	}
	for _, c := range checkpoints {
		v := verification{store: s, checkpoint: c, sum: &sum, heads: map[string]head{}, report: func(p Problem) {
			sum.Problems++
			report(p)
		}}
		if err := v.partition(ctx); err != nil {
			return sum, fmt.Errorf("verifying partition %d: %w", c.Partition, err)
		}
		sum.Partitions++
	}
	return sum, nil
}

type head struct {
	version int64
	hash    Hash
}

// verification walks one partition.
type verification struct {
	store      Store
	checkpoint Checkpoint
	sum        *Summary
	report     func(Problem)
	heads      map[string]head
	forgot     bool // heads was emptied once
	seq        int64
	chain      Hash
	broken     bool // a seq was missing: the chain cannot be compared
}

func (v *verification) partition(ctx context.Context) error {
	for v.seq < v.checkpoint.Seq {
		events, err := v.store.Partition(ctx, v.checkpoint.Partition, v.seq, int(min(verifyPage, v.checkpoint.Seq-v.seq)))
		if err != nil {
			return err
		}
		if len(events) == 0 {
			break
		}
		for i := range events {
			if events[i].Seq > v.checkpoint.Seq {
				break
			}
			if err := v.event(ctx, &events[i]); err != nil {
				return err
			}
		}
		if events[len(events)-1].Seq > v.checkpoint.Seq {
			break
		}
	}
	if v.seq < v.checkpoint.Seq {
		v.missing(v.checkpoint.Seq, "the checkpoint knows these events: the tail was cut")
	}
	if !v.broken && v.chain != v.checkpoint.Head {
		v.report(Problem{
			Partition: v.checkpoint.Partition, Seq: v.seq, Last: v.seq, Fault: FaultHead,
			Detail: "the chain over the hashes ends in another head than the checkpoint's",
		})
	}
	return v.surplus(ctx)
}

func (v *verification) event(ctx context.Context, e *Event) error {
	if e.Seq > v.seq+1 {
		v.missing(e.Seq-1, "no events with these seqs")
	}
	problem := Problem{Partition: v.checkpoint.Partition, Seq: e.Seq, Last: e.Seq, Stream: e.Stream, Version: e.Version}
	if e.Partition != v.checkpoint.Partition {
		problem.Fault, problem.Detail = FaultPlace, fmt.Sprintf("says partition %d", e.Partition)
		v.report(problem)
	}
	before, known, err := v.before(ctx, e)
	if err != nil {
		return err
	}
	if known && e.Version != before.version+1 {
		problem.Fault, problem.Detail = FaultVersion, fmt.Sprintf("the stream's last version before it is %d", before.version)
		v.report(problem)
	} else if known && e.Digest(before.hash) != e.Hash {
		problem.Fault, problem.Detail = FaultChanged, "the hash over its fields is another: this event or the stream's one before was changed"
		v.report(problem)
	}
	if e.Version == 1 {
		v.sum.Streams++
	}
	v.keep(e)
	v.seq, v.chain = e.Seq, Link(v.chain, e.Hash)
	v.sum.Events++
	return nil
}

// before gives the head of the event's stream. After the heads were forgotten it is not known if the store does not have it, which was
// reported when its seq was missed.
func (v *verification) before(ctx context.Context, e *Event) (head, bool, error) {
	if h, ok := v.heads[e.Stream]; ok || !v.forgot || e.Version <= 1 {
		return h, true, nil
	}
	events, err := v.store.Stream(ctx, e.Stream, e.Version-2, 1)
	if err != nil || len(events) == 0 || events[0].Version != e.Version-1 {
		return head{}, false, err
	}
	return head{events[0].Version, events[0].Hash}, true, nil
}

func (v *verification) keep(e *Event) {
	if len(v.heads) >= verifyHeads {
		clear(v.heads)
		v.forgot = true
	}
	v.heads[e.Stream] = head{e.Version, e.Hash}
}

func (v *verification) missing(last int64, detail string) {
	v.broken = true
	v.report(Problem{Partition: v.checkpoint.Partition, Seq: v.seq + 1, Last: last, Fault: FaultMissing, Detail: detail})
}

// surplus looks for events that no checkpoint knows. An owner may have appended since the checkpoint was read, so it is read again.
func (v *verification) surplus(ctx context.Context) error {
	events, err := v.store.Partition(ctx, v.checkpoint.Partition, v.checkpoint.Seq, 1)
	if err != nil || len(events) == 0 {
		return err
	}
	now, err := v.store.Checkpoints(ctx)
	if err != nil {
		return err
	}
	for _, c := range now {
		if c.Partition == v.checkpoint.Partition && c.Seq >= events[0].Seq {
			return nil
		}
	}
	v.report(Problem{
		Partition: v.checkpoint.Partition, Seq: events[0].Seq, Last: events[0].Seq, Stream: events[0].Stream, Version: events[0].Version,
		Fault: FaultSurplus, Detail: "no checkpoint knows this event",
	})
	return nil
}
