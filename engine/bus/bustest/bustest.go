// Package bustest is the suite that every bus.Inbox passes, nastiest case first.
package bustest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"callchain/engine/bus"

	"github.com/google/uuid"
)

// boundMost is the largest bound of a lane that the suite tries to fill; the inbox that it is given should be far smaller.
const boundMost = 1 << 20

// patience ends a wait for a signal that was lost.
const patience = 20 * time.Second

// Run runs the suite. make opens an empty inbox that the test may close; its lanes should hold a few hundred messages.
func Run(t *testing.T, make func(t *testing.T) bus.Inbox) {
	cases := []struct {
		name string
		run  func(*testing.T, bus.Inbox)
	}{
		{"many producers, one consumer that waits for signals", manyProducers},
		{"a signal for what was left behind", leftBehind},
		{"a signal while the consumer takes", signalWhileTaking},
		{"a full lane refuses, vital messages go beyond", fullLane},
		{"lanes do not disturb each other", lanesApart},
		{"order across growth and wrap", orderAcrossWrap},
		{"closed", closed},
		{"closing races with producers", closeRace},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.run(t, make(t)) })
	}
}

// parcel is what the suite sends: the n-th message of a producer.
type parcel struct{ producer, n int }

func message(lane bus.Lane, p parcel) bus.Message {
	var key uuid.UUID
	binary.BigEndian.PutUint64(key[:], uint64(p.producer)+1)
	return bus.Message{Lane: lane, Key: key, Value: p}
}

func parcelOf(t *testing.T, m bus.Message) parcel {
	t.Helper()
	p, ok := m.Value.(parcel)
	if !ok {
		t.Fatalf("the inbox gave a %T that nobody put", m.Value)
	}
	return p
}

// putAll puts a producer's parcels in order, again and again where the lane is full.
func putAll(in bus.Inbox, lane bus.Lane, producer, count int, room <-chan struct{}) error {
	for n := 0; n < count; {
		err := in.Put(message(lane, parcel{producer, n}))
		switch {
		case err == nil:
			n++
		case errors.Is(err, bus.ErrFull):
			select {
			case <-room:
			case <-time.After(patience):
				return fmt.Errorf("producer %d found no room for its parcel %d", producer, n)
			}
		default:
			return err
		}
	}
	return nil
}

// manyProducers: whatever the interleaving, the order of each producer is kept, nothing is lost or doubled, and a consumer
// that sleeps until a signal comes gets all of it.
func manyProducers(t *testing.T, in bus.Inbox) {
	const producers, count = 16, 2_000
	room := make(chan struct{}, 4*producers)
	var done sync.WaitGroup
	for p := range producers {
		done.Go(func() {
			if err := putAll(in, bus.Lane(p%int(bus.Lanes)), p, count, room); err != nil {
				t.Error(err)
			}
		})
	}
	next := make([]int, producers)
	for got, turn := 0, 0; got < producers*count; turn++ {
		select {
		case <-in.Ready():
		case <-time.After(patience):
			t.Fatalf("no signal for %s, %d of %d messages came; %d and %d wait", patience, got, producers*count, in.Len(bus.RPC), in.Len(bus.Data))
		}
		for lane := range bus.Lanes { // one bite a lane and signal: what is left behind needs a signal of its own
			for _, m := range in.Take(lane, 1+turn%97, nil) {
				p := parcelOf(t, m)
				if p.n != next[p.producer] {
					t.Fatalf("producer %d: parcel %d came, %d was next", p.producer, p.n, next[p.producer])
				}
				next[p.producer]++
				got++
			}
		}
		for range producers {
			select {
			case room <- struct{}{}:
			default:
			}
		}
	}
	done.Wait()
	wantEmpty(t, in)
}

func wantEmpty(t *testing.T, in bus.Inbox) {
	t.Helper()
	for lane := range bus.Lanes {
		if n := in.Len(lane); n != 0 {
			t.Errorf("lane %d still has %d messages", lane, n)
		}
		if left := in.Take(lane, 10, nil); len(left) != 0 {
			t.Errorf("lane %d gives %d messages more", lane, len(left))
		}
	}
}

func mustPut(t *testing.T, in bus.Inbox, m bus.Message) {
	t.Helper()
	if err := in.Put(m); err != nil {
		t.Fatalf("Put: %v", err)
	}
}

func wantSignal(t *testing.T, in bus.Inbox) {
	t.Helper()
	select {
	case <-in.Ready():
	case <-time.After(patience):
		t.Fatal("no signal came")
	}
}

// leftBehind: one signal may stand for many messages, so what a Take leaves needs another.
func leftBehind(t *testing.T, in bus.Inbox) {
	for n := range 5 {
		mustPut(t, in, message(bus.RPC, parcel{0, n}))
	}
	for n := range 5 {
		wantSignal(t, in)
		got := in.Take(bus.RPC, 1, nil)
		if len(got) != 1 || parcelOf(t, got[0]).n != n {
			t.Fatalf("take %d gave %v", n, got)
		}
	}
	wantEmpty(t, in)
}

// signalWhileTaking: a message that is put after the consumer looked and before it sleeps must wake it, for either lane.
func signalWhileTaking(t *testing.T, in bus.Inbox) {
	for n := range 200 {
		lane := bus.Lane(n % int(bus.Lanes))
		put := make(chan struct{})
		go func() {
			defer close(put)
			if err := in.Put(message(lane, parcel{0, n})); err != nil {
				t.Error(err)
			}
		}()
		for got := 0; got == 0; {
			got = len(in.Take(lane, 10, nil))
			if got == 0 {
				wantSignal(t, in)
			}
		}
		<-put
	}
}

