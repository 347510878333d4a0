package bustest

import (
	"errors"
	"slices"
	"sync"
	"testing"

	"callchain/engine/bus"
)

// sharing are the cases of durable inboxes, of which many read one set of partitions.
func sharing() []testCase {
	return []testCase{
		{"partitions end and begin while a flood arrives", endInFlood},
		{"a partition that was lost harms no other", lostAlone},
		{"a partition that ends makes room for others", endMakesRoom},
		{"what is ephemeral is given back", ephemeralReturned},
		{"a partition begins again at another place", beginAgain},
		{"an inbox that reads nothing is not behind", readsNothing},
	}
}

// at is a place in both lanes: zero for their beginning.
func at(partition int32, next [bus.Lanes]bus.Place) bus.From {
	return bus.From{Partition: partition, Next: next}
}

func (p *place) beginAt(t *testing.T, from ...bus.From) {
	t.Helper()
	if err := p.in.Begin(t.Context(), from); err != nil {
		t.Fatalf("Begin: %v", err)
	}
}

// endInFlood: an owner ends and begins partitions again and again, each time where it stopped, while others write. It gets every message of each lane once, in
// order, and none of a partition that has ended.
func endInFlood(t *testing.T, p *place) {
	const producers, count, rounds = 8, 3_000, 40
	var putting sync.WaitGroup
	room := make(chan struct{}, 4*producers)
	for producer := range producers {
		putting.Go(func() {
			if err := putAll(p.in, bus.Lane(producer/4%int(bus.Lanes)), producer, count, room); err != nil {
				t.Error(err)
			}
		})
	}
	var next [4][bus.Lanes]bus.Place
	ended := map[int32]bool{0: true, 1: true, 2: true, 3: true}
	got := 0
	drain := func(most int) {
		for lane := range bus.Lanes {
			for _, m := range p.in.Take(lane, most, nil) {
				if ended[m.Partition] {
					t.Fatalf("%v came, of partition %d, which had ended", m.Value, m.Partition)
				}
				if want := next[m.Partition][lane].Offset; m.Place.Offset != want {
					t.Fatalf("partition %d lane %d: offset %d came, %d was next", m.Partition, lane, m.Place.Offset, want)
				}
				next[m.Partition][lane] = after(m).Next[lane]
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
	for round := range rounds {
		one, two := int32(round%4), int32((round+1+round/4%3)%4)
		if out := p.in.End([]int32{one, two}); len(out) != 0 {
			t.Fatalf("End answered %d messages; none is ephemeral", len(out))
		}
		ended[one], ended[two] = true, true
		drain(50)
		var from []bus.From
		for i := range ended {
			from = append(from, at(i, next[i]))
		}
		clear(ended)
		p.beginAt(t, from...)
		drain(20 + round)
	}
	until(t, "all have come", func() bool {
		drain(1_000)
		return got == producers*count
	})
	putting.Wait()
	wantEmpty(t, p.in)
}

// lostAlone: Begin names the partition that was lost and begins none of its call; what was begun before goes on, and so does what is begun afterwards.
func lostAlone(t *testing.T, p *place) {
	p.beginAt(t, at(0, [bus.Lanes]bus.Place{}))
	putDurable(t, p.in, bus.RPC, 0, 0, 2)
	wrong := after(take(t, p.in, bus.RPC, 2)[1])
	wrong.Partition, wrong.Next[bus.RPC].Offset = 1, 40
	putDurable(t, p.in, bus.RPC, 2, 0, 1)
	err := p.in.Begin(t.Context(), []bus.From{at(2, [bus.Lanes]bus.Place{}), wrong})
	wantLost(t, err, bus.RPC, "ends before")
	if lost := new(bus.LostError); errors.As(err, &lost) && lost.Partition != 1 {
		t.Errorf("%v is of partition %d, want 1", lost, lost.Partition)
	}
	if err := p.in.Err(); err != nil {
		t.Errorf("the inbox is in trouble: %v", err)
	}
	putDurable(t, p.in, bus.RPC, 0, 2, 1)
	if m := take(t, p.in, bus.RPC, 1)[0]; parcelOf(t, m) != (parcel{0, 2}) {
		t.Errorf("%v of partition %d came", m.Value, m.Partition)
	}
	putDurable(t, p.in, bus.RPC, 1, 0, 1)
	p.beginAt(t, at(1, [bus.Lanes]bus.Place{}), at(2, [bus.Lanes]bus.Place{}))
	came := take(t, p.in, bus.RPC, 2)
	if slices.SortFunc(came, func(a, b bus.Message) int { return int(a.Partition - b.Partition) }); came[0].Partition != 1 || came[1].Partition != 2 {
		t.Errorf("%v and %v came", came[0].Value, came[1].Value)
	}
	until(t, "the inbox has caught up", func() bool { return !p.in.CatchingUp() })
}

// endMakesRoom: a lane is full with messages of one partition; when that ends, the others' messages come without a Take.
func endMakesRoom(t *testing.T, p *place) {
	p.beginAt(t, at(0, [bus.Lanes]bus.Place{}))
	putDurable(t, p.in, bus.Data, 0, 0, 2*p.fixture.Bound)
	until(t, "the lane is full", func() bool { return p.in.Len(bus.Data) == p.fixture.Bound })
	putDurable(t, p.in, bus.Data, 1, 0, 3)
	p.beginAt(t, at(1, [bus.Lanes]bus.Place{}))
	p.in.End([]int32{0})
	for n, m := range take(t, p.in, bus.Data, 3) {
		if parcelOf(t, m) != (parcel{1, n}) {
			t.Errorf("%v came", m.Value)
		}
	}
	wantEmpty(t, p.in)
}

// ephemeralReturned: End returns the ephemeral messages, in order of each lane, and leaves those of other partitions.
func ephemeralReturned(t *testing.T, p *place) {
	p.begin(t)
	putDurable(t, p.in, bus.RPC, 1, 0, 5)
	until(t, "they can be taken", func() bool { return p.in.Len(bus.RPC) == 5 })
	for n := range 6 {
		m := message(bus.RPC, parcel{1 + n%2, 10 + n})
		m.Ephemeral, m.Done = true, func(error) { t.Error("the inbox called Done; that is for the owner") }
		mustPut(t, p.in, m)
	}
	out := p.in.End([]int32{1, 3})
	if len(out) != 3 {
		t.Fatalf("End answered %d messages, want 3", len(out))
	}
	for n, m := range out {
		if parcelOf(t, m) != (parcel{1, 10 + 2*n}) || !m.Ephemeral || m.Done == nil || m.Partition != 1 {
			t.Errorf("End answered %+v", m)
		}
	}
	if m, waits := p.in.(bus.Peeker).First(bus.RPC); waits && m.Partition != 2 {
		t.Errorf("First is %v of partition %d", m.Value, m.Partition)
	}
	for n, m := range take(t, p.in, bus.RPC, 3) {
		if parcelOf(t, m) != (parcel{2, 11 + 2*n}) {
			t.Errorf("%v was left", m.Value)
		}
	}
	wantEmpty(t, p.in)
}

// beginAgain: delivery begins at the given place, whether it was taken before or not. Begin does not move a partition that is read already.
func beginAgain(t *testing.T, p *place) {
	p.beginAt(t, at(1, [bus.Lanes]bus.Place{}))
	putDurable(t, p.in, bus.RPC, 1, 0, 10)
	all := take(t, p.in, bus.RPC, 10)
	for _, from := range []int{3, 9, 0, 10, 5} {
		if out := p.in.End([]int32{1}); len(out) != 0 {
			t.Fatalf("End answered %d messages", len(out))
		}
		var next [bus.Lanes]bus.Place
		if from > 0 {
			next = after(all[from-1]).Next
		}
		p.beginAt(t, at(1, next))
		p.beginAt(t, at(1, [bus.Lanes]bus.Place{}))
		for n, m := range take(t, p.in, bus.RPC, len(all)-from) {
			if want := all[from+n]; m.Place != want.Place || m.Value != want.Value {
				t.Fatalf("from %d on, message %d is %v, want %v", from, n, m.Value, want.Value)
			}
		}
		last := len(all)
		putDurable(t, p.in, bus.RPC, 1, last, 1)
		all = append(all, take(t, p.in, bus.RPC, 1)...)
		if parcelOf(t, all[last]).n != last {
			t.Fatalf("%v came, parcel %d was next", all[last].Value, last)
		}
		wantEmpty(t, p.in)
	}
}

// readsNothing: an inbox that began without partitions has nothing to wait for; one that ended them has no more.
func readsNothing(t *testing.T, p *place) {
	putDurable(t, p.in, bus.RPC, 0, 0, p.fixture.Bound)
	putDurable(t, p.in, bus.RPC, 0, p.fixture.Bound, p.fixture.Bound)
	if !p.in.CatchingUp() {
		t.Error("CatchingUp is false before Begin")
	}
	p.beginAt(t)
	if p.in.CatchingUp() {
		t.Error("it reads nothing, but the inbox is behind")
	}
	wantEmpty(t, p.in)
	p.beginAt(t, at(0, [bus.Lanes]bus.Place{}))
	if !p.in.CatchingUp() {
		t.Error("CatchingUp is false while more is written than waits")
	}
	p.in.End([]int32{0})
	until(t, "the inbox has caught up", func() bool { return !p.in.CatchingUp() })
	wantEmpty(t, p.in)
}

// endTakesAll: an inbox that is not durable returns all waiting messages of the partitions that end, in order of each lane.
func endTakesAll(t *testing.T, p *place) {
	for n := range 12 {
		mustPut(t, p.in, message(bus.Lane(n%2), parcel{n / 2 % 3, n}))
	}
	out := p.in.End([]int32{0, 2})
	var last [bus.Lanes]int
	for _, m := range out {
		n := parcelOf(t, m).n
		if m.Partition == 1 || n < last[m.Lane] {
			t.Errorf("lane %d: %v of partition %d came after parcel %d", m.Lane, m.Value, m.Partition, last[m.Lane])
		}
		last[m.Lane] = n
	}
	if len(out) != 8 || p.in.Len(bus.RPC) != 2 || p.in.Len(bus.Data) != 2 {
		t.Errorf("End answered %d messages, %d and %d wait; want 8, 2 and 2", len(out), p.in.Len(bus.RPC), p.in.Len(bus.Data))
	}
	for lane := range bus.Lanes {
		for _, m := range p.in.Take(lane, 10, nil) {
			if m.Partition != 1 {
				t.Errorf("%v of partition %d was left", m.Value, m.Partition)
			}
		}
	}
	wantEmpty(t, p.in)
}
