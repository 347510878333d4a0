package engine_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"callchain/engine"
	"callchain/engine/bus/memory"
	"callchain/engine/projection"
	"callchain/engine/rpc"
	"callchain/engine/wire"
	"callchain/eventstore"
	"callchain/eventstore/memstore"
	"callchain/transports"

	"github.com/google/uuid"
)

var (
	nodesSeeds = flag.Int("nodes.seeds", 20, "how many random histories of several nodes are tried")
	nodesFirst = flag.Uint64("nodes.first", 1, "the first seed of them")
)

// history is one random history of several nodes, their devices and callers.
type history struct {
	*nodesRig
	rand     *rand.Rand
	devices  []*wanderer
	asked    []*asked
	troubles map[*node]*trouble
	frozen   map[*node]bool
}

// trouble is the faults of a node's store.
type trouble struct {
	cut  atomic.Bool  // everything
	torn atomic.Int64 // so many appends are stored, and nobody says so
}

// wanderer is a device that connects now here, now there.
type wanderer struct {
	name    string
	link    *device
	at      *node
	pending []transports.Command // that it did not answer
}

type asked struct {
	id         uuid.UUID
	at         *node
	persistent bool
	wires      map[int32]bool // under which devices saw it
	*caller
}

// TestRandomHistories: whatever happens, each call that was answered has one end, a command has one wire id, and nothing reaches a device that is not stored.
func TestRandomHistories(t *testing.T) {
	for seed := *nodesFirst; seed < *nodesFirst+uint64(*nodesSeeds); seed++ {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &history{
					nodesRig: &nodesRig{t: t, store: memstore.New(), bus: memory.New(partitions, wire.Codec{})},
					rand:     rand.New(rand.NewPCG(seed, 0)), troubles: map[*node]*trouble{}, frozen: map[*node]bool{},
				}
				for range 3 {
					h.begin()
				}
				for i := range 6 {
					h.devices = append(h.devices, &wanderer{name: fmt.Sprint("d", i)})
				}
				pass(5 * time.Second)
				for range 80 {
					h.step()
				}
				h.finishAll()
				h.check()
				h.end()
			})
		})
	}
}

// begin starts one more node.
func (h *history) begin() {
	tr := &trouble{}
	n := h.prepared(func(n *node) {
		before, reading := n.store.Before, n.store.Reading
		away := errors.New("the store is away")
		n.store.Before = func(ctx context.Context, b eventstore.Batch) error {
			if err := before(ctx, b); err != nil || !tr.cut.Load() {
				return err
			}
			return away
		}
		n.store.Reading = func() error {
			if err := reading(); err != nil || !tr.cut.Load() {
				return err
			}
			return away
		}
		n.store.After = func(context.Context, eventstore.Batch) error {
			if tr.torn.Add(-1) >= 0 {
				return errors.New("the connection is torn")
			}
			return nil
		}
	})
	h.troubles[n] = tr
	n.start()
}

// living are the nodes that are not dead.
func (h *history) living() (out []*node) {
	for _, n := range h.nodes {
		if !n.dead {
			out = append(out, n)
		}
	}
	return out
}

func (h *history) step() {
	living := h.living()
	n := living[h.rand.IntN(len(living))]
	d := h.devices[h.rand.IntN(len(h.devices))]
	switch at := h.rand.IntN(100); {
	case at < 45:
		h.ask(n, d)
	case at < 60:
		d.link = n.plugged(d.name, fmt.Sprint("session ", h.rand.Uint64()))
		d.at = n
	case at < 65 && d.at != nil && !d.at.dead:
		d.at.engine.Inbound().Disconnect(d.link.session, "closed")
		d.link, d.at = nil, nil
	case at < 69 && len(living) > 1 && !h.frozen[n]:
		n.kill()
	case at < 73 && len(living) < 4:
		h.begin()
	case at < 78 && !h.frozen[n]:
		n.freeze()
		h.frozen[n] = true
	case at < 84:
		h.thaw()
	case at < 87:
		h.troubles[n].cut.Store(true)
	case at < 92:
		h.fix()
	case at < 95:
		h.troubles[n].torn.Store(1)
	case at < 97:
		h.bus.SetAway(true)
	}
	pass([]time.Duration{0, time.Millisecond, 60 * time.Millisecond, 700 * time.Millisecond, 4 * time.Second}[h.rand.IntN(5)])
	h.answer()
}

func (h *history) thaw() {
	for _, n := range h.nodes {
		if h.frozen[n] {
			delete(h.frozen, n)
			n.thaw()
		}
	}
}

