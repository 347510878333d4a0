package engine

import (
	"bytes"
	"log/slog"
	"testing"
	"time"

	"callchain/engine/bus"
	"callchain/eventstore"

	"github.com/prometheus/client_golang/prometheus"
)

// TestFullLettersAreLoggedOnceAMinute: a flood that is cut off must not flood the log instead.
func TestFullLettersAreLoggedOnceAMinute(t *testing.T) {
	var noStore eventstore.Store
	var noInbox bus.Inbox
	var lines bytes.Buffer
	e := New(Config{Partitions: 1, DeadLetters: 1}, noStore, noInbox, noDirectory{}, NewMetrics(prometheus.NewRegistry()), slog.New(slog.NewTextHandler(&lines, nil)))
	now := time.Now()
	e.now = func() time.Time { return now }
	o := newOwner(e)
	for n := range 121 { // a letter a second
		if room := o.roomFor(letterRejected); room != (n == 0) {
			t.Errorf("letter %d finds room: %t", n, room)
		}
		if !o.roomFor(letterQuarantined) {
			t.Error("a quarantined stream finds no room")
		}
		now = now.Add(time.Second)
	}
	if n := bytes.Count(lines.Bytes(), []byte("no room for dead letters")); n != 2 {
		t.Errorf("%d lines in two minutes, want 2:\n%s", n, lines.String())
	}
}
