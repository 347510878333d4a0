package bustest

import (
	"errors"
	"sync"
	"testing"
	"time"

	"callchain/engine/bus"
)

// durableCases are the cases for durable inboxes.
func durableCases() []testCase {
	return []testCase{
		{"the brokers are killed while many write", killedWhileWriting},
		{"the brokers hang while many write", hangsWhileWriting},
		{"the brokers are away", away},
		{"a topic was recreated before the inbox began", recreated},
		{"a topic was recreated while it was read", recreatedWhileRead},
		{"a topic was removed while it was read", removedWhileRead},
		{"messages were removed before they were taken", trimmed},
		{"messages were removed while others were read", trimmedWhileRead},
		{"a position behind the end", beyondTheEnd},
		{"it goes on at any position", anyPosition},
		{"nothing comes before the beginning", notBegun},
		{"closing races with producers that wait for results", closeRaceReported},
		{"waiting and written messages are bounded", bounds},
		{"each sender gets one result", completedOnce},
		{"ephemeral messages are not durable", ephemeral},
		{"bytes that cannot be decoded", malformed},
		{"a message that is too large", tooLarge},
	}
}

// outcomes records the results of senders.
type outcomes struct {
	mu      sync.Mutex
	results map[parcel][]error
	puts    int // messages that an inbox took
	changed chan struct{}
}

func newOutcomes() *outcomes {
	return &outcomes{results: map[parcel][]error{}, changed: make(chan struct{}, 1)}
}

func (o *outcomes) of(p parcel) func(error) {
	return func(err error) {
		o.mu.Lock()
		o.results[p] = append(o.results[p], err)
		o.mu.Unlock()
		select {
		case o.changed <- struct{}{}:
		default:
		}
	}
}

func (o *outcomes) len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.results)
}

// wait waits until this many senders got a result.
func (o *outcomes) wait(t *testing.T, count int) {
	t.Helper()
	late := time.After(timeout)
	for o.len() < count {
		select {
		case <-o.changed:
		case <-late:
			t.Fatalf("%d of %d senders got a result within %s", o.len(), count, timeout)
		}
	}
}

// put notes that an inbox took a message.
func (o *outcomes) put() {
	o.mu.Lock()
	o.puts++
	o.mu.Unlock()
}

// all reports whether every sender got a result.
func (o *outcomes) all() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.results) >= o.puts
}

// durable are the messages that were reported as durable. No sender may have got two results.
func (o *outcomes) durable(t *testing.T) map[parcel]bool {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	durable := map[parcel]bool{}
	for p, errs := range o.results {
		if len(errs) != 1 {
			t.Errorf("the sender of %v got %d results: %v", p, len(errs), errs)
		}
		if errs[0] == nil {
			durable[p] = true
		} else if !errors.Is(errs[0], bus.ErrAway) {
			t.Errorf("the sender of %v got %v, want ErrAway", p, errs[0])
		}
	}
	return durable
}

