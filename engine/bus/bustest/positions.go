package bustest

import (
	"errors"
	"strings"
	"testing"

	"callchain/engine/bus"

	"github.com/google/uuid"
)

// wantLost: the error names the topic of the lane, the partition and what happened.
func wantLost(t *testing.T, err error, lane bus.Lane, what string) {
	t.Helper()
	var lost *bus.LostError
	if !errors.As(err, &lost) {
		t.Fatalf("%v, want a LostError", err)
	}
	if name := [bus.Lanes]string{"inbox", "data"}[lane]; !strings.Contains(lost.Topic, name) || !strings.Contains(lost.Error(), what) {
		t.Errorf("%v, want one of the topic %s with %q", lost, name, what)
	}
}

// recreated: a position in a removed topic is not valid in a new topic of the same name.
func recreated(t *testing.T, p *place) {
	p.begin(t)
	putDurable(t, p.in, bus.Data, 1, 0, 5)
	at := after(take(t, p.in, bus.Data, 5)[0])
	p.end()
	p.Renew(t, bus.Data)
	p.in, p.end = p.Open(t)
	wantLost(t, p.tryBegin(t.Context(), at), bus.Data, "made anew")
	if n := p.in.Len(bus.Data) + p.in.Len(bus.RPC); n != 0 {
		t.Errorf("%d messages were handed over all the same", n)
	}
}

// recreatedWhileRead: the inbox notices by itself, names it, and refuses to go on.
func recreatedWhileRead(t *testing.T, p *place) {
	p.begin(t)
	putDurable(t, p.in, bus.RPC, 1, 0, 5)
	take(t, p.in, bus.RPC, 5)
	p.Renew(t, bus.RPC)
	var lost *bus.LostError
	until(t, "the inbox names what was lost", func() bool { return errors.As(p.in.Err(), &lost) })
	wantLost(t, p.in.Err(), bus.RPC, "")
	if err := p.in.Put(message(bus.RPC, parcel{1, 5})); !errors.Is(err, bus.ErrAway) {
		t.Errorf("Put: %v, want ErrAway", err)
	}
	if got := p.in.Take(bus.RPC, 10, nil); len(got) != 0 {
		t.Errorf("%d messages were handed over all the same", len(got))
	}
}

// removedWhileRead: the inbox names the topic, refuses what is new, and hands nothing over. It does not take a topic that is made under the same name
// for the old one.
func removedWhileRead(t *testing.T, p *place) {
	p.begin(t)
	putDurable(t, p.in, bus.Data, 1, 0, 5)
	take(t, p.in, bus.Data, 5)
	p.Remove(t, bus.Data)
	until(t, "the inbox names the topic that is gone", func() bool {
		err := p.in.Err()
		return err != nil && strings.Contains(err.Error(), "data")
	})
	if err := p.in.Put(message(bus.RPC, parcel{1, 5})); !errors.Is(err, bus.ErrAway) {
		t.Errorf("Put: %v, want ErrAway", err)
	}
	if !p.in.CatchingUp() {
		t.Error("CatchingUp is false although a lane is gone")
	}
	p.Renew(t, bus.Data)
	var lost *bus.LostError
	until(t, "the inbox names what was lost", func() bool { return errors.As(p.in.Err(), &lost) })
	wantLost(t, p.in.Err(), bus.Data, "")
}

// trimmedWhileRead: the consumer is slow, and what it has not taken is removed, further than the inbox has read ahead. What was read ahead may still come, in
// order; then the inbox names what was lost and hands nothing over from behind the gap.
func trimmedWhileRead(t *testing.T, p *place) {
	p.begin(t)
	const size, rounds, most = 20_000, 8, 100
	for range rounds {
		results := make(chan error, most)
		for range most {
			mustPut(t, p.in, bus.Message{Lane: bus.Data, Priority: true, Value: bulk(size), Done: func(err error) { results <- err }})
		}
		for range most {
			if err := <-results; err != nil {
				t.Fatal(err)
			}
		}
	}
	until(t, "the lane is full", func() bool { return p.in.Len(bus.Data) >= p.fixture.Bound })
	const durable = rounds*most - 10
	p.Trim(t, bus.Data, 0, durable)
	next := int64(0)
	var lost *bus.LostError
	until(t, "the inbox names what was lost", func() bool {
		for _, m := range p.in.Take(bus.Data, 10, nil) {
			if m.Place.Offset != next {
				t.Fatalf("the message at offset %d came, %d was next", m.Place.Offset, next)
			}
			next++
		}
		return errors.As(p.in.Err(), &lost)
	})
	wantLost(t, p.in.Err(), bus.Data, "partition 0")
	for _, m := range p.in.Take(bus.Data, rounds*most, nil) {
		if m.Place.Offset >= durable {
			t.Fatalf("the message at offset %d came from behind the gap", m.Place.Offset)
		}
	}
}

