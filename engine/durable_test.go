package engine_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"callchain/engine"
	"callchain/engine/bus"
	"callchain/engine/projection"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/engine/wire"
	"callchain/eventstore"
	"callchain/transports"

	"github.com/google/uuid"
)

// inDurableBubble runs a test with a durable inbox.
func inDurableBubble(t *testing.T, test func(*rig, *durable)) {
	bubble(t, func(t *testing.T) bus.Inbox { return durableInbox(t) }, func(r *rig) { test(r, r.inbox.(*durable)) })
}

func (r *rig) mustStop() {
	r.t.Helper()
	if err := r.stop(); err != nil {
		r.t.Error(err)
	}
}

// TestDurableAnswerSurvives: an answer was acknowledged and the process dies before it is processed. The next process takes it once,
// whatever dies again. Its deadline has passed meanwhile.
func TestDurableAnswerSurvives(t *testing.T) {
	inDurableBubble(t, func(r *rig, _ *durable) {
		d := r.connect("d1", "A")
		c := r.call("d1", chosen("c1"))
		cmd := d.one()
		d.written(cmd)
		pass(time.Second)
		r.store.Before = func(context.Context, eventstore.Batch) error { return errors.New("the database is away") }
		acked := make(chan error, 1)
		r.engine.Inbound().Reply(d.session, cmd.Wire, []byte(`1`), func(err error) { acked <- err })
		if err := <-acked; err != nil {
			t.Fatalf("the durable answer is acknowledged with %v", err)
		}
		if !c.waits() {
			t.Fatal("the caller has an answer that is not committed")
		}
		if err := r.stop(); err == nil {
			t.Error("what cannot be committed is lost without a word")
		}
		r.stop = func() error { return nil }
		pass(2 * time.Minute)
		for range 2 {
			r = r.again()
			pass(time.Second)
			r.wantTypes(named("c1"), "Requested", "Queued", "Sent", "Delivered", "Succeeded")
		}
		r.mustStop()
	})
}

// TestDecisionReturnsToTheSender: the sender of a durable command gets its owner's refusal.
func TestDecisionReturnsToTheSender(t *testing.T) {
	inDurableBubble(t, func(r *rig, _ *durable) {
		r.connect("d1", "A")
		r.call("d1", chosen("c1"))
		other := r.call("d1", func(q *engine.CallRequest) { chosen("c1")(q); q.Method = "other" })
		other.want("call_id_in_use: call " + named("c1").String() + " was made with other content")
		if err := r.engine.Cancel(context.Background(), tenant, named("c1"), "test"); err != nil {
			t.Errorf("cancelling: %v", err)
		}
		err := r.engine.Cancel(context.Background(), tenant, named("c1"), "test")
		if err == nil || !strings.Contains(err.Error(), "already_ended") {
			t.Errorf("cancelling twice: %v", err)
		}
	})
}

// TestUnreadableCommand: bytes that cannot be decoded are rejected with a fact and a dead letter, and the position moves on.
func TestUnreadableCommand(t *testing.T) {
	inDurableBubble(t, func(r *rig, in *durable) {
		in.Keep(bus.RPC, 1, []byte("\xff not a command"))
		in.Keep(bus.Data, 2, []byte(`{"v":1,"kind":"wake","do":{}}`))
		pass(2 * time.Second)
		if n := countEvents(t, r, "CommandRejected"); n != 2 {
			t.Errorf("%d facts of rejected commands, want 2", n)
		}
		r = r.again()
		defer r.mustStop()
		pass(2 * time.Second)
		if n := countEvents(t, r, "CommandRejected"); n != 2 {
			t.Errorf("after a restart %d facts of rejected commands, want 2", n)
		}
		rows, err := r.store.Rows(context.Background(), eventstore.Query{Table: projection.DeadLetters})
		if err != nil || len(rows) != 2 {
			t.Fatalf("dead letters: %v, %v", rows, err)
		}
		if data := fmt.Sprintf("%s", rows[0][projection.DeadLetters.Index("command")]); !strings.Contains(data+fmt.Sprintf("%s", rows[1][projection.DeadLetters.Index("command")]), "/yBub3QgYSBjb21tYW5k") {
			t.Errorf("the bytes are not stored: %s", data)
		}
	})
}

