package owner

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"callchain/engine/bus"
	"callchain/engine/deadletter"
	"callchain/engine/projection"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/engine/wire"
	"callchain/eventstore"

	"github.com/google/uuid"
)

// panics is a command in which the step panics, with its chain and without.
var panics = step.RPC{Do: struct{ rpc.Action }{}}

// TestFullDeadLetterTableIsLoggedOnceAMinute: dead letters without a row must not flood the log.
func TestFullDeadLetterTableIsLoggedOnceAMinute(t *testing.T) {
	r := newRig(t, func(_ *rig, c *Config) { c.DeadLetters = 1 })
	for range 121 { // one a second
		r.put(named("d"), panics)
		r.pass(time.Second)
	}
	rows := 0
	for i := range r.rows {
		if r.rows[i].Table == projection.DeadLetters {
			rows++
		}
	}
	if n := r.counted(NoticeFull); n != 2 || rows != 1 || r.counted(NoticeNoRow) != 120 {
		t.Errorf("%d notices in two minutes, want 2; %d rows, want 1; %d without a row", n, rows, r.counted(NoticeNoRow))
	}
}

// TestRerunOfACommandThatAlwaysPanics: a command that panics with its chain and without is not processed, its dead letter does not claim so, and a rerun fails again.
func TestRerunOfACommandThatAlwaysPanics(t *testing.T) {
	r := newRig(t)
	r.put(named("d"), panics)
	var deadLetter deadletter.DeadLetter
	for i := range r.rows {
		if r.rows[i].Table == projection.DeadLetters {
			deadLetter = deadletter.Read(r.rows[i].Values)
		}
	}
	var p deadletter.Payload
	if err := json.Unmarshal(deadLetter.Data, &p); err != nil || p.Processed || deadLetter.Reason != deadletter.Rejected {
		t.Fatalf("the dead letter is %+v with %s (%v)", deadLetter, deadLetter.Data, err)
	}
}

// TestRerunThatFailsKeepsItsDeadLetter, with the new error, which the requester gets too.
func TestRerunThatFailsKeepsItsDeadLetter(t *testing.T) {
	r := newRig(t)
	device := named("d")
	cancel := step.Command{Meta: rpc.Meta{Actor: "test", Cause: "rest"}, Device: device, Do: step.RPC{Do: rpc.Cancel{Call: named("nobody's")}}}
	deadLetter := deadletter.DeadLetter{ID: named("dead letter"), Tenant: tenant, Device: device, Partition: partitionOf(device), Reason: deadletter.Rejected, Data: deadletter.PayloadOf(cancel, false).JSON()}
	r.answer = func(read *Read) *Answer {
		if read.DeadLetter != deadLetter.ID {
			return nil
		}
		return &Answer{DeadLetter: &deadLetter}
	}
	var result error
	r.o.Take(r.now, Arrived{RPC: []bus.Message{{
		Partition: partitionOf(device), Key: device, Value: deadletter.Request{DeadLetter: deadLetter.ID, Tenant: tenant, Rerun: true, At: r.now}, Done: func(err error) { result = err },
	}}})
	r.do()
	var failed *deadletter.RerunError
	if !errors.As(result, &failed) || failed.Code != string(rpc.CodeEnded) {
		t.Errorf("the requester got %v", result)
	}
	written := slices.ContainsFunc(r.rows, func(row eventstore.Row) bool {
		return row.Table == projection.DeadLetters && !row.Delete && deadletter.Read(row.Values).Reason == deadletter.Refused
	})
	if !written || len(r.events) == 0 || r.events[len(r.events)-1].Type != "DeadLetterRerun" {
		t.Errorf("the rows are %+v", r.rows)
	}
}

