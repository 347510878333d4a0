package e2e_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"callchain/cmd/callchain/client"
	"callchain/transports/mqtt/mqttclient"
)

// replies makes the profile of the devices whose calls a chain answers, as the recording's did, and gives its name.
func replies(t *testing.T, rest *client.Client) string {
	t.Helper()
	chain, err := rest.CreateChain(t.Context(), []byte(`
name: Replies
nodes:
  - {name: by type, type: message type switch, to: {RPC Request from Device: the time}}
  - {name: the time, type: transform, config: {msg: '{"method": msg.method, "time": now()}'}, to: {Success: answer}}
  - {name: answer, type: rpc call reply}
`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rest.CreateProfile(t.Context(), "answered", chain.ID, nil); err != nil {
		t.Fatal(err)
	}
	return "answered"
}

// request is one that the recording has no number for.
func (r *recorded) request(t *testing.T, method, path, body string) reply {
	t.Helper()
	x := &exchange{method: method, path: path, body: body, header: http.Header{
		"Content-Type": {"application/json"}, "X-Authorization": {"Bearer <tenant>"},
	}}
	got, err := r.send(t, x)
	if err != nil {
		t.Errorf("%s %s: %v", method, path, err)
	}
	return got
}

// overHTTP replays the device API over HTTP.
func (r *recorded) overHTTP(t *testing.T) {
	r.replay(t, 118, 119)
	polled := func(want string) {
		t.Helper()
		got := r.request(t, "GET", "/api/v1/REC_HTTP/rpc?timeout=10000", "")
		if got != (reply{200, "application/json", want}) {
			t.Errorf("the poll got %+v, want %s", got, want)
		}
	}
	const call = `{"method": "setGpio", "params": {"pin": 7, "value": 1}, "timeout": 5000}`
	var caller sync.WaitGroup
	caller.Go(func() {
		if got := r.request(t, "POST", "/api/rpc/twoway/<http>", call); got != (reply{200, "application/json", `{"ok":1}`}) {
			t.Errorf("the caller of a device over HTTP got %+v", got)
		}
	})
	polled(`{"id":0,"method":"setGpio","params":{"pin":7,"value":1}}`)
	r.replay(t, 120)
	caller.Wait()
	caller.Go(func() {
		if got := r.request(t, "POST", "/api/rpc/oneway/<http>", call); got != (reply{200, "", ""}) {
			t.Errorf("the one-way caller of a device over HTTP got %+v", got)
		}
	})
	polled(`{"id":1,"method":"setGpio","params":{"pin":7,"value":1}}`)
	caller.Wait()
	r.replay(t, append(through(121, 131), 204, 205)...)
}

// stores is the id of the call that was stored.
func stores(t *testing.T, got reply) string {
	t.Helper()
	var call struct {
		ID string `json:"rpcId"`
	}
	if err := json.Unmarshal([]byte(got.body), &call); err != nil {
		t.Errorf("storing a call was answered with %+v: %v", got, err)
	}
	return call.ID
}

// sessions replays a call that is deleted, two sessions of one device, the short topics, and a session without a subscription.
func (r *recorded) sessions(t *testing.T) {
	const stored = `{"method": "m", "params": {}, "persistent": true, "timeout": 60000}`
	unseen := stores(t, r.request(t, "POST", "/api/rpc/twoway/<online-2>", stored))
	r.request(t, "DELETE", "/api/rpc/persistent/"+unseen, "") // the device does not get it: the call below is its first
	first := connectTaped(t, r.mqtt, "online-2", 1)
	r.names = append(r.names, "<rpcA>", stores(t, r.request(t, "POST", "/api/rpc/twoway/<online-2>", stored)))
	late := first.next()
	eventually(t, 15*time.Second, func() string {
		if got := r.request(t, "GET", "/api/rpc/persistent/<rpcA>", ""); !strings.Contains(got.body, `"status":"DELIVERED"`) {
			return "the call is not delivered: " + got.body
		}
		return ""
	})
	r.replay(t, 201)
	first.reply(late.id, `{"late":1}`)
	r.replay(t, 202)

	second := connectAs(t, r.mqtt, mqttclient.Options{Token: "online-2", ClientID: "another"}, longTopics, 1)
	<-first.client.Done() // as recorded: the newer session takes the place of the older one
	second.always(`{"from":2}`)
	r.replay(t, 203)
	second.client.Close()
	<-second.client.Done()
	if n := len(first.calls); n != 0 {
		t.Errorf("the first session got %d calls more", n)
	}

	r.replay(t, 206, 207, 208)
	short := connectAs(t, r.mqtt, mqttclient.Options{Token: "online-2", ClientID: "short"}, shortTopics, 1)
	short.always(`{"ok":1}`)
	r.replay(t, 209)
	if call := short.next(); call.payload != `{"method":"setGpio","params":{"pin":7,"value":1}}` {
		t.Errorf("on its short topic the device got %s", call.payload)
	}
	if _, err := short.client.Unsubscribe(t.Context(), shortTopics[0]+"+"); err != nil {
		t.Error(err)
		return
	}
	r.replay(t, 210)
	if n := len(short.calls); n != 0 {
		t.Errorf("without a subscription the device got %d calls", n)
	}
}