// TestPositionMovesWithoutEvents: what was refused is not processed again after a restart, either.
func TestPositionMovesWithoutEvents(t *testing.T) {
	inDurableBubble(t, func(r *rig, in *durable) {
		r.call("nobody", nil).want("not_found: there is no device " + named("nobody").String())
		d := r.connect("d1", "A")
		r.engine.Inbound().Reply(d.session, 77, []byte(`1`), nil) // to a call that never was
		pass(3 * time.Second)
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		left := in.Open()
		checkpoints, err := r.store.Open().Checkpoints(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		from := make([]bus.From, len(checkpoints))
		for i, cp := range checkpoints {
			from[i] = bus.From{Partition: cp.Partition, Next: [bus.Lanes]bus.Place{
				{Topic: cp.Positions[0].Topic, Offset: cp.Positions[0].Offset}, {Topic: cp.Positions[1].Topic, Offset: cp.Positions[1].Offset},
			}}
		}
		if err := left.Begin(context.Background(), from); err != nil {
			t.Fatal(err)
		}
		if n := left.Len(bus.RPC); n != 0 {
			t.Errorf("%d commands would be processed again", n)
		}
	})
}

// TestInboxAway: no call is accepted while the inbox is away, nothing that was accepted is lost, no deadline passes, and devices
// keep their connections.
func TestInboxAway(t *testing.T) {
	inDurableBubble(t, func(r *rig, in *durable) {
		d := r.connect("d1", "A")
		c := r.call("d1", chosen("c1"))
		cmd := d.one()
		d.written(cmd)
		in.Away(true)
		r.call("d1", nil).want(engine.ErrUnready.Error())
		if why := r.engine.Ready(); len(why) != 1 || why[0] != "the brokers are away" {
			t.Errorf("reasons not to be ready: %q", why)
		}
		busy := make(chan error, 1)
		r.engine.Inbound().Telemetry(d.session, []byte(`{"a":0}`), func(err error) { busy <- err })
		if err := <-busy; !errors.Is(err, transports.ErrBusy) {
			t.Errorf("data that is not durable: %v", err)
		}
		pass(2 * time.Minute)
		if !c.waits() || len(d.closed) > 0 {
			t.Fatalf("a deadline has passed (%s), or the device was sent away %v", c.outcome(), d.closed)
		}
		value, _, err := wire.Codec{}.Encode(step.Command{Device: d.id, Do: step.RPC{Do: rpc.Reply{Wire: cmd.Wire, Response: rpc.NewPayload([]byte(`1`))}}})
		if err != nil {
			t.Fatal(err)
		}
		later, _, err := wire.Codec{}.Encode(step.Command{
			Meta: rpc.Meta{Actor: "system", Cause: "mqtt", Occurred: rpc.At(time.Now())}, Device: d.id, Do: step.RPC{Do: rpc.Unsubscribe{Session: named("B")}},
		})
		if err != nil {
			t.Fatal(err)
		}
		for range 200 { // the backlog is not in the order in which it was sent
			in.Keep(bus.RPC, int32(d.id[15])%partitions, later)
		}
		in.Keep(bus.RPC, int32(d.id[15])%partitions, value) // it is durable, and cannot be taken yet
		in.Away(false)
		c.want("succeeded  1")
		r.wantTypes(named("c1"), "Requested", "Queued", "Sent", "Delivered", "Succeeded")
	})
}

// TestRecreatedTopic: an engine whose inbox lost messages reports it and does nothing.
func TestRecreatedTopic(t *testing.T) {
	inDurableBubble(t, func(r *rig, in *durable) {
		r.connect("d1", "A")
		r.call("d1", chosen("c1"))
		pass(2 * time.Second)
		in.Recreate(bus.RPC)
		next := r.again()
		pass(time.Minute)
		if why := next.engine.Ready(); len(why) == 0 || !strings.Contains(why[0], "the topic was made anew") {
			t.Errorf("reasons not to be ready: %q", why)
		}
		next.call("d1", nil).want(engine.ErrUnready.Error())
		if err := next.stop(); !errors.As(err, new(*bus.LostError)) {
			t.Errorf("it ends with %v", err)
		}
		r.stop = func() error { return nil }
	})
}

// resumed is an inbox that an operator let go on after a loss.
type resumed struct {
	*durable
	topic uuid.UUID
}

func (in resumed) Begin(ctx context.Context, from []bus.From) error {
	err := in.Inbox.Begin(ctx, from)
	if !errors.As(err, new(*bus.LostError)) {
		return err
	}
	for i := range from {
		from[i].Next[bus.RPC] = bus.Place{}
	}
	err = in.Inbox.Begin(ctx, from)
	for i := range from {
		from[i].Next[bus.RPC] = bus.Place{Topic: in.topic}
	}
	return err
}

// TestResumedOnce: the operator's decision to go on holds for all partitions, also for those to which nothing comes before the next start.
func TestResumedOnce(t *testing.T) {
	inDurableBubble(t, func(r *rig, in *durable) {
		r.connect("d1", "A")
		r.call("d1", chosen("c1"))
		pass(2 * time.Second)
		r.mustStop()
		in.Recreate(bus.RPC)
		topic := named("topic")
		next := newRig(r.t, r.store.Open(), resumed{in.Open(), topic})
		pass(3 * time.Second)
		if why := next.engine.Ready(); len(why) > 0 {
			t.Fatalf("it does not serve: %q", why)
		}
		next.mustStop()
		checkpoints, err := r.store.Open().Checkpoints(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for _, cp := range checkpoints {
			if cp.Positions[bus.RPC].Topic != topic {
				t.Errorf("partition %d still goes on at %+v", cp.Partition, cp.Positions[bus.RPC])
			}
		}
	})
}

// topics notes what is published; some tries fail.
type topics struct {
	mu     sync.Mutex
	got    map[bus.Topic][]bus.Record
	fail   error
	failed int
}

func (p *topics) Publish(_ context.Context, topic bus.Topic, records []bus.Record) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fail != nil {
		p.failed++
		return p.fail
	}
	if p.got == nil {
		p.got = map[bus.Topic][]bus.Record{}
	}
	p.got[topic] = append(p.got[topic], records...)
	return nil
}

func (p *topics) Follow(ctx context.Context, _ bus.Topic, _ func(), _ func(bus.Record)) error {
	<-ctx.Done()
	return ctx.Err()
}

func (p *topics) set(fail error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fail = fail
}

// relayedRig is a rig whose events are published.
func relayedRig(t *testing.T, test func(*rig, *topics)) {
	inDurableBubble(t, func(r *rig, in *durable) {
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		p := &topics{}
		r.topics = p
		r.inbox = in.Open()
		r.start()
		test(r, p)
	})
}

// published are the seqs of each partition on the topic, without repetitions, which must stand in order and without gaps.
func (p *topics) published(t *testing.T) map[int32]int64 {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	last := map[int32]int64{}
	for _, rec := range p.got[bus.Events] {
		var seq int64
		if _, err := fmt.Sscan(rec.Headers["seq"], &seq); err != nil {
			t.Fatal(err)
		}
		if seq > last[rec.Partition]+1 {
			t.Errorf("partition %d: seq %d was published after %d", rec.Partition, seq, last[rec.Partition])
		}
		last[rec.Partition] = max(last[rec.Partition], seq)
	}
	return last
}

// allPublished compares what was published with what is stored.
func (r *rig) allPublished(p *topics) {
	r.t.Helper()
	synctest.Wait()
	checkpoints, err := r.store.Open().Checkpoints(context.Background())
	if err != nil {
		r.t.Fatal(err)
	}
	last := p.published(r.t)
	for _, cp := range checkpoints {
		if last[cp.Partition] != cp.Seq {
			r.t.Errorf("partition %d: published up to %d of %d", cp.Partition, last[cp.Partition], cp.Seq)
		}
	}
}

// TestEveryEventIsPublished: also those that were committed while the topics were away, or before the process died.
func TestEveryEventIsPublished(t *testing.T) {
	relayedRig(t, func(r *rig, p *topics) {
		for n := range 3 {
			d := r.connect(fmt.Sprintf("d%d", n), fmt.Sprintf("A%d", n))
			c := r.call(fmt.Sprintf("d%d", n), nil)
			d.reply(d.one(), `1`)
			c.want("succeeded  1")
		}
		r.allPublished(p)

		p.set(errors.New("the topics are away"))
		d := r.connect("d1", "B")
		c := r.call("d1", nil)
		d.reply(d.one(), `2`)
		c.want("succeeded  2")
		pass(time.Minute)
		if p.failed < 10 || p.failed > 120 {
			t.Errorf("in a minute publishing was tried %d times", p.failed)
		}
		p.set(nil)
		pass(2 * time.Second)
		r.allPublished(p)

		p.set(errors.New("the topics are away"))
		d = r.connect("d2", "C")
		r.call("d2", nil)
		d.reply(d.one(), `3`)
		_ = r.stop() // whatever it ends with: what matters is what the next one finds
		p.set(nil)
		next := newRig(r.t, r.store.Open(), opened(r.inbox))
		if err := next.stop(); err != nil {
			t.Fatal(err)
		}
		next.topics, next.inbox = p, opened(next.inbox)
		next.start()
		pass(2 * time.Second)
		next.allPublished(p)
		if err := next.stop(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestDeadLettersArePublished on their topic.
func TestDeadLettersArePublished(t *testing.T) {
	relayedRig(t, func(r *rig, p *topics) {
		r.inbox.(*durable).Keep(bus.RPC, 3, []byte("nonsense"))
		pass(2 * time.Second)
		got := p.got[bus.DeadLetters]
		if len(got) != 1 || got[0].Headers["reason"] != "command_unreadable" || !strings.Contains(string(got[0].Value), `"partition":3`) {
			t.Errorf("dead letters: %+v", got)
		}
	})
}

// TestNULFromADevice: a NUL byte, which a database cannot store in texts, does not lead to endless retries.
func TestNULFromADevice(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.store.Before = func(_ context.Context, b eventstore.Batch) error {
			for i := range b.Partitions {
				for _, row := range b.Partitions[i].Rows {
					for _, v := range row.Values {
						if text, ok := v.(string); ok && strings.Contains(text, "\x00") {
							return &eventstore.RefusedError{Err: fmt.Errorf("a NUL in table %s", row.Table.Name)}
						}
					}
				}
			}
			return nil
		}
		d := r.connect("d1", "A")
		in := r.engine.Inbound()
		in.Call(d.session, 1, "a\x00b", []byte(`{"c\u0000":1}`), r.mustBe("call", nil))
		in.Telemetry(d.session, []byte(`{"key\u0000":1}`), r.mustBe("telemetry", nil))
		pass(2 * time.Minute)
		if n := countEvents(t, r, "CommandRejected"); n != 0 {
			t.Errorf("%d commands were rejected", n)
		}
		if n := countEvents(t, r, "Expired"); n != 1 {
			t.Errorf("%d calls ended at their deadline, want the device's own", n)
		}
	})
}
