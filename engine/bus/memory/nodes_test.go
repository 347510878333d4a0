package memory_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"callchain/engine/bus"
	"callchain/engine/bus/bustest"
	"callchain/engine/bus/memory"
)

// assignments is a member that records its assignments.
type assignments struct {
	assigned, revoked [][]int32
}

func (m *assignments) Assigned(partitions []int32) { m.assigned = append(m.assigned, partitions) }

func (m *assignments) Revoked(_ context.Context, partitions []int32) {
	m.revoked = append(m.revoked, partitions)
}

// bubble runs a test on a cluster with two nodes, in the bubble's time.
func bubble(t *testing.T, run func(t *testing.T, c *memory.Cluster, a, b *memory.Node)) {
	synctest.Test(t, func(t *testing.T) {
		c := memory.New(partitions, bustest.Codec{})
		run(t, c, c.Node("a"), c.Node("b"))
		c.Close()
	})
}

// A killed node gets no calls, and its partitions are the other's at once; what it had not written is lost, without a result.
func TestKill(t *testing.T) {
	bubble(t, func(t *testing.T, c *memory.Cluster, a, b *memory.Node) {
		var first, second assignments
		go func() {
			if err := a.Group().Join(t.Context(), &first); err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		go func() {
			if err := b.Group().Join(t.Context(), &second); err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		asked := len(first.revoked)
		c.SetAway(true)
		if err := a.Inbox().Put(bus.Message{Value: bustest.Parcel(1), Priority: true, Done: func(error) { t.Error("Done was called") }}); err != nil {
			t.Fatal(err)
		}
		a.Kill()
		c.SetAway(false)
		synctest.Wait()
		if last := second.assigned[len(second.assigned)-1]; !slices.Equal(last, []int32{0, 1, 2, 3}) || len(first.revoked) != asked {
			t.Errorf("the other has %v, the killed one was asked to give up %v", last, first.revoked[asked:])
		}
		if err := b.Inbox().Begin(t.Context(), []bus.From{{}}); err != nil {
			t.Fatal(err)
		}
		if n := b.Inbox().Len(bus.RPC); n != 0 {
			t.Errorf("%d messages of the killed node came", n)
		}
		if err := a.Inbox().Put(bus.Message{Value: bustest.Parcel(1)}); !errors.Is(err, bus.ErrAway) {
			t.Errorf("Put at the killed node: %v", err)
		}
	})
}

// A paused node writes, takes and publishes nothing. When it goes on it still reads what it lost, as a process would that was stopped.
func TestPause(t *testing.T) {
	bubble(t, func(t *testing.T, _ *memory.Cluster, a, b *memory.Node) {
		in := a.Inbox()
		if err := in.Begin(t.Context(), []bus.From{{}}); err != nil {
			t.Fatal(err)
		}
		a.Pause()
		written := 0
		for _, n := range []*memory.Node{a, b} {
			if err := n.Inbox().Put(bus.Message{Value: bustest.Parcel(1), Done: func(error) { written++ }}); err != nil {
				t.Fatal(err)
			}
		}
		published := make(chan error, 1)
		go func() { published <- a.Topics().Publish(t.Context(), bus.Nodes, []bus.Record{{}}) }()
		<-time.After(time.Minute)
		synctest.Wait()
		if took := in.Take(bus.RPC, 10, nil); len(took) != 0 || written != 1 || len(published) != 0 {
			t.Errorf("the paused node took %d, %d messages were written, %d calls of Publish returned", len(took), written, len(published))
		}
		a.Resume()
		synctest.Wait()
		if took := in.Take(bus.RPC, 10, nil); len(took) != 2 || written != 2 {
			t.Errorf("afterwards it took %d, and %d were written", len(took), written)
		}
		if err := <-published; err != nil {
			t.Error(err)
		}
	})
}

// What is published comes to those who follow, in order; a node that nobody follows has no topic, and no record comes while the brokers are away.
func TestTopics(t *testing.T) {
	bubble(t, func(t *testing.T, c *memory.Cluster, a, b *memory.Node) {
		to := bus.NodeTopic("b")
		if err := a.Topics().Publish(t.Context(), to, []bus.Record{{}}); err == nil {
			t.Error("a record went to a node that follows nothing")
		}
		ctx, cancel := context.WithCancel(t.Context())
		var keys []string
		ready, ended := 0, make(chan error, 1)
		c.SetAway(true)
		go func() {
			ended <- b.Topics().Follow(ctx, to, func() { ready++ }, func(r bus.Record) { keys = append(keys, r.Key) })
		}()
		synctest.Wait()
		if err := a.Topics().Publish(t.Context(), to, []bus.Record{{}}); !errors.Is(err, bus.ErrAway) || ready != 0 {
			t.Errorf("while the brokers are away: %v, ready %d times", err, ready)
		}
		c.SetAway(false)
		synctest.Wait()
		for _, records := range [][]bus.Record{{{Key: "1"}, {Key: "2"}}, {{Key: "3"}}} {
			if err := a.Topics().Publish(t.Context(), to, records); err != nil {
				t.Error(err)
			}
		}
		synctest.Wait()
		if !slices.Equal(keys, []string{"1", "2", "3"}) || ready != 1 {
			t.Errorf("%v came, ready %d times", keys, ready)
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Follow: %v", err)
		}
	})
}
