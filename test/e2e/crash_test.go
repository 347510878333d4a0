package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"callchain/cmd/callchain/client"
	"callchain/cmd/callchain/fleet"
	"callchain/eventstore/pgtest"

	"github.com/google/uuid"
)

// The load under which the server is killed.
const (
	crashDevices = 20
	crashCallers = 50 // light ones, and as many persistent ones
	readyMax     = 2 * time.Second
)

// TestCrash kills the server at random moments under load (promises P1, P2 and P3): what was returned is never lost, each call
// ends exactly once, a command that a device sees again has the same wire id, and what the API shows is the fold of the events.
func TestCrash(t *testing.T) {
	needsBinary(t)
	t.Run("sqlite", func(t *testing.T) { crash(t, newPlace(t)) })
	t.Run("postgres", func(t *testing.T) {
		p := newPlace(t)
		p.store = pgtest.Database(t)
		crash(t, p)
	})
}

// crashing is one run of the test.
type crashing struct {
	t       *testing.T
	place   *place
	server  *process // the first one
	seed    int64
	moments *rand.Rand
	rest    *client.Client
	devices []string
	fleet   *fleet.Fleet
	number  atomic.Int64 // of the next call; its params carry it
	seen    seen

	// mayExpire: faults outlast the deadline of a persistent call, so that it need not succeed.
	mayExpire bool

	mu       sync.Mutex
	returned map[string]promise // by call id
}

// promise is what the server has told a caller.
type promise struct {
	persistent bool
	answer     string // of a light call
}

func crash(t *testing.T, p *place) {
	c := newCrashing(t, p)
	defer c.fleet.Close()
	server := c.server
	var slowest time.Duration
	for round := range *crashRounds {
		c.round(server, time.Duration(50+c.moments.IntN(400))*time.Millisecond)
		server = start(t, p)
		took := time.Since(server.started)
		slowest = max(slowest, took)
		if took > readyMax {
			t.Errorf("round %d: ready %s after the restart, more than %s", round, took, readyMax)
		}
		if t.Failed() {
			t.Fatalf("round %d of seed %d", round, c.seed)
		}
	}
	t.Logf("%d rounds, %d calls, %d of them returned, slowest restart %s", *crashRounds, c.number.Load(), len(c.returned), slowest)
	c.finish(server)
}

func (c *crashing) prepare() {
	tokens := c.enroll(crashDevices)
	c.connect(fleet.Options{Addr: c.place.mqtt, Delay: 15 * time.Millisecond}, tokens)
}

// enroll logs in and makes devices, and gives their tokens.
func (c *crashing) enroll(devices int) []string {
	c.rest = c.place.login(c.t)
	tokens := make([]string, devices)
	for i := range tokens {
		tokens[i] = "crash-" + strconv.Itoa(i)
		d, err := c.rest.CreateDevice(c.t.Context(), client.Device{Name: tokens[i], Type: "default"}, tokens[i])
		if err != nil {
			c.t.Fatal(err)
		}
		c.devices = append(c.devices, d.ID.ID)
	}
	return tokens
}

