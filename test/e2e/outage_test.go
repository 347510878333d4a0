package e2e_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"callchain/cmd/callchain/client"
	"callchain/engine/bus/kafkatest"
	"callchain/eventstore/pgtest"
)

// How soon all must be well again after a broker or a database is back.
const wellMax = 5 * time.Second

// service is a broker or a database that the tests may end and start again; ctl takes stop, kill and start.
type service struct {
	name string
	ctl  string
}

func (s service) do(t *testing.T, what string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, s.ctl, what).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", s.ctl, what, err, out)
	}
}

// onKafka is a place on a real broker and a database of its own.
func onKafka(t *testing.T) *place {
	t.Helper()
	topics := kafkatest.New(t)
	p := newPlace(t, "--bus.kafka.brokers", topics.Broker, "--bus.kafka.prefix", topics.Prefix, "--node.id", "e2e", "--partitions", strconv.Itoa(clusterPartitions))
	p.store, p.brokers, p.prefix = pgtest.Database(t), topics.Broker, topics.Prefix
	return p
}

// controlled is a service that these tests may end; they skip without.
func controlled(t *testing.T, name, variable string) service {
	t.Helper()
	ctl := os.Getenv(variable)
	if ctl == "" {
		t.Skipf("%s is not set: give it a script that takes stop, kill and start", variable)
	}
	return service{name, ctl}
}

// TestCrashOnKafka kills the server, the broker and the database in turn, at random moments under load (promises P1, P2 and P3).
func TestCrashOnKafka(t *testing.T) {
	needsBinary(t)
	p := onKafka(t)
	broker, database := controlled(t, "broker", "CALLCHAIN_TEST_KAFKA_CTL"), controlled(t, "database", "CALLCHAIN_TEST_POSTGRES_CTL")
	c := newCrashing(t, p)
	defer c.fleet.Close()
	server := c.server
	slowest := map[string]time.Duration{}
	for round := range *crashRounds {
		after := time.Duration(50+c.moments.IntN(400)) * time.Millisecond
		var victim string
		var took time.Duration
		switch round % 3 {
		case 0:
			c.round(server, after)
			server = start(t, p)
			victim, took = "server", time.Since(server.started)
			if took > wellMax {
				t.Errorf("round %d: ready %s after the restart, more than %s", round, took, wellMax)
			}
		case 1:
			victim, took = "broker", c.outage(broker, after)
		case 2:
			victim, took = "database", c.outage(database, after)
		}
		slowest[victim] = max(slowest[victim], took)
		if t.Failed() {
			t.Fatalf("round %d (%s) of seed %d", round, victim, c.seed)
		}
	}
	t.Logf("%d rounds, %d calls, %d of them returned; slowest to be well again: %v", *crashRounds, c.number.Load(), len(c.returned), slowest)
	c.finish(server)
	c.checkTopic()
}

// outage ends a service under load and starts it again. It gives the time from its return until a call is answered again.
func (c *crashing) outage(s service, after time.Duration) time.Duration {
	c.online()
	before := c.fleet.Stats().Reconnects
	ctx, stop := context.WithCancel(c.t.Context())
	defer stop()
	var callers sync.WaitGroup
	for i := range 2 * crashCallers {
		callers.Go(func() { c.patient(ctx, i%2 == 0) })
	}
	<-time.After(after)
	s.do(c.t, "kill")
	<-time.After(time.Duration(300+c.moments.IntN(1200)) * time.Millisecond)
	s.do(c.t, "start")
	c.served()
	back := time.Now()
	eventually(c.t, wellMax, func() string { return c.well(ctx) })
	took := time.Since(back)
	stop()
	callers.Wait()
	if again := c.fleet.Stats().Reconnects - before; again > 0 {
		c.t.Errorf("%d devices lost their connection while the %s was away", again, s.name)
	}
	return took
}

// served waits until the broker serves this test's topics: before, it is not back.
func (c *crashing) served() {
	eventually(c.t, 60*time.Second, func() string {
		if err := kafkatest.Served(c.place.brokers, c.place.prefix); err != nil {
			return err.Error()
		}
		return ""
	})
}

// patient sends calls through an outage: what is answered otherwise than with success must say so honestly.
func (c *crashing) patient(ctx context.Context, persistent bool) {
	for ctx.Err() == nil {
		err := c.call(ctx, persistent)
		switch client.StatusOf(err) {
		case 0:
			if err != nil && ctx.Err() == nil {
				c.t.Errorf("a call ended with %v", err)
				return
			}
		case http.StatusServiceUnavailable, http.StatusGatewayTimeout, http.StatusRequestTimeout, http.StatusConflict:
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
			}
		default:
			c.t.Errorf("a call was refused: %v", err)
			return
		}
	}
}

// well tells why the server does not serve yet.
func (c *crashing) well(ctx context.Context) string {
	answer, err := http.Get("http://" + c.place.http + "/readyz")
	if err != nil {
		return err.Error()
	}
	_ = answer.Body.Close() // nothing of it is needed
	if answer.StatusCode != http.StatusOK {
		return fmt.Sprintf("/readyz says %d", answer.StatusCode)
	}
	if err := c.call(ctx, false); err != nil {
		return err.Error()
	}
	return ""
}

// newCrashing starts a server and its devices.
func newCrashing(t *testing.T, p *place) *crashing {
	c := newFaults(t, p, *crashSeed)
	c.server = start(t, p)
	c.prepare()
	return c
}

// newFaults is a run without a server yet; a seed of 0 is replaced by a new one.
func newFaults(t *testing.T, p *place, seed int64) *crashing {
	if seed == 0 {
		seed = time.Now().UnixNano()
	}
	t.Logf("seed %d", seed)
	return &crashing{
		t: t, place: p, seed: seed, moments: rand.New(rand.NewPCG(uint64(seed), 0)), returned: map[string]promise{},
		seen: seen{wireOf: map[string]string{}, callOf: map[string]string{}},
	}
}

// finish waits until all calls have ended, and holds everything against the events.
func (c *crashing) finish(server *process) {
	c.settle()
	c.check()
	if status := server.stop(); status != 0 {
		c.t.Errorf("the server ended with status %d", status)
	}
	c.verify()
}

// verify checks the chains of hashes, with the command that operators have.
func (c *crashing) verify() {
	c.t.Helper()
	most := 30*time.Second + *clusterSoak/4
	if status, out, errs := commandWithin(c.t, most, nil, c.place.args("events", "verify", "--json")...); status != 0 {
		c.t.Errorf("events verify: status %d\n%s%s", status, out, errs)
	}
}

// online waits until all devices are connected.
func (c *crashing) online() {
	eventually(c.t, 15*time.Second, func() string {
		if n := c.fleet.Stats().Online; n != int64(len(c.devices)) {
			return fmt.Sprintf("%d devices are back", n)
		}
		return ""
	})
}
