package engine_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"callchain/engine"
	"callchain/engine/deadletter"
	"callchain/engine/rpc"
	"callchain/eventstore"

	"github.com/google/uuid"
)

func codeOf(err error) string {
	var failed *deadletter.RerunError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &failed):
		return failed.Code
	case errors.Is(err, deadletter.ErrUnknown):
		return "no dead letter"
	}
	return err.Error()
}

// fixedChain is rootChain without its broken node.
var fixedChain = strings.Replace(rootChain, "type: broken", "type: save attributes", 1)

// brokenCalls is a chain that panics with every call from outside.
var brokenCalls = strings.NewReplacer("Device: send", "Device: boom", "attributes: boom", "attributes: send").Replace(rootChain)

// rejectedCall leaves the dead letter of a persistent call c1, whose chain was fixed afterwards.
func (r *rig) rejectedCall(fix string) storedDeadLetter {
	r.t.Helper()
	r.chain = compiled(r.t, brokenCalls)
	c := r.call("d1", func(q *engine.CallRequest) { chosen("c1")(q); q.Persistent = true })
	if got := c.outcome(); !strings.HasPrefix(got, "command_rejected: the step panicked") {
		r.t.Errorf("the caller got %q", got)
	}
	r.wantTypes(named("c1"))
	r.chain = compiled(r.t, fix)
	return r.deadLetter("command_rejected", `"kind":"call"`, `"actor":"test"`, `"cause":"rest"`, `"method":"reboot"`, named("c1").String())
}

// TestRerun: the command of a dead letter is applied once, and the dead letter is removed in the same append.
func TestRerun(t *testing.T) {
	inBubble(t, func(r *rig) {
		d := r.connect("d1", "A")
		l := r.rejectedCall(rootChain)
		ctx := context.Background()
		if _, err := r.engine.RerunDeadLetter(ctx, named("another tenant"), l.id, "user:u"); !errors.Is(err, deadletter.ErrUnknown) {
			t.Errorf("another tenant's: %v", err)
		}
		appends := 0
		r.store.Before = func(_ context.Context, b eventstore.Batch) error {
			if holds(b, "DeadLetterRerun") {
				appends++
				if !has(b, named("c1"), "Queued") || len(removedDeadLetters(b)) != 1 {
					t.Errorf("the rerun's append has not all of it: %+v", b)
				}
			}
			return nil
		}
		out := r.wantRerun(l.id, "")
		if want := (engine.Rerun{DeadLetter: l.id, Device: d.id, Kind: "call", Call: named("c1")}); out != want || appends != 1 {
			t.Errorf("the rerun is %+v in %d appends, want %+v", out, appends, want)
		}
		r.noDeadLetter()
		r.wantRerun(l.id, "no dead letter")
		if cmd := d.one(); cmd.Call != named("c1") || cmd.Method != "reboot" {
			t.Errorf("the device is sent %+v", cmd)
		}
		r.wantTypes(named("c1"), "Requested", "Queued")
		want := tenant.String() + " " + d.id.String() + ` user:u {"letter":"` + l.id.String() + `","reason":"command_rejected","outcome":"accepted"}`
		if got := r.systemFacts("DeadLetterRerun"); !slices.Equal(got, []string{want}) {
			t.Errorf("the facts are %q, want %s", got, want)
		}
	})
}

func removedDeadLetters(b eventstore.Batch) (ids []any) {
	for i := range b.Partitions {
		for _, row := range b.Partitions[i].Rows {
			if row.Table.Name == "dead_letters" && row.Delete {
				ids = append(ids, row.Values[0])
			}
		}
	}
	return ids
}

