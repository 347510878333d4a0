package engine_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"callchain/engine"
	"callchain/engine/bus"
	"callchain/engine/deadletter"
	"callchain/eventstore"
	"callchain/nodes"
)

var errUnstorable = &eventstore.RefusedError{Err: errors.New("this cannot be stored")}

// persistent asks for a persistent call with a chosen id.
func persistent(name string) func(*engine.CallRequest) {
	return func(q *engine.CallRequest) { chosen(name)(q); q.Persistent = true }
}

func (c *caller) wantRejected() {
	c.r.t.Helper()
	if got := c.outcome(); !strings.HasPrefix(got, "command_rejected: ") {
		c.r.t.Errorf("the caller of the rejected command got %q", got)
	}
}

// TestOutageAfterARejection: the store refuses a command, and fails when the rejection is to be stored. No sender is forgotten.
func TestOutageAfterARejection(t *testing.T) {
	t.Run("a command", func(t *testing.T) {
		inBubble(t, func(r *rig) {
			away := &down{eventType: "CommandRejected", left: 2}
			r.store.Before = func(ctx context.Context, b eventstore.Batch) error {
				if has(b, named("c1"), "Queued") {
					return errUnstorable
				}
				return away.before(ctx, b)
			}
			c := r.call("d1", persistent("c1"))
			pass(10 * time.Second)
			c.wantRejected()
			r.deadLetter("command_rejected", named("c1").String())
			if n := countEvents(t, r, "CommandRejected"); n != 1 || away.left != 0 {
				t.Errorf("%d facts of the rejected command, want 1; %d outages are left", n, away.left)
			}
		})
	})
	t.Run("a rerun", func(t *testing.T) {
		inBubble(t, func(r *rig) {
			l := r.rejectedCall(rootChain)
			away := &down{eventType: "DeadLetterRerun", left: 2}
			r.store.Before = func(ctx context.Context, b eventstore.Batch) error {
				if has(b, named("c1"), "Queued") {
					return errUnstorable
				}
				return away.before(ctx, b)
			}
			r.wantRerun(l.id, "command_rejected")
			if again := r.deadLetter("command_rejected"); again.id != l.id || away.left != 0 {
				t.Errorf("the dead letter: %+v; %d outages are left", again, away.left)
			}
		})
	})
}

// TestRejectionOfADeviceThatCannotBeRead: a failed read of the directory does not lose a rejected command, either.
func TestRejectionOfADeviceThatCannotBeRead(t *testing.T) {
	inBubble(t, func(r *rig) {
		refused, asked := 0, 0
		r.store.Before = func(_ context.Context, b eventstore.Batch) error {
			if has(b, named("c1"), "Queued") {
				refused++
				return errUnstorable
			}
			return nil
		}
		r.asked = func() error {
			if refused == 1 {
				if asked++; asked == 1 {
					return errDown
				}
			}
			return nil
		}
		c := r.call("d1", persistent("c1"))
		pass(10 * time.Second)
		c.wantRejected()
		r.deadLetter("command_rejected", named("c1").String())
		if refused != 1 {
			t.Errorf("the command was refused %d times, want once: it was alone in its batch", refused)
		}
	})
}

// refuseDeadLetters refuses a call and its dead letter.
func refuseDeadLetters(b eventstore.Batch) error {
	if has(b, named("c1"), "Queued") || holds(b, "CommandRejected") {
		return errUnstorable
	}
	return nil
}

// wantSkipped expects that c1 left nothing, that its caller got an error, and that the engine works, also after a restart.
func (r *rig) wantSkipped(rejected *caller) {
	r.t.Helper()
	pass(10 * time.Second)
	rejected.wantRejected()
	r.noDeadLetter()
	if got := series(r.t, r.measured)["dead_letters_unstored_total refused"]; got != 1 || len(r.engine.Ready()) > 0 {
		r.t.Errorf("%v dead letters counted that could not be stored, want 1; not ready: %v", got, r.engine.Ready())
	}
	r.mustStop()
	next := newRig(r.t, r.store.Open(), opened(r.inbox))
	r.stop = next.stop
	next.wantTypes(named("c1"))
	next.call("d1", persistent("c3")).want("queued  ")
}

// TestRefusedDeadLetter: the store refuses a command, and then its dead letter. The command is skipped, and no other is rejected.
func TestRefusedDeadLetter(t *testing.T) {
	t.Run("of a command in company", func(t *testing.T) {
		inBubble(t, func(r *rig) {
			hold := &gate{eventType: "SessionOpened", open: make(chan struct{})}
			r.store.Before = func(ctx context.Context, b eventstore.Batch) error {
				return errors.Join(hold.before(ctx, b), refuseDeadLetters(b))
			}
			r.begin("d2", "B")
			rejected, other := r.call("d1", persistent("c1")), r.call("d1", persistent("c2"))
			close(hold.open)
			r.wantSkipped(rejected)
			other.want("queued  ")
		})
	})
	t.Run("of a command alone", func(t *testing.T) {
		inBubble(t, func(r *rig) {
			hold := &gate{eventType: "Queued", open: make(chan struct{})}
			r.store.Before = func(ctx context.Context, b eventstore.Batch) error {
				return errors.Join(hold.before(ctx, b), refuseDeadLetters(b))
			}
			rejected := r.call("d1", persistent("c1"))
			other := r.call("d1", persistent("c2"))
			close(hold.open)
			r.wantSkipped(rejected)
			other.want("queued  ")
		})
	})
}

// TestEveryDeadLetterCanBeStored: bytes in the inbox may be too large for the store, or hold what no column takes.
func TestEveryDeadLetterCanBeStored(t *testing.T) {
	t.Run("a sender's name", func(t *testing.T) {
		inDurableBubble(t, func(r *rig, in *durable) {
			in.Keep(bus.Data, int32(named("d1")[15])%partitions, fmt.Appendf(nil,
				`{"v":1,"kind":"data","device":%q,"occurred":1,"actor":"nobody\u0000%s","cause":"a\u0000b","do":{"type":%q,"payload":{"a":1}}}`,
				named("d1"), strings.Repeat("x", 17<<20), nodes.PostAttributes))
			pass(10 * time.Second)
			l := r.deadLetter("command_rejected", `"kind":"data"`, `"cut":{"what":"stored","bytes":178`)
			r.wantRerun(l.id, deadletter.CodeUnreadable)
			if got := r.systemFacts("CommandRejected"); len(got) != 1 || !strings.Contains(got[0], " nobody\uFFFDxxx") {
				t.Errorf("the facts: %.200q", got)
			}
		})
	})
	t.Run("bytes", func(t *testing.T) {
		inDurableBubble(t, func(r *rig, in *durable) {
			in.Keep(bus.RPC, 1, []byte(`{"v":1,"kind":"`+strings.Repeat("x", 13<<20)+`"}`))
			pass(10 * time.Second)
			l := r.deadLetter("command_unreadable", `"cut":{"what":"base64","bytes":13631505}`)
			r.wantRerun(l.id, deadletter.CodeUnreadable)
			if len(l.command) > 2<<20 || len(l.detail) > 10_000 {
				t.Errorf("a dead letter of %d bytes with a detail of %d", len(l.command), len(l.detail))
			}
			synctest.Wait()
			if got := series(t, r.measured)["reloads_total"]; got != 0 {
				t.Errorf("the memory was dropped %v times", got)
			}
		})
	})
}
