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
	"callchain/engine/sim"
	"callchain/engine/step"
	"callchain/eventstore"
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
	return append(into, bus.Message{Partition: int32(named("flood")[15]) % partitions, Lane: bus.RPC, Key: cmd.Device, Value: cmd, Fleeting: true})
}

// TestDeadlinesWhileCommandsAlwaysWait: calls end at their deadline although there is no moment in which no command waits, and only when nothing waits any
// more that was sent before it.
func TestDeadlinesWhileCommandsAlwaysWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const age = 500 * time.Millisecond
		store := sim.NewStore()
		store.Before = func(context.Context, eventstore.Batch) error {
			<-time.After(50 * time.Millisecond)
			return nil
		}
		f := &flooded{Inbox: local.New(waitMost), age: age}
		r := newRig(t, store, f)
		pass(time.Second) // the partitions are loaded
		f.on.Store(true)
		c := r.call("d1", func(q *engine.CallRequest) { q.Expires = time.Now().Add(2 * time.Second) })
		pass(2 * time.Second)
		if !c.waits() {
			t.Errorf("the call ended %q before what was sent until its deadline was looked at", c.outcome())
		}
		pass(age + 1500*time.Millisecond)
		c.want("expired device_offline ")
		f.on.Store(false)
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}
