package engine

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

// inMailboxes runs a test with the mailboxes of a node, behind a gate that is shut.
func inMailboxes(t *testing.T, test func(t *testing.T, p *peers, g *gate, dropped func() int)) {
	synctest.Test(t, func(t *testing.T) {
		measured, g := prometheus.NewRegistry(), &gate{}
		ctx, cancel := context.WithCancel(t.Context())
		p := newPeers(ctx, &Engine{now: time.Now, metrics: NewMetrics(measured), log: slog.New(slog.DiscardHandler)}, g)
		p.bytes = fewBytes
		test(t, p, g, func() int { return counted(t, measured, "callchain_peer_messages_dropped_total") })
		cancel()
		p.stop()
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

// fewBytes is what waits at most in a mailbox here.
const fewBytes = 4000

func quarter() cluster.Message {
	return cluster.Message{Respond: &cluster.Response{Session: uuid.New(), Body: make([]byte, fewBytes/4)}}
}

// TestMailboxesAreBounded: by what waits in them in bytes and in number. The end of a connection has room beyond that.
func TestMailboxesAreBounded(t *testing.T) {
	large, small := quarter(), cluster.Message{Taken: &cluster.Taken{Call: uuid.New()}}
	end := cluster.Message{Close: &cluster.Close{Session: uuid.New(), Why: "credentials_changed"}}
	for _, c := range []struct {
		name    string
		sent    []cluster.Message
		times   int
		dropped int
	}{
		{"bytes", []cluster.Message{large}, 6, 2},
		{"what has none finds room beside them", []cluster.Message{large, end, small}, 4, 0},
		{"number", []cluster.Message{small}, peerMost + 3, 3},
		{"ends of connections", []cluster.Message{small, end}, peerMost, peerMost / 2},
		{"too many of these", []cluster.Message{end}, 2*peerMost + 5, 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			inMailboxes(t, func(t *testing.T, p *peers, _ *gate, dropped func() int) {
				for range c.times {
					for _, m := range c.sent {
						p.send("node/run", m)
					}
				}
				if waiting := len(c.sent)*c.times - c.dropped; dropped() != c.dropped || p.count() != waiting {
					t.Errorf("%d messages were dropped and %d wait, want %d and %d", dropped(), p.count(), c.dropped, waiting)
				}
			})
		})
	}
}

// TestMailboxesGiveRoomBack when something was told, and when it is of no use any more.
func TestMailboxesGiveRoomBack(t *testing.T) {
	inMailboxes(t, func(t *testing.T, p *peers, g *gate, dropped func() int) {
		fill := func(before int) {
			t.Helper()
			for range 4 {
				p.send("node/run", quarter())
			}
			if dropped() != before {
				t.Errorf("%d messages were dropped, want %d", dropped(), before)
			}
		}
		fill(0)
		g.open.Store(true)
		<-time.After(relayLatest)
		if p.count() != 0 {
			t.Errorf("%d messages wait", p.count())
		}
		g.open.Store(false)
		fill(0)
		<-time.After(peerAge + relayLatest)
		fill(4)
	})
}

// TestMailboxesCloseWhenNothingWaits, and open again; those of nodes that are gone keep nothing for ever.
func TestMailboxesCloseWhenNothingWaits(t *testing.T) {
	inMailboxes(t, func(t *testing.T, p *peers, g *gate, dropped func() int) {
		open := func() int {
			p.mu.Lock()
			defer p.mu.Unlock()
			return len(p.nodes)
		}
		end := cluster.Message{Close: &cluster.Close{Session: uuid.New(), Why: "node_lost"}}
		for range 2 {
			p.send("node/run", end)
			<-time.After(peerLong - time.Minute)
			if p.count() != 1 || open() != 1 {
				t.Errorf("%d messages wait in %d mailboxes", p.count(), open())
			}
			g.open.Store(true)
			<-time.After(2*peerQuiet + time.Second)
			if p.count() != 0 || open() != 0 || dropped() != 0 {
				t.Errorf("%d messages wait in %d mailboxes, %d were dropped", p.count(), open(), dropped())
			}
			g.open.Store(false)
		}
		p.send("node/run", end)
		<-time.After(peerLong + 3*peerQuiet)
		if p.count() != 0 || open() != 0 || dropped() != 1 {
			t.Errorf("%d messages wait in %d mailboxes, %d were dropped", p.count(), open(), dropped())
		}
	})
}
