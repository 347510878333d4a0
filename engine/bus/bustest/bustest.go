// Package bustest is the conformance suite of bus.Inbox and bus.Group, nastiest case first.
package bustest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"callchain/engine/bus"

	"github.com/google/uuid"
)

// boundMost is the largest bound of a lane that the suite tries to fill; the inbox that it is given should be far smaller.
const boundMost = 1 << 20

// timeout bounds each wait.
const timeout = 20 * time.Second

// Fixture is an implementation under test.
type Fixture struct {
	// Site makes an empty place for the messages of one test, and removes it with the test.
	Site func(t *testing.T) *Site
	// Bound is the number of messages that a lane holds: a few hundred.
	Bound int
	// Partitions that every inbox has; 4 or more.
	Partitions int32
	// Why gives the reason for each skipped case.
	Why map[string]string
}

// Site is a place for messages.
type Site struct {
	// Open opens an inbox. It ends with the test, or when end is called.
	Open func(t *testing.T) (in bus.Inbox, end func())
	// The rest is for durable inboxes.
	Renew   func(t *testing.T, lane bus.Lane)                                // recreates the lane's topic, empty
	Remove  func(t *testing.T, lane bus.Lane)                                // removes the lane's topic
	Trim    func(t *testing.T, lane bus.Lane, partition int32, before int64) // removes the messages before an offset
	Corrupt func(t *testing.T, lane bus.Lane, partition int32, bytes []byte) // adds bytes that no inbox wrote
	Down    func(t *testing.T) (up func())                                   // kills the brokers; up starts them again
	Hang    func(t *testing.T) (on func())                                   // the brokers stop answering; on resumes them
}

// A testCase runs with an open inbox.
type testCase struct {
	name string
	run  func(*testing.T, *place)
}

// place is what a case works on.
type place struct {
	*Site
	fixture *Fixture
	in      bus.Inbox
	end     func() // of in
}

// Run runs the suite. Some cases are for durable inboxes, some for those that don't, most for all.
func Run(t *testing.T, f Fixture) {
	all := []testCase{
		{"many producers, one consumer that waits for signals", manyProducers},
		{"a signal for what was left behind", leftBehind},
		{"a signal while the consumer takes", signalWhileTaking},
		{"lanes do not disturb each other", lanesApart},
		{"order across growth and wrap", orderAcrossWrap},
		{"closed", closed},
	}
	inbox, end := f.Site(t).Open(t)
	durable := inbox.Durable()
	end()
	if durable {
		all = append(append(sharing(), durableCases()...), all...)
	} else {
		all = append(all, testCase{"a full lane refuses, priority messages go beyond", fullLane}, testCase{"closing races with producers", closeRace},
			testCase{"a partition ends", endTakesAll})
	}
	for _, c := range all {
		t.Run(c.name, func(t *testing.T) {
			if why := f.Why[c.name]; why != "" {
				t.Skip(why)
			}
			p := &place{Site: f.Site(t), fixture: &f}
			p.in, p.end = p.Open(t)
			c.run(t, p)
		})
	}
}

// begin lets the inbox deliver all partitions, from their beginning but where from says another place.
func (p *place) begin(t *testing.T, from ...bus.From) {
	t.Helper()
	if err := p.tryBegin(t.Context(), from...); err != nil {
		t.Fatalf("Begin: %v", err)
	}
}

func (p *place) tryBegin(ctx context.Context, from ...bus.From) error {
	all := make([]bus.From, p.fixture.Partitions)
	for i := range all {
		all[i].Partition = int32(i)
	}
	for _, f := range from {
		all[f.Partition] = f
	}
	return p.in.Begin(ctx, all)
}

// parcel is what the suite sends: the n-th message of a producer.
type parcel struct{ producer, n int }

// Parcel is a value that Codec knows, for tests of one implementation.
func Parcel(n int) any { return parcel{0, n} }

// Bulk is a value that Codec writes as that many bytes, and cannot read.
func Bulk(bytes int) any { return bulk(bytes) }

// Codec writes and reads what the suite sends.
type Codec struct{}

// Encode implements bus.Codec.
func (Codec) Encode(value any) ([]byte, map[string]string, error) {
	switch v := value.(type) {
	case parcel:
		return fmt.Appendf(nil, "%d/%d", v.producer, v.n), map[string]string{"producer": strconv.Itoa(v.producer)}, nil
	case bulk:
		return make([]byte, v), nil, nil
	}
	return nil, nil, fmt.Errorf("a %T is no parcel", value)
}

