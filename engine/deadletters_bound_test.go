package engine_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"callchain/engine/bus"
)

// poison sends what breaks the chain of a device.
func (d *device) poison() {
	d.r.engine.Inbound().Attributes(d.session, []byte(`{"a":1}`), nil)
	synctest.Wait()
}

// unstored is how many dead letters got no row.
func (r *rig) unstored() float64 {
	return series(r.t, r.measured)["dead_letters_unstored_total no_room"]
}

// countedDeadLetters is how many dead letters were measured, whatever their reason.
func (r *rig) countedDeadLetters() (n float64) {
	for name, value := range series(r.t, r.measured) {
		if strings.HasPrefix(name, "dead_letters_total ") {
			n += value
		}
	}
	return n
}

// wantDeadLetters expects this many rows, and this many dead letters without one.
func (r *rig) wantDeadLetters(rows int, unstored float64) {
	r.t.Helper()
	if n := len(r.deadLetters()); n != rows || r.unstored() != unstored {
		r.t.Errorf("%d dead letters have a row, %v have none; want %d and %v", n, r.unstored(), rows, unstored)
	}
}

// restart restarts the engine with another bound on dead letters.
func (r *rig) restart(rows int) {
	r.t.Helper()
	r.mustStop()
	r.most, r.inbox = rows, opened(r.inbox)
	r.start()
}

// TestDeadLetterRowsAreBounded: dead letters beyond the bound have no row, but are counted, published and reported to their senders.
func TestDeadLetterRowsAreBounded(t *testing.T) {
	relayedRig(t, func(r *rig, p *topics) {
		r.restart(3)
		d := r.connect("d1", "A")
		for range 10 {
			d.poison()
		}
		r.wantDeadLetters(3, 7)
		if facts, n := countEvents(t, r, "CommandRejected"), series(t, r.measured)["dead_letters_total command_rejected"]; facts != 10 || n != 10 {
			t.Errorf("%d facts, %v dead letters counted, want 10", facts, n)
		}
		p.mu.Lock()
		if n := len(p.got[bus.DeadLetters]); n != 10 {
			t.Errorf("%d dead letters were published, want 10", n)
		}
		p.mu.Unlock()
		all := r.deadLetters()
		r.wantRerun(all[0].id, "command_rejected") // it keeps its row
		r.wantDeadLetters(3, 7)
		if err := r.engine.DropDeadLetter(context.Background(), tenant, all[1].id, "user:u"); err != nil {
			t.Error(err)
		}
		r.chain = compiled(t, fixedChain)
		r.wantRerun(all[2].id, "")
		r.wantDeadLetters(1, 7)
		r.chain = compiled(t, rootChain)
		for range 3 {
			d.poison()
		}
		r.wantDeadLetters(3, 8)
		r.restart(4) // what is stored counts
		d = r.connect("d1", "B")
		for range 3 {
			d.poison()
		}
		r.wantDeadLetters(4, 2)
	})
}

// TestFailedRerunIsNoNewDeadLetter: a failed rerun does not count as a new dead letter, which would raise an alert.
func TestFailedRerunIsNoNewDeadLetter(t *testing.T) {
	inBubble(t, func(r *rig) {
		l := r.rejectedCall(brokenCalls)
		before := r.countedDeadLetters()
		r.wantRerun(l.id, "command_rejected")
		r.wantRerun(l.id, "command_rejected")
		if after := r.countedDeadLetters(); before != 1 || after != before {
			t.Errorf("%v dead letters were counted before the reruns, %v behind them; want 1", before, after)
		}
	})
}
