package bustest

import (
	"errors"
	"sync"
	"testing"
	"time"

	"callchain/engine/bus"
)

// remembering are the cases of inboxes that remember.
func remembering() []testCase {
	return []testCase{
		{"what remembers is killed while many write", killedWhileWriting},
		{"what remembers hangs while many write", hangsWhileWriting},
		{"what remembers is away", away},
		{"a topic was made anew before the inbox began", madeAnew},
		{"a topic was made anew while it was read", madeAnewWhileRead},
		{"a topic was removed while it was read", removedWhileRead},
		{"messages were removed before they were taken", trimmed},
		{"messages were removed while others were read", trimmedWhileRead},
		{"a position behind the end", beyondTheEnd},
		{"it goes on at any position", anyPosition},
		{"nothing comes before the beginning", notBegun},
		{"closing races with producers that are told", closeRaceTold},
		{"what waits has a bound, what is written too", bounds},
		{"each sender is told once", toldOnce},
		{"what is ephemeral is not kept", ephemeral},
		{"bytes that nobody can read", spoiled},
		{"a message that is too large", tooLarge},
	}
}

// outcomes notes what senders were told.
type outcomes struct {
	mu   sync.Mutex
	told map[parcel][]error
	puts int // messages that an inbox took
	news chan struct{}
}

func newOutcomes() *outcomes {
	return &outcomes{told: map[parcel][]error{}, news: make(chan struct{}, 1)}
}

func (o *outcomes) of(p parcel) func(error) {
	return func(err error) {
		o.mu.Lock()
		o.told[p] = append(o.told[p], err)
		o.mu.Unlock()
		select {
		case o.news <- struct{}{}:
		default:
		}
	}
}

func (o *outcomes) len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.told)
}

// wait waits until so many senders were told.
func (o *outcomes) wait(t *testing.T, count int) {
	t.Helper()
	late := time.After(patience)
	for o.len() < count {
		select {
		case <-o.news:
		case <-late:
			t.Fatalf("%d of %d senders were told anything within %s", o.len(), count, patience)
		}
	}
}

// put notes that an inbox took a message.
func (o *outcomes) put() {
	o.mu.Lock()
	o.puts++
	o.mu.Unlock()
}

// all reports whether every sender was told.
func (o *outcomes) all() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.told) >= o.puts
}

// kept are those whose outcome was that the message is durable. Nobody was told twice.
func (o *outcomes) kept(t *testing.T) map[parcel]bool {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	kept := map[parcel]bool{}
	for p, errs := range o.told {
		if len(errs) != 1 {
			t.Errorf("the sender of %v was told %d times: %v", p, len(errs), errs)
		}
		if errs[0] == nil {
			kept[p] = true
		} else if !errors.Is(errs[0], bus.ErrAway) {
			t.Errorf("the sender of %v was told %v, want ErrAway", p, errs[0])
		}
	}
	return kept
}

// until waits for a condition that nobody signals.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	late := time.After(patience)
	for !condition() {
		select {
		case <-look.C:
		case <-late:
			t.Fatalf("after %s still not: %s", patience, what)
		}
	}
}

// takeUntil takes messages of a lane until the condition holds for what came.
func takeUntil(t *testing.T, in bus.Inbox, lane bus.Lane, what string, condition func(got []bus.Message) bool) []bus.Message {
	t.Helper()
	var got []bus.Message
	until(t, what, func() bool {
		got = in.Take(lane, 1_000, got)
		return condition(got)
	})
	return got
}

// putKept puts messages of one producer, and waits until they are kept.
func putKept(t *testing.T, in bus.Inbox, lane bus.Lane, producer, first, count int) {
	t.Helper()
	told := newOutcomes()
	for n := range count {
		m := message(lane, parcel{producer, first + n})
		m.Priority, m.Done = true, told.of(parcel{producer, first + n})
		mustPut(t, in, m)
	}
	told.wait(t, count)
	if kept := told.kept(t); len(kept) != count {
		t.Fatalf("%d of %d messages were kept", len(kept), count)
	}
}

// after is where an owner goes on that took a message.
func after(m bus.Message) bus.From {
	f := bus.From{Partition: m.Partition}
	f.Next[m.Lane] = bus.Place{Topic: m.Place.Topic, Offset: m.Place.Offset + 1}
	return f
}

// killedWhileWriting: what remembers dies, twice, while producers write and the consumer takes.
func killedWhileWriting(t *testing.T, p *place) {
	if p.Down == nil {
		t.Skip("this fixture cannot kill what remembers")
	}
	writeThrough(t, p, 2, p.Down)
}

// hangsWhileWriting: what remembers stops to answer for longer than anybody waits, and then goes on with what it was sent before: it writes, and its
// acknowledgement comes too late.
func hangsWhileWriting(t *testing.T, p *place) {
	if p.Hang == nil {
		t.Skip("this fixture cannot let hang what remembers")
	}
	writeThrough(t, p, 1, func(t *testing.T) func() {
		on := p.Hang(t)
		return func() {
			const longer = 8 * time.Second // than a client waits for an answer
			<-time.After(longer)
			on()
		}
	})
}