// TestRerunAtOnce: of several concurrent reruns and drops of a dead letter, one succeeds.
func TestRerunAtOnce(t *testing.T) {
	inBubble(t, func(r *rig) {
		l := r.rejectedCall(rootChain)
		hold := &gate{eventType: "SessionOpened", open: make(chan struct{})}
		r.store.Before = hold.before
		r.begin("d2", "B")
		codes := make(chan string, 4)
		for n := range 4 {
			go func() {
				if n == 3 {
					codes <- codeOf(r.engine.DropDeadLetter(context.Background(), tenant, l.id, "user:u"))
					return
				}
				_, err := r.engine.RerunDeadLetter(context.Background(), tenant, l.id, "user:u")
				codes <- codeOf(err)
			}()
			synctest.Wait() // in this order
		}
		close(hold.open)
		synctest.Wait()
		got := []string{<-codes, <-codes, <-codes, <-codes}
		slices.Sort(got)
		if !slices.Equal(got, []string{"", "no dead letter", "no dead letter", "no dead letter"}) {
			t.Errorf("they got %q", got)
		}
		r.wantTypes(named("c1"), "Requested", "Queued")
	})
}

// TestRerunFailsAgain: the dead letter stays, with the new error.
func TestRerunFailsAgain(t *testing.T) {
	inBubble(t, func(r *rig) {
		l := r.rejectedCall(brokenCalls)
		r.wantRerun(l.id, "command_rejected")
		if again := r.deadLetter("command_rejected", `"method":"reboot"`); again.id != l.id {
			t.Errorf("the dead letter is another: %+v", again)
		}
		if n := countEvents(t, r, "CommandRejected"); n != 1 {
			t.Errorf("%d facts of rejected commands, want the first", n)
		}
		r.chain = compiled(t, rootChain)
		r.call("d1", func(q *engine.CallRequest) { chosen("c1")(q); q.Persistent, q.Method = true, "other" }).want("queued  ")
		r.wantRerun(l.id, string(rpc.CodeKnown))
		if again := r.deadLetter("command_refused", `"method":"reboot"`); !strings.Contains(again.detail, "other content") {
			t.Errorf("the dead letter's detail: %s", again.detail)
		}
		r.gone.Store(named("d1"), nil)
		r.wantRerun(l.id, deadletter.CodeNoDevice)
		r.gone.Delete(named("d1"))
		var outcomes []string
		for _, fact := range r.systemFacts("DeadLetterRerun") {
			outcomes = append(outcomes, strings.SplitN(strings.SplitN(fact, `"outcome":"`, 2)[1], `"`, 2)[0])
		}
		if want := []string{"command_rejected", string(rpc.CodeKnown), deadletter.CodeNoDevice}; !slices.Equal(outcomes, want) {
			t.Errorf("the facts have the outcomes %q, want %q", outcomes, want)
		}
	})
}

// TestRerunThatTheStoreRefuses: the dead letter stays, and the user gets an error.
func TestRerunThatTheStoreRefuses(t *testing.T) {
	inBubble(t, func(r *rig) {
		l := r.rejectedCall(rootChain)
		r.store.Before = func(_ context.Context, b eventstore.Batch) error {
			if has(b, named("c1"), "Queued") {
				return &eventstore.RefusedError{Err: errors.New("this cannot be stored")}
			}
			return nil
		}
		r.wantRerun(l.id, "command_rejected")
		if again := r.deadLetter("command_rejected"); again.id != l.id || !strings.Contains(again.detail, "this cannot be stored") {
			t.Errorf("the dead letter: %+v", again)
		}
		r.wantTypes(named("c1"))
		r.store.Before = nil
		r.wantRerun(l.id, "")
		r.wantTypes(named("c1"), "Requested", "Queued")
	})
}

// TestRerunAfterItsDeadline: an expired call is not sent; the rerun ends it.
func TestRerunAfterItsDeadline(t *testing.T) {
	inBubble(t, func(r *rig) {
		d := r.connect("d1", "A")
		l := r.rejectedCall(rootChain)
		pass(2 * time.Minute)
		r.wantRerun(l.id, "")
		r.noDeadLetter()
		r.wantTypes(named("c1"), "Requested", "Expired")
		if got := d.commands(); len(got) > 0 {
			t.Errorf("the device is sent %+v", got)
		}
	})
}