// TestLateAnswersAreBounded (fault c): made-up answers cost few reads, each at most once, and nobody else waits for them.
func TestLateAnswersAreBounded(t *testing.T) {
	r := newRig(t)
	device, other := named("d"), named("other")
	r.put(device, session(device)...)
	r.put(other, session(other)...)
	for range 500 {
		r.put(device, r.call(true))
	}
	open := r.o.mem.tables.devices[device].state.NextWire
	r.o.mem.tables.devices[device].state.NextWire = 100_000 // of calls that have ended, which only the store has
	r.reads = nil
	var waiting []Read
	r.answer = func(read *Read) *Answer {
		if read.Wire != nil {
			waiting = append(waiting, *read)
		}
		return nil
	}
	for second := range 5 {
		for n := range 200 {
			r.put(device, reply(open+int32(second*200+n)))
		}
		r.pass(time.Second)
	}
	if len(waiting) == 0 || len(waiting) > 5*repliesMost {
		t.Errorf("1,000 made-up answers in 5 s cost %d reads, want at most %d", len(waiting), 5*repliesMost)
	}
	before := len(waiting)
	r.put(device, reply(*waiting[0].Wire))
	if len(waiting) != before {
		t.Error("what was not found is looked up again")
	}
	slow := r.messages(device, bus.RPC, reply(open+50_000))
	r.answer = func(*Read) *Answer { r.t.Error("read"); return nil }
	r.o.Take(r.now, Arrived{RPC: append(slow, r.messages(other, bus.RPC, step.RPC{Do: rpc.Unsubscribe{Session: uuid.NewSHA1(other, []byte("session"))}})...)})
	events := len(r.events)
	ready := r.o.Ready(r.now) // the read is not answered yet
	if len(ready.Reads) != 1 || ready.Append == nil || ready.Append.Events != 1 {
		t.Errorf("while one device's late answer is looked up: %d reads, append %v after %d events", len(ready.Reads), ready.Append, events)
	}
}

// TestMemoryIsReleased (fault f): neither timers of calls that have ended, nor devices that were connected once, stay.
func TestMemoryIsReleased(t *testing.T) {
	r := newRig(t)
	for n := range idleMost + 500 {
		device := named(fmt.Sprint("device", n))
		c := r.call(n%2 == 0)
		r.put(device, append(session(device), c)...)
		r.put(device, reply(0), step.RPC{Do: rpc.Disconnect{Session: uuid.NewSHA1(device, []byte("session")), Why: "closed"}})
	}
	r.pass(2 * time.Second) // rows are written behind
	r.pass(2 * time.Second)
	tables := &r.o.mem.tables
	if len(tables.timers) > 0 || len(tables.calls) > 0 || len(tables.devices) > idleMost || len(r.o.queue.lingering) > 0 {
		t.Errorf("%d timers, %d calls and %d devices are in memory, want none, none and at most %d", len(tables.timers), len(tables.calls), len(tables.devices), idleMost)
	}
	if n := r.o.mem.recent.calls.lru.Len(); n > recentCalls {
		t.Errorf("%d ended calls are in memory, want at most %d", n, recentCalls)
	}
	if n := r.o.mem.recent.bodies.lru.Len(); n > 0 {
		t.Errorf("the bodies of %d ended calls are in memory, want none", n)
	}
}

// TestDeadlinesAreDecidedByTheClock (fault e): an event that was stamped ahead makes no deadline pass early, and stored times never go back.
func TestDeadlinesAreDecidedByTheClock(t *testing.T) {
	r := newRig(t, func(r *rig, _ *Config) { r.last = began.Add(time.Hour) })
	if n := r.counted(NoticeAheadOfClock); n != 2 {
		t.Errorf("%d notices of stored times ahead of the clock, want one for each partition", n)
	}
	c := r.call(true)
	c.Expires = r.now.Add(10 * time.Second)
	r.put(named("d"), c)
	r.pass(9 * time.Second)
	if got := r.types(c.ID); !slices.Equal(got, []string{"Requested", "Queued"}) {
		t.Errorf("a second before its deadline the call has %v", got)
	}
	r.pass(2 * time.Second)
	if got := r.types(c.ID); !slices.Equal(got, []string{"Requested", "Queued", "Expired"}) {
		t.Errorf("a second after its deadline the call has %v", got)
	}
	at := r.last
	for i := range r.events {
		if e := &r.events[i]; rpc.Instant(e.At) < at {
			t.Errorf("%s is stamped %d, before %d", e.Type, e.At, at)
		} else {
			at = rpc.Instant(e.At)
		}
	}
}

