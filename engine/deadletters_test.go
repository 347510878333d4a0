package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"callchain/chains"
	"callchain/engine"
	"callchain/engine/bus"
	"callchain/engine/deadletter"
	"callchain/engine/projection"
	"callchain/eventstore"
	"callchain/eventstore/memstore"

	"github.com/google/uuid"
)

// storedDeadLetter is a dead letter as its row has it.
type storedDeadLetter struct {
	id      uuid.UUID
	tenant  uuid.UUID
	device  uuid.UUID
	reason  string
	detail  string
	command string
}

// deadLetters are the dead letters that are stored.
func (r *rig) deadLetters() []storedDeadLetter {
	r.t.Helper()
	synctest.Wait()
	rows, err := r.store.Open().Rows(context.Background(), eventstore.Query{Table: projection.DeadLetters, Order: []eventstore.Order{{Column: "at"}}})
	if err != nil {
		r.t.Fatal(err)
	}
	out := make([]storedDeadLetter, len(rows))
	for i, row := range rows {
		if !json.Valid(row[7].([]byte)) {
			r.t.Errorf("the dead letter's command is not JSON: %s", row[7])
		}
		out[i] = storedDeadLetter{row[0].(uuid.UUID), row[1].(uuid.UUID), row[2].(uuid.UUID), row[5].(string), row[6].(string), string(row[7].([]byte))}
	}
	return out
}

// deadLetter is the one dead letter that is stored. Its command must contain some texts.
func (r *rig) deadLetter(reason string, has ...string) storedDeadLetter {
	r.t.Helper()
	all := r.deadLetters()
	if len(all) != 1 {
		r.t.Fatalf("%d dead letters, want 1: %+v", len(all), all)
	}
	l := all[0]
	if l.reason != reason || l.tenant != tenant {
		r.t.Errorf("a dead letter of %s because of %s (%s), want %s", l.tenant, l.reason, l.detail, reason)
	}
	for _, text := range has {
		if !strings.Contains(l.command, text) {
			r.t.Errorf("the dead letter has no %s: %s", text, l.command)
		}
	}
	return l
}

// noDeadLetter expects that none is stored.
func (r *rig) noDeadLetter() {
	r.t.Helper()
	if all := r.deadLetters(); len(all) > 0 {
		r.t.Errorf("dead letters are left: %+v", all)
	}
}

// systemFacts are what the streams of the partitions say of one type.
func (r *rig) systemFacts(eventType string) []string {
	r.t.Helper()
	synctest.Wait()
	var out []string
	for p := range int32(partitions) {
		events, err := r.store.Open().Partition(context.Background(), p, 0, 10_000)
		if err != nil {
			r.t.Fatal(err)
		}
		for i := range events {
			if e := &events[i]; e.Type == eventType && strings.HasPrefix(e.Stream, "system/") {
				out = append(out, fmt.Sprintf("%s %s %s %s", e.Tenant, e.Device, e.Actor, e.Data))
			}
		}
	}
	return out
}

const roundAndRound = `
name: Round and round
nodes:
  - name: by type
    type: message type switch
    to:
      RPC Request to Device: send
      RPC Queued: another
  - name: another
    type: transform
    config: {msg: '{"method": "again", "params": {}}', metadata: {persistent: '"true"'}}
    to:
      Success: send
  - name: send
    type: rpc call request
`

const waiting = `
name: Later
nodes:
  - name: by type
    type: message type switch
    to:
      RPC Request to Device: wait
  - name: wait
    type: delay
    config: {periodInSeconds: 10}
    to:
      Success: send
  - name: send
    type: rpc call request
`

