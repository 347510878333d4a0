package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"callchain/cmd/callchain/client"
	"callchain/cmd/callchain/fleet"
	"callchain/transports/mqtt/mqttclient"
)

// attributes: a shared attribute that is set through one node reaches the device on the other, and the device may ask for it.
func (r *routing) attributes() {
	r.ways(func(name string, through, to *node) {
		id, token := r.made(r.a, client.Device{})
		came := make(chan string, 4)
		conn, err := mqttclient.Connect(r.t.Context(), to.mqtt, mqttclient.Options{
			Token: token, OnPublish: func(_ *mqttclient.Client, m mqttclient.Message) { came <- string(m.Topic) + " " + string(m.Payload) },
		})
		if err != nil {
			r.t.Fatal(err)
		}
		defer conn.Drop()
		if _, err := conn.Subscribe(r.t.Context(), mqttclient.Filter{Topic: "v1/devices/me/attributes", QoS: 1},
			mqttclient.Filter{Topic: "v1/devices/me/attributes/response/+", QoS: 1}); err != nil {
			r.t.Fatal(err)
		}
		if err := through.rest.Do(r.t.Context(), http.MethodPost, "/api/plugins/telemetry/DEVICE/"+id+"/SHARED_SCOPE", map[string]int{"limit": 7}, nil); err != nil {
			r.t.Fatal(err)
		}
		r.comes(name, came, `v1/devices/me/attributes {"limit":7}`)
		if err := conn.Publish("v1/devices/me/attributes/request/1", []byte(`{"sharedKeys":"limit"}`), 1, nil); err != nil {
			r.t.Fatal(err)
		}
		r.comes(name, came, `v1/devices/me/attributes/response/1 {"shared":{"limit":7}}`)
	})
}

func (r *routing) comes(name string, came <-chan string, want string) {
	r.t.Helper()
	select {
	case got := <-came:
		if got != want {
			r.t.Errorf("%s: the device got %s, want %s", name, got, want)
		}
	case <-time.After(5 * time.Second):
		r.t.Errorf("%s: the device did not get %s", name, want)
	}
}

// answering is a chain that answers a device's calls with a word.
func answering(name, word string) []byte {
	return fmt.Appendf(nil, `
name: %s
nodes:
  - {name: kind, type: message type switch, to: {RPC Request from Device: word, RPC Request to Device: send}}
  - {name: word, type: transform, config: {msg: '{"word": "%s"}'}, to: {Success: answer}}
  - {name: answer, type: rpc call reply}
  - {name: send, type: rpc call request}
`, name, word)
}

