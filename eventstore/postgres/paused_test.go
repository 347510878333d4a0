package postgres_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"callchain/eventstore/pgtest"
	"callchain/eventstore/storetest"
)

// TestAPausedClientHoldsNoLock: a client that stops while it sends an append keeps nobody from claiming the partition, wherever in the request it
// stops; when it goes on, nothing of it is stored. The last bytes are the nastiest: the server has run the statement and waits for the word that ends
// the transaction.
func TestAPausedClientHoldsNoLock(t *testing.T) {
	for name, left := range map[string]int64{"in the middle": 200, "before the last message": 5, "within the last message": 1} {
		t.Run(name, func(t *testing.T) { pausedClient(t, left) })
	}
}

func pausedClient(t *testing.T, left int64) {
	database := pgtest.Database(t)
	w, through := newWire(t, database)
	paused, s := openAt(t, through), openAt(t, database)
	zombie := storetest.Claim(t, paused, 1)
	zombie.Append(t, paused, "window/a")
	zombie.Append(t, paused) // the statement is prepared now; it has the same length each time
	before := w.passed.Load()
	zombie.Append(t, paused)
	length := w.passed.Load() - before
	w.pauseAfter(length - left)
	ended := make(chan error, 1)
	go func() {
		fenced, err := paused.Append(t.Context(), storetest.Of(storetest.NewID(), zombie.Batch()))
		if err == nil && !slices.Equal(fenced, []int32{1}) {
			err = fmt.Errorf("stored, but for %v", fenced)
		}
		ended <- err
	}()
	eventually(t, w.isPaused)

	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	began := time.Now()
	got, err := s.Claim(ctx, "another", []int32{1})
	if err != nil {
		t.Fatalf("Claim after %v = %v: a paused client holds it up", time.Since(began), err)
	}
	if got[0].Seq != zombie.Mine.Seq || got[0].Head != zombie.Mine.Head {
		t.Errorf("Claim gives %+v, want what was stored before: %+v", got[0], zombie.Mine)
	}
	w.resume()
	if fenced := <-ended; fenced != nil {
		t.Errorf("the append that went on ends with %v, want fenced", fenced)
	}
	events, err := s.Partition(t.Context(), 1, 0, 100)
	if err != nil || len(events) != 1 {
		t.Errorf("Partition = %d events, %v, want 1", len(events), err)
	}
}