// TestEveryReasonLeavesADeadLetter: everything that could not be processed leaves a dead letter with its command.
func TestEveryReasonLeavesADeadLetter(t *testing.T) {
	t.Run("causation_loop", func(t *testing.T) {
		inBubble(t, func(r *rig) {
			r.chain = compiled(r.t, roundAndRound)
			r.call("d1", func(q *engine.CallRequest) { chosen("c1")(q); q.Persistent = true })
			l := r.deadLetter("causation_loop", `"kind":"call"`, `"method":"reboot"`, `"processed":true`)
			r.wantRerun(l.id, deadletter.CodeProcessed)
			r.deadLetter("causation_loop")
		})
	})
	t.Run("chain_gone", func(t *testing.T) {
		inBubble(t, func(r *rig) {
			r.chain = compiled(r.t, waiting)
			c := r.call("d1", nil)
			var gone *chains.Program
			r.chain = gone
			r.begin("d2", "B") // so that the owner sees it
			pass(11 * time.Second)
			c.want("rejected not_dispatched ")
			l := r.deadLetter("chain_gone", `"kind":"Wake"`, `"actor":"system"`, `"content":{"run":`)
			r.wantRerun(l.id, deadletter.CodeProcessed)
		})
	})
	t.Run("what the chain was to hear", func(t *testing.T) {
		inBubble(t, func(r *rig) {
			r.chain = compiled(r.t, brokenFacts)
			d := r.connect("d1", "A")
			c := r.call("d1", chosen("c1"))
			d.reply(d.one(), `"\u003c&>"`)
			c.want(`succeeded  "\u003c&>"`)
			l := r.deadLetter("command_rejected", `"kind":"reply"`, `"processed":true`, `"response":{"json":"\u003c&>"}`)
			r.wantRerun(l.id, deadletter.CodeProcessed)
			r.wantTypes(named("c1"), "Requested", "Queued", "Delivered", "Succeeded")
		})
	})
	t.Run("command_unreadable", func(t *testing.T) {
		inDurableBubble(t, func(r *rig, in *durable) {
			in.Keep(bus.RPC, 1, []byte("\xff not a command"))
			l := r.deadLetter("command_unreadable", `"kind":"unreadable"`, `"base64":"/yBub3QgYSBjb21tYW5k"`)
			r.wantRerun(l.id, deadletter.CodeUnreadable)
			r.deadLetter("command_unreadable")
		})
	})
	t.Run("bytes that are no text", func(t *testing.T) {
		inBubble(t, func(r *rig) {
			d := r.connect("d1", "A")
			r.engine.Inbound().Attributes(d.session, []byte("{\"a\":\"\xff\"}"), nil)
			l := r.deadLetter("command_rejected", `"kind":"data"`, `"base64":"`)
			r.chain = compiled(r.t, fixedChain)
			r.wantRerun(l.id, "")
			r.noDeadLetter()
		})
	})
}

// wantRerun reruns a dead letter. code is the expected error's, empty for none.
func (r *rig) wantRerun(id uuid.UUID, code string) engine.Rerun {
	r.t.Helper()
	out, err := r.engine.RerunDeadLetter(context.Background(), tenant, id, "user:u")
	if got := codeOf(err); got != code {
		r.t.Errorf("the rerun comes to %q (%v), want %q", got, err, code)
	}
	return out
}

// TestQuarantine: only the stored stream that cannot be folded is quarantined, with one dead letter, however often it is found.
func TestQuarantine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, memstore.New(), durableInbox(t))
		r.call("d1", func(q *engine.CallRequest) { chosen("c1")(q); q.Persistent = true })
		r.call("d1", func(q *engine.CallRequest) { chosen("c2")(q); q.Persistent = true })
		r.mustStop()
		r.corrupt("rpc/"+tenant.String()+"/"+named("c1").String(), int32(named("d1")[15])%partitions)
		for range 2 {
			r = newRig(t, r.store.Open(), opened(r.inbox))
			l := r.deadLetter("quarantined", `"kind":"stream"`, `"stream":"rpc/`)
			if l.device != named("d1") || !strings.Contains(l.detail, "wire") {
				t.Errorf("the dead letter: %+v", l)
			}
			r.wantRerun(l.id, deadletter.CodeNoCommand)
			d := r.connect("d1", "A")
			if cmd := d.one(); cmd.Call != named("c2") {
				t.Errorf("the device is sent %+v, want the call whose stream can be read", cmd)
			}
			r.mustStop()
		}
	})
}