func (h *history) fix() {
	h.bus.SetAway(false)
	for _, tr := range h.troubles {
		tr.cut.Store(false)
		tr.torn.Store(0)
	}
}

// plugged connects a device and lets it subscribe; nobody waits for the outcome.
func (n *node) plugged(name, session string) *device {
	d := &device{r: n.rig, id: named(name), session: named(session)}
	in := n.engine.Inbound()
	in.Connect(transports.Session{
		ID: d.session, Identity: transports.Identity{Tenant: tenant, Device: d.id, Partition: int32(d.id[15]) % partitions}, Transport: "mqtt", Link: d,
	}, nil)
	in.Subscribe(d.session, nil)
	return d
}

func (h *history) ask(n *node, d *wanderer) {
	one := &asked{id: named(fmt.Sprint("call ", len(h.asked))), at: n, persistent: h.rand.IntN(3) == 0, wires: map[int32]bool{}}
	one.caller = n.call(d.name, func(r *engine.CallRequest) {
		r.ID, r.Persistent, r.Oneway, r.FailOffline = one.id, one.persistent, h.rand.IntN(4) == 0, h.rand.IntN(6) == 0
	})
	h.asked = append(h.asked, one)
}

// answer lets the devices look at what they were sent.
func (h *history) answer() {
	for _, d := range h.devices {
		if d.link == nil || d.at.dead || h.frozen[d.at] {
			continue
		}
		for _, c := range d.link.commands() {
			h.sent(c)
			if h.rand.IntN(4) > 0 {
				d.link.written(c)
			}
			d.pending = append(d.pending, c)
		}
		d.pending = slices.DeleteFunc(d.pending, func(c transports.Command) bool {
			if h.rand.IntN(3) == 0 {
				return false
			}
			d.at.engine.Inbound().Reply(d.link.session, c.Wire, []byte(`"`+c.Call.String()+`"`), nil)
			return h.rand.IntN(5) > 0 // else it is said twice
		})
	}
}

// sent holds a command that a device was sent against what is stored.
func (h *history) sent(c transports.Command) {
	for _, one := range h.asked {
		if one.id == c.Call {
			one.wires[c.Wire] = true
		}
	}
	if types := (&rig{t: h.t, store: h.nodesRig.store}).types(c.Call); !slices.Contains(types, "Queued") {
		h.t.Errorf("a device was sent call %s, of which is stored %v", c.Call, types)
	}
}

// finishAll removes all faults, and waits until all calls have ended.
func (h *history) finishAll() {
	h.fix()
	h.thaw()
	for range 100 {
		pass(time.Second)
		h.answer()
	}
}

func (h *history) check() {
	for _, one := range h.asked {
		if one.waits() {
			h.t.Errorf("the caller of %s at %s waits for ever; stored is %v", one.id, one.at.name(), one.at.types(one.id))
			continue
		}
		events, err := h.nodesRig.store.Open().Stream(context.Background(), projection.CallStream(tenant, one.id), 0, 100)
		if err != nil {
			h.t.Error(err)
		}
		var call rpc.Call
		ends, queued := 0, map[int32]bool{}
		for i := range events {
			ev, err := projection.DecodeCall(&events[i])
			if err != nil {
				h.t.Error(err)
			}
			was := call.Phase.Terminal()
			call = rpc.EvolveCall(call, ev, rpc.DefaultSettings())
			switch f := ev.Fact.(type) {
			case rpc.Queued:
				queued[f.Wire] = true
			case rpc.Succeeded, rpc.Failed, rpc.Expired, rpc.Cancelled, rpc.Rejected:
				if ends++; was {
					h.t.Errorf("call %s ended twice", one.id)
				}
			}
		}
		types := one.at.types(one.id)
		switch {
		case len(events) > 0 && ends != 1, one.err == nil && len(events) == 0:
			h.t.Errorf("call %s has %d ends: %v; its caller got %s", one.id, ends, types, one.outcome())
		case one.err == nil && one.result.Phase.Terminal() && one.result.Phase != call.Phase:
			h.t.Errorf("call %s: the caller got %s, stored is %v", one.id, one.outcome(), types)
		case one.err == nil && one.result.Phase == rpc.PhaseSucceeded && len(one.result.Response.Bytes) > 0 && string(one.result.Response.Bytes) != `"`+one.id.String()+`"`:
			h.t.Errorf("call %s has the answer of another: %s", one.id, one.result.Response.Bytes)
		}
		for wire := range one.wires {
			if len(queued) != 1 || !queued[wire] {
				h.t.Errorf("call %s was seen with the wire ids %v, stored are %v", one.id, one.wires, queued)
			}
		}
	}
}