// fullLane fills a lane to its bound. A refused message is not in the inbox, its Done is not called.
func fullLane(t *testing.T, in bus.Inbox) {
	bound := 0
	for ; bound < boundMost; bound++ {
		m := message(bus.Data, parcel{0, bound})
		m.Done = func(error) { t.Error("the inbox called Done; that is for the owner") }
		err := in.Put(m)
		if errors.Is(err, bus.ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if bound == 0 || bound == boundMost {
		t.Fatalf("the lane took %d messages; every queue has a bound", bound)
	}
	vital := 0
	for ; vital <= boundMost; vital++ {
		m := message(bus.Data, parcel{0, bound + vital})
		m.Vital = true
		if err := in.Put(m); errors.Is(err, bus.ErrFull) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if vital != bound {
		t.Errorf("beyond the bound of %d the lane took %d vital messages, want up to twice of it", bound, vital)
	}
	if n := in.Len(bus.Data); n != bound+vital {
		t.Errorf("%d messages wait, %d were taken", n, bound+vital)
	}
	got := in.Take(bus.Data, boundMost, nil)
	for n, m := range got {
		if parcelOf(t, m).n != n {
			t.Fatalf("place %d has parcel %d", n, parcelOf(t, m).n)
		}
	}
	mustPut(t, in, message(bus.Data, parcel{1, 0}))
}

// lanesApart: a full data lane refuses no RPC.
func lanesApart(t *testing.T, in bus.Inbox) {
	for n := 0; in.Put(message(bus.Data, parcel{0, n})) == nil; n++ {
		if n > boundMost {
			t.Fatal("the lane has no bound")
		}
	}
	mustPut(t, in, message(bus.RPC, parcel{1, 0}))
	if got := in.Take(bus.RPC, 10, nil); len(got) != 1 || parcelOf(t, got[0]).producer != 1 {
		t.Errorf("the RPC lane gave %v", got)
	}
	if n := in.Len(bus.RPC); n != 0 {
		t.Errorf("the RPC lane has %d messages left", n)
	}
}

// orderAcrossWrap lets the queue grow and shrink so that its memory wraps. Take appends behind what it was given.
func orderAcrossWrap(t *testing.T, in bus.Inbox) {
	put, took := 0, 0
	into := []bus.Message{message(bus.RPC, parcel{9, 9})}
	for round := range 60 {
		for range round {
			mustPut(t, in, message(bus.RPC, parcel{0, put}))
			put++
		}
		got := in.Take(bus.RPC, round*2/3, into)
		if len(got) == 0 || parcelOf(t, got[0]) != (parcel{9, 9}) {
			t.Fatal("Take lost what it was to append to")
		}
		for _, m := range got[1:] {
			if p := parcelOf(t, m); p.n != took {
				t.Fatalf("parcel %d came, %d was next", p.n, took)
			}
			took++
		}
		for in.Len(bus.RPC) > 100 {
			took += len(in.Take(bus.RPC, 50, nil))
		}
	}
	took += len(in.Take(bus.RPC, boundMost, nil))
	if took != put {
		t.Errorf("%d were put, %d came", put, took)
	}
	if got := in.Take(bus.RPC, 0, nil); len(got) != 0 {
		t.Errorf("Take of 0 gave %d", len(got))
	}
}

// closed: nothing is taken any more, what waits can still be had. Closing twice is harmless.
func closed(t *testing.T, in bus.Inbox) {
	mustPut(t, in, message(bus.RPC, parcel{0, 0}))
	in.Close()
	in.Close()
	for _, vital := range []bool{false, true} {
		m := message(bus.RPC, parcel{0, 1})
		m.Vital = vital
		if err := in.Put(m); !errors.Is(err, bus.ErrClosed) {
			t.Errorf("Put after Close (vital %t): %v, want ErrClosed", vital, err)
		}
	}
	if got := in.Take(bus.RPC, 10, nil); len(got) != 1 {
		t.Errorf("%d messages can be taken after Close, want the one that waited", len(got))
	}
}

// closeRace: what Put took before Close is there, what it refused is not.
func closeRace(t *testing.T, in bus.Inbox) {
	const producers = 8
	var done sync.WaitGroup
	took := make([]int, producers)
	start := make(chan struct{})
	for p := range producers {
		done.Go(func() {
			<-start
			for n := 0; ; n++ {
				err := in.Put(message(bus.RPC, parcel{p, n}))
				if err == nil {
					took[p]++
					continue
				}
				if !errors.Is(err, bus.ErrClosed) && !errors.Is(err, bus.ErrFull) {
					t.Error(err)
				}
				return
			}
		})
	}
	close(start)
	in.Close()
	done.Wait()
	next := make([]int, producers)
	for _, m := range in.Take(bus.RPC, boundMost, nil) {
		p := parcelOf(t, m)
		if p.n != next[p.producer] {
			t.Fatalf("producer %d: parcel %d came, %d was next", p.producer, p.n, next[p.producer])
		}
		next[p.producer]++
	}
	for p := range producers {
		if next[p] != took[p] {
			t.Errorf("producer %d: %d were taken, %d came", p, took[p], next[p])
		}
	}
}
