package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"callchain/cmd/callchain/client"
	"callchain/cmd/callchain/fleet"
	"callchain/engine/rpc"

	"github.com/google/uuid"
)

// soon is how fast a change on one node must be in force on the others.
const soon = time.Second

// routing is two nodes; devices are connected to one and called through the other.
type routing struct {
	t    *testing.T
	c    *cluster
	a, b *node
}

// newRouting starts two nodes (with -cluster.nodes=1 one that plays both: what is tested must hold there, too).
func newRouting(t *testing.T) *routing {
	t.Helper()
	needsBinary(t)
	c := newCluster(t, min(2, *clusterNodes))
	c.start()
	b := c.nodes[len(c.nodes)-1]
	c.reach(c.add()) // it comes and goes
	return &routing{t, c, c.nodes[0], b}
}

// on is the routing for a subtest.
func (r *routing) on(t *testing.T) *routing { return &routing{t, r.c, r.a, r.b} }

// made makes a device through a node.
func (r *routing) made(through *node, d client.Device) (id, token string) {
	r.t.Helper()
	token = uuid.NewString()[:18]
	d.Name = token
	made, err := through.rest.CreateDevice(r.t.Context(), d, token)
	if err != nil {
		r.t.Fatal(err)
	}
	return made.ID.ID, token
}

// device makes a device through node A and connects it to a node.
func (r *routing) device(to *node, o fleet.Options) (id string, f *fleet.Fleet) {
	r.t.Helper()
	id, token := r.made(r.a, client.Device{})
	return id, r.connected(to, o, token)
}

