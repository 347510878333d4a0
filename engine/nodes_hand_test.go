package engine_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"callchain/engine"
	"callchain/engine/bus"
	"callchain/engine/bus/memory"
	"callchain/engine/projection"
	"callchain/engine/wire"
	"callchain/eventstore"
	"callchain/eventstore/memstore"
)

// hand is a bus.Group in which the test assigns the partitions.
type hand struct {
	joined chan struct{}
	bus.Member
}

// Join implements bus.Group.
func (h *hand) Join(ctx context.Context, m bus.Member) error {
	h.Member = m
	close(h.joined)
	<-ctx.Done()
	return nil
}

// revoke asks a node to give partitions up, and waits until it has.
func (h *hand) revoke(partitions ...int32) { h.Revoked(context.Background(), partitions) }

// byHand is a node whose partitions the test assigns.
type byHand struct {
	*node
	*hand
}

var everything = []int32{0, 1, 2, 3}

// inHands runs a test with two nodes, of which the first owns everything.
func inHands(t *testing.T, test func(a, b byHand)) {
	t.Helper()
	inHandsWith(t, func(*node) {}, test)
}

// inHandsWith does the same with nodes that are changed before they start.
func inHandsWith(t *testing.T, change func(*node), test func(a, b byHand)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := &nodesRig{t: t, store: memstore.New(), bus: memory.New(partitions, wire.Codec{})}
		var two [2]byHand
		for i := range two {
			h := &hand{joined: make(chan struct{})}
			two[i] = byHand{c.prepared(func(n *node) { n.group = h; change(n) }), h}
			two[i].start()
			<-h.joined
		}
		two[1].Assigned(nil)
		two[0].Assigned(everything)
		pass(3 * time.Second)
		test(two[0], two[1])
		c.end()
	})
}

// cut lets all reads and appends of a node fail until the returned function is called.
func (n *node) cut() (fix func()) {
	before := n.store.Before
	fix = n.cutReads()
	n.store.Before = func(ctx context.Context, b eventstore.Batch) error {
		return errors.Join(n.store.Reading(), before(ctx, b))
	}
	return fix
}

// cutReads lets all reads of a node fail likewise.
func (n *node) cutReads() (fix func()) {
	reading := n.store.Reading
	var fixedChain atomic.Bool
	n.store.Reading = func() error {
		if !fixedChain.Load() {
			return errors.New("the store is away")
		}
		return reading()
	}
	return func() { fixedChain.Store(true) }
}

// holdAppends lets a node's appends wait until the returned function is called.
func (n *node) holdAppends() (release func()) {
	n.pause.mu.Lock()
	defer n.pause.mu.Unlock()
	on := make(chan struct{})
	n.pause.on, n.pause.appends = on, true
	return func() {
		n.pause.mu.Lock()
		n.pause.on, n.pause.appends = nil, false
		n.pause.mu.Unlock()
		close(on)
	}
}

// in is a device of a partition.
func in(partition int32) string {
	for c := 'a'; ; c++ {
		if named(string(c))[15]%partitions == byte(partition) {
			return string(c)
		}
	}
}

// TestPartitionIsLostWhileItIsReloaded: a node that loses a partition while it reloads it stops reading it: otherwise it would take commands without deciding them.
func TestPartitionIsLostWhileItIsReloaded(t *testing.T) {
	inHands(t, func(a, b byHand) {
		d := b.connect(in(1), "A")
		pass(time.Second)
		fix := a.cut()
		first := b.call(in(1), chosen("c1"))
		pass(time.Second)
		a.Assigned([]int32{2})
		pass(time.Second)
		fix()
		pass(3 * time.Second) // 2 is loaded, and 1 is not its own
		second := b.call(in(1), chosen("c2"))
		pass(time.Second)
		a.Assigned(everything)
		pass(3 * time.Second)
		for _, cmd := range d.commands() {
			d.reply(cmd, `1`)
		}
		pass(time.Second)
		first.want("succeeded  1")
		second.want("succeeded  1")
	})
}

