// Package appender stores the batches of an owner, one at a time, and releases their effects in order once they are stored.
package appender

import (
	"context"
	"time"

	"callchain/engine/observe"
	"callchain/engine/owner"
	"callchain/eventstore"
)

// Appender stores batches.
type Appender struct {
	store   eventstore.Store
	relayed func(partition int32) int64 // how far a partition is published; nil: nothing is
	release func(*owner.Release)        // is called by one goroutine; must not wait for I/O
	metrics *observe.Metrics

	batches  chan *owner.Batch
	stored   chan Stored
	releases chan owner.Release
	done     chan struct{}
}

// Stored is the result of an append.
type Stored struct {
	Fenced []int32 // partitions that another process has claimed: they are not stored
	Err    error   // it is unknown what is stored
}

// timeout bounds an append.
const timeout = 30 * time.Second

// New starts an appender. relayed may be nil.
func New(store eventstore.Store, relayed func(partition int32) int64, release func(*owner.Release), metrics *observe.Metrics) *Appender {
	a := &Appender{
		store: store, relayed: relayed, release: release, metrics: metrics,
		batches: make(chan *owner.Batch, 1), stored: make(chan Stored, 1), releases: make(chan owner.Release, 4), done: make(chan struct{}),
	}
	go a.run()
	go a.releaseAll()
	return a
}

// Append stores a batch. The next one must wait for the result, from Stored.
func (a *Appender) Append(b *owner.Batch) { a.batches <- b }

// Stored gives the result of Append.
func (a *Appender) Stored() <-chan Stored { return a.stored }

// Release releases effects of a batch that is stored already.
func (a *Appender) Release(r owner.Release) { a.releases <- r }

// Close waits until all stored effects are released. No batch is appended after it.
func (a *Appender) Close() {
	close(a.batches)
	<-a.done
}

func (a *Appender) run() {
	defer close(a.releases)
	for b := range a.batches {
		fenced, err := a.append(b)
		if err == nil {
			a.releases <- b.Release(fenced)
		}
		a.stored <- Stored{fenced, err}
	}
}

func (a *Appender) releaseAll() {
	defer close(a.done)
	for r := range a.releases {
		a.release(&r)
	}
}

func (a *Appender) append(b *owner.Batch) (fenced []int32, err error) {
	if len(b.Store.Partitions) == 0 {
		return nil, nil
	}
	for i := range b.Store.Partitions {
		if next := &b.Store.Partitions[i].Next; a.relayed != nil {
			next.Relayed = max(next.Relayed, a.relayed(next.Partition))
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	began := time.Now()
	fenced, err = a.store.Append(ctx, b.Store)
	a.metrics.AppendTime.Observe(time.Since(began).Seconds())
	a.metrics.AppendSize.Observe(float64(b.Events))
	if err == nil {
		a.metrics.Appended.SetToCurrentTime()
	}
	return fenced, err
}
