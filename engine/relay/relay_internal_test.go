package relay

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"callchain/engine/bus"
	"callchain/engine/observe"
	"callchain/eventstore"

	"github.com/prometheus/client_golang/prometheus"
)

// recordingTopics take everything.
type recordingTopics struct{ seqs []string }

func (p *recordingTopics) Publish(_ context.Context, _ bus.Topic, records []bus.Record) error {
	for _, r := range records {
		p.seqs = append(p.seqs, r.Headers[HeaderSeq])
	}
	return nil
}

func (p *recordingTopics) Follow(context.Context, bus.Topic, func(), func(bus.Record)) error {
	return nil
}

// TestEventThatIsNoRecord: an event that cannot be encoded is left out and logged, and the position moves past it, also when it is alone.
func TestEventThatIsNoRecord(t *testing.T) {
	var lines strings.Builder
	to := &recordingTopics{}
	r := New(2, to, nil, observe.NewMetrics(prometheus.NewRegistry()), slog.New(slog.NewTextHandler(&lines, nil)))
	next := int64(0)
	commit := func(data ...string) {
		events := make([]eventstore.Event, len(data))
		for i, d := range data {
			next++
			events[i] = eventstore.Event{Stream: "rpc/x/y", Partition: 1, Seq: next, Type: "Queued", Data: []byte(d)}
		}
		r.Committed([]eventstore.PartitionBatch{{Next: eventstore.Checkpoint{Partition: 1, Seq: next}, Events: events}})
		publishRest(t.Context(), r.publish)
	}
	commit("no JSON")
	if r.UpTo(1) != 1 || len(to.seqs) != 0 {
		t.Errorf("published up to %d: %v", r.UpTo(1), to.seqs)
	}
	commit(`1`, `{`, `2`)
	if r.UpTo(1) != 4 || r.Lag() != 0 || strings.Join(to.seqs, " ") != "2 4" {
		t.Errorf("published up to %d: %v", r.UpTo(1), to.seqs)
	}
	for _, want := range []string{"level=ERROR", "stream=rpc/x/y", "partition=1", "seq=3", "bytes=1", "reason=unreadable"} {
		if !strings.Contains(lines.String(), want) {
			t.Errorf("the log does not have %s:\n%s", want, lines.String())
		}
	}
}

// droppingTopics lose a partition while they publish.
type droppingTopics struct {
	recordingTopics
	relay *Relay
}

func (d *droppingTopics) Publish(ctx context.Context, topic bus.Topic, records []bus.Record) error {
	d.relay.Drop([]int32{1})
	return d.recordingTopics.Publish(ctx, topic, records)
}

// TestDropWhilePublishing: a partition that leaves while its events are published has no lag afterwards, and no negative one.
func TestDropWhilePublishing(t *testing.T) {
	to := &droppingTopics{}
	to.relay = New(2, to, nil, observe.NewMetrics(prometheus.NewRegistry()), slog.New(slog.DiscardHandler))
	event := eventstore.Event{Stream: "rpc/x/y", Partition: 1, Seq: 1, Type: "Queued", Data: []byte("1")}
	to.relay.Committed([]eventstore.PartitionBatch{{Next: eventstore.Checkpoint{Partition: 1, Seq: 1}, Events: []eventstore.Event{event}}})
	publishRest(t.Context(), to.relay.publish)
	if lag := to.relay.Lag(); lag != 0 || to.relay.UpTo(1) != 1 {
		t.Errorf("published up to %d, the lag is %d, want 1 and 0", to.relay.UpTo(1), lag)
	}
}
