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

// unstored is how many letters found no room.
func (r *rig) unstored() float64 {
	return series(r.t, r.measured)["dead_letters_unstored_total no_room"]
}

// lettersCounted is how many dead letters were measured, whatever their reason.
func (r *rig) lettersCounted() (n float64) {
	for name, value := range series(r.t, r.measured) {
		if strings.HasPrefix(name, "dead_letters_total ") {
			n += value
		}
	}
	return n
}

// wantLetters expects so many rows, and so many letters counted that have none.
func (r *rig) wantLetters(rows int, unstored float64) {
	r.t.Helper()
	if n := len(r.letters()); n != rows || r.unstored() != unstored {
		r.t.Errorf("%d letters have a row, %v have none; want %d and %v", n, r.unstored(), rows, unstored)
	}
}

// restart runs another engine over what there is, with so much room for dead letters.
func (r *rig) restart(letters int) {
	r.t.Helper()
	r.mustStop()
	r.most, r.inbox = letters, opened(r.inbox)
	r.start()
}

// TestRoomForLetters: so many letters have a row. What comes behind is counted, published and told as before.
func TestRoomForLetters(t *testing.T) {
	relayedRig(t, func(r *rig, p *topics) {
		r.restart(3)
		d := r.connect("d1", "A")
		for range 10 {
			d.poison()
		}
		r.wantLetters(3, 7)
		if facts, n := countEvents(t, r, "CommandRejected"), series(t, r.measured)["dead_letters_total command_rejected"]; facts != 10 || n != 10 {
			t.Errorf("%d facts, %v letters counted, want 10", facts, n)
		}
		p.mu.Lock()
		if n := len(p.got[bus.DeadLetters]); n != 10 {
			t.Errorf("%d letters were published, want 10", n)
		}
		p.mu.Unlock()
		all := r.letters()
		r.wantRerun(all[0].id, "command_rejected") // it keeps its row
		r.wantLetters(3, 7)
		if err := r.engine.DropDeadLetter(context.Background(), tenant, all[1].id, "user:u"); err != nil {
			t.Error(err)
		}
		r.chain = compiled(t, mended)
		r.wantRerun(all[2].id, "")
		r.wantLetters(1, 7)
		r.chain = compiled(t, rootChain)
		for range 3 {
			d.poison()
		}
		r.wantLetters(3, 8)
		r.restart(4) // what is stored counts
		d = r.connect("d1", "B")
		for range 3 {
			d.poison()
		}
		r.wantLetters(4, 2)
	})
}

// TestAFailedRerunIsNoNewLetter: who watches for dead letters is not called because of one that is known.
func TestAFailedRerunIsNoNewLetter(t *testing.T) {
	inBubble(t, func(r *rig) {
		l := r.rejectedCall(brokenCalls)
		before := r.lettersCounted()
		r.wantRerun(l.id, "command_rejected")
		r.wantRerun(l.id, "command_rejected")
		if after := r.lettersCounted(); before != 1 || after != before {
			t.Errorf("%v letters were counted before the reruns, %v behind them; want 1", before, after)
		}
	})
}