// Decode implements bus.Codec.
func (Codec) Decode(b []byte) (any, error) {
	var p parcel
	if _, err := fmt.Sscanf(string(b), "%d/%d", &p.producer, &p.n); err != nil {
		return nil, fmt.Errorf("reading a parcel: %w", err)
	}
	return p, nil
}

// bulk is a value of that many bytes.
type bulk int

func message(lane bus.Lane, p parcel) bus.Message {
	var key uuid.UUID
	binary.BigEndian.PutUint64(key[:], uint64(p.producer)+1)
	return bus.Message{Partition: int32(p.producer % 4), Lane: lane, Key: key, Value: p}
}

func parcelOf(t *testing.T, m bus.Message) parcel {
	t.Helper()
	p, ok := m.Value.(parcel)
	if !ok {
		t.Fatalf("the inbox gave a %T that nobody put", m.Value)
	}
	return p
}

// putAll puts a producer's parcels in order, again and again where the lane is full. Room may come a moment after the messages that made it: a durable
// inbox hands them over before it knows that they are written.
func putAll(in bus.Inbox, lane bus.Lane, producer, count int, room <-chan struct{}) error {
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	late := time.NewTimer(timeout)
	defer late.Stop()
	for n := 0; n < count; {
		err := in.Put(message(lane, parcel{producer, n}))
		switch {
		case err == nil:
			n++
			late.Reset(timeout)
		case errors.Is(err, bus.ErrFull):
			select {
			case <-room:
			case <-again.C:
			case <-late.C:
				return fmt.Errorf("producer %d found no room for its parcel %d", producer, n)
			}
		default:
			return err
		}
	}
	return nil
}

// manyProducers: whatever the interleaving, the order of each producer is preserved, nothing is lost or doubled, and a consumer
// that sleeps until a signal comes gets all of it.
func manyProducers(t *testing.T, p *place) {
	p.begin(t)
	in := p.in
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
		case <-time.After(timeout):
			t.Fatalf("no signal for %s, %d of %d messages came; %d and %d wait", timeout, got, producers*count, in.Len(bus.RPC), in.Len(bus.Data))
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
	case <-time.After(timeout):
		t.Fatal("no signal came")
	}
}

// take takes exactly count messages of a lane, and waits for them.
func take(t *testing.T, in bus.Inbox, lane bus.Lane, count int) []bus.Message {
	t.Helper()
	var got []bus.Message
	for len(got) < count {
		was := len(got)
		if got = in.Take(lane, count-was, got); len(got) == was {
			wantSignal(t, in)
		}
	}
	return got
}

// leftBehind: one signal may stand for many messages, so what a Take leaves needs another.
func leftBehind(t *testing.T, p *place) {
	p.begin(t)
	in := p.in
	for n := range 5 {
		mustPut(t, in, message(bus.RPC, parcel{0, n}))
	}
	for n := 0; n < 5; {
		wantSignal(t, in)
		for _, m := range in.Take(bus.RPC, 1, nil) {
			if parcelOf(t, m).n != n {
				t.Fatalf("take %d gave %v", n, m)
			}
			n++
		}
	}
	wantEmpty(t, in)
}

// signalWhileTaking: a message that is put after the consumer looked and before it sleeps must wake it, for either lane.
func signalWhileTaking(t *testing.T, p *place) {
	p.begin(t)
	for n := range 200 {
		lane := bus.Lane(n % int(bus.Lanes))
		put := make(chan struct{})
		go func() {
			defer close(put)
			if err := p.in.Put(message(lane, parcel{0, n})); err != nil {
				t.Error(err)
			}
		}()
		take(t, p.in, lane, 1)
		<-put
	}
}