// TestQuarantineOfTheLatest: a damaged event with a wire id does not stop the server, either.
func TestQuarantineOfTheLatest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, memstore.New(), durableInbox(t))
		first := r.connect("d1", "A")
		r.call("d1", persistent("c1"))
		first.reply(first.one(), `1`)
		pass(2 * time.Second) // the write-behind rows are stored
		r.call("d1", persistent("c2"))
		last := first.one()
		r.mustStop()
		r.corrupt("rpc/"+tenant.String()+"/"+named("c2").String(), int32(named("d1")[15])%partitions)
		r = newRig(t, r.store.Open(), opened(r.inbox))
		defer r.mustStop()
		if l := r.deadLetter("quarantined", `"stream":"rpc/`); !strings.Contains(l.detail, "wire") || len(r.engine.Ready()) > 0 {
			t.Errorf("the dead letter: %+v; not ready: %v", l, r.engine.Ready())
		}
		d := r.connect("d1", "B")
		c := r.call("d1", chosen("c3"))
		cmd := d.one()
		if cmd.Call != named("c3") || cmd.Wire != last.Wire+2 { // the event that cannot be read may have given one
			t.Errorf("the device is sent %+v, and was sent %+v before", cmd, last)
		}
		d.reply(cmd, `3`)
		c.want("succeeded  3")
	})
}

// TestNewerEvents: events of a newer program are not damaged. A single server does not serve without their calls, and reports why.
func TestNewerEvents(t *testing.T) {
	newer := map[string]func(*eventstore.Event){
		`unknown type "Teleported"`: func(e *eventstore.Event) { e.Type = "Teleported" },
		"Queued has version 2":      func(e *eventstore.Event) { e.Type, e.TypeVersion = "Queued", 2 },
	}
	for want, change := range newer {
		inBubble(t, func(r *rig) {
			r.call("d1", persistent("c1"))
			r.mustStop()
			r.alter("rpc/"+tenant.String()+"/"+named("c1").String(), int32(named("d1")[15])%partitions, change)
			next := newRig(r.t, r.store.Open(), opened(r.inbox))
			pass(time.Minute)
			if why := strings.Join(next.engine.Ready(), "; "); !strings.Contains(why, want) {
				t.Errorf("it is not ready because %q, want %q", why, want)
			}
			next.call("d2", nil).want(engine.ErrUnready.Error())
			next.mustStop()
			r.unchecked = true
		})
	}
}

// TestFailedReadQuarantinesNothing: a failed read is not the stream's fault. Whichever read fails, nothing is quarantined.
func TestFailedReadQuarantinesNothing(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.call("d1", func(q *engine.CallRequest) {
			chosen("c1")(q)
			q.Persistent, q.Expires = true, time.Now().Add(time.Hour)
		})
		for failing := range 30 {
			reads := 0
			r.store.Reading = func() error {
				if reads++; reads == failing+2 {
					return errors.New("the connection is reset")
				}
				return nil
			}
			r.store.Before = func(context.Context, eventstore.Batch) error {
				r.store.Before = nil
				return errors.New("the database is away") // so that everything is loaded again
			}
			r.begin("d2", fmt.Sprint("B", failing))
			pass(5 * time.Second)
		}
		r.store.Reading = nil
		r.noDeadLetter()
		d := r.connect("d1", "A")
		if cmd := d.one(); cmd.Call != named("c1") {
			t.Errorf("the device is sent %+v", cmd)
		}
	})
}

// corrupt adds an event to a stream whose data is damaged.
func (r *rig) corrupt(stream string, partition int32) {
	r.t.Helper()
	r.alter(stream, partition, func(e *eventstore.Event) { e.Type, e.Data = "Queued", []byte(`{"wire":"x"}`) })
}

// alter adds the last event of a stream once more, with a change.
func (r *rig) alter(stream string, partition int32, change func(*eventstore.Event)) {
	r.t.Helper()
	ctx, store := context.Background(), r.store.Open()
	claimed, err := store.Claim(ctx, "somebody", []int32{partition})
	if err != nil {
		r.t.Fatal(err)
	}
	events, err := store.Stream(ctx, stream, 0, 100)
	if err != nil || len(events) == 0 {
		r.t.Fatalf("%d events, %v", len(events), err)
	}
	last := events[len(events)-1]
	e := last
	e.Version, e.Seq, e.AppendID = last.Version+1, claimed[0].Seq+1, uuid.New()
	change(&e)
	e.Hash = e.Digest(last.Hash)
	next := claimed[0]
	next.Seq, next.Head, next.Append = e.Seq, eventstore.Link(next.Head, e.Hash), e.AppendID
	fenced, err := store.Append(ctx, eventstore.Batch{ID: e.AppendID, Partitions: []eventstore.PartitionBatch{{Expect: claimed[0], Next: next, Events: []eventstore.Event{e}}}})
	if err != nil || len(fenced) > 0 {
		r.t.Fatal(err, fenced)
	}
}