// connect brings the devices up. They answer with what they get, and note it; they come again when they lose their server.
func (c *crashing) connect(o fleet.Options, tokens []string) {
	o.QoS, o.Reconnect = 1, true
	o.Answer = func(cmd fleet.Command) ([]byte, bool) {
		if problem := c.seen.note(cmd); problem != "" {
			c.t.Error(problem)
		}
		return fleet.Echo(cmd)
	}
	c.fleet = fleet.New(o, tokens)
	if err := c.fleet.Connect(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
}

// seen is what the devices got.
type seen struct {
	mu     sync.Mutex
	wireOf map[string]string // call's number → device and wire id
	callOf map[string]string // device and wire id → call's number
	again  int               // calls that came more than once, with each time
}

func (s *seen) note(cmd fleet.Command) (problem string) {
	var in struct {
		Params struct {
			N json.Number `json:"n"`
		} `json:"params"`
	}
	if err := json.Unmarshal(cmd.Payload, &in); err != nil {
		return fmt.Sprintf("a device got %s: %v", cmd.Payload, err)
	}
	call, wire := in.Params.N.String(), fmt.Sprintf("%d/%s", cmd.Device, cmd.Wire)
	s.mu.Lock()
	defer s.mu.Unlock()
	was, again := s.wireOf[call]
	if again {
		s.again++
	}
	if again && was != wire {
		return fmt.Sprintf("call %s came as %s and again as %s", call, was, wire)
	}
	if was, used := s.callOf[wire]; used && was != call {
		return fmt.Sprintf("wire id %s was of call %s and is now of call %s", wire, was, call)
	}
	s.wireOf[call], s.callOf[wire] = wire, call
	return ""
}

// round sends calls and kills the server in the midst of them.
func (c *crashing) round(server *process, after time.Duration) {
	c.online()
	ctx, stop := context.WithCancel(c.t.Context())
	defer stop()
	var callers sync.WaitGroup
	for i := range 2 * crashCallers {
		callers.Go(func() { c.caller(ctx, i%2 == 0) })
	}
	select {
	case <-time.After(after):
	case <-server.ended:
		c.t.Errorf("the server ended by itself:\n%s", server.log.String())
	}
	server.kill()
	stop()
	callers.Wait()
}

// caller sends one call after the other until the server is gone.
func (c *crashing) caller(ctx context.Context, persistent bool) {
	for ctx.Err() == nil {
		if err := c.call(ctx, persistent); err != nil {
			if status := client.StatusOf(err); status != 0 && ctx.Err() == nil {
				c.t.Errorf("a call was refused: %v", err)
			}
			return
		}
	}
}

// call sends one call and notes what the server says of it.
func (c *crashing) call(ctx context.Context, persistent bool) error {
	n := c.number.Add(1)
	params := fmt.Sprintf(`{"n":%d}`, n)
	r := client.CallRequest{Method: "count", Params: json.RawMessage(params), Persistent: persistent, Timeout: 10_000}
	answer, err := c.rest.Send(ctx, c.devices[int(n)%len(c.devices)], false, r)
	if err != nil {
		return err
	}
	p := promise{persistent: persistent}
	if !persistent {
		if p.answer = string(answer.Body); p.answer != params {
			c.t.Errorf("call %d got the answer %s", n, answer.Body)
		}
	}
	if _, err := uuid.Parse(answer.ID); err != nil {
		c.t.Errorf("call %d has no id: %v", n, err)
	}
	c.mu.Lock()
	c.returned[answer.ID] = p
	c.mu.Unlock()
	return nil
}

// history is what the server tells of a call, for the output of a failure.
func (c *crashing) history(id string) string {
	ctx, cancel := context.WithTimeout(c.t.Context(), 5*time.Second)
	defer cancel()
	events, err := c.rest.Events(ctx, id)
	if err != nil {
		return "its history cannot be read: " + err.Error()
	}
	var b strings.Builder
	for _, e := range events {
		fmt.Fprintf(&b, "\n    %s %s partition %d seq %d by %s because of %s: %s", e.At.Format("15:04:05.000"), e.Type, e.Partition, e.Seq, e.Actor, e.Cause, e.Data)
	}
	return b.String()
}

// settle waits until every call has ended: the devices are back and answer.
func (c *crashing) settle() {
	eventually(c.t, 60*time.Second, func() string {
		for _, phase := range []string{"requested", "queued", "sent", "delivered"} {
			page, err := c.rest.Calls(c.t.Context(), client.CallFilter{Status: phase, Size: 1})
			if err != nil {
				return err.Error()
			}
			if len(page.Data) > 0 {
				return fmt.Sprintf("call %s is %s: %s", page.Data[0].ID, phase, c.history(page.Data[0].ID))
			}
		}
		return ""
	})
}