// fullLane fills a lane to its bound. A refused message is not in the inbox, its Done is not called.
func fullLane(t *testing.T, p *place) {
	in, bound := p.in, 0
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
	if bound != p.fixture.Bound {
		t.Fatalf("the lane took %d messages, its bound is %d", bound, p.fixture.Bound)
	}
	priority := 0
	for ; priority <= boundMost; priority++ {
		m := message(bus.Data, parcel{0, bound + priority})
		m.Priority = true
		if err := in.Put(m); errors.Is(err, bus.ErrFull) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if priority != bound {
		t.Errorf("beyond the bound of %d the lane took %d priority messages, want up to twice of it", bound, priority)
	}
	if n := in.Len(bus.Data); n != bound+priority {
		t.Errorf("%d messages wait, %d were taken", n, bound+priority)
	}
	for n, m := range in.Take(bus.Data, boundMost, nil) {
		if parcelOf(t, m).n != n {
			t.Fatalf("place %d has parcel %d", n, parcelOf(t, m).n)
		}
	}
	mustPut(t, in, message(bus.Data, parcel{1, 0}))
}

// lanesApart: a data lane that nobody empties, with more behind it, delays no RPC.
func lanesApart(t *testing.T, p *place) {
	p.begin(t)
	flood := 10 * p.fixture.Bound
	for n := range flood {
		m := message(bus.Data, parcel{n, 0})
		m.Priority = p.in.Durable() // then the inbox holds more than waits here
		if err := p.in.Put(m); err != nil && !errors.Is(err, bus.ErrFull) {
			t.Fatal(err)
		}
	}
	until(t, "the data lane is full", func() bool { return p.in.Len(bus.Data) >= p.fixture.Bound })
	for n := range 50 {
		mustPut(t, p.in, message(bus.RPC, parcel{1, n}))
		if got := take(t, p.in, bus.RPC, 1); parcelOf(t, got[0]) != (parcel{1, n}) {
			t.Fatalf("the RPC lane gave %v", got)
		}
	}
	if n := p.in.Len(bus.RPC); n != 0 {
		t.Errorf("the RPC lane has %d messages left", n)
	}
	if n := p.in.Len(bus.Data); n != p.fixture.Bound {
		t.Errorf("%d messages wait in the data lane, its bound is %d", n, p.fixture.Bound)
	}
}

// orderAcrossWrap lets the queue grow and shrink so that its memory wraps. Take appends behind what it was given.
func orderAcrossWrap(t *testing.T, p *place) {
	p.begin(t)
	in, put, took := p.in, 0, 0
	next := func(got []bus.Message) {
		t.Helper()
		for _, m := range got {
			if p := parcelOf(t, m); p.n != took {
				t.Fatalf("parcel %d came, %d was next", p.n, took)
			}
			took++
		}
	}
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
		next(got[1:])
		next(take(t, in, bus.RPC, max(0, put-took-100)))
	}
	next(take(t, in, bus.RPC, put-took))
	if got := in.Take(bus.RPC, 0, nil); len(got) != 0 {
		t.Errorf("Take of 0 gave %d", len(got))
	}
}

// closed: nothing is taken any more, what waits can still be had. Closing twice is harmless.
func closed(t *testing.T, p *place) {
	p.begin(t)
	in := p.in
	mustPut(t, in, message(bus.RPC, parcel{0, 0}))
	for in.Len(bus.RPC) == 0 {
		wantSignal(t, in)
	}
	in.Close()
	in.Close()
	for _, priority := range []bool{false, true} {
		m := message(bus.RPC, parcel{0, 1})
		m.Priority = priority
		if err := in.Put(m); !errors.Is(err, bus.ErrClosed) {
			t.Errorf("Put after Close (priority %t): %v, want ErrClosed", priority, err)
		}
	}
	if got := in.Take(bus.RPC, 10, nil); len(got) != 1 {
		t.Errorf("%d messages can be taken after Close, want the one that waited", len(got))
	}
}

// closeRace: what Put took before Close is there, what it refused is not.
func closeRace(t *testing.T, p *place) {
	const producers = 8
	took := raceWithClose(t, p, producers, nil)
	next := make([]int, producers)
	for _, m := range p.in.Take(bus.RPC, boundMost, nil) {
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

// raceWithClose closes the inbox while producers put, until each is refused. It answers how many messages of each were taken.
func raceWithClose(t *testing.T, p *place, producers int, done func(producer, n int, err error)) []int {
	var putting sync.WaitGroup
	took := make([]int, producers)
	start := make(chan struct{})
	for producer := range producers {
		putting.Go(func() {
			<-start
			for n := 0; ; n++ {
				m := message(bus.RPC, parcel{producer, n})
				if done != nil {
					m.Done = func(err error) { done(producer, n, err) }
				}
				err := p.in.Put(m)
				if err == nil {
					took[producer]++
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
	p.in.Close()
	putting.Wait()
	return took
}
