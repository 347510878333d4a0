// Package replay folds the calls of a whole log, at the speed at which the log can be read, to verify the rows of the projection (Check)
// and to rebuild them (Rebuild).
//
// It knows no transport, so that a replay can never reach a device.
package replay

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"callchain/engine/projection"
	"callchain/engine/rpc"
	"callchain/eventstore"

	"github.com/google/uuid"
)

// Options say how to replay; the zero value is good.
type Options struct {
	Workers  int                            // that read and decode; 0 = one a processor, at most 4
	Page     int                            // events read at once; 0 = 500
	Progress func(events, of int64)         // called now and then: events read, and about how many there are
	Broken   func(stream string, err error) // a call that cannot be folded; it is left out
}

const (
	workersMost = 4
	pageDefault = 500
)

func (o Options) filled() Options {
	if o.Workers <= 0 {
		o.Workers = min(runtime.GOMAXPROCS(0), workersMost)
	}
	if o.Page <= 0 {
		o.Page = pageDefault
	}
	if o.Progress == nil {
		o.Progress = func(int64, int64) {}
	}
	if o.Broken == nil {
		o.Broken = func(string, error) {}
	}
	return o
}

// Summary counts what was replayed.
type Summary struct {
	Events int64 // of all kinds of streams
	Calls  int64 // folded, also those that are open
	Open   int64 // calls that have not ended
	Broken int64 // calls that cannot be folded
}

// Receiver takes a call in the state of its row: when it has ended, and open calls at the end of the log. again: a fact came after
// the end of a call that was handed over before. The receiver may keep the call.
type Receiver func(c *projection.Call, again bool) error

// Calls folds every call of the log as of now. In memory are the open calls and a few pages. Errors are the store's and the receiver's.
func Calls(ctx context.Context, store eventstore.Store, o Options, to Receiver) (Summary, error) {
	f := folder{store: store, options: o.filled(), to: to, open: map[key]*projection.Call{}, broken: map[key]struct{}{}}
	log, err := openLog(ctx, store, int64(f.options.Page))
	if err != nil {
		return f.sum, err
	}
	err = inOrder(ctx, log.pieces, f.options.Workers, func(list []item) error {
		if err := f.fold(ctx, list); err != nil {
			return err
		}
		f.options.Progress(f.sum.Events, log.events)
		return nil
	})
	if err != nil {
		return f.sum, err
	}
	return f.sum, f.end()
}

type key struct{ tenant, call uuid.UUID }

// folder folds the events of all calls side by side.
type folder struct {
	store   eventstore.Store
	options Options
	to      Receiver
	open    map[key]*projection.Call
	broken  map[key]struct{} // reported so far, at most brokenMost
	sum     Summary
}

// brokenMost bounds the set of reported calls; beyond it, a call may be reported again.
const brokenMost = 10_000

func (f *folder) fold(ctx context.Context, list []item) error {
	f.sum.Events += int64(len(list))
	for i := range list {
		if projection.IsCall(list[i].event.Stream) {
			if err := f.one(ctx, &list[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *folder) one(ctx context.Context, it *item) error {
	k := key{it.event.Tenant, it.fact.Call}
	c := f.open[k]
	switch {
	case it.err != nil:
		f.markBroken(k, it.event.Stream, fmt.Errorf("version %d: %w", it.event.Version, it.err))
		return nil
	case c == nil && it.event.Version == 1:
		c = &projection.Call{}
		f.open[k] = c
		f.sum.Calls++
	case c == nil:
		return f.again(ctx, k, it.event.Stream)
	case it.event.Version != c.Version+1:
		f.markBroken(k, it.event.Stream, gap(c.Version, it.event.Version))
		return nil
	}
	c.Apply(it.event, it.fact, rpc.Settings{})
	if !c.State.Phase.Terminal() {
		return nil
	}
	delete(f.open, k)
	return f.to(c, false)
}

func gap(before, version int64) error {
	return fmt.Errorf("version %d follows version %d: events are missing", version, before)
}

// again hands over a call that has ended before, or whose beginning could not be folded.
func (f *folder) again(ctx context.Context, k key, stream string) error {
	if _, ok := f.broken[k]; ok {
		return nil
	}
	c, err := Call(ctx, f.store, stream, rpc.Settings{})
	switch {
	case errors.Is(err, ErrFold):
		f.markBroken(k, stream, err)
		return nil
	case err != nil:
		return err
	}
	return f.to(&c, true)
}

func (f *folder) markBroken(k key, stream string, err error) {
	delete(f.open, k)
	if _, reported := f.broken[k]; reported {
		return
	}
	if len(f.broken) < brokenMost {
		f.broken[k] = struct{}{}
	}
	f.sum.Broken++
	f.options.Broken(stream, err)
}

// end hands over the calls that are open.
func (f *folder) end() error {
	f.sum.Open = int64(len(f.open))
	for _, c := range f.open {
		if err := f.to(c, false); err != nil {
			return err
		}
	}
	return nil
}

// ErrFold marks stored events that cannot be folded; a retry cannot succeed.
var ErrFold = errors.New("the stream cannot be folded")

// Call folds the stream of one call as of now; of a stream without events it is the zero Call. Deadlines are right only with the settings of its device.
func Call(ctx context.Context, store eventstore.Store, stream string, settings rpc.Settings) (projection.Call, error) {
	var c projection.Call
	for {
		events, err := store.Stream(ctx, stream, c.Version, pageDefault)
		if err != nil {
			return c, err
		}
		for i := range events {
			var err error
			if events[i].Version != c.Version+1 {
				err = gap(c.Version, events[i].Version)
			} else {
				err = c.Fold(&events[i], settings)
			}
			if err != nil {
				return c, fmt.Errorf("folding %s at version %d: %w: %w", stream, events[i].Version, ErrFold, err)
			}
		}
		if len(events) < pageDefault {
			return c, nil
		}
	}
}
