package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"callchain/eventstore"
)

// zombieBetweenClaimAndLoad: an owner that does not know that it lost its partition goes on appending while the new owner claims and loads.
// What Claim returned must be all there is, and stay all there is.
func zombieBetweenClaimAndLoad(t testing.TB, at Site) {
	zombieNode, newNode := at.Open(), at.Open()
	for round := range 15 {
		partition := int32(round)
		zombie := Claim(t, zombieNode, partition)
		stream := fmt.Sprint("window/", round)
		zombie.Append(t, zombieNode, stream)
		started, stopped := make(chan struct{}), make(chan error, 1)
		go func() { stopped <- appendUntilFenced(t.Context(), zombieNode, zombie, stream, started) }()
		<-started
		claimed := Claim(t, newNode, partition)
		first := readPartition(t, newNode, partition)
		if int64(len(first)) != claimed.Mine.Seq {
			t.Fatalf("round %d: the claim says seq %d, the load finds %d events", round, claimed.Mine.Seq, len(first))
		}
		if err := <-stopped; err != nil {
			t.Fatalf("round %d: the zombie ends with %v, want fenced", round, err)
		}
		wantPartition(t, newNode, partition, first)
		wantCheckpoint(t, newNode, claimed.Mine)
		claimed.Append(t, newNode, CallStream())
	}
}

// appendUntilFenced closes started after its first append.
func appendUntilFenced(ctx context.Context, s eventstore.Store, w *Writer, stream string, started chan struct{}) error {
	for n := range 2_000 {
		id, p := NewID(), w.Batch(stream, stream)
		fenced, err := s.Append(ctx, Of(id, p))
		switch {
		case err != nil:
			return err
		case len(fenced) > 0:
			if n == 0 {
				close(started)
			}
			return nil
		}
		w.Took(p, id)
		if n == 0 {
			close(started)
		}
		// Reads leave a moment in which another process can take the lock of a database that has one for all.
		for range 5 {
			if _, err := s.Stream(ctx, stream, 0, 20); err != nil {
				return err
			}
		}
	}
	return errors.New("was never fenced")
}

// clientStopsInMidAppend: the context ends at any point of an append, and the same batch is appended again until it is answered.
func clientStopsInMidAppend(t testing.TB, at Site) {
	s := at.Open()
	w := Claim(t, s, 3)
	rng := rand.New(rand.NewPCG(1, 2))
	var want []eventstore.Event
	stopped := 0
	for range 60 {
		streams := append(CallStreams(rng.IntN(30)), "device/a")
		id, p := NewID(), w.Batch(streams...)
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1<<rng.IntN(13))*time.Microsecond)
			if _, err := s.Append(ctx, Of(id, p)); err != nil {
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Fatalf("a stopped append ends with %v, want the context's error", err)
				}
				stopped++
			}
			cancel()
		}
		if fenced, err := s.Append(t.Context(), Of(id, p)); err != nil || len(fenced) > 0 {
			t.Fatalf("the last try = %v, %v, want stored", fenced, err)
		}
		w.Took(p, id)
		want = append(want, p.Events...)
	}
	wantPartition(t, s, 3, want)
	wantCheckpoint(t, s, w.Mine)
	t.Logf("%d of 180 appends were stopped", stopped)
}