// TestNoPartialRecovery: the messages of a refused append wait until their own partitions are loaded again, even if others are loaded first.
func TestNoPartialRecovery(t *testing.T) {
	inHands(t, func(a, b byHand) {
		a.revoke(3)
		pass(time.Second)
		a.connect(in(1), "A")
		pass(time.Second)
		before, refused := a.store.Before, false
		a.store.Before = func(ctx context.Context, b eventstore.Batch) error {
			if !refused {
				refused = true
				return &eventstore.RefusedError{Err: errors.New("what is this?")}
			}
			return before(ctx, b)
		}
		fix := a.cutReads()
		call := b.call(in(1), nil)
		pass(4 * time.Second) // it waits a second now before it tries again
		fix()
		a.Assigned(everything) // 3 is loaded at once
		pass(3 * time.Second)
		if got := call.outcome(); !strings.Contains(got, "what is this?") {
			t.Errorf("the caller got %q", got)
		}
		if n := series(t, a.measured)["reloads_total"]; n != 1 {
			t.Errorf("the partitions were loaded again %v times", n)
		}
	})
}

// TestCommandOfAnotherOwnerIsNotProcessedAgain: an owner that gets partitions back continues after what another owner processed meanwhile.
func TestCommandOfAnotherOwnerIsNotProcessedAgain(t *testing.T) {
	inHands(t, func(a, b byHand) {
		change := func(n *node, value string) {
			t.Helper()
			err := n.engine.ChangeAttributes(context.Background(), engine.AttributeChange{
				Tenant: tenant, Device: named(in(1)), Scope: "SHARED_SCOPE", Set: map[string][]byte{"x": []byte(value)}, Actor: "test",
			})
			if err != nil {
				t.Error(err)
			}
		}
		change(b.node, `0`)
		fix := a.cut()
		var changing sync.WaitGroup
		changing.Go(func() { change(b.node, `1`) })
		pass(100 * time.Millisecond)
		b.Assigned(everything)
		pass(3 * time.Second)
		changing.Wait()
		change(b.node, `2`)
		before, again := a.store.Before, 0
		a.store.Before = func(ctx context.Context, b eventstore.Batch) error {
			for i := range b.Partitions {
				again += len(slices.DeleteFunc(slices.Clone(b.Partitions[i].Rows), func(r eventstore.Row) bool { return r.Table.Name != projection.Attributes.Name }))
			}
			return before(ctx, b)
		}
		fix()
		pass(5 * time.Second) // it has claimed partitions whose loss was not reported to it
		if got := a.attribute(in(1), "x"); got != `2` || again > 0 {
			t.Errorf("the attribute is %s, want what was set last; it was written again %d times", got, again)
		}
		change(b.node, `3`)
	})
}

// attribute is what is stored of a device's shared attribute.
func (r *rig) attribute(device, key string) string {
	r.t.Helper()
	rows, err := r.store.Open().Rows(context.Background(), eventstore.Query{Table: projection.Attributes, Where: []eventstore.Cond{
		{Column: "entity", Op: eventstore.Eq, Value: named(device)}, {Column: "key", Op: eventstore.Eq, Value: projection.Storable(key)},
	}})
	if err != nil || len(rows) != 1 {
		r.t.Fatalf("attribute %s: %d rows, %v", key, len(rows), err)
	}
	value, _ := rows[0][projection.Attributes.Index("value")].([]byte)
	return string(value)
}

// TestRevokedBeforeItIsStored: partitions given up while the store is slow lose nothing of what was decided.
func TestRevokedBeforeItIsStored(t *testing.T) {
	inHands(t, func(a, b byHand) {
		da, db := a.connect(in(1), "A"), b.connect(in(2), "B")
		pass(time.Second)
		release := a.holdAppends()
		one := b.call(in(1), nil)
		pass(50 * time.Millisecond)
		two := b.call(in(2), nil) // is gathered behind it
		pass(50 * time.Millisecond)
		a.revoke(2)
		b.Assigned([]int32{2})
		pass(3 * time.Second)
		db.reply(db.one(), `2`)
		pass(time.Second)
		two.want("succeeded  2")
		release()
		pass(time.Second)
		da.reply(da.one(), `1`)
		pass(time.Second)
		one.want("succeeded  1")
		if n := series(t, a.measured)["reloads_total"]; n != 0 {
			t.Errorf("the first node loaded its partitions again %v times", n)
		}
	})
}