// until polls a condition.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	late := time.After(timeout)
	for !condition() {
		select {
		case <-look.C:
		case <-late:
			t.Fatalf("after %s still not: %s", timeout, what)
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

// putDurable puts messages of one producer, and waits until they are durable.
func putDurable(t *testing.T, in bus.Inbox, lane bus.Lane, producer, first, count int) {
	t.Helper()
	senders := newOutcomes()
	for n := range count {
		m := message(lane, parcel{producer, first + n})
		m.Priority, m.Done = true, senders.of(parcel{producer, first + n})
		mustPut(t, in, m)
	}
	senders.wait(t, count)
	if durable := senders.durable(t); len(durable) != count {
		t.Fatalf("%d of %d messages are durable", len(durable), count)
	}
}

// after is where an owner goes on that took a message.
func after(m bus.Message) bus.From {
	f := bus.From{Partition: m.Partition}
	f.Next[m.Lane] = bus.Place{Topic: m.Place.Topic, Offset: m.Place.Offset + 1}
	return f
}

// killedWhileWriting: the brokers are killed, twice, while producers write and the consumer takes.
func killedWhileWriting(t *testing.T, p *place) {
	if p.Down == nil {
		t.Skip("this fixture cannot kill the brokers")
	}
	writeThrough(t, p, 2, p.Down)
}

// hangsWhileWriting: the brokers stop answering for longer than any timeout, and then write what was sent before, so that their
// acknowledgement comes too late.
func hangsWhileWriting(t *testing.T, p *place) {
	if p.Hang == nil {
		t.Skip("this fixture cannot let hang the brokers")
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

// writeThrough lets producers write through outages. Messages reported as durable come once and in order; the others may come, once and
// in order.
func writeThrough(t *testing.T, p *place, outages int, begin func(t *testing.T) (end func())) {
	t.Helper()
	p.begin(t)
	const producers = 16
	senders := newOutcomes()
	stop := make(chan struct{})
	var putting sync.WaitGroup
	for producer := range producers {
		putting.Go(func() { keepPutting(t, p.in, producer, senders, stop) })
	}
	var got []bus.Message
	grow := func(what string) {
		enough := senders.len() + 2_000
		got = append(got, takeUntil(t, p.in, bus.RPC, what, func([]bus.Message) bool { return senders.len() > enough })...)
	}
	grow("messages are written before the first outage")
	for range outages {
		survive(t, p, begin)
		grow("messages are written after the outage")
	}
	close(stop)
	putting.Wait()
	got = append(got, takeUntil(t, p.in, bus.RPC, "every sender has a result", func([]bus.Message) bool { return senders.all() })...)
	wantDurable(t, p.in, senders, got)
}

// wantDurable: every durable message comes; none comes twice or out of order.
func wantDurable(t *testing.T, in bus.Inbox, senders *outcomes, got []bus.Message) {
	t.Helper()
	missing := senders.durable(t)
	durable := len(missing)
	found := func(messages []bus.Message) {
		for _, m := range messages {
			delete(missing, parcelOf(t, m))
		}
	}
	found(got)
	seen := 0
	rest := takeUntil(t, in, bus.RPC, "all durable messages came", func(more []bus.Message) bool {
		found(more[seen:])
		seen = len(more)
		return len(missing) == 0
	})
	wantOnceInOrder(t, append(got, rest...))
	t.Logf("%d senders got a result, %d a success; %d messages came", senders.len(), durable, len(got)+len(rest))
}

// survive goes through an outage, and checks the inbox's status meanwhile.
func survive(t *testing.T, p *place, begin func(t *testing.T) (end func())) {
	t.Helper()
	up := begin(t)
	until(t, "the inbox is in trouble", func() bool { return p.in.Err() != nil })
	if !p.in.CatchingUp() {
		t.Error("CatchingUp is false while the brokers are away")
	}
	up()
	came := time.Now()
	until(t, "the inbox serves again", func() bool { return p.in.Err() == nil })
	if took := time.Since(came); took > backWithin {
		t.Errorf("the inbox served %s after the brokers came back, want %s at most", took, backWithin)
	}
}

// backWithin is how soon an inbox serves again, also on a busy machine; on an idle one it is about a second.
const backWithin = 5 * time.Second

// keepPutting puts a producer's messages, every second one priority, until stop.
func keepPutting(t *testing.T, in bus.Inbox, producer int, senders *outcomes, stop <-chan struct{}) {
	pause := time.NewTicker(2 * time.Millisecond)
	defer pause.Stop()
	for n := 0; ; n++ {
		m := message(bus.RPC, parcel{producer, n})
		m.Priority, m.Done = n%2 == 0, senders.of(parcel{producer, n})
		switch err := in.Put(m); {
		case err == nil:
			senders.put()
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

// away: while the brokers are away, other than priority messages are refused at once, priority messages wait and are written afterwards, in order, and
// what was taken stays taken. The inbox recovers by itself.
func away(t *testing.T, p *place) {
	if p.Down == nil {
		t.Skip("this fixture cannot kill the brokers")
	}
	p.begin(t)
	putDurable(t, p.in, bus.RPC, 0, 0, 3)
	take(t, p.in, bus.RPC, 3)
	until(t, "the inbox has caught up", func() bool { return !p.in.CatchingUp() })
	up := p.Down(t)
	until(t, "the inbox is in trouble", func() bool { return p.in.Err() != nil })
	if err := p.in.Put(message(bus.RPC, parcel{1, 0})); !errors.Is(err, bus.ErrAway) {
		t.Errorf("Put without priority: %v, want ErrAway", err)
	}
	senders := newOutcomes()
	full := 0
	for n := range 3 * p.fixture.Bound {
		m := message(bus.RPC, parcel{0, 3 + n})
		m.Priority, m.Done = true, senders.of(parcel{0, 3 + n})
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
	if n := senders.len(); n != 0 {
		t.Errorf("%d senders got a result", n)
	}
	up()
	until(t, "the inbox serves again", func() bool { return p.in.Err() == nil })
	senders.wait(t, full)
	if durable := senders.durable(t); len(durable) != full {
		t.Errorf("%d of %d priority messages are durable", len(durable), full)
	}
	for n, m := range take(t, p.in, bus.RPC, full) {
		if parcelOf(t, m) != (parcel{0, 3 + n}) {
			t.Fatalf("message %d is %v", n, m.Value)
		}
	}
	until(t, "the inbox has caught up", func() bool { return !p.in.CatchingUp() })
}