// TestRerunAndCrash: a failed append, a lost answer of the store, or a crash do not run the command twice.
func TestRerunAndCrash(t *testing.T) {
	t.Run("the append fails", func(t *testing.T) {
		inBubble(t, func(r *rig) {
			l, tries := r.rejectedCall(rootChain), 0
			r.store.Before = func(_ context.Context, b eventstore.Batch) error {
				if tries++; holds(b, "DeadLetterRerun") && tries < 3 {
					return errors.New("the database is away")
				}
				return nil
			}
			r.wantRerun(l.id, "")
			r.noDeadLetter()
			r.wantTypes(named("c1"), "Requested", "Queued")
		})
	})
	t.Run("the answer is lost", func(t *testing.T) {
		inBubble(t, func(r *rig) {
			l, torn := r.rejectedCall(rootChain), 0
			r.store.After = func(_ context.Context, b eventstore.Batch) error {
				if holds(b, "DeadLetterRerun") && torn == 0 {
					torn++
					return errors.New("the connection is torn")
				}
				return nil
			}
			r.wantRerun(l.id, "")
			r.noDeadLetter()
			r.wantTypes(named("c1"), "Requested", "Queued")
		})
	})
	t.Run("the process dies", func(t *testing.T) {
		inBubble(t, func(r *rig) {
			l := r.rejectedCall(rootChain)
			r.store.Before = func(context.Context, eventstore.Batch) error { return errors.New("the database is away") }
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			if _, err := r.engine.RerunDeadLetter(ctx, tenant, l.id, "user:u"); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("while nothing can be stored: %v", err)
			}
			if err := r.stop(); err == nil {
				t.Error("it ends without an error")
			}
			r.stop = func() error { return nil }
			next := r.again()
			defer next.mustStop()
			if got := next.deadLetter("command_rejected"); got.id != l.id {
				t.Errorf("the dead letter: %+v", got)
			}
			next.wantRerun(l.id, "")
			next.wantRerun(l.id, "no dead letter")
			next.noDeadLetter()
			next.wantTypes(named("c1"), "Requested", "Queued")
		})
	})
}

// TestDeadLetterThatCannotBeRead: a read that fails before anything happened is ErrBusy, not ErrUncertain.
func TestDeadLetterThatCannotBeRead(t *testing.T) {
	inBubble(t, func(r *rig) {
		l := r.rejectedCall(rootChain)
		ctx := context.Background()
		for failing := range 2 { // the sender's read, and the owner's
			reads := 0
			r.store.Reading = func() error {
				if reads++; reads == failing+1 {
					return errors.New("the database is away")
				}
				return nil
			}
			if _, err := r.engine.RerunDeadLetter(ctx, tenant, l.id, "user:u"); !errors.Is(err, engine.ErrBusy) || errors.Is(err, engine.ErrUncertain) {
				t.Errorf("read %d fails, and a rerun with %v", failing+1, err)
			}
			reads = 0
			if err := r.engine.DropDeadLetter(ctx, tenant, l.id, "user:u"); !errors.Is(err, engine.ErrBusy) || errors.Is(err, engine.ErrUncertain) {
				t.Errorf("read %d fails, and a drop with %v", failing+1, err)
			}
		}
		r.store.Reading = nil
		r.wantRerun(l.id, "")
	})
}

// TestDropDeadLetter removes it, and records who dropped it.
func TestDropDeadLetter(t *testing.T) {
	inBubble(t, func(r *rig) {
		l := r.rejectedCall(rootChain)
		ctx := context.Background()
		for _, c := range []struct {
			tenant, id uuid.UUID
			want       string
		}{
			{named("another tenant"), l.id, "no dead letter"}, {tenant, named("no dead letter"), "no dead letter"}, {tenant, l.id, ""}, {tenant, l.id, "no dead letter"},
		} {
			if got := codeOf(r.engine.DropDeadLetter(ctx, c.tenant, c.id, "user:u")); got != c.want {
				t.Errorf("dropping %s of %s: %q, want %q", c.id, c.tenant, got, c.want)
			}
		}
		r.noDeadLetter()
		r.wantRerun(l.id, "no dead letter")
		want := tenant.String() + " " + named("d1").String() + ` user:u {"letter":"` + l.id.String() + `","reason":"command_rejected"}`
		if got := r.systemFacts("DeadLetterDropped"); !slices.Equal(got, []string{want}) {
			t.Errorf("the facts are %q, want %s", got, want)
		}
	})
}
