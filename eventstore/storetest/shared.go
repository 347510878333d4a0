package storetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"callchain/eventstore"
)

// sharedKeepsExclusiveOut: a cluster and a process that wants the store for itself never run at once, whoever came first.
func sharedKeepsExclusiveOut(t testing.TB, at Site) {
	first, second, lone := at.Open(), at.Open(), at.Open()
	err := first.Shared(t.Context())
	if errors.Is(err, eventstore.ErrSingle) {
		if err := lone.Exclusive(t.Context()); err != nil {
			t.Errorf("Exclusive after a refused Shared: %v", err)
		}
		return
	}
	for i, s := range []eventstore.Store{first, second, first} {
		if err := s.Shared(t.Context()); err != nil {
			t.Fatalf("Shared %d: %v", i, err)
		}
	}
	for name, s := range map[string]eventstore.Store{"another": lone, "one that shares": second} {
		if err := s.Exclusive(t.Context()); !errors.Is(err, eventstore.ErrInUse) {
			t.Errorf("Exclusive by %s = %v, want ErrInUse", name, err)
		}
	}
	// Both own partitions, also the same one after the other.
	Claim(t, first, 1).Append(t, first, "device/a")
	Claim(t, second, 1).Append(t, second, "device/b")
	if err := first.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	if err := lone.Exclusive(t.Context()); !errors.Is(err, eventstore.ErrInUse) {
		t.Errorf("Exclusive while one of two still shares = %v, want ErrInUse", err)
	}
	if err := second.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	if err := lone.Exclusive(t.Context()); err != nil {
		t.Fatalf("Exclusive after all closed: %v", err)
	}
	for name, s := range map[string]eventstore.Store{"another": at.Open(), "the holder": lone} {
		if err := s.Shared(t.Context()); !errors.Is(err, eventstore.ErrInUse) {
			t.Errorf("Shared by %s while the store is held exclusively = %v, want ErrInUse", name, err)
		}
	}
}

// streamsAtOnce: streams of several kinds, partitions and months, each with several events from several appends.
func streamsAtOnce(t testing.TB, at Site) {
	s := at.Open()
	want := map[string][]eventstore.Event{}
	names := append(CallStreams(40), "window/a", "window/ü", "zzz", "device/"+NewID().String())
	for partition := range int32(4) {
		w := Claim(t, s, partition)
		mine := names[partition*11 : partition*11+11]
		for range 3 {
			id, p := NewID(), w.Batch(mine...)
			inAnotherMonth(&p, partition)
			if fenced, err := s.Append(t.Context(), Of(id, p)); err != nil || len(fenced) > 0 {
				t.Fatalf("Append = %v, %v", fenced, err)
			}
			w.Took(p, id)
			for _, e := range p.Events {
				e.AppendID = id
				want[e.Stream] = append(want[e.Stream], e)
			}
		}
	}
	for _, n := range []int{0, 1, 7, 8, 9, len(names)} {
		asked := slices.Concat(names[:n], []string{"device/nobody"}, names[:n/2])
		wantStreams(t, s, asked, want)
	}
	most := slices.Concat(names, CallStreams(eventstore.MaxStreams-len(names)))
	wantStreams(t, s, most, want)
	none := func(*eventstore.Event) error {
		t.Error("Streams of no names gives an event")
		return nil
	}
	if err := s.Streams(t.Context(), nil, none); err != nil {
		t.Errorf("Streams of no names: %v", err)
	}
	if err := s.Streams(t.Context(), append(most, "one/more"), func(*eventstore.Event) error { return nil }); err == nil {
		t.Error("Streams takes more names than it says")
	}
	enough, given := errors.New("enough"), 0
	err := s.Streams(t.Context(), names, func(*eventstore.Event) error {
		given++
		return enough
	})
	if !errors.Is(err, enough) || given != 1 {
		t.Errorf("Streams whose reader fails goes on for %d events and says %v", given, err)
	}
}

// inAnotherMonth moves all events of a batch by some months of 31 days.
func inAnotherMonth(p *eventstore.PartitionBatch, months int32) {
	const month = 31 * 24 * int64(time.Hour/time.Microsecond)
	for i := range p.Events {
		if e := &p.Events[i]; e.Version == 1 {
			e.Began += int64(months) * month
		}
	}
}

// readsWithinStreams: who reads streams may ask the store about what it reads.
func readsWithinStreams(t testing.TB, at Site) {
	s := at.Open()
	names := CallStreams(30)
	Claim(t, s, 1).Append(t, s, names...)
	read := 0
	err := s.Streams(t.Context(), names, func(e *eventstore.Event) error {
		read++
		events, err := s.Stream(t.Context(), e.Stream, 0, 10)
		if err != nil || len(events) != 1 {
			t.Errorf("Stream(%s) while streams are read = %d events, %v", e.Stream, len(events), err)
		}
		return err
	})
	if err != nil || read != len(names) {
		t.Errorf("%d of %d streams were read: %v", read, len(names), err)
	}
}

func wantStreams(t testing.TB, s eventstore.Store, asked []string, stored map[string][]eventstore.Event) {
	t.Helper()
	var want []eventstore.Event
	for _, name := range slices.Compact(slices.Sorted(slices.Values(asked))) {
		want = append(want, stored[name]...)
	}
	var got []eventstore.Event
	versions := map[string]int64{}
	err := s.Streams(t.Context(), asked, func(e *eventstore.Event) error {
		if versions[e.Stream]++; e.Version != versions[e.Stream] || e.Version > 1 && got[len(got)-1].Stream != e.Stream {
			t.Errorf("version %d of %s is event %d of it", e.Version, e.Stream, versions[e.Stream])
		}
		got = append(got, *e)
		return nil
	})
	eventstore.SortByStream(got)
	if err != nil || len(got) != len(want) {
		t.Fatalf("Streams of %d names = %d events, %v, want %d", len(asked), len(got), err, len(want))
	}
	for i := range got {
		if g, w := fmt.Sprintf("%+v", got[i]), fmt.Sprintf("%+v", want[i]); g != w {
			t.Fatalf("event %d of %d names is\n%s\nwant\n%s", i, len(asked), g, w)
		}
	}
}

// nowIsTold: the suite's databases run on this machine, so their clock is this one's.
func nowIsTold(t testing.TB, at Site) {
	s := at.Open()
	before := time.Now()
	now, err := s.Now(t.Context())
	if off := now.Sub(before); err != nil || off < -time.Second || off > time.Minute {
		t.Errorf("Now = %v, %v, which is %v off", now, err, off)
	}
}
