package kafka_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"callchain/engine/bus"
	"callchain/engine/bus/bustest"
	"callchain/engine/bus/kafka"
)

// troubled waits until an inbox is in trouble that names these.
func troubled(t *testing.T, in bus.Inbox, parts ...string) {
	t.Helper()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	names := func(err error) bool {
		for _, part := range parts {
			if err == nil || !strings.Contains(err.Error(), part) {
				return false
			}
		}
		return true
	}
	for deadline := time.Now().Add(20 * time.Second); !names(in.Err()); <-look.C {
		if time.Now().After(deadline) {
			t.Fatalf("trouble: %v, want one that names %q", in.Err(), parts)
		}
	}
}

// A topic of events that is removed or made anew while it is used is named, as those of the inbox are: its readers miss what it had.
func TestEventsMadeAnewWhileUsed(t *testing.T) {
	s := newSite(t)
	b, _ := s.open(t, s.options(t))
	in, events := b.Inbox(), s.prefix+string(bus.Events)
	if err := in.Begin(t.Context(), []bus.From{{}}); err != nil {
		t.Fatal(err)
	}
	if err := s.admin.DeleteTopic(events); err != nil {
		t.Fatal(err)
	}
	troubled(t, in, events)
	if err := in.Put(bus.Message{Value: bustest.Parcel(1)}); !errors.Is(err, bus.ErrAway) {
		t.Errorf("Put: %v, want ErrAway", err)
	}
	s.again(t, events, partitions)
	troubled(t, in, events, "made anew while it was used")
	var lost *bus.LostError
	if err := in.Err(); !errors.As(err, &lost) || lost.Topic != events {
		t.Errorf("trouble: %v", err)
	}
}

// One that was made anew between two runs is named when the inbox begins. Who decides to go on is warned. Where nothing was published there is nothing
// to miss.
func TestEventsMadeAnewBetweenRuns(t *testing.T) {
	s := newSite(t)
	o, events := s.options(t), s.prefix+string(bus.Events)
	b, end := s.open(t, o)
	publish(t, b.Topics(), bus.Events, bus.Record{Partition: 2, Key: "k"})
	end()
	at := []bus.From{{Partition: 0, Published: 3}, {Partition: 1}, {Partition: 2, Published: 1}} // the records of partition 0 were too large
	begin := func(o kafka.Options, from []bus.From) error {
		b, end := s.open(t, o)
		defer end()
		return b.Inbox().Begin(t.Context(), from)
	}
	if err := begin(o, at); err != nil {
		t.Errorf("the topic is the same, and the inbox begins with %v", err)
	}
	if err := s.admin.DeleteTopic(events); err != nil {
		t.Fatal(err)
	}
	var lost *bus.LostError
	err := begin(o, at)
	wantError(t, err, events, "made anew", "4 events were published", "bus.kafka.resume=oldest")
	if !errors.As(err, &lost) {
		t.Errorf("%v is no LostError", err)
	}
	if err := begin(o, []bus.From{{Partition: 0}, {Partition: 2}}); err != nil {
		t.Errorf("nothing was published, and the inbox begins with %v", err)
	}
	var lines strings.Builder
	o.Log, o.Resume = logTo(&lines), kafka.ResumeOldest
	if err := begin(o, at); err != nil {
		t.Error(err)
	}
	if !strings.Contains(lines.String(), "published events were lost") {
		t.Errorf("the log does not say that events were lost:\n%s", lines.String())
	}
}