// trimmed: what was removed before it was taken is named; the other partitions' positions do not matter then.
func trimmed(t *testing.T, p *place) {
	p.begin(t)
	putDurable(t, p.in, bus.RPC, 1, 0, 10)
	got := take(t, p.in, bus.RPC, 10)
	p.end()
	p.Trim(t, bus.RPC, got[0].Partition, got[6].Place.Offset)
	p.in, p.end = p.Open(t)
	wantLost(t, p.tryBegin(t.Context(), after(got[2])), bus.RPC, "removed")
	p.begin(t, after(got[5])) // nothing was lost for this one
	if rest := take(t, p.in, bus.RPC, 4); parcelOf(t, rest[0]).n != 6 {
		t.Errorf("parcel %v came, 6 was next", rest[0].Value)
	}
}

// beyondTheEnd: a position that the topic has not reached means that it lost messages.
func beyondTheEnd(t *testing.T, p *place) {
	p.begin(t)
	putDurable(t, p.in, bus.RPC, 1, 0, 3)
	last := take(t, p.in, bus.RPC, 3)[2]
	p.end()
	p.in, p.end = p.Open(t)
	last.Place.Offset++
	wantLost(t, p.tryBegin(t.Context(), after(last)), bus.RPC, "ends before")
}

// anyPosition: from each place on, exactly the messages behind it come, with the same places, and from nowhere all of them.
func anyPosition(t *testing.T, p *place) {
	const count = 7
	p.begin(t)
	var all [bus.Lanes][]bus.Message
	for lane := range bus.Lanes {
		putDurable(t, p.in, lane, 2, 0, count)
		all[lane] = take(t, p.in, lane, count)
	}
	for from := range count + 1 {
		p.end()
		p.in, p.end = p.Open(t)
		at := bus.From{Partition: all[bus.RPC][0].Partition}
		for lane := range bus.Lanes {
			if from > 0 {
				at.Next[lane] = after(all[lane][from-1]).Next[lane]
			}
		}
		p.begin(t, at)
		for lane := range bus.Lanes {
			want := all[lane][from:]
			for n, m := range take(t, p.in, lane, len(want)) {
				if m.Place != want[n].Place || m.Value != want[n].Value || m.Key != want[n].Key || m.Partition != want[n].Partition || m.Lane != want[n].Lane {
					t.Fatalf("from %d on, message %d is %+v, want %+v", from, n, m, want[n])
				}
			}
			last := len(all[lane])
			putDurable(t, p.in, lane, 2, last, 1)
			more := take(t, p.in, lane, 1) // nothing else comes between
			if parcelOf(t, more[0]).n != last {
				t.Fatalf("%v came, parcel %d was next", more[0].Value, last)
			}
			all[lane] = append(all[lane], more...)
		}
	}
	if rpc, data := all[bus.RPC][0].Place.Topic, all[bus.Data][0].Place.Topic; rpc == uuid.Nil || rpc == data {
		t.Errorf("the topics of the lanes are %s and %s", rpc, data)
	}
}

// notBegun: before the inbox begins, messages are written, none is handed over, and CatchingUp is true.
func notBegun(t *testing.T, p *place) {
	putDurable(t, p.in, bus.RPC, 1, 0, 20)
	if n := p.in.Len(bus.RPC); n != 0 {
		t.Errorf("%d messages wait before the inbox began", n)
	}
	if !p.in.CatchingUp() {
		t.Error("CatchingUp is false before Begin")
	}
	if err := p.in.Err(); err != nil {
		t.Errorf("trouble: %v", err)
	}
	p.begin(t)
	var got []bus.Message
	until(t, "the inbox has caught up", func() bool {
		caughtUp := !p.in.CatchingUp() // asked first: what it handed over by then can be taken
		got = p.in.Take(bus.RPC, 7, got)
		return caughtUp && p.in.Len(bus.RPC) == 0
	})
	if len(got) != 20 {
		t.Errorf("%d messages were handed over when the inbox was not behind any more, want 20", len(got))
	}
}