// storedBatchAgain: the answer to an append was lost. The same batch counts as stored, also when the partition was claimed since.
func storedBatchAgain(t testing.TB, at Site) {
	s := at.Open()
	w := Claim(t, s, 1)
	id, p := NewID(), w.Batch("device/a", CallStream())
	p.Rows = []eventstore.Row{at.value("k", `1`)}
	for range 3 {
		if fenced, err := s.Append(t.Context(), Of(id, p)); err != nil || len(fenced) > 0 {
			t.Fatalf("Append of the same batch = %v, %v, want stored", fenced, err)
		}
	}
	other := Claim(t, s, 1)
	if fenced, err := s.Append(t.Context(), Of(id, p)); err != nil || len(fenced) > 0 {
		t.Errorf("Append of the same batch after a claim = %v, %v, want stored", fenced, err)
	}
	wantPartition(t, s, 1, p.Events)
	other.Append(t, s, "device/b")
	if fenced, err := s.Append(t.Context(), Of(id, p)); err != nil || !slices.Equal(fenced, []int32{1}) {
		t.Errorf("Append of an old batch after another append = %v, %v, want fenced", fenced, err)
	}
	// A batch without events moves the checkpoint alone, and once.
	w.Mine = other.Mine
	id, empty := NewID(), w.Batch()
	empty.Next.Positions[1].Offset = 7
	for range 2 {
		if fenced, err := s.Append(t.Context(), Of(id, empty)); err != nil || len(fenced) > 0 {
			t.Errorf("Append without events = %v, %v, want stored", fenced, err)
		}
	}
	want := empty.Next
	want.Append = id
	wantCheckpoint(t, s, want)
}

// oneFencedAmongEight: the other seven commit; of the fenced one neither events nor rows nor checkpoint are written.
func oneFencedAmongEight(t testing.TB, at Site) {
	s := at.Open()
	writers := make([]*Writer, 8)
	for i := range writers {
		writers[i] = Claim(t, s, int32(i))
		writers[i].Append(t, s, "device/a"+fmt.Sprint(i))
	}
	thief := Claim(t, s, 5)
	batch := eventstore.Batch{ID: NewID()}
	for i, w := range slices.Backward(writers) {
		p := w.Batch("device/a"+fmt.Sprint(i), CallStream())
		p.Rows = []eventstore.Row{at.value(fmt.Sprint("k", i), `true`)}
		batch.Partitions = append(batch.Partitions, p)
	}
	for range 2 { // the second time, seven are stored already
		if fenced, err := s.Append(t.Context(), batch); err != nil || !slices.Equal(fenced, []int32{5}) {
			t.Fatalf("Append = %v, %v, want 5 fenced", fenced, err)
		}
	}
	for i := range writers {
		events := readPartition(t, s, int32(i))
		rows, err := s.Count(t.Context(), eventstore.Query{Table: at.Tables.Values, Where: []eventstore.Cond{{Column: "key", Op: eventstore.Eq, Value: fmt.Sprint("k", i)}}})
		want := map[bool]int{true: 3, false: 1}[i != 5]
		if err != nil || len(events) != want || rows != int64(want/2) {
			t.Errorf("partition %d has %d events and %d rows (%v), want %d and %d", i, len(events), rows, err, want, want/2)
		}
	}
	wantCheckpoint(t, s, thief.Mine)
}

// staleOwnerIsFenced: an owner that missed its own last append (it dropped its memory too late, or a copy of it still runs) is stopped by the seq.
func staleOwnerIsFenced(t testing.TB, at Site) {
	s := at.Open()
	w := Claim(t, s, 1)
	stale := *w
	w.Append(t, s, "window/a")
	if fenced, err := s.Append(t.Context(), Of(NewID(), stale.Batch(CallStream()))); err != nil || !slices.Equal(fenced, []int32{1}) {
		t.Errorf("Append from a seq that was passed = %v, %v, want fenced", fenced, err)
	}
	ahead := *w
	ahead.Mine.Seq += 5
	if fenced, err := s.Append(t.Context(), Of(NewID(), ahead.Batch(CallStream()))); err != nil || !slices.Equal(fenced, []int32{1}) {
		t.Errorf("Append from a seq that was not reached = %v, %v, want fenced", fenced, err)
	}
	wantCheckpoint(t, s, w.Mine)
}

// callerKeepsItsSlices: what the store took is its own copy.
func callerKeepsItsSlices(t testing.TB, at Site) {
	s := at.Open()
	w := Claim(t, s, 1)
	p := w.Batch("window/a", "window/b")
	want := slices.Clone(p.Events)
	for i := range want {
		want[i].Data = slices.Clone(want[i].Data)
	}
	if _, err := s.Append(t.Context(), Of(NewID(), p)); err != nil {
		t.Fatal(err)
	}
	for i := range p.Events {
		for j := range p.Events[i].Data {
			p.Events[i].Data[j] = ' '
		}
		p.Events[i] = eventstore.Event{}
	}
	wantPartition(t, s, 1, want)
}

