package engine_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"callchain/eventstore"
)

// TestClaimsThatWorkDoNotHideAFullDisk: a full disk may have room for a claim and none for an append. The engine stays unready, with the
// reason, until something was stored; nobody is blamed.
func TestClaimsThatWorkDoNotHideAFullDisk(t *testing.T) {
	inBubble(t, func(r *rig) {
		d := r.connect("d1", "A")
		var full atomic.Bool
		full.Store(true)
		r.store.Before = func(context.Context, eventstore.Batch) error {
			if full.Load() {
				return &eventstore.OutageError{Reason: eventstore.ReasonFull, Err: errors.New("SQLSTATE 53100")}
			}
			return nil
		}
		c := r.call("d1", chosen("c1"))
		pass(time.Millisecond)
		for range 500 {
			if why := strings.Join(r.engine.Ready(), "; "); !strings.Contains(why, eventstore.ReasonFull) {
				t.Fatalf("the engine says %q while the disk is full", why)
			}
			if r.engine.Overloaded() {
				t.Fatal("the engine takes the outage for an overload: callers would not hear the reason")
			}
			pass(7 * time.Millisecond)
		}
		full.Store(false)
		pass(1500 * time.Millisecond)
		if why := r.engine.Ready(); len(why) > 0 {
			t.Errorf("the engine is not ready: %v", why)
		}
		d.reply(d.one(), `1`)
		c.want("succeeded  1")
		r.wantTypes(named("c1"), "Requested", "Queued", "Delivered", "Succeeded")
	})
}
