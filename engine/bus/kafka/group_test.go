package kafka_test

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"testing"

	"callchain/engine/bus/bustest"
	"callchain/engine/bus/kafka"

	"github.com/IBM/sarama"
)

func TestGroup(t *testing.T) {
	f := bustest.GroupFixture{Partitions: width}
	f.Site = func(t *testing.T) *bustest.GroupSite {
		s := newSite(t)
		made := &bustest.GroupSite{Renew: s.renewOwners}
		made.Node = func(t *testing.T, name string) *bustest.GroupNode {
			o := s.options(t)
			o.Node, o.Partitions = name, width
			b, _ := s.open(t, o)
			var w wire
			kafka.DialGroup(b, w.dial)
			return &bustest.GroupNode{Group: b.Group(), Hang: w.hang}
		}
		if os.Getenv("CALLCHAIN_TEST_KAFKA_CTL") != "" {
			made.Down = down
		}
		return made
	}
	bustest.RunGroup(t, f)
}

// renewOwners removes the topic of the group, and makes it anew: nothing in it matters.
func (s *site) renewOwners(t *testing.T) {
	t.Helper()
	name := s.prefix + "callchain.owners"
	if err := s.admin.DeleteTopic(name); err != nil && !errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
		t.Fatal(err)
	}
	s.again(t, name, width)
}

// wire is the way of one node to the brokers, which can be stopped: then nothing passes, and nobody is told.
type wire struct {
	mu   sync.Mutex
	hung chan struct{} // nil, or closed when it goes on
}

func (w *wire) hang() (on func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hung = make(chan struct{})
	return sync.OnceFunc(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		close(w.hung)
		w.hung = nil
	})
}

// pass waits while the wire is stopped.
func (w *wire) pass() {
	w.mu.Lock()
	hung := w.hung
	w.mu.Unlock()
	if hung != nil {
		<-hung
	}
}

func (w *wire) dial(ctx context.Context, network, address string) (net.Conn, error) {
	w.pass()
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	return wired{conn, w}, err
}

// wired is a connection over a wire.
type wired struct {
	net.Conn
	wire *wire
}

// Read implements net.Conn.
func (c wired) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.wire.pass()
	return n, err
}

// Write implements net.Conn.
func (c wired) Write(b []byte) (int, error) {
	c.wire.pass()
	return c.Conn.Write(b)
}