// TestClockSetBack: a wait of a moment does not last an hour because the clock was set back by an hour.
func TestClockSetBack(t *testing.T) {
	r := newRig(t)
	r.now = r.now.Add(time.Hour)
	fails := 3
	r.store = func(*Batch) error {
		if fails--; fails >= 0 {
			return &eventstore.OutageError{Err: errAway}
		}
		return nil
	}
	c := r.call(true)
	r.put(named("d"), c)
	r.now = r.now.Add(-time.Hour)
	for range 20 {
		r.pass(100 * time.Millisecond)
	}
	if got := r.types(c.ID); len(got) != 2 {
		t.Errorf("two seconds after the clock was set back the call has %v", got)
	}
}

// TestClockSetBackDuringARead: a deadline that was due before the clock was set back, and is not when its read is answered, is not lost.
func TestClockSetBackDuringARead(t *testing.T) {
	r := newRig(t)
	c := r.call(true)
	c.Expires = r.now.Add(10 * time.Second)
	r.put(named("d"), c)
	r.o.RegistryChanged(1) // the row must be read again
	r.answer = func(*Read) *Answer {
		r.now = r.now.Add(-5 * time.Second)
		r.answer = nil
		return nil
	}
	r.pass(10 * time.Second)
	if got := r.types(c.ID); slices.Contains(got, "Expired") {
		t.Errorf("five seconds before its deadline the call has %v", got)
	}
	r.pass(5 * time.Second)
	if got := r.types(c.ID); !slices.Contains(got, "Expired") {
		t.Errorf("at its deadline the call has %v", got)
	}
}

// TestFailedReadIsRetried (fault a): the owner's own commands wait until a failed read succeeds, and none is dropped.
func TestFailedReadIsRetried(t *testing.T) {
	r := newRig(t)
	device := named("d")
	r.put(device, session(device)...)
	c := r.call(true)
	c.Expires = r.now.Add(10 * time.Second)
	r.put(device, c)
	r.o.RegistryChanged(1) // the row must be read again
	fails := 20
	r.answer = func(*Read) *Answer {
		if fails--; fails >= 0 {
			return &Answer{Err: errAway}
		}
		return nil
	}
	r.pass(10 * time.Second)
	for range 200 {
		r.pass(100 * time.Millisecond)
	}
	if got := r.types(c.ID); !slices.Contains(got, "Expired") {
		t.Errorf("its deadline came while the registry was away: %v", got)
	}
	if n := r.counted(NoticeWaits); n != 1 {
		t.Errorf("%d notices that it waits, want 1", n)
	}
}

// TestSenderGetsBusyWhenAReadFails: a sender that can send its command again gets ErrBusy, also if an append fails before.
func TestSenderGetsBusyWhenAReadFails(t *testing.T) {
	r := newRig(t)
	r.answer = func(*Read) *Answer { return &Answer{Err: errAway} }
	r.store = func(*Batch) error { return errAway }
	var result error
	m := r.messages(named("d"), bus.RPC, r.call(true))
	m[0].Done = func(err error) { result = err }
	r.o.Take(r.now, Arrived{RPC: m})
	r.do()
	if !errors.Is(result, wire.ErrBusy) {
		t.Errorf("the sender got %v", result)
	}
}