// thirtyTwoWriters append to partitions of their own at the same time, through two stores.
func thirtyTwoWriters(t testing.TB, at Site) {
	stores := [2]eventstore.Store{at.Open(), at.Open()}
	var (
		wg   sync.WaitGroup
		want [32][]eventstore.Event
		errs [32]error
	)
	begin := make(chan struct{})
	for i := range want {
		w, s := Claim(t, stores[i%2], int32(i)), stores[i%2]
		wg.Go(func() {
			<-begin
			for range 12 {
				id, p := NewID(), w.Batch(append(CallStreams(4), fmt.Sprint("device/", i))...)
				p.Rows = []eventstore.Row{at.value(fmt.Sprint("k", i), fmt.Sprint(p.Next.Seq))}
				if fenced, err := s.Append(t.Context(), Of(id, p)); err != nil || len(fenced) > 0 {
					errs[i] = fmt.Errorf("writer %d: fenced %v: %w", i, fenced, err)
					return
				}
				w.Took(p, id)
				want[i] = append(want[i], p.Events...)
			}
		})
	}
	close(begin)
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	for i := range want {
		wantPartition(t, stores[1], int32(i), want[i])
	}
}

// readerMissesNothing: a reader that goes on from the last seq it saw sees each seq once and in order while writers run, also in other
// partitions of the same batches.
func readerMissesNothing(t testing.TB, at Site) {
	writing, reading := at.Open(), at.Open()
	const batches, each = 80, 5
	written := make(chan error, 1)
	a, b := Claim(t, writing, 1), Claim(t, writing, 2)
	go func() {
		for range batches {
			id, p, q := NewID(), a.Batch(CallStreams(each)...), b.Batch("device/b")
			if fenced, err := writing.Append(t.Context(), Of(id, p, q)); err != nil || len(fenced) > 0 {
				written <- fmt.Errorf("fenced %v: %w", fenced, err)
				return
			}
			a.Took(p, id)
			b.Took(q, id)
		}
		written <- nil
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for last := int64(0); last < batches*each; {
		page, err := reading.Partition(ctx, 1, last, 7)
		if err != nil {
			t.Fatalf("reading while a writer runs: %v", err)
		}
		for _, e := range page {
			if e.Seq != last+1 {
				t.Fatalf("after seq %d the reader sees %d", last, e.Seq)
			}
			last = e.Seq
		}
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
}

// twoWritersBeginOneStream: of two owners that give the same stream its first event at the same time, exactly one wins, round after round.
func twoWritersBeginOneStream(t testing.TB, at Site) {
	stores := [2]eventstore.Store{at.Open(), at.Open()}
	writers := [2]*Writer{Claim(t, stores[0], 0), Claim(t, stores[1], 1)}
	for round := range 25 {
		stream := CallStream()
		begin := make(chan struct{})
		var (
			wg   sync.WaitGroup
			errs [2]error
		)
		for i, w := range writers {
			wg.Go(func() {
				<-begin
				id, p := NewID(), w.Batch(CallStream(), stream)
				if _, errs[i] = stores[i].Append(t.Context(), Of(id, p)); errs[i] == nil {
					w.Took(p, id)
				}
			})
		}
		close(begin)
		wg.Wait()
		loser := slices.IndexFunc(errs[:], func(err error) bool { return err != nil })
		if loser < 0 || errs[1-loser] != nil {
			t.Fatalf("round %d: the writers end with %v, want one winner", round, errs)
		}
		var conflict *eventstore.ConflictError
		if !errors.As(errs[loser], &conflict) || !slices.Equal(conflict.Streams, []string{stream}) {
			t.Fatalf("round %d: the loser ends with %v, want a conflict over %s", round, errs[loser], stream)
		}
	}
}
