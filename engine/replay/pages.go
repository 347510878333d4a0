package replay

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	"callchain/engine/projection"
	"callchain/engine/rpc"
	"callchain/eventstore"
)

// item is an event of the log; of a call's it is decoded.
type item struct {
	event *eventstore.Event
	fact  rpc.Event
	err   error // what kept a call's event from being decoded
}

// read reads one piece of the log.
type read func(context.Context) ([]eventstore.Event, error)

// log is the whole log as of a moment, in pieces. The events of a partition are in the order of seqs.
type log struct {
	events int64 // how many there are at least
	pieces iter.Seq[read]
}

func openLog(ctx context.Context, store eventstore.Store, page int64) (log, error) {
	checkpoints, err := store.Checkpoints(ctx)
	if err != nil {
		return log{}, err
	}
	var out log
	for _, c := range checkpoints {
		out.events += c.Seq
	}
	scanner, ok := store.(eventstore.Scanner)
	if !ok {
		out.pieces = byPartition(store, checkpoints, page)
		return out, nil
	}
	places, err := scanner.Places(ctx)
	if err != nil {
		return log{}, err
	}
	out.pieces = byPlace(scanner, places, page)
	return out, nil
}

func byPlace(s eventstore.Scanner, places, page int64) iter.Seq[read] {
	return func(yield func(read) bool) {
		for at := int64(0); at < places; at += page {
			last := min(at+page, places)
			if !yield(func(ctx context.Context) ([]eventstore.Event, error) { return s.Scan(ctx, at, last) }) {
				return
			}
		}
	}
}

func byPartition(s eventstore.Store, checkpoints []eventstore.Checkpoint, page int64) iter.Seq[read] {
	return func(yield func(read) bool) {
		for _, c := range checkpoints {
			for at := int64(0); at < c.Seq; at += page {
				last := min(at+page, c.Seq)
				if !yield(func(ctx context.Context) ([]eventstore.Event, error) { return span(ctx, s, c.Partition, at, last) }) {
					return
				}
			}
		}
	}
}

// span reads the events of a partition behind a seq up to last; where seqs are missing, a page holds later ones, which are not its own.
func span(ctx context.Context, s eventstore.Store, partition int32, after, last int64) ([]eventstore.Event, error) {
	events, err := s.Partition(ctx, partition, after, int(last-after))
	for len(events) > 0 && events[len(events)-1].Seq > last {
		events = events[:len(events)-1]
	}
	return events, err
}

// piece is a part of the log on its way: its reader sends the items to done, where the folder receives them in order.
type piece struct {
	read read
	done chan items
}

type items struct {
	list []item
	err  error
}

// inOrder reads and decodes pieces by several workers and hands their items to fold, in the order of the log. At most two pieces a worker
// are in memory.
func inOrder(ctx context.Context, pieces iter.Seq[read], workers int, fold func([]item) error) error {
	ctx, stop := context.WithCancelCause(ctx)
	work, turn := make(chan piece), make(chan piece, workers)
	var running sync.WaitGroup
	defer running.Wait()
	defer stop(errEnded)
	running.Go(func() {
		defer close(work)
		defer close(turn)
		for r := range pieces {
			p := piece{r, make(chan items, 1)}
			for _, to := range []chan piece{turn, work} {
				select {
				case to <- p:
				case <-ctx.Done():
					return
				}
			}
		}
	})
	for range workers {
		running.Go(func() {
			for p := range work {
				p.done <- decoded(ctx, p.read)
			}
		})
	}
	for p := range turn {
		select {
		case got := <-p.done:
			if got.err != nil {
				return got.err
			}
			if err := fold(got.list); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return context.Cause(ctx)
}

var errEnded = errors.New("the replay has ended")

func decoded(ctx context.Context, r read) items {
	events, err := r(ctx)
	if err != nil {
		return items{err: fmt.Errorf("reading the log: %w", err)}
	}
	list := make([]item, len(events))
	for i := range events {
		list[i].event = &events[i]
		if projection.IsCall(events[i].Stream) {
			list[i].fact, list[i].err = projection.DecodeCall(&events[i])
		}
	}
	return items{list: list}
}