// TestPartlyStoredAppend: an uncertain append is stored for one partition and not for another, which another node had claimed. Only the stored part is
// released; the rest is processed again.
func TestPartlyStoredAppend(t *testing.T) {
	inHands(t, func(a, b byHand) {
		d1, d2 := a.connect(in(1), "A"), a.connect(in(2), "B")
		pass(time.Second)
		release := a.holdAppends()
		zero := b.call(in(0), nil)
		pass(50 * time.Millisecond)
		one, two := b.call(in(1), chosen("c1")), b.call(in(2), chosen("c2"))
		if _, err := a.store.Open().Claim(context.Background(), "elsewhere", []int32{2}); err != nil {
			t.Fatal(err)
		}
		appends := 0
		a.store.After = func(context.Context, eventstore.Batch) error {
			if appends++; appends == 2 {
				return errors.New("the connection is torn")
			}
			return nil
		}
		release()
		pass(5 * time.Second)
		b.wantTypes(named("c1"), "Requested", "Queued")
		b.wantTypes(named("c2"), "Requested", "Queued")
		d1.reply(d1.one(), `1`)
		d2.reply(d2.one(), `2`)
		pass(time.Second)
		one.want("succeeded  1")
		two.want("succeeded  2")
		if !zero.waits() {
			t.Error("a call for a device that is away has ended")
		}
	})
}

// TestCommandIsDecidedByTheNextOwner: a node that loses the partition before it decided a local command reports the next owner's decision to the sender.
func TestCommandIsDecidedByTheNextOwner(t *testing.T) {
	inHands(t, func(a, b byHand) {
		release := a.holdAppends()
		result := make(chan error, 1)
		go func() {
			result <- a.engine.ChangeAttributes(context.Background(), engine.AttributeChange{
				Tenant: tenant, Device: named(in(1)), Scope: "SHARED_SCOPE", Set: map[string][]byte{"x": []byte(`1`)}, Actor: "test",
			})
		}()
		pass(50 * time.Millisecond)
		b.Assigned(everything)
		pass(3 * time.Second)
		select {
		case err := <-result:
			if err != nil {
				t.Error(err)
			}
		default:
			t.Error("the sender did not get the next owner's decision")
		}
		release()
		pass(time.Second)
	})
}

// TestFencedAtTheEnd: a stopping node whose last append is fenced ends without error: the next owner processes its command.
func TestFencedAtTheEnd(t *testing.T) {
	inHands(t, func(a, b byHand) {
		release := a.holdAppends()
		call := b.call(in(1), nil)
		pass(50 * time.Millisecond)
		b.Assigned(everything)
		pass(3 * time.Second)
		a.dead = true
		ended := make(chan error, 1)
		go func() { ended <- a.stop() }()
		pass(time.Second)
		release()
		if err := <-ended; err != nil {
			t.Errorf("the node ends with %v", err)
		}
		d := b.connect(in(1), "A")
		pass(time.Second)
		d.reply(d.one(), `1`)
		pass(time.Second)
		call.want("succeeded  1")
	})
}

// begunHalf is an inbox whose first Begin fails after the first partition.
type begunHalf struct {
	bus.Inbox
	failed bool
}

func (h *begunHalf) Begin(ctx context.Context, from []bus.From) error {
	if h.failed {
		return h.Inbox.Begin(ctx, from)
	}
	h.failed = true
	return errors.Join(h.Inbox.Begin(ctx, from[:1]), errors.New("the broker is away"))
}

// TestInboxBegunHalf: what the inbox delivers of a partition that is not loaded after all is not lost.
func TestInboxBegunHalf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &nodesRig{t: t, store: memstore.New(), bus: memory.New(partitions, wire.Codec{})}
		ha, hb := &hand{joined: make(chan struct{})}, &hand{joined: make(chan struct{})}
		a := c.prepared(func(n *node) { n.group, n.inbox = ha, &begunHalf{Inbox: n.inbox} })
		b := c.prepared(func(n *node) { n.group = hb })
		a.start()
		b.start()
		<-ha.joined
		<-hb.joined
		pass(time.Second)
		hb.Assigned(nil)
		ha.Assigned(everything)
		pass(5 * time.Millisecond)
		call := b.call(in(0), chosen("c1"))
		pass(3 * time.Second)
		d := b.connect(in(0), "A")
		pass(time.Second)
		d.reply(d.one(), `1`)
		pass(time.Second)
		call.want("succeeded  1")
		c.end()
	})
}