// profiled makes a chain that answers with a word, and a profile of devices that have it.
func (r *routing) profiled(name, word string) (chain client.Chain, profile *client.Ref) {
	r.t.Helper()
	chain, err := r.a.rest.CreateChain(r.t.Context(), answering(name, word))
	if err != nil {
		r.t.Fatal(err)
	}
	p, err := r.a.rest.CreateProfile(r.t.Context(), name, chain.ID, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	return chain, p.ID
}

// deviceCalls: a device's own call is answered on whichever node it is.
func (r *routing) deviceCalls() {
	_, profile := r.profiled("device calls", "yes")
	r.ways(func(name string, _, to *node) {
		_, token := r.made(r.a, client.Device{Profile: profile})
		f := r.connected(to, fleet.Options{Calling: true}, token)
		ctx, cancel := context.WithTimeout(r.t.Context(), 5*time.Second)
		defer cancel()
		if answer, err := f.Request(ctx, 0, "word", []byte(`{}`)); err != nil || string(answer) != `{"word":"yes"}` {
			r.t.Errorf("%s: the device's call was answered %s, %v", name, answer, err)
		}
	})
}

// chain: a version that is activated through one node answers the devices of every partition soon.
func (r *routing) chain() {
	made, profile := r.profiled("versions", "one")
	var devices []*fleet.Fleet
	for i := range 8 {
		_, token := r.made(r.a, client.Device{Profile: profile})
		devices = append(devices, r.connected([]*node{r.a, r.b}[i%2], fleet.Options{Calling: true}, token))
	}
	word := func(f *fleet.Fleet) string {
		ctx, cancel := context.WithTimeout(r.t.Context(), 5*time.Second)
		defer cancel()
		answer, err := f.Request(ctx, 0, "word", []byte(`{}`))
		if err != nil {
			return err.Error()
		}
		return string(answer)
	}
	for _, f := range devices {
		if got := word(f); got != `{"word":"one"}` {
			r.t.Fatalf("the first version answers %s", got)
		}
	}
	if err := r.a.rest.Do(r.t.Context(), http.MethodPut, "/api/chains/"+made.ID+"?activate=true", jsonChain("versions", "two"), nil); err != nil {
		r.t.Fatal(err)
	}
	changed := time.Now()
	eventually(r.t, 5*time.Second, func() string {
		for i, f := range devices {
			if got := word(f); got != `{"word":"two"}` {
				return fmt.Sprintf("device %d is answered %s", i, got)
			}
		}
		return ""
	})
	r.inTime("a chain", changed)
}

// jsonChain is the same as answering, as JSON that Do sends.
func jsonChain(name, word string) map[string]any {
	to := func(pairs ...string) map[string]string {
		out := map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			out[pairs[i]] = pairs[i+1]
		}
		return out
	}
	return map[string]any{"name": name, "nodes": []map[string]any{
		{"name": "kind", "type": "message type switch", "to": to("RPC Request from Device", "word", "RPC Request to Device", "send")},
		{"name": "word", "type": "transform", "config": map[string]string{"msg": fmt.Sprintf(`{"word": "%s"}`, word)}, "to": to("Success", "answer")},
		{"name": "answer", "type": "rpc call reply"},
		{"name": "send", "type": "rpc call request"},
	}}
}

// inTime complains of a change that took longer than it may to be in force everywhere.
func (r *routing) inTime(what string, since time.Time) {
	r.t.Helper()
	took := time.Since(since)
	r.t.Logf("%s was in force everywhere after %s", what, took.Round(time.Millisecond))
	if took > soon {
		r.t.Errorf("%s was in force everywhere after %s, more than %s", what, took, soon)
	}
}

// sessionTakeover: a device that connects to another node while it is connected loses the first connection, and calls go to the second.
func (r *routing) sessionTakeover() {
	for range 4 {
		id, token := r.made(r.a, client.Device{})
		first := r.connected(r.a, fleet.Options{Answer: fleet.Fixed([]byte(`1`))}, token)
		r.connected(r.b, fleet.Options{Answer: fleet.Fixed([]byte(`2`))}, token)
		eventually(r.t, 2*time.Second, func() string {
			if first.Stats().Online > 0 {
				return "the first session still lives"
			}
			return ""
		})
		answer, err := r.a.rest.Send(r.t.Context(), id, false, client.CallRequest{Method: "m", Timeout: 5000})
		if err != nil || string(answer.Body) != `2` {
			r.t.Errorf("a call went to %s, %v; the second session answers 2", answer.Body, err)
		}
	}
}

// newDevice: a device may connect to any node as soon as one has made it.
func (r *routing) newDevice() {
	for range 10 {
		_, token := r.made(r.a, client.Device{})
		conn, err := mqttclient.Connect(r.t.Context(), r.b.mqtt, mqttclient.Options{Token: token})
		if err != nil {
			r.t.Errorf("a new device is refused by the other node: %v", err)
			continue
		}
		conn.Drop()
	}
}

