package engine_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"callchain/engine"
	"callchain/engine/bus"
	"callchain/engine/bus/local"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/eventstore"
	"callchain/eventstore/memstore"

	"github.com/google/uuid"
)

// flooded is an inbox in which a command always waits: connections of one device, each sent a while ago.
type flooded struct {
	bus.Inbox
	n   int
	age time.Duration
	on  atomic.Bool
}

func (f *flooded) Take(lane bus.Lane, most int, into []bus.Message) []bus.Message {
	into = f.Inbox.Take(lane, most, into)
	if lane != bus.RPC || len(into) > 0 || !f.on.Load() {
		return into
	}
	f.n++
	cmd := step.Command{
		Meta:   rpc.Meta{Actor: "system", Cause: "mqtt", Occurred: rpc.At(time.Now().Add(-f.age))},
		Device: named("flood"), Do: step.RPC{Do: rpc.Connect{Session: named(fmt.Sprint("flood", f.n)), Transport: "mqtt"}},
	}
	return append(into, bus.Message{Partition: int32(named("flood")[15]) % partitions, Lane: bus.RPC, Key: cmd.Device, Value: cmd, Ephemeral: true})
}

// inFlood runs a test in which a command always waits that was sent half a second ago. A commit takes a moment.
func inFlood(t *testing.T, test func(r *rig, begin func())) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New()
		store.Before = func(context.Context, eventstore.Batch) error {
			<-time.After(50 * time.Millisecond)
			return nil
		}
		f := &flooded{Inbox: local.New(waitMost), age: 500 * time.Millisecond}
		r := newRig(t, store, f)
		pass(time.Second) // the partitions are loaded
		test(r, func() { f.on.Store(true) })
		f.on.Store(false)
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// wantExpiry says that a call of two seconds ends when what was sent until then was looked at, a second of disorder included, and not before.
func (c *caller) wantExpiry(want string) {
	c.r.t.Helper()
	pass(3 * time.Second)
	if !c.waits() {
		c.r.t.Errorf("the call ended %q before what was sent until its deadline was looked at", c.outcome())
	}
	pass(time.Second)
	c.want(want)
}

func ofTwoSeconds(q *engine.CallRequest) { q.Expires = time.Now().Add(2 * time.Second) }

// TestDeadlinesWhileCommandsAlwaysWait: calls end at their deadline although there is no moment in which no command waits.
func TestDeadlinesWhileCommandsAlwaysWait(t *testing.T) {
	inFlood(t, func(r *rig, begin func()) {
		begin()
		r.call("d1", ofTwoSeconds).wantExpiry("expired device_offline ")
	})
}

// TestEarlierTimersWhileCommandsAlwaysWait: a timer that is due earlier does not end a call before its own deadline was reached.
func TestEarlierTimersWhileCommandsAlwaysWait(t *testing.T) {
	inFlood(t, func(r *rig, begin func()) {
		info := r.info
		r.info = func(device uuid.UUID) step.Info {
			i := info(device)
			i.Settings.AckTimeout = time.Second
			return i
		}
		d := r.connect("d1", "A")
		pass(time.Second)
		c := r.call("d1", ofTwoSeconds)
		pass(200 * time.Millisecond)
		d.written(d.one())
		begin()
		c.wantExpiry("expired response_timeout ")
	})
}
