package bustest

import (
	"errors"
	"sync/atomic"
	"testing"

	"callchain/engine/bus"
)

// closeRaceReported: each message put before the inbox was closed gets one result, and comes afterwards if that was a success.
func closeRaceReported(t *testing.T, p *place) {
	const producers = 8
	senders := newOutcomes()
	took := raceWithClose(t, p, producers, func(producer, n int, err error) { senders.of(parcel{producer, n})(err) })
	p.end()
	total := 0
	for _, n := range took {
		total += n
	}
	if senders.len() != total {
		t.Errorf("%d of %d senders got a result when the inbox was closed", senders.len(), total)
	}
	durable := senders.durable(t)
	p.in, p.end = p.Open(t)
	p.begin(t)
	got := take(t, p.in, bus.RPC, len(durable))
	wantOnceInOrder(t, got)
	for _, m := range got {
		delete(durable, parcelOf(t, m))
	}
	if len(durable) > 0 {
		t.Errorf("%d durable messages did not come", len(durable))
	}
}

// bounds: no more messages than the bound wait to be taken, or are written at once; priority ones up to twice of it. All come in the end.
func bounds(t *testing.T, p *place) {
	p.begin(t)
	var unknown, most atomic.Int64
	senders := newOutcomes()
	put := func(n int, priority bool) error {
		m := message(bus.RPC, parcel{1, n})
		m.Priority = priority
		complete := senders.of(parcel{1, n})
		m.Done = func(err error) {
			unknown.Add(-1)
			complete(err)
		}
		most.Store(max(most.Load(), unknown.Add(1)))
		err := p.in.Put(m)
		if err != nil {
			unknown.Add(-1)
		}
		return err
	}
	count, full := 5*p.fixture.Bound, 0
	for n := 0; n < count; n++ {
		err := put(n, false)
		if errors.Is(err, bus.ErrFull) {
			full++
			err = put(n, true) // beyond the bound
		}
		if errors.Is(err, bus.ErrFull) {
			until(t, "there is room again", func() bool { return unknown.Load() < int64(p.fixture.Bound) })
			n--
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if waiting := p.in.Len(bus.RPC); waiting > p.fixture.Bound {
			t.Fatalf("%d messages wait to be taken, the bound is %d", waiting, p.fixture.Bound)
		}
	}
	senders.wait(t, count)
	// A message frees its room before its sender gets the result, so some more may seem to be under way.
	if most.Load() > int64(4*p.fixture.Bound) {
		t.Errorf("the fate of %d messages was not known at once, the bound is %d", most.Load(), 2*p.fixture.Bound)
	}
	until(t, "the queue is full", func() bool { return p.in.Len(bus.RPC) == p.fixture.Bound })
	wantOnceInOrder(t, take(t, p.in, bus.RPC, count))
	t.Logf("a full lane refused %d of %d messages", full, count)
}

// completedOnce: the sender gets the result when the message is durable, whether or not it is taken; the owner then finds no Done.
func completedOnce(t *testing.T, p *place) {
	const count = 100
	senders := newOutcomes()
	for n := range count {
		m := message(bus.Lane(n%2), parcel{n % 5, n})
		m.Done = senders.of(parcel{n % 5, n})
		mustPut(t, p.in, m)
	}
	senders.wait(t, count)
	p.begin(t)
	for lane := range bus.Lanes {
		for _, m := range take(t, p.in, lane, count/2) {
			if m.Done != nil {
				t.Fatalf("%v still has a Done", m.Value)
			}
		}
	}
	if durable := senders.durable(t); len(durable) != count {
		t.Errorf("%d of %d messages were kept", len(durable), count)
	}
}

// ephemeral: an ephemeral message is handed over with its Done, even before the inbox begins, and is lost when the inbox closes.
func ephemeral(t *testing.T, p *place) {
	senders := 0
	m := message(bus.RPC, parcel{1, 0})
	m.Ephemeral, m.Done = true, func(error) { senders++ }
	mustPut(t, p.in, m)
	got := take(t, p.in, bus.RPC, 1)[0]
	if got.Place != (bus.Place{}) || got.Done == nil || senders != 0 {
		t.Errorf("an ephemeral message came with the place %v, with Done: %t, and %d results", got.Place, got.Done != nil, senders)
	}
	p.end()
	p.in, p.end = p.Open(t)
	p.begin(t)
	until(t, "the inbox has caught up", func() bool { return !p.in.CatchingUp() })
	wantEmpty(t, p.in)
}

// malformed: bytes that the codec cannot decode come at their place, and do not block later messages.
func malformed(t *testing.T, p *place) {
	bytes := []byte("\xff\x00 nobody can read this")
	putDurable(t, p.in, bus.RPC, 1, 0, 1)
	p.Corrupt(t, bus.RPC, 1, bytes)
	putDurable(t, p.in, bus.RPC, 1, 1, 1)
	p.begin(t)
	got := take(t, p.in, bus.RPC, 3)
	bad, ok := got[1].Value.(bus.Malformed)
	if !ok || string(bad.Bytes) != string(bytes) || bad.Err == nil {
		t.Errorf("the bytes came as %#v", got[1].Value)
	}
	if got[1].Place.Offset != got[0].Place.Offset+1 || got[1].Partition != 1 {
		t.Errorf("the bytes came at %v of partition %d", got[1].Place, got[1].Partition)
	}
	if parcelOf(t, got[0]).n != 0 || parcelOf(t, got[2]).n != 1 {
		t.Errorf("before and behind them came %v and %v", got[0].Value, got[2].Value)
	}
}

// tooLarge: only the message that is too large is refused.
func tooLarge(t *testing.T, p *place) {
	p.begin(t)
	m := message(bus.RPC, parcel{1, 0})
	m.Value, m.Priority, m.Done = bulk(256<<20), true, func(error) { t.Error("Done of a refused message was called") }
	if err := p.in.Put(m); !errors.Is(err, bus.ErrTooLarge) {
		t.Errorf("Put: %v, want ErrTooLarge", err)
	}
	putDurable(t, p.in, bus.RPC, 1, 0, 1)
	take(t, p.in, bus.RPC, 1)
	m.Value, m.Done = bulk(16<<20), nil // what REST takes
	mustPut(t, p.in, m)
	if bad, ok := take(t, p.in, bus.RPC, 1)[0].Value.(bus.Malformed); !ok || len(bad.Bytes) != 16<<20 {
		t.Error("a message of 16 MiB did not come whole")
	}
}