// TestWaitingMessagesAreBounded: while reads fail, no more messages are taken than may wait.
func TestWaitingMessagesAreBounded(t *testing.T) {
	r := newRig(t)
	r.answer = func(*Read) *Answer { return &Answer{Err: errAway} }
	taken := 0
	for r.o.Room() > 0 && taken < 10*waitingMost {
		device := named(fmt.Sprint(taken))
		r.o.Take(r.now, Arrived{Data: []bus.Message{{
			Partition: partitionOf(device), Lane: bus.Data, Key: device, Place: bus.Place{Topic: named("topic"), Offset: int64(taken)},
			Value: step.Command{Device: device, Do: step.Data{Type: "POST_TELEMETRY_REQUEST", Payload: []byte(`{"a":1}`)}},
		}}})
		taken++
	}
	if taken > waitingMost+64 {
		t.Errorf("%d messages were taken, want about %d", taken, waitingMost)
	}
}

// queued is an owner with a device that has so many queued calls, each to be sent when the device has acknowledged the one before.
func queued(t testing.TB, n int) (*rig, uuid.UUID) {
	r := newRig(t)
	device := named("d")
	for range n {
		c := r.call(true)
		c.Order = rpc.OrderOnAck
		r.put(device, c)
	}
	return r, device
}

// TestQueuedCallsAreNotCopied (fault i): one call more costs a device with 10,000 of them about what it costs one with ten.
func TestQueuedCallsAreNotCopied(t *testing.T) {
	if testing.Short() {
		t.Skip("10,000 calls take a second")
	}
	bytes := func(n int) int64 {
		r, device := queued(t, n)
		return testing.Benchmark(func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c := r.call(true)
				r.put(device, c)
				r.put(device, step.RPC{Do: rpc.Cancel{Call: c.ID}})
			}
		}).AllocedBytesPerOp()
	}
	few, many := bytes(10), bytes(10_000)
	if many > 3*few {
		t.Errorf("a call and its end take %d bytes beside 10 queued calls, and %d beside 10,000", few, many)
	}
}

func BenchmarkCallWith10000Queued(b *testing.B) {
	r, device := queued(b, 10_000)
	b.ReportAllocs()
	for b.Loop() {
		c := r.call(true)
		r.put(device, c)
		r.put(device, step.RPC{Do: rpc.Cancel{Call: c.ID}})
	}
}

// TestRefusalIsSentWhenTheAppendFails: an answer that stores nothing is sent even if the append of its batch fails.
func TestRefusalIsSentWhenTheAppendFails(t *testing.T) {
	r := newRig(t)
	one, other := named("d"), named("e")
	for partitionOf(other) == partitionOf(one) {
		other = uuid.NewSHA1(other, nil)
	}
	for _, d := range []uuid.UUID{one, other} {
		r.put(d, session(d)...)
	}
	result := 0
	refused := r.messages(one, bus.RPC, step.RPC{Do: rpc.Cancel{Call: named("nobody's")}})
	refused[0].Done = func(error) { result++ }
	failures := 1
	r.store = func(b *Batch) error {
		if failures--; failures < 0 {
			return nil
		}
		return errAway
	}
	r.o.Take(r.now, Arrived{RPC: append(refused, r.messages(other, bus.RPC, r.call(true))...)})
	r.do()
	r.pass(time.Second)
	if result != 1 || failures >= 0 {
		t.Errorf("the sender of a refused command got %d results, want 1", result)
	}
}

// TestWatermarkMovesAtOnce: the first append writes what the recovery found after the watermark, and a partition without changed rows moves its watermark, too.
// Otherwise each of several crashes in a row makes the next recovery longer.
func TestWatermarkMovesAtOnce(t *testing.T) {
	r := newRig(t, func(r *rig, _ *Config) { r.opened = []string{"call/a", "call/b"} })
	if want := []int64{2, 2}; !slices.Equal(r.marks, want) {
		t.Errorf("after the claim the watermarks are %v, want %v", r.marks, want)
	}
	p := &r.o.mem.parts[0]
	p.cp.Seq += catchUpMost
	r.pass(time.Second)
	if p.cp.Indexed != p.cp.Seq {
		t.Errorf("after %d events without rows the watermark is %d, want %d", catchUpMost, p.cp.Indexed, p.cp.Seq)
	}
}