// connecting: a device that connects while partitions move to another node and back takes calls, or loses its connection and comes again; it is not
// left connected with its subscription refused.
func (r *routing) connecting() {
	if r.a == r.b {
		r.t.Skip("NOT RUN: one node plays both; give -cluster.nodes=3")
	}
	third := r.c.nodes[2]
	ctx, stop := context.WithCancel(r.t.Context())
	defer stop()
	var devices sync.WaitGroup
	var accepted, refused, ended atomic.Int64
	for i := range 16 {
		_, token := r.made(r.a, client.Device{})
		devices.Go(func() {
			for n := i; ctx.Err() == nil; n++ {
				conn, err := mqttclient.Connect(ctx, []*node{r.a, r.b}[n%2].mqtt, mqttclient.Options{Token: token})
				if err != nil {
					ended.Add(1)
					continue
				}
				codes, err := conn.Subscribe(ctx, mqttclient.Filter{Topic: "v1/devices/me/rpc/request/+", QoS: 1})
				switch {
				case err != nil:
					ended.Add(1)
				case codes[0] >= 0x80:
					refused.Add(1)
				default:
					accepted.Add(1)
				}
				conn.Drop()
			}
		})
	}
	r.c.startNode(third)
	r.c.shared()
	if status := third.server.stop(); status != 0 {
		r.t.Errorf("%s ended with status %d", third.name, status)
	}
	r.c.shared()
	stop()
	devices.Wait()
	r.t.Logf("%d subscriptions were accepted, %d refused, %d connections ended", accepted.Load(), refused.Load(), ended.Load())
	if refused.Load() > 0 || accepted.Load() == 0 {
		r.t.Errorf("%d subscriptions were refused and their connections kept", refused.Load())
	}
}

// credentials: new ones, given through one node, end the session on the other and are good there.
func (r *routing) credentials() {
	for range 3 {
		id, token := r.made(r.a, client.Device{})
		f := r.connected(r.b, fleet.Options{}, token)
		var c map[string]any
		if err := r.a.rest.Do(r.t.Context(), http.MethodGet, "/api/device/"+id+"/credentials", nil, &c); err != nil {
			r.t.Fatal(err)
		}
		c["credentialsId"] = token + "-new"
		if err := r.a.rest.Do(r.t.Context(), http.MethodPost, "/api/device/credentials", c, nil); err != nil {
			r.t.Fatal(err)
		}
		changed := time.Now()
		eventually(r.t, 5*time.Second, func() string {
			if f.Stats().Online > 0 {
				return "the session on revoked credentials lives"
			}
			return ""
		})
		r.inTime("new credentials", changed)
		if old, err := mqttclient.Connect(r.t.Context(), r.b.mqtt, mqttclient.Options{Token: token}); err == nil {
			old.Drop()
			r.t.Error("the other node lets the old credentials in")
		}
		r.connected(r.b, fleet.Options{}, token+"-new")
	}
}

// tokens: a user who logs out of one node is out of the other.
func (r *routing) tokens() {
	user, err := client.New("http://"+r.a.http, "")
	if err != nil {
		r.t.Fatal(err)
	}
	defer user.Close()
	if _, err := user.Login(r.t.Context(), adminEmail, adminPassword); err != nil {
		r.t.Fatal(err)
	}
	r.revoked("a logout", user.Token(), func() error { return user.Do(r.t.Context(), http.MethodPost, "/api/auth/logout", struct{}{}, nil) })
	if _, err := r.b.rest.Devices(r.t.Context(), 1, 0, ""); err != nil {
		r.t.Errorf("another session of the user was ended, too: %v", err)
	}
}

// password: a new one voids the tokens on every node.
func (r *routing) password() {
	r.revoked("a new password", r.a.rest.Token(), func() error {
		return r.a.rest.Do(r.t.Context(), http.MethodPost, "/api/auth/changePassword",
			map[string]string{"currentPassword": adminPassword, "newPassword": adminPassword + "-new"}, nil)
	})
}

// revoked does what makes a token void on node A, and waits until node B refuses it.
func (r *routing) revoked(what, token string, revoke func() error) {
	r.t.Helper()
	there, err := client.New("http://"+r.b.http, token)
	if err != nil {
		r.t.Fatal(err)
	}
	defer there.Close()
	if _, err := there.Devices(r.t.Context(), 1, 0, ""); err != nil {
		r.t.Fatalf("before %s: %v", what, err)
	}
	if err := revoke(); err != nil {
		r.t.Fatal(err)
	}
	since := time.Now()
	eventually(r.t, 5*time.Second, func() string {
		if _, err := there.Devices(r.t.Context(), 1, 0, ""); client.StatusOf(err) != http.StatusUnauthorized {
			return fmt.Sprintf("the other node says %v to the token", err)
		}
		return ""
	})
	r.inTime(what, since)
}
