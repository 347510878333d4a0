package rpc

import (
	"fmt"
	"math/bits"
	"runtime"
	"slices"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// TestQueueIsAList compares a Queue with a plain list, after each of many random changes, on both sides of the sizes at which the
// indexes come and go. Every earlier state must stay as it was.
func TestQueueIsAList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var q Queue
		var list []*Call
		place := int64(0)
		for range rapid.IntRange(0, 200).Draw(t, "changes") {
			before, was := q, slices.Clone(list)
			if len(list) == 0 || rapid.IntRange(0, 9).Draw(t, "what") < 6 {
				place++
				c := &Call{ID: uuid.New(), Place: place, Wire: int32(place % 7), Phase: Phase(rapid.IntRange(1, 4).Draw(t, "phase"))}
				q, list = q.with(c), append(list, c)
			} else {
				i := rapid.IntRange(0, len(list)-1).Draw(t, "place")
				switch rapid.IntRange(0, 2).Draw(t, "change") {
				case 0:
					q, list = q.without(list[i]), slices.Delete(slices.Clone(list), i, i+1)
				case 1:
					is := *list[i]
					is.Attempt++
					q = q.replaced(list[i], &is)
					list = slices.Clone(list)
					list[i] = &is
				case 2: // dispatched: it goes to the end and gets its wire id
					place++
					is := *list[i]
					is.Place, is.Wire = place, int32(place)
					q = q.replaced(list[i], &is)
					list = append(slices.Delete(slices.Clone(list), i, i+1), &is)
				}
			}
			same(t, before, was)
			same(t, q, list)
		}
	})
}

func same(t *rapid.T, q Queue, list []*Call) {
	if got := slices.Collect(q.All()); !slices.Equal(got, list) {
		t.Fatalf("the queue holds %v, the list %v", got, list)
	}
	sum := summary{}
	for _, c := range list {
		if q.find(c.ID) != c {
			t.Fatalf("call %s is not found", c.ID)
		}
		if !slices.Contains(slices.Collect(q.withWire(c.Wire)), c) {
			t.Fatalf("call %s is not found by its wire id %d", c.ID, c.Wire)
		}
		own := summaryOf(c)
		sum.add(&own)
	}
	if q.find(uuid.New()) != nil || q.Len() != len(list) {
		t.Fatalf("the queue has %d calls, the list %d", q.Len(), len(list))
	}
	if q.calls == nil {
		return
	}
	got := q.calls.sum
	if most := int32(2 * bits.Len(uint(len(list)))); got.height > most {
		t.Fatalf("%d calls make a tree of height %d", len(list), got.height)
	}
	if got.height = 0; got != sum {
		t.Fatalf("the sums are %+v, want %+v", got, sum)
	}
}

// TestLongQueueCostsLittle: what a command costs does not grow with the calls that wait for the device, nor with those that it has not
// answered yet (1e1d5bf copied the list: 232 µs and 240 kB a call behind 10,000 others).
func TestLongQueueCostsLittle(t *testing.T) {
	for _, connected := range []bool{false, true} {
		d := Device{ID: uuid.New(), Settings: DefaultSettings()}
		d.Settings.MaxOpen = 20_000
		session := uuid.New()
		if connected {
			d = decided(t, decided(t, d, Connect{Session: session}), Subscribe{Session: session})
		}
		for range 10_000 {
			d = queued(t, d)
		}
		const runs = 200
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range runs {
			one := queued(t, d)
			if n := len(Deliveries(d, one)); (n == 1) != connected {
				t.Fatalf("connected %t: %d deliveries", connected, n)
			}
		}
		runtime.ReadMemStats(&after)
		if bytes := (after.TotalAlloc - before.TotalAlloc) / runs; bytes > 16_000 {
			t.Errorf("connected %t: a call behind 10,000 others takes %d bytes", connected, bytes)
		}
	}
}

// TestRestoreManyCalls: 10,000 open calls of one device are restored in their order, each once (1e1d5bf sorted the list for each: 0.5 s).
func TestRestoreManyCalls(t *testing.T) {
	const n = 10_000
	calls := make([]Call, n)
	for i := range calls {
		calls[i] = Call{ID: uuid.New(), Phase: PhaseQueued, QueuedAt: Instant(1 + i/3), Wire: int32(i), Expires: 1 << 60}
	}
	slices.Reverse(calls)
	allocs := testing.AllocsPerRun(1, func() { Restore(Device{}, calls) })
	if most := float64(n * 4 * bits.Len(n)); allocs > most {
		t.Errorf("restoring %d calls makes %.0f allocations, want at most %.0f", n, allocs, most)
	}
	wire := int32(0)
	d := Restore(Device{}, calls)
	for c := range d.Open.All() {
		if c.Wire != wire {
			t.Fatalf("wire id %d stands in the place of %d", c.Wire, wire)
		}
		wire++
	}
}

func queued(t testing.TB, d Device) Device {
	call := uuid.New()
	return decided(t, decided(t, d, Request{ID: call, Method: "m", Persistent: true, Expires: 1 << 60}), Dispatch{Call: call})
}

func decided(t testing.TB, d Device, do Action) Device {
	_, after, err := Decide(d, Command{Meta: Meta{At: 1}, Now: 1, Do: do})
	if err != nil {
		t.Fatal(fmt.Errorf("%T: %w", do, err))
	}
	return after
}
