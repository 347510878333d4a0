package e2e_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"callchain/engine/bus/kafkatest"
	"callchain/engine/rpc"
	"callchain/eventstore/pgtest"
)

// positionCalls is how many calls are made at a time: answered ones, waiting ones before the backup, and waiting ones behind it.
const positionCalls = 40

// TestRestoreKeepsPositions goes back to an older state on the topics that it was made with: what was stepped before the backup is not
// stepped again, and no call that was returned behind it is lost (promises P2 and P7).
func TestRestoreKeepsPositions(t *testing.T) {
	needsBinary(t)
	p := onKafka(t)
	c := newCrashing(t, p)
	c.online()
	for range positionCalls { // their answers are commands that change something a second time: they would be late
		if err := c.call(t.Context(), true); err != nil {
			t.Fatal(err)
		}
	}
	c.settle()
	c.fleet.Close() // the calls that follow wait, so that each has the same facts in both histories
	c.persistent(positionCalls)
	file := filepath.Join(t.TempDir(), "b")
	if status, _, errs := command(t, nil, p.args("backup", file)...); status != 0 {
		t.Fatalf("backup: status %d\n%s", status, errs)
	}
	before := c.foldAll()
	c.persistent(positionCalls)
	c.server.kill()

	again := c.restoredAt(t, file, p.flags)
	again.place.brokers, again.place.prefix = p.brokers, p.prefix
	server := start(t, again.place)
	again.rest = again.place.login(t)
	eventually(t, 20*time.Second, func() string { return again.queued(2 * positionCalls) })
	stored := again.foldAll()
	if len(stored) != len(c.returned) {
		t.Errorf("%d calls were made, the restored server has %d", len(c.returned), len(stored))
	}
	for id := range c.returned {
		switch f, was := stored[id], before[id]; {
		case f == nil:
			t.Errorf("call %s was returned and is lost", id)
		case was != nil && (f.version != was.version || f.state.Wire != was.state.Wire):
			t.Errorf("call %s has %d facts and wire id %d, it had %d and %d: it was stepped again", id, f.version, f.state.Wire, was.version, was.state.Wire)
		}
	}
	again.returned = c.returned
	devices := c.fleetAt(again.place)
	defer devices.Close()
	again.finish(server)
}

// TestRestoreOnOtherTopics: kept positions stop the server with the topic's name; cleared ones begin new topics as a new installation does, and every
// event is in them.
func TestRestoreOnOtherTopics(t *testing.T) {
	needsBinary(t)
	p := onKafka(t)
	c := newCrashing(t, p)
	c.fleet.Close()
	c.persistent(positionCalls)
	file := filepath.Join(t.TempDir(), "b")
	if status, _, errs := command(t, nil, p.args("backup", file)...); status != 0 {
		t.Fatalf("backup: status %d\n%s", status, errs)
	}
	c.server.kill()
	flags := func(topics *kafkatest.Topics) []string {
		return []string{"--bus.kafka.brokers", topics.Broker, "--bus.kafka.prefix", topics.Prefix, "--node.id", "e2e", "--partitions", "16"}
	}

	kept := c.restoredAt(t, file, flags(kafkatest.New(t)))
	s := launch(t, kept.place)
	eventually(t, 20*time.Second, func() string {
		if !strings.Contains(s.log.String(), "made anew") {
			return "the log names no topic that was made anew"
		}
		return ""
	})
	s.kill()

	topics := kafkatest.New(t)
	cleared := c.restoredAt(t, file, flags(topics), "--clear-positions")
	cleared.place.brokers, cleared.place.prefix = topics.Broker, topics.Prefix
	server := start(t, cleared.place)
	cleared.rest = cleared.place.login(t)
	if stored := cleared.foldAll(); len(stored) != positionCalls {
		t.Errorf("%d calls were made, the restored server has %d", positionCalls, len(stored))
	}
	devices := c.fleetAt(cleared.place)
	defer devices.Close()
	cleared.returned = c.returned
	cleared.finish(server)
	cleared.checkTopic()
}

// persistent makes calls to devices that are away, and waits until they are queued.
func (c *crashing) persistent(n int) {
	c.t.Helper()
	for range n {
		if err := c.call(c.t.Context(), true); err != nil {
			c.t.Fatal(err)
		}
	}
	eventually(c.t, 20*time.Second, func() string { return c.queued(n) })
}

// queued tells what is missing until so many calls wait for their devices.
func (c *crashing) queued(n int) string {
	waiting := 0
	for _, f := range c.foldAll() {
		if f.state.Phase == rpc.PhaseQueued {
			waiting++
		}
	}
	if waiting < n {
		return "too few calls are queued"
	}
	return ""
}

// restoredAt restores a file into a PostgreSQL of its own.
func (c *crashing) restoredAt(t *testing.T, file string, flags []string, more ...string) *crashing {
	t.Helper()
	to := newPlace(t, flags...)
	to.store = pgtest.Database(t)
	giveKey(t, c.place, to)
	if status, _, errs := command(t, nil, append(to.args("restore", file), more...)...); status != 0 {
		t.Fatalf("restore: status %d\n%s", status, errs)
	}
	return &crashing{t: t, place: to, returned: map[string]promise{}}
}