// writeThrough lets producers write through outages. Whoever was told that a message is kept finds it, once, and in order; the others' messages may
// come, once, and in order.
func writeThrough(t *testing.T, p *place, outages int, begin func(t *testing.T) (end func())) {
	t.Helper()
	p.begin(t)
	const producers = 16
	told := newOutcomes()
	stop := make(chan struct{})
	var putting sync.WaitGroup
	for producer := range producers {
		putting.Go(func() { keepPutting(t, p.in, producer, told, stop) })
	}
	var got []bus.Message
	grow := func(what string) {
		enough := told.len() + 2_000
		got = append(got, takeUntil(t, p.in, bus.RPC, what, func([]bus.Message) bool { return told.len() > enough })...)
	}
	grow("messages are written before the first outage")
	for range outages {
		survive(t, p, begin)
		grow("messages are written after the outage")
	}
	close(stop)
	putting.Wait()
	got = append(got, takeUntil(t, p.in, bus.RPC, "everybody is told", func([]bus.Message) bool { return told.all() })...)
	wantKept(t, p.in, told, got)
}

// wantKept: all that was kept came, or comes; nothing comes twice or out of order.
func wantKept(t *testing.T, in bus.Inbox, told *outcomes, got []bus.Message) {
	t.Helper()
	missing := told.kept(t)
	kept := len(missing)
	found := func(messages []bus.Message) {
		for _, m := range messages {
			delete(missing, parcelOf(t, m))
		}
	}
	found(got)
	seen := 0
	rest := takeUntil(t, in, bus.RPC, "all that was kept came", func(more []bus.Message) bool {
		found(more[seen:])
		seen = len(more)
		return len(missing) == 0
	})
	wantOnceInOrder(t, append(got, rest...))
	t.Logf("%d senders were told, %d that it is kept; %d messages came", told.len(), kept, len(got)+len(rest))
}

// survive goes through an outage, and checks what the inbox tells of itself meanwhile.
func survive(t *testing.T, p *place, begin func(t *testing.T) (end func())) {
	t.Helper()
	up := begin(t)
	until(t, "the inbox is in trouble", func() bool { return p.in.Err() != nil })
	if !p.in.CatchingUp() {
		t.Error("while what remembers is away, nobody can say that all it keeps was handed over")
	}
	up()
	came := time.Now()
	until(t, "the inbox serves again", func() bool { return p.in.Err() == nil })
	if took := time.Since(came); took > backWithin {
		t.Errorf("the inbox served %s after what remembers came back, want %s at most", took, backWithin)
	}
}

// backWithin is how soon an inbox serves again, also on a busy machine; on an idle one it is about a second.
const backWithin = 5 * time.Second

// keepPutting puts a producer's messages, every second one priority, until stop.
func keepPutting(t *testing.T, in bus.Inbox, producer int, told *outcomes, stop <-chan struct{}) {
	pause := time.NewTicker(2 * time.Millisecond)
	defer pause.Stop()
	for n := 0; ; n++ {
		m := message(bus.RPC, parcel{producer, n})
		m.Priority, m.Done = n%2 == 0, told.of(parcel{producer, n})
		switch err := in.Put(m); {
		case err == nil:
			told.put()
		case !errors.Is(err, bus.ErrFull) && !errors.Is(err, bus.ErrAway):
			t.Errorf("Put: %v", err)
			return
		default:
			select {
			case <-pause.C:
			case <-stop:
			}
		}
		select {
		case <-stop:
			return
		default:
		}
	}
}

// wantOnceInOrder: the messages of each producer come in the order in which they were put, and none comes twice.
func wantOnceInOrder(t *testing.T, got []bus.Message) {
	t.Helper()
	last := map[int]int{}
	for _, m := range got {
		p := parcelOf(t, m)
		if before, ok := last[p.producer]; ok && p.n <= before {
			t.Fatalf("producer %d: parcel %d came after parcel %d", p.producer, p.n, before)
		}
		last[p.producer] = p.n
	}
}

// away: while what remembers is away, what is not priority is refused at once, what is priority waits and is written afterwards, in order, and what
// was taken stays taken. It comes back without anybody asking.
func away(t *testing.T, p *place) {
	if p.Down == nil {
		t.Skip("this fixture cannot kill what remembers")
	}
	p.begin(t)
	putKept(t, p.in, bus.RPC, 0, 0, 3)
	take(t, p.in, bus.RPC, 3)
	until(t, "the inbox is not behind", func() bool { return !p.in.CatchingUp() })
	up := p.Down(t)
	until(t, "the inbox is in trouble", func() bool { return p.in.Err() != nil })
	if err := p.in.Put(message(bus.RPC, parcel{1, 0})); !errors.Is(err, bus.ErrAway) {
		t.Errorf("Put of what is not priority: %v, want ErrAway", err)
	}
	told := newOutcomes()
	full := 0
	for n := range 3 * p.fixture.Bound {
		m := message(bus.RPC, parcel{0, 3 + n})
		m.Priority, m.Done = true, told.of(parcel{0, 3 + n})
		if err := p.in.Put(m); errors.Is(err, bus.ErrFull) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		full++
	}
	if full != 2*p.fixture.Bound {
		t.Errorf("%d priority messages were taken, want twice the bound of %d", full, p.fixture.Bound)
	}
	ephemeral := message(bus.RPC, parcel{2, 0})
	ephemeral.Ephemeral = true
	mustPut(t, p.in, ephemeral)
	take(t, p.in, bus.RPC, 1)
	if n := told.len(); n != 0 {
		t.Errorf("%d senders were told anything", n)
	}
	up()
	until(t, "the inbox serves again", func() bool { return p.in.Err() == nil })
	told.wait(t, full)
	if kept := told.kept(t); len(kept) != full {
		t.Errorf("%d of %d priority messages were kept", len(kept), full)
	}
	for n, m := range take(t, p.in, bus.RPC, full) {
		if parcelOf(t, m) != (parcel{0, 3 + n}) {
			t.Fatalf("message %d is %v", n, m.Value)
		}
	}
	until(t, "the inbox is not behind", func() bool { return !p.in.CatchingUp() })
}
