package kafka_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

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

// wire is the way of one node to the brokers, which can be stopped: then nothing passes, and nobody hears of it.
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

// noted is a member that keeps what it was given last.
type noted struct {
	mu      sync.Mutex
	has     []int32
	changes int
	asked   chan struct{} // closed by Revoked, which then waits as long as it may
	changed chan struct{}
}

func (n *noted) Assigned(partitions []int32) { n.note(partitions) }

// holds lets the member keep what it is to give up.
func (n *noted) holds(asked chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked = asked
}

func (n *noted) Revoked(ctx context.Context, partitions []int32) {
	n.mu.Lock()
	asked := n.asked
	n.asked = nil
	n.mu.Unlock()
	if asked != nil {
		close(asked)
		<-ctx.Done()
	}
	n.mu.Lock()
	rest := slices.DeleteFunc(slices.Clone(n.has), func(p int32) bool { return slices.Contains(partitions, p) })
	n.mu.Unlock()
	n.note(rest)
}

func (n *noted) note(has []int32) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.has = has
	n.changes++
	select {
	case n.changed <- struct{}{}:
	default:
	}
}

func (n *noted) now() ([]int32, int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.has, n.changes
}

// wait waits until the member has so many partitions.
func (n *noted) wait(t *testing.T, count int) {
	t.Helper()
	for late := time.After(20 * time.Second); ; {
		if has, _ := n.now(); len(has) == count {
			return
		}
		select {
		case <-n.changed:
		case <-late:
			has, _ := n.now()
			t.Fatalf("it has %d partitions, want %d", len(has), count)
		}
	}
}

// joinNoted lets a node join until the test ends, or stop is called.
func joinNoted(t *testing.T, b *kafka.Bus) (n *noted, stop func()) {
	t.Helper()
	n = &noted{changed: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	left := make(chan error, 1)
	go func() { left <- b.Group().Join(ctx, n) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-left; err != nil {
			t.Errorf("Join: %v", err)
		}
	})
	t.Cleanup(stop)
	return n, stop
}

// aloneInGroup is node a, which has all partitions and can be cut off as by a kill, and what starts nodes beside it.
func aloneInGroup(t *testing.T) (start func(node string) *kafka.Bus, alone *noted, w *wire) {
	t.Helper()
	s := newSite(t)
	o := s.options(t)
	o.Partitions, o.Log = width, logTo(io.Discard)
	start = func(node string) *kafka.Bus {
		o.Node = node
		b, _ := s.open(t, o)
		return b
	}
	w = &wire{}
	first := start("a")
	kafka.DialGroup(first, w.dial)
	alone, _ = joinNoted(t, first)
	alone.wait(t, width)
	return start, alone, w
}

// A node that is killed and started again has what it had before it would have been missed, and the others hear nothing of it. If the first still lives, it does not take
// that back at once.
func TestGroupOfNodeStartedAgain(t *testing.T) {
	start, killed, w := aloneInGroup(t)
	other, _ := joinNoted(t, start("b"))
	other.wait(t, width/2)
	killed.wait(t, width/2)
	had, _ := killed.now()
	_, before := other.now()
	on := w.hang()
	t.Cleanup(on)
	again := start("a")
	began := time.Now()
	mine, stop := joinNoted(t, again)
	mine.wait(t, width/2)
	took := time.Since(began)
	t.Logf("it had its partitions again after %s", took.Round(time.Millisecond))
	if took > 2*time.Second {
		t.Error("that is no sooner than if it was missed first")
	}
	if has, _ := mine.now(); !slices.Equal(has, had) {
		t.Errorf("it has %v, it had %v", has, had)
	}
	if _, after := other.now(); after != before {
		t.Error("the other was given something")
	}
	on()
	stop()
	other.wait(t, width)
}

// A node that is killed while it gives partitions up, and started again, does not keep those from the one who waits for them.
func TestGroupOfNodeKilledInHandover(t *testing.T) {
	start, killed, w := aloneInGroup(t)
	asked := make(chan struct{})
	killed.holds(asked)
	other, _ := joinNoted(t, start("b"))
	<-asked
	t.Cleanup(w.hang())
	mine, _ := joinNoted(t, start("a"))
	mine.wait(t, width/2)
	other.wait(t, width/2)
}

// BenchmarkIdleGroup measures what a node with all partitions costs that does nothing but take part in the group for a second.
func BenchmarkIdleGroup(b *testing.B) {
	s := newSite(b)
	o := s.options(b)
	o.Partitions = width
	k, _ := s.open(b, o)
	n := &noted{changed: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	left := make(chan error, 1)
	go func() { left <- k.Group().Join(ctx, n) }()
	<-n.changed
	<-time.After(time.Second)
	cpu := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	b.ResetTimer()
	before := cpu()
	for range b.N {
		<-time.After(time.Second)
	}
	b.ReportMetric(float64((cpu()-before).Microseconds())/float64(b.N), "cpu-us/s")
	b.StopTimer()
	cancel()
	if err := <-left; err != nil {
		b.Error(err)
	}
}
