package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"callchain/eventstore"
)

// The crowd that readersAmongWriters lets loose.
const (
	crowd        = 32 // writers, a partition each
	crowdBatches = 10 // of each writer; in the middle the partition changes hands
	crowdEvents  = 3  // of each batch
)

// readersAmongWriters: thirty-two write through two stores and hand their partitions over in the middle, while others follow all partitions
// through a third. What a checkpoint says is there to be read, and each seq is seen once and in order.
func readersAmongWriters(t testing.TB, at Site) {
	stores, reading := [2]eventstore.Store{at.Open(), at.Open()}, at.Open()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var (
		wg   sync.WaitGroup
		errs = make([]error, crowd+4)
	)
	for i := range crowd {
		wg.Go(func() { errs[i] = writeAndHandOver(ctx, stores, int32(i)) })
	}
	for i := range 4 {
		wg.Go(func() { errs[crowd+i] = follow(ctx, reading, int32(i*crowd/4), crowd/4) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// writeAndHandOver gives up at the first error.
func writeAndHandOver(ctx context.Context, stores [2]eventstore.Store, partition int32) error {
	w := &Writer{heads: map[string]*eventstore.Event{}}
	stream := fmt.Sprint("window/", partition)
	for n := range crowdBatches {
		s := stores[(int(partition)+n/(crowdBatches/2))%2]
		if n%(crowdBatches/2) == 0 {
			claimed, err := s.Claim(ctx, fmt.Sprint("writer ", n), []int32{partition})
			if err != nil {
				return fmt.Errorf("partition %d: %w", partition, err)
			}
			if claimed[0].Seq != w.Mine.Seq {
				return fmt.Errorf("partition %d: the claim says seq %d, %d were stored", partition, claimed[0].Seq, w.Mine.Seq)
			}
			w.Mine = claimed[0]
		}
		id, p := NewID(), w.Batch(append(CallStreams(crowdEvents-1), stream)...)
		if fenced, err := s.Append(ctx, Of(id, p)); err != nil || len(fenced) > 0 {
			return fmt.Errorf("partition %d: fenced %v: %w", partition, fenced, err)
		}
		w.Took(p, id)
	}
	return nil
}

// follow reads count partitions to their ends, a page of each in turn.
func follow(ctx context.Context, s eventstore.Store, first int32, count int) error {
	last := make([]int64, count)
	for open := count; open > 0; {
		checkpoints, err := s.Checkpoints(ctx)
		if err != nil {
			return err
		}
		said := map[int32]int64{}
		for _, c := range checkpoints {
			said[c.Partition] = c.Seq
		}
		open = count
		for i := range last {
			partition := first + int32(i)
			page, err := s.Partition(ctx, partition, last[i], 7)
			if err != nil {
				return err
			}
			for _, e := range page {
				if e.Seq != last[i]+1 {
					return fmt.Errorf("partition %d: after seq %d the reader sees %d", partition, last[i], e.Seq)
				}
				last[i] = e.Seq
			}
			if len(page) < 7 && last[i] < said[partition] {
				return fmt.Errorf("partition %d ends at seq %d for the reader, its checkpoint said %d before", partition, last[i], said[partition])
			}
			if last[i] == crowdBatches*crowdEvents {
				open--
			}
		}
	}
	return nil
}
