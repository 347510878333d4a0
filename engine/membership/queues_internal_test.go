package membership

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"callchain/engine/bus"
	"callchain/engine/cluster"
	"callchain/engine/observe"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
)

// gate are topics that take what is published while it is open.
type gate struct {
	bus.Topics
	open atomic.Bool
}

func (g *gate) Publish(context.Context, bus.Topic, []bus.Record) error {
	if g.open.Load() {
		return nil
	}
	return errors.New("the topic takes nothing")
}

// inQueues runs a test with the queues of a node, behind a gate that is shut.
func inQueues(t *testing.T, test func(t *testing.T, p *Membership, g *gate, dropped func() int)) {
	synctest.Test(t, func(t *testing.T) {
		measured, g := prometheus.NewRegistry(), &gate{}
		ctx, cancel := context.WithCancel(t.Context())
		p := New(Config{Topics: g, Metrics: observe.NewMetrics(measured), Log: slog.New(slog.DiscardHandler)})
		p.queues.most = fewBytes
		p.queues.start(ctx)
		test(t, p, g, func() int { return counted(t, measured, "callchain_peer_messages_dropped_total") })
		cancel()
		p.queues.stop()
	})
}

func counted(t *testing.T, measured *prometheus.Registry, name string) int {
	t.Helper()
	families, err := measured.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return int(f.GetMetric()[0].GetCounter().GetValue())
		}
	}
	t.Fatalf("%s is not measured", name)
	return 0
}

// fewBytes is what waits at most in a queue here.
const fewBytes = 4000

func quarter() cluster.Message {
	return cluster.Message{Respond: &cluster.Response{Session: uuid.New(), Body: make([]byte, fewBytes/4)}}
}

// TestQueuesAreBounded by bytes and number of messages. A Close has room beyond that.
func TestQueuesAreBounded(t *testing.T) {
	large, small := quarter(), cluster.Message{Sent: &cluster.Sent{Call: uuid.New()}}
	end := cluster.Message{Close: &cluster.Close{Session: uuid.New(), Why: "credentials_changed"}}
	for _, c := range []struct {
		name    string
		sent    []cluster.Message
		times   int
		dropped int
	}{
		{"bytes", []cluster.Message{large}, 6, 2},
		{"what has none finds room beside them", []cluster.Message{large, end, small}, 4, 0},
		{"number", []cluster.Message{small}, queueMost + 3, 3},
		{"ends of connections", []cluster.Message{small, end}, queueMost, queueMost / 2},
		{"too many of these", []cluster.Message{end}, 2*queueMost + 5, 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			inQueues(t, func(t *testing.T, p *Membership, _ *gate, dropped func() int) {
				for range c.times {
					for _, m := range c.sent {
						p.Send("node/run", m)
					}
				}
				if waiting := len(c.sent)*c.times - c.dropped; dropped() != c.dropped || p.queues.count() != waiting {
					t.Errorf("%d messages were dropped and %d wait, want %d and %d", dropped(), p.queues.count(), c.dropped, waiting)
				}
			})
		})
	}
}

// TestQueuesGiveRoomBack when a message was sent, and when it has become stale.
func TestQueuesGiveRoomBack(t *testing.T) {
	inQueues(t, func(t *testing.T, p *Membership, g *gate, dropped func() int) {
		fill := func(before int) {
			t.Helper()
			for range 4 {
				p.Send("node/run", quarter())
			}
			if dropped() != before {
				t.Errorf("%d messages were dropped, want %d", dropped(), before)
			}
		}
		fill(0)
		g.open.Store(true)
		<-time.After(sendLatest)
		if p.queues.count() != 0 {
			t.Errorf("%d messages wait", p.queues.count())
		}
		g.open.Store(false)
		fill(0)
		<-time.After(staleAfter + sendLatest)
		fill(4)
	})
}

// TestQueuesCloseWhenNothingWaits, and open again; queues of dead nodes are removed.
func TestQueuesCloseWhenNothingWaits(t *testing.T) {
	inQueues(t, func(t *testing.T, p *Membership, g *gate, dropped func() int) {
		open := func() int {
			p.queues.mu.Lock()
			defer p.queues.mu.Unlock()
			return len(p.queues.byNode)
		}
		end := cluster.Message{Close: &cluster.Close{Session: uuid.New(), Why: "node_lost"}}
		for range 2 {
			p.Send("node/run", end)
			<-time.After(closeAfter - time.Minute)
			if p.queues.count() != 1 || open() != 1 {
				t.Errorf("%d messages wait in %d queues", p.queues.count(), open())
			}
			g.open.Store(true)
			<-time.After(2*idleAfter + time.Second)
			if p.queues.count() != 0 || open() != 0 || dropped() != 0 {
				t.Errorf("%d messages wait in %d queues, %d were dropped", p.queues.count(), open(), dropped())
			}
			g.open.Store(false)
		}
		p.Send("node/run", end)
		<-time.After(closeAfter + 3*idleAfter)
		if p.queues.count() != 0 || open() != 0 || dropped() != 1 {
			t.Errorf("%d messages wait in %d queues, %d were dropped", p.queues.count(), open(), dropped())
		}
	})
}