func (r *routing) connected(to *node, o fleet.Options, token string) *fleet.Fleet {
	r.t.Helper()
	o.Addr, o.QoS = to.mqtt, 1
	f := fleet.New(o, []string{token})
	r.t.Cleanup(f.Close)
	if err := f.Connect(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	return f
}

// ways gives every pair of the node that is called and the node that the device is connected to, several devices each: they lie in partitions of
// either owner.
func (r *routing) ways(each func(name string, through, to *node)) {
	for _, through := range []*node{r.a, r.b} {
		for _, to := range []*node{r.a, r.b} {
			for i := range 4 {
				each(fmt.Sprintf("through %s to device %d on %s", through.name, i, to.name), through, to)
			}
		}
	}
}

// TestClusterRouting: whichever node owns a device, whichever it is connected to and whichever is asked, the answer is the same.
func TestClusterRouting(t *testing.T) {
	r := newRouting(t)
	for _, sub := range []struct {
		name string
		test func(*routing)
	}{
		{"calls", (*routing).calls},
		{"open call", (*routing).openCall},
		{"watch", (*routing).watch},
		{"poll", (*routing).poll},
		{"attributes", (*routing).attributes},
		{"device calls", (*routing).deviceCalls},
		{"chain", (*routing).chain},
		{"takeover of a session", (*routing).sessionTakeover},
		{"new device", (*routing).newDevice},
		{"connecting", (*routing).connecting},
		{"credentials", (*routing).credentials},
		{"tokens", (*routing).tokens},
		{"repeats", (*routing).repeats},
		{"offline", (*routing).neverOffline},
		{"password", (*routing).password}, // the last one: the tokens are void after it
	} {
		t.Run(sub.name, func(t *testing.T) { sub.test(r.on(t)) })
	}
	r.c.stop()
}

// calls: two-way, one-way and persistent.
func (r *routing) calls() {
	r.ways(func(name string, through, to *node) {
		id, _ := r.device(to, fleet.Options{Answer: fleet.Echo})
		params := fmt.Sprintf(`{"n":%q}`, name)
		wish := client.CallRequest{Method: "m", Params: json.RawMessage(params), Timeout: 5000}
		if answer, err := through.rest.Send(r.t.Context(), id, false, wish); err != nil || string(answer.Body) != params {
			r.t.Errorf("%s: two-way: %s, %v", name, answer.Body, err)
		}
		if _, err := through.rest.Send(r.t.Context(), id, true, wish); err != nil {
			r.t.Errorf("%s: one-way: %v", name, err)
		}
		wish.Persistent = true
		answer, err := through.rest.Send(r.t.Context(), id, false, wish)
		if err != nil {
			r.t.Errorf("%s: persistent: %v", name, err)
			return
		}
		for _, n := range []*node{r.a, r.b} {
			r.ends(n, answer.ID, rpc.PhaseSucceeded)
		}
	})
}

// ends waits until a node shows that a call has ended so.
func (r *routing) ends(n *node, call string, phase rpc.Phase) {
	r.t.Helper()
	eventually(r.t, 5*time.Second, func() string {
		got, err := n.rest.Call(r.t.Context(), call)
		if err != nil || got.Phase != phase.String() {
			return fmt.Sprintf("%s shows of call %s: %q, %v", n.name, call, got.Phase, err)
		}
		return ""
	})
}

// openCall: a light call that waits is found on the other node, and cancelled from there.
func (r *routing) openCall() {
	r.ways(func(name string, through, to *node) {
		id, _ := r.device(to, fleet.Options{})
		other := r.other(through)
		wish := client.CallRequest{Method: "m", ID: uuid.NewString(), Timeout: 10_000}
		ended := make(chan error, 1)
		go func() {
			_, err := through.rest.Send(r.t.Context(), id, false, wish)
			ended <- err
		}()
		eventually(r.t, 5*time.Second, func() string {
			got, err := other.rest.Call(r.t.Context(), wish.ID)
			if err != nil || got.Phase != rpc.PhaseDelivered.String() {
				return fmt.Sprintf("%s: %s shows the open call as %q, %v", name, other.name, got.Phase, err)
			}
			return ""
		})
		if got, err := other.rest.Cancel(r.t.Context(), wish.ID); err != nil || got.Phase != rpc.PhaseCancelled.String() {
			r.t.Errorf("%s: cancelled through %s: %q, %v", name, other.name, got.Phase, err)
		}
		select {
		case err := <-ended:
			if client.StatusOf(err) == 0 {
				r.t.Errorf("%s: the caller of the cancelled call was told %v", name, err)
			}
		case <-time.After(3 * time.Second):
			r.t.Errorf("%s: the caller of the cancelled call was not told", name)
		}
	})
}

func (r *routing) other(n *node) *node {
	if n == r.a {
		return r.b
	}
	return r.a
}

// watch: the facts of a call come from a node that neither owns it nor took it.
func (r *routing) watch() {
	r.ways(func(name string, through, to *node) {
		id, _ := r.device(to, fleet.Options{Answer: fleet.Echo, Delay: 200 * time.Millisecond})
		answer, err := through.rest.Send(r.t.Context(), id, false, client.CallRequest{Method: "m", Persistent: true})
		if err != nil {
			r.t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(r.t.Context(), 5*time.Second)
		defer cancel()
		var names []string
		err = r.other(through).rest.Watch(ctx, answer.ID, func(n client.Notice) error {
			names = append(names, n.Name)
			return nil
		})
		got := strings.Join(names, " ")
		if err != nil || !strings.HasPrefix(got, "Requested Queued Sent") || !strings.HasSuffix(got, "Succeeded state") {
			r.t.Errorf("%s: watched %s, %v", name, got, err)
		}
	})
}

// poll: a device that waits for calls over HTTP on one node is called through either.
func (r *routing) poll() {
	r.ways(func(name string, through, to *node) {
		id, token := r.made(r.a, client.Device{})
		got := make(chan string, 1)
		go func() { got <- poll(to.http, token) }()
		wish := client.CallRequest{Method: "m", Params: json.RawMessage(`1`), Persistent: true}
		if _, err := through.rest.Send(r.t.Context(), id, true, wish); err != nil {
			r.t.Fatal(err)
		}
		select {
		case text := <-got:
			if text != `{"id":0,"method":"m","params":1}` {
				r.t.Errorf("%s: the device got %s", name, text)
			}
		case <-time.After(5 * time.Second):
			r.t.Errorf("%s: the device got nothing", name)
		}
	})
}

// repeats: a call that has ended is told again to whoever sends it again with its id, also by an owner that did not own it then.
func (r *routing) repeats() {
	if r.a == r.b {
		r.t.Skip("NOT RUN: one node plays both; give -cluster.nodes=3")
	}
	var devices []string
	var wishes []client.CallRequest
	for i := range 16 {
		id, _ := r.device(r.b, fleet.Options{Answer: fleet.Echo})
		devices = append(devices, id)
		wishes = append(wishes, client.CallRequest{
			Method: "m", Params: json.RawMessage(fmt.Sprintf(`{"n":%d}`, i)), ID: uuid.NewString(), Persistent: i%2 == 0, Timeout: 5000,
		})
	}
	ask := func() (bodies []string) {
		for i := range devices {
			answer, err := r.b.rest.Send(r.t.Context(), devices[i], false, wishes[i])
			if err != nil || answer.ID != wishes[i].ID {
				r.t.Errorf("call %d with the id %s: %s, %v", i, wishes[i].ID, answer.ID, err)
			}
			bodies = append(bodies, string(answer.Body))
		}
		return bodies
	}
	first := ask()
	for _, w := range wishes {
		r.ends(r.b, w.ID, rpc.PhaseSucceeded)
	}
	r.a.server.kill()
	r.c.shared()
	if again := ask(); !slices.Equal(again, first) {
		r.t.Errorf("the answers were %q and are %q", first, again)
	}
	r.c.startNode(r.a)
	r.c.shared()
}

// neverOffline: while the owner of a connected device is killed, nobody is told that the device is offline.
func (r *routing) neverOffline() {
	if r.a == r.b {
		r.t.Skip("NOT RUN: one node plays both; give -cluster.nodes=3")
	}
	var devices []string
	for range 16 {
		id, _ := r.device(r.b, fleet.Options{Answer: fleet.Echo})
		devices = append(devices, id)
	}
	wish := map[string]any{"method": "m", "params": 1, "timeout": 5000, "onOffline": "fail"}
	ask := func(device string) error {
		return r.b.rest.Do(r.t.Context(), http.MethodPost, "/api/rpc/twoway/"+device, wish, nil)
	}
	for _, d := range devices {
		if err := ask(d); err != nil {
			r.t.Fatalf("before the kill: %v", err)
		}
	}
	r.a.server.kill()
	killed, answered := time.Now(), map[string]bool{}
	for time.Since(killed) < 30*time.Second && len(answered) < len(devices) {
		for _, d := range devices {
			var e *client.Error
			switch err := ask(d); {
			case err == nil:
				answered[d] = true
			case errors.As(err, &e) && e.Code == string(rpc.CodeOffline):
				r.t.Errorf("%s after the owner was killed, connected device %s was called offline: %v", time.Since(killed), d, err)
				return
			}
		}
	}
	if len(answered) < len(devices) {
		r.t.Errorf("30 s after the kill %d of %d devices are reached", len(answered), len(devices))
	}
	r.t.Logf("all devices are reached again %s after the kill", time.Since(killed).Round(time.Millisecond))
	r.c.startNode(r.a)
}
