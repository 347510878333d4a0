package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"callchain/cmd/callchain/client"
	"callchain/cmd/callchain/fleet"
	"callchain/transports/mqtt/mqttclient"
)

// begin leaves behind, for the next build: calls that wait for an offline device, a light call and a persistent one whose device has not answered,
// a call that its chain delays, and a run that waits for its first call's answer.
func (u *upgrade) begin(nodes []*node, build string) {
	u.t.Helper()
	u.pending, u.stages = nil, u.stages+1
	n := nodes[len(nodes)-1]
	for range 3 {
		p := u.device(n, fmt.Sprintf("waiting%d", len(u.pending)), nil)
		u.send(n, p)
	}
	light := u.device(n, "light", nil)
	f, got := u.silent(n, light)
	go func() {
		wish := client.CallRequest{Method: "m", Params: json.RawMessage(`{"n":1}`), Timeout: 120_000}
		_, err := n.rest.Send(u.t.Context(), light.device, false, wish)
		if status := client.StatusOf(err); status != http.StatusServiceUnavailable || !strings.Contains(err.Error(), "call ") {
			u.t.Logf("the caller of the light call was told: %v", err)
		}
	}()
	light.wire = u.next(light, got).Wire
	light.call = u.lightCall(n, light)
	defer f.Close()

	flight := u.device(n, "flight", nil)
	f2, got2 := u.silent(n, flight)
	defer f2.Close()
	u.send(n, flight)
	flight.wire = u.next(flight, got2).Wire

	u.send(n, u.device(n, "delayed", u.profile))

	run := u.device(n, "run", u.profile)
	f3, got3 := u.silent(n, run)
	defer f3.Close()
	if err := f3.Publish(0, "v1/devices/me/telemetry", []byte(`{"t":1}`)); err != nil {
		u.t.Fatal(err)
	}
	run.wire = u.next(run, got3).Wire
	u.t.Logf("%s: %d things are left to the next", build, len(u.pending))
}

// lightCall finds the call that a device got: no list has it while it is open, the stream of events does.
func (u *upgrade) lightCall(n *node, p *pending) string {
	u.t.Helper()
	var id string
	eventually(u.t, 10*time.Second, func() string {
		id = u.callOf(p.device)
		if id == "" {
			return "the events name no call of device " + p.device
		}
		return ""
	})
	return id
}

// finish lets the devices of what was begun come, and waits until all has ended.
func (u *upgrade) finish(nodes []*node, build string) {
	u.t.Helper()
	for i, p := range u.pending {
		n := nodes[i%len(nodes)]
		switch {
		case strings.HasPrefix(p.name, "run"):
			u.finishRun(n, p, build)
		case p.wire != "":
			u.answer(n, p, `{"n":1}`)
			u.ended(nodes[(i+1)%len(nodes)], p, build)
		default:
			f := fleet.New(fleet.Options{Addr: n.mqtt, QoS: 1, Answer: fleet.Echo}, []string{p.token})
			if err := f.Connect(u.t.Context()); err != nil {
				u.t.Fatal(err)
			}
			u.ended(nodes[(i+1)%len(nodes)], p, build)
			u.wireGoesOn(nodes[0], p)
			f.Close()
		}
	}
	u.t.Logf("%s: %d things went on", build, len(u.pending))
}

// answer connects a device that answers what it got before.
func (u *upgrade) answer(n *node, p *pending, answer string) {
	u.t.Helper()
	conn, err := mqttclient.Connect(u.t.Context(), n.mqtt, mqttclient.Options{Token: p.token})
	if err != nil {
		u.t.Fatal(err)
	}
	defer conn.Close()
	acked := make(chan error, 1)
	if err := conn.Publish("v1/devices/me/rpc/response/"+p.wire, []byte(answer), 1, func(_ byte, err error) { acked <- err }); err != nil {
		u.t.Fatal(err)
	}
	select {
	case err := <-acked:
		if err != nil {
			u.t.Errorf("%s: the answer was not acknowledged: %v", p.name, err)
		}
	case <-time.After(10 * time.Second):
		u.t.Errorf("%s: the answer was not acknowledged", p.name)
	}
}

// finishRun answers a run's first call, which must then make its second.
func (u *upgrade) finishRun(n *node, p *pending, build string) {
	u.t.Helper()
	f, got := u.silent(n, p)
	defer f.Close()
	u.answerOn(f, p.wire, `{"of":"first"}`)
	for {
		cmd := u.next(p, got)
		if cmd.Wire == p.wire {
			continue // the first call once more
		}
		if want := `{"method":"second","params":{"of":"first"}}`; string(cmd.Payload) != want {
			u.t.Errorf("%s, under %s: the run went on with %s, want %s", p.name, build, cmd.Payload, want)
		}
		u.answerOn(f, cmd.Wire, `{}`)
		return
	}
}

func (u *upgrade) answerOn(f *fleet.Fleet, wire, answer string) {
	u.t.Helper()
	if err := f.Publish(0, "v1/devices/me/rpc/response/"+wire, []byte(answer)); err != nil {
		u.t.Fatal(err)
	}
}

// wireGoesOn makes one more call to a device: its wire id is the next one.
func (u *upgrade) wireGoesOn(n *node, p *pending) {
	u.t.Helper()
	if strings.HasPrefix(p.name, "delayed") {
		return
	}
	first, err := n.rest.Call(u.t.Context(), p.call)
	if err != nil || first.Wire == nil {
		u.t.Fatalf("%s: %+v, %v", p.name, first, err)
	}
	answer, err := n.rest.Send(u.t.Context(), p.device, false, client.CallRequest{Method: "m", Params: json.RawMessage(`{"n":2}`), Timeout: 5000})
	if err != nil {
		u.t.Errorf("%s: one more call: %v", p.name, err)
		return
	}
	second, err := n.rest.Call(u.t.Context(), answer.ID)
	if err != nil || second.Wire == nil || *second.Wire != *first.Wire+1 {
		u.t.Errorf("%s: after wire id %d came %v, %v", p.name, *first.Wire, second.Wire, err)
	}
}

// callOf reads the store for the latest call of a device.
func (u *upgrade) callOf(device string) string {
	u.t.Helper()
	c := &crashing{t: u.t, place: u.c.place}
	store := c.openStore()
	defer store.Close()
	checkpoints, err := store.Checkpoints(u.t.Context())
	if err != nil {
		u.t.Fatal(err)
	}
	id := ""
	for _, cp := range checkpoints {
		events, err := store.Partition(u.t.Context(), cp.Partition, 0, 1000)
		if err != nil {
			u.t.Fatal(err)
		}
		for i := range events {
			if events[i].Device.String() == device && strings.HasPrefix(events[i].Stream, "rpc/") {
				id = events[i].Stream[strings.LastIndex(events[i].Stream, "/")+1:]
			}
		}
	}
	return id
}
